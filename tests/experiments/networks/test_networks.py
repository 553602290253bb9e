"""The networks: published sizes, the papers' forward passes, noise sites, stacks, normalisers."""

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import nn

from analysis.schema import PLACEMENTS
from experiments.checks import ConfigError
from experiments.layers.layout import batch_last
from experiments.layers.norms import BatchNorm, BatchNorm2d, GroupNorm, group_count
from experiments.networks import NETWORKS, NORMS, check_model_config
from experiments.training.stack import ChunkNoise, site_shapes, stack_members
from tests import reference_networks
from tests.experiments.networks.small_networks import (
    ALL,
    CPU,
    SMALL,
    images,
    member,
    recorded_inputs,
    small_network,
)
from tests.experiments.small import built
from tests.places import CONF

ALL_CONFIGS = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if path.stem != "custom")

# file in conf/model: parameters for 10 and 100 classes in millions as printed, BN layers, weight layers without
# shortcuts (those that the name counts; WRN-28 counts its 3 shortcuts and not the classifier), blocks, and the
# feature maps [channels, height, width] before the last pooling
PUBLISHED = {
    "preresnet_paper": (1.70, 1.73, 163, 164, 54, (256, 8, 8)),
    "preresnet110": (1.73, 1.74, 109, 110, 54, (64, 8, 8)),
    "resnext29_8x64d": (34.43, 34.52, 31, 29, 9, (1024, 8, 8)),
    "wrn28_10": (36.48, 36.54, 25, 26, 12, (640, 8, 8)),
    "densenet_bc_100": (0.77, 0.80, 99, 100, 48, (342, 8, 8)),
}
# The exact numbers that are published, for 10 classes.
EXACT = {"preresnet_paper": 1_703_258, "wrn28_10": 36_479_194, "densenet_bc_100": 769_162}


def model_config(file: str) -> dict:
    config = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{file}.yaml"))
    return check_model_config(config).section


def build_without_memory(config: dict, classes: int):
    options = {key: value for key, value in config.items() if key != "name"}
    with torch.device("meta"):
        return NETWORKS[config["name"]]((3, 32, 32), classes, **options)


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# --- sizes


@pytest.mark.parametrize("file", PUBLISHED)
def test_full_size_networks_are_the_published_ones(file):
    millions_10, millions_100, norms, layers, blocks, feature_shape = PUBLISHED[file]
    network, network_100 = (build_without_memory(model_config(file), classes) for classes in (10, 100))
    assert round(count_parameters(network) / 1e6, 2) == millions_10
    assert round(count_parameters(network_100) / 1e6, 2) == millions_100
    if file in EXACT:
        assert count_parameters(network) == EXACT[file]

    modules = dict(network.named_modules())
    assert sum(isinstance(module, BatchNorm2d) for module in modules.values()) == norms
    declared = [norm_input.norm for norm_input in network.norm_inputs()]
    assert len(set(declared)) == len(declared) == norms
    assert all(isinstance(modules[name], BatchNorm2d) for name in declared)
    weights = [n for n, m in modules.items() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in n]
    assert len(weights) == layers

    placements = [site.placement for site in network.sites().values()]
    assert [placements.count(name) for name in PLACEMENTS] == [blocks, blocks, 1]

    with torch.device("meta"), recorded_inputs(network) as inputs:
        assert network(torch.empty(2, 3, 32, 32)).shape == (2, 10)
    last_map = [x for x in inputs.values() if x.dim() == 4][-1]
    assert last_map.shape[1:] == feature_shape
    # Depth grows in the order of the declaration, which is the order of layer_index in the tables.
    executed = [name for name in inputs if name in declared]
    assert sorted(executed, key=declared.index) == declared


