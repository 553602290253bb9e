"""What each network declares of its noise, against what cutting it open shows."""

import pytest
import torch
from torch import Tensor, nn

from experiments.networks.network import NoiseSite
from tests.experiments.networks.cut_open import norms_read, own_channels
from tests.experiments.networks.small_networks import ALL, images, small_network


@pytest.mark.parametrize("key", ALL)
def test_own_noise_is_declared_where_it_is_found(key):
    network = small_network(key, seed=0)
    found = own_channels(network, images(3))
    for norm_input in network.norm_inputs():
        channels = torch.arange(network.get_submodule(norm_input.norm).num_features)  # type: ignore[arg-type]
        declared = {source.site: channels[source.part] for source in norm_input.sources}
        assert declared.keys() == found[norm_input.norm].keys(), norm_input.norm
        for site, heard in declared.items():
            assert heard.equal(found[norm_input.norm][site]), f"{norm_input.norm} {site}"
    assert found, "there is noise to be found"


@pytest.mark.parametrize("key", ALL)
def test_layers_and_shortcuts_are_declared_as_they_are(key):
    """The layer named before a norm is what it reads, alone, pooled, in a sum, or as a part of the channels."""
    network = small_network(key, seed=0).eval()
    outputs: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda _, __, output, name=name: outputs.__setitem__(name, output.detach())
        )
    read = norms_read(network, images(2))
    for norm_input in network.norm_inputs():
        for source in norm_input.sources:
            is_output = read[norm_input.norm][:, source.part].equal(outputs[source.layer or source.site])
            assert is_output != source.joins_shortcut
    named = [norm_input.layer for norm_input in network.norm_inputs()]
    assert len(set(named)) == len(named)
    weights = [name for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert set(weights) - set(named) - {"classifier"} == {
        name for name in weights if name.endswith(".shortcut") or ".weighting." in name
    }, "the convolutions of shortcuts without norm, and what weights channels"


def test_site_without_factor_is_the_identity():
    x = torch.randn(3, 4)
    assert NoiseSite("before_bn")(x) is x
