"""The networks for ImageNet: published sizes, and the forward passes of networks that others wrote."""

import pytest
import torch

from experiments.networks import NETWORKS
from experiments.settings.plan import plan_jobs
from tests.experiments.small import built

# Parameters and BN layers, by the papers and by the library pytorchcv.
PUBLISHED = {
    "resnet200": (64_673_832, 203),
    "resnext101": (83_455_272, 104),
    "senet154": (115_088_984, 157),
}
WRITTEN_BY_OTHERS = {
    "resnetbc14b": {"cardinality": 1, "group_width": 64, "senet": False},
    "resnext14_32x4d": {"cardinality": 32, "group_width": 4, "senet": False},
    "senet16": {"cardinality": 32, "group_width": 4, "senet": True},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name):
    model = plan_jobs([f"model={name}", "data=cifar10"], multirun=False).jobs[0].model
    options = {key: value for key, value in model.section.items() if key != "name"}
    with torch.device("meta"):
        network = NETWORKS[model.name]((3, 224, 224), 1000, **options)
    parameters, norms = PUBLISHED[name]
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert len(network.norm_inputs()) == norms


@pytest.mark.parametrize("name", WRITTEN_BY_OTHERS)
def test_forward_is_that_of_a_network_that_others_wrote(name):
    models = pytest.importorskip("pytorchcv.model_provider", reason="pytorchcv comes with the extra zoo")
    theirs = models.get_model(name)
    random = torch.Generator().manual_seed(0)
    ours = built(
        {"name": "imagenet_net", "width": 64, "depth": 14, "norm": "batch"} | WRITTEN_BY_OTHERS[name],
        (3, 224, 224), 1000, seed=1,
    )  # fmt: skip
    with torch.no_grad():
        state = {}
        values = theirs.state_dict().values()
        for (key, own), other in zip(ours.state_dict().items(), values, strict=True):
            if key.endswith("running_var"):
                other.uniform_(0.5, 2, generator=random)
            elif key.endswith("running_mean"):
                other.normal_(generator=random)
            state[key] = other.reshape(own.shape)
        ours.load_state_dict(state)
        x = torch.randn(2, 3, 224, 224, generator=random)
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-3, atol=1e-4)


def test_the_scaled_down_table_5_can_be_told_apart_by_its_rows():
    jobs = plan_jobs(["+sweep=paper_table5", "recipe=cpu"], multirun=False).jobs
    sizes = {(job.model.width, job.model.depth) for job in jobs}
    assert len(sizes) == len(jobs) == 3