@pytest.mark.parametrize("file", ALL_CONFIGS)
def test_every_model_file_is_explained_and_builds(file):
    lines = (CONF / "model" / f"{file}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    assert all("  # " in line for line in lines[1:])
    network = build_without_memory(model_config(file), 10)
    assert network(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("key", SMALL)
def test_width_and_depth_do_what_they_say(key):
    config = SMALL[key] | {"norm": "batch"}
    narrow, wide = (count_parameters(build_without_memory(config | {"width": w}, 10)) for w in (64, 128))
    assert 3.5 < wide / narrow < 4, "convolutions grow with the square of the width, and they are nearly all"
    layers = [len(build_without_memory(config | {"depth": d}, 10).norm_inputs()) for d in (1, 2, 3)]
    assert layers[2] - layers[1] == layers[1] - layers[0] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "vgg"}, "model.name=vgg: allowed is one of mlp, convnet"),
        ({"norm": "instance"}, "model.norm=instance: allowed is one of batch, group, layer, none"),
        ({"cardinality": 0}, "model.cardinality=0: allowed is a whole number of at least 1"),
        ({"block": "basic"}, "model.block=basic: no such key"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ConfigError) as error:
        check_model_config(SMALL["resnext"] | {"norm": "batch"} | change)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("key", SMALL)
def test_networks_for_images_refuse_flat_samples(key):
    with pytest.raises(
        ConfigError, match=r"^model.name=\w+: allowed is mlp, custom, because these data are not images"
    ):
        built(SMALL[key] | {"norm": "batch"}, (64,), 10, seed=0)


# --- the forward pass


@pytest.mark.parametrize("key", SMALL)
def test_forward_pass_is_that_of_the_papers(key):
    network, x = small_network(key, seed=1, size=12).train(), images(6, size=12)
    options = {name: value for name, value in SMALL[key].items() if name not in ("name", "width")}
    expected = reference_networks.NETWORKS[SMALL[key]["name"]](dict(network.named_parameters()), x, **options)
    torch.testing.assert_close(network(x), expected)


# --- noise sites

# What alone dies when the noise of a site is zero: the part of the network that reads the site.
READERS = {
    "mlp": {"before_bn": "norm", "before_weight": "linear"},
    "convnet": {"before_bn": "norm", "before_weight": "conv"},
    "preresnet-basic": {"before_bn": "norm2", "before_weight": "conv2"},
    "preresnet-bottleneck": {"before_bn": "norm3", "before_weight": "conv3"},
    "wide_resnet": {"before_bn": "norm2", "before_weight": "conv2"},
    "resnext": {"before_bn": "norm_expand", "before_weight": "conv_expand"},
    "densenet": {"before_bn": "norm2", "before_weight": "conv2"},
}


@pytest.mark.parametrize("key", READERS)
def test_a_site_acts_on_one_tensor(key):
    network, x = small_network(key, seed=0).eval(), images(2)
    with recorded_inputs(network) as inputs:
        network(x)
    for name, site in network.sites().items():
        block = name.rpartition(".")[0]
        reader = (
            "classifier" if site.placement == "after_last_bn" else f"{block}.{READERS[key][site.placement]}"
        )
        site.factor = torch.zeros(())
        with recorded_inputs(network) as killed:
            network(x)
        site.factor = None
        assert killed[reader].eq(0).all()
        order = list(inputs)
        shortcut = [n for n in order if n.startswith(f"{block}.") and n.endswith("shortcut")]
        untouched = order[: order.index(reader)] + shortcut
        for other in untouched:
            assert killed[other].equal(inputs[other]), f"{name} reached {other}"


@pytest.mark.parametrize("key", ALL)
def test_every_block_has_its_sites(key):
    network = small_network(key, seed=0)
    blocks = len([m for m in network.blocks if hasattr(m, "before_bn")])  # type: ignore[union-attr, arg-type]
    first_reads_data = key in ("mlp", "convnet")
    assert blocks == {"mlp": 3, "imagenet_net": 4}.get(key, 6)
    placements = [site.placement for site in network.sites().values()]
    assert [placements.count(p) for p in PLACEMENTS] == [blocks, blocks - first_reads_data, 1]


