"""The audit on networks that nobody here wrote: 12 architectures from 4 sources, installed by the extra `zoo`.

Weights are random, inputs noise: what BN sees follows from them, and the planted shifts have known sizes.
"""

import importlib
import importlib.util
import math

import pytest
import torch
from torch import nn

from analysis.audit import adjust, audit


def pytorchcv(module, function, **options):
    return getattr(importlib.import_module(f"pytorchcv.models.{module}"), function)(**options)


def hugging_face(name, **options):
    transformers = importlib.import_module("transformers")
    config = getattr(transformers, f"{name}Config")(num_labels=10, **options)
    return getattr(transformers, f"{name}ForImageClassification")(config)


def efficientnet():
    network = importlib.import_module("efficientnet_pytorch").EfficientNet
    return network.from_name("efficientnet-b0", image_size=32, num_classes=10, drop_connect_rate=0.0)


def tabnet():
    network = importlib.import_module("pytorch_tabnet.tab_network").TabNet
    return network(
        16, 3, n_d=8, n_a=8, n_steps=2, virtual_batch_size=64, group_attention_matrix=torch.eye(16)
    )


STAGES = {"hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 1, 1], "embedding_size": 16}
IMAGE, VECTOR = (3, 32, 32), (16,)
NETWORKS = {
    "resnet20": ("pytorchcv", IMAGE, lambda: pytorchcv("resnet_cifar", "resnet20_cifar10")),
    "preresnet20": ("pytorchcv", IMAGE, lambda: pytorchcv("preresnet_cifar", "preresnet20_cifar10")),
    "densenet40": ("pytorchcv", IMAGE, lambda: pytorchcv("densenet_cifar", "densenet40_k12_cifar10")),
    "seresnet20": ("pytorchcv", IMAGE, lambda: pytorchcv("seresnet_cifar", "seresnet20_cifar10")),
    "xdensenet40": ("pytorchcv", IMAGE, lambda: pytorchcv("xdensenet_cifar", "xdensenet40_2_k24_bc_cifar10")),
    "sepreresnet20": ("pytorchcv", IMAGE, lambda: pytorchcv("sepreresnet_cifar", "sepreresnet20_cifar10")),
    "hf_resnet": ("transformers", IMAGE, lambda: hugging_face("ResNet", **STAGES)),
    "hf_regnet": ("transformers", IMAGE, lambda: hugging_face("RegNet", groups_width=8, **STAGES)),
    "hf_mobilenet_v1": ("transformers", IMAGE, lambda: hugging_face("MobileNetV1", depth_multiplier=0.25)),
    "hf_mobilenet_v2": ("transformers", IMAGE, lambda: hugging_face("MobileNetV2", depth_multiplier=0.25)),
    "efficientnet_b0": ("efficientnet_pytorch", IMAGE, efficientnet),
    "tabnet": ("pytorch_tabnet", VECTOR, tabnet),
}
pytestmark = pytest.mark.filterwarnings("default")  # what these packages warn of is their business


def built(name, batches=3):
    """The network without noise, and batches: fewer samples where a sample has many positions in every layer."""
    batch = 16 if "densenet" in name else 64
    source, shape, build = NETWORKS[name]
    if importlib.util.find_spec(source) is None:
        pytest.skip(f"{source} is not installed: pip install 'variance-shift[zoo]'")
    torch.manual_seed(0)
    model = build()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # all noise is the tests' own
    return model, [torch.randn(batch, *shape) for _ in range(batches)]


def reached(table):
    """Names of the BN layers that the data reach, from shallow to deep."""
    return table.layer_name[table.calls > 0].tolist()


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_a_planted_variance_is_found_where_it_is(name):
    model, batches = built(name)
    adjust(model, batches)
    names = reached(audit(model, batches))
    planted = names[len(names) // 2]
    model.get_submodule(planted).running_var.mul_(0.5)
    table = audit(model, batches).set_index("layer_name")
    assert [layer for layer in table.index if "lag" in table.alarm[layer]] == [planted]
    assert table.lag_ratio[planted] == pytest.approx(2, rel=1e-3)
    assert table.shift_ratio_low[planted] < 2 < table.shift_ratio_high[planted]
    assert "noise" not in ",".join(table.alarm)


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_inserted_dropout_is_found_before_its_layer_with_its_size(name):
    rate = 0.5
    model, batches = built(name)
    names = reached(audit(model, batches[:1]))
    planted = names[len(names) // 3]
    parent, _, child = planted.rpartition(".")
    norm = model.get_submodule(planted)
    dropout = nn.Dropout(rate)
    setattr(model.get_submodule(parent), child, nn.Sequential(dropout, norm))
    for norm_layer in model.modules():
        if isinstance(norm_layer, nn.modules.batchnorm._BatchNorm):
            norm_layer.momentum = None  # a plain mean: three batches are enough
    model.train()
    with torch.no_grad():
        for x in batches:
            model(x)
    table = audit(model, batches).set_index("layer_name")
    row = table.loc[f"{planted}.1"]
    assert row.own_noise == f"{planted}.0 (Dropout {rate:g})"
    assert not table.own_noise.drop(row.name).str.contains(row.own_noise, regex=False).any()
    assert "noise" in row.alarm

    # The size by hand: x straight into BN, Var_train = Var x + sigma^2 E[x^2].
    inputs = []
    dropout.eval()
    hook = norm.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    with torch.no_grad():
        for x in batches:
            model(x)
    hook.remove()
    x = torch.cat(inputs).transpose(0, 1).flatten(1).double()
    expected = float(x.var(1).mean() / (x.var(1).mean() + rate / (1 - rate) * x.square().mean()))
    width = math.log(row.local_ratio_high / row.local_ratio_low)
    assert abs(math.log(row.local_ratio / expected)) < width  # twice the 95 % interval: 12 cases are tried
    assert width < 0.5
    assert row.local_ratio_exact == pytest.approx(expected, rel=0.03)


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_no_alarm_without_noise_over_20_seeds(name):
    alarms = []
    for seed in range(20):
        model, batches = built(name)
        torch.manual_seed(seed)
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        adjust(model, batches[:2])
        table = audit(model, [torch.randn_like(batches[0]) for _ in range(2)])
        alarms += [
            (seed, layer, alarm) for layer, alarm in zip(table.layer_name, table.alarm, strict=True) if alarm
        ]
    assert not alarms