# --- stacks


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("key", ALL)
@pytest.mark.parametrize("batch", [5, 11], ids=["few samples", "batch last"])
def test_a_stack_is_its_networks_one_by_one(key, norm, training, batch):
    """Outputs, gradients and running statistics, with noise of every family and placement."""
    members = [
        member("before_bn", "dropout", 0.4, seed=0),
        member("before_weight", "uout", 0.9, seed=1),
        member("after_last_bn", "gaussian", 0.5, seed=2),
    ]
    for chosen in (members, members[1:2]):
        stack = stack_members(chosen, lambda seed: small_network(key, seed, norm)).train(training)
        plain = [small_network(key, m.seed, norm).train(training) for m in chosen]
        noise = ChunkNoise(stack, site_shapes(plain[0], images(2)), chosen, CPU)
        x = torch.stack([images(batch, seed=m.seed) for m in chosen])
        with noise.on("test", batch):
            ours = stack(x)
            for index, network in enumerate(plain):
                for name, site in network.sites().items():
                    factor = stack.sites()[name].factor
                    site.factor = None if factor is None else factor[index].double()
        expected = torch.stack([network(x[index]) for index, network in enumerate(plain)])
        torch.testing.assert_close(ours, expected)

        grads = torch.autograd.grad(ours.square().sum(), list(stack.parameters()))
        for index, network in enumerate(plain):
            plain_grads = torch.autograd.grad(
                expected[index].square().sum(), list(network.parameters()), retain_graph=True
            )
            for (name, _), ours_grad, grad in zip(
                network.named_parameters(), grads, plain_grads, strict=True
            ):
                torch.testing.assert_close(ours_grad[index], grad, msg=name)
            for name, buffer in network.named_buffers():
                torch.testing.assert_close(dict(stack.named_buffers())[name][index], buffer, msg=name)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("key", [key for key in ALL if key != "mlp"])
def test_images_stay_batch_last(key, norm):
    """Behind the first convolution no layer has to copy."""
    members = [member("before_weight", "dropout", 0.5), member("before_weight", "dropout", 0.7, seed=1)]
    for chosen in (members, members[:1]):
        stack = stack_members(chosen, lambda seed: small_network(key, seed, norm))
        noise = ChunkNoise(stack, site_shapes(small_network(key, 0), images(2)), chosen, CPU)
        with recorded_inputs(stack) as inputs, noise.on("test", 12):
            stack(images(12).expand(len(chosen), -1, -1, -1, -1))
        of_images = [(name, x) for name, x in inputs.items() if x.dim() == 5]
        assert len(of_images) > 12
        for name, x in of_images[1:]:
            assert batch_last(x).data_ptr() == x.data_ptr(), name


def test_images_that_members_share_are_flattened_without_a_copy():
    stack = stack_members([member(seed=seed) for seed in range(3)], lambda seed: small_network("mlp", seed))
    shared = images(4).contiguous(memory_format=torch.channels_last)
    with recorded_inputs(stack) as inputs:
        stack(shared.expand(3, *shared.shape))
    assert inputs["blocks.0.linear"].data_ptr() == shared.data_ptr()
    assert inputs["blocks.0.linear"].stride(0) == 0


# --- normalisers


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(4, 1), (8, 1), (16, 2), (12, 1), (36, 4), (64, 8), (101, 1), (256, 32), (640, 32)],
)
def test_groups_are_many_but_not_narrow(channels, groups):
    assert group_count(channels) == groups


@pytest.mark.parametrize("norm", ["group", "layer", "none"])
@pytest.mark.parametrize("key", ALL)
def test_without_stored_statistics_eval_equals_train(key, norm):
    network, x = small_network(key, seed=0, norm=norm), images(3)
    assert not list(network.buffers())
    torch.testing.assert_close(network.train()(x), network.eval()(x), rtol=0, atol=0)
    assert (
        small_network(key, 0, "batch").train()(x) - small_network(key, 0, "batch").eval()(x)
    ).abs().max() > 1e-2


def test_layer_norm_is_that_of_each_sample():
    network, x = small_network("convnet", seed=0, norm="layer"), images(3)
    block = network.get_submodule("blocks.0")
    y = F.conv2d(x, block.conv.weight, padding=1)  # type: ignore[union-attr, arg-type]
    y = (y - y.mean((1, 2, 3), keepdim=True)) / (y.var((1, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    y = y * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]  # type: ignore[union-attr, index]
    torch.testing.assert_close(block(x), F.relu(y))


@pytest.mark.parametrize("key", ALL)
def test_each_place_holds_the_normaliser_asked_for(key):
    kinds = {"batch": BatchNorm | BatchNorm2d, "group": GroupNorm, "layer": GroupNorm, "none": nn.Identity}
    for norm, kind in kinds.items():
        network = small_network(key, 0, norm)
        layers = [network.get_submodule(norm_input.norm) for norm_input in network.norm_inputs()]
        assert all(isinstance(layer, kind) for layer in layers)
        if norm == "layer":
            assert {layer.num_groups for layer in layers} == {1}
