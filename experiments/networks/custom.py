"""A network of the user's own: any module, which knows nothing of stacks, noise or what is measured of it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.func import functional_call

from experiments.checks import Rule
from experiments.networks.hearing import watched_pass
from experiments.networks.network import Network, NormInput
from experiments.networks.trial import build_module, find_layout, put_sites_in
from experiments.targets import TARGET_RULES


class Custom(Network):
    """A module of the user's own, of one member at a time: a stack of it has one row.

    The module runs without a members dimension. Its parts have the names that they have in it. Its parameters and
    buffers have a leading dimension in a stack, as those of every network, but of size 1.
    """

    OPTIONS: ClassVar[Mapping[str, Rule]] = TARGET_RULES
    needs_images: ClassVar[bool] = False
    is_foreign: ClassVar[bool] = True

    def __init__(self, sample_shape: tuple[int, ...], classes: int, **options: Any):
        super().__init__()
        layout = find_layout(sample_shape, classes, **options)
        module = build_module(sample_shape, classes, **options)
        put_sites_in(module, layout.put_in)
        self.sample_dims, self.layout = len(sample_shape), layout
        # Shared, so that each part has one name; in a tuple the module is no part of its own.
        self._modules, self._parameters, self._buffers = module._modules, module._parameters, module._buffers
        self._non_persistent_buffers_set = module._non_persistent_buffers_set
        self._module = (module,)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, *sample shape] -> logits [batch, classes], or both with a members dimension of size 1."""
        (module,) = self._module
        if x.dim() == 1 + self.sample_dims:
            return module(x)
        state = {name: value.squeeze(0) for name, value in [*self.named_parameters(), *self.named_buffers()]}
        return functional_call(module, state, (x.squeeze(0),)).unsqueeze(0)

    def with_members(self, x: Tensor) -> Tensor:
        """Return what a part of the module reads, which has no members dimension, with one."""
        return x.unsqueeze(0)

    def train(self, mode: bool = True) -> "Custom":
        """Set the mode of the module, its own `training` too."""
        self._module[0].train(mode)
        return super().train(mode)

    def norm_inputs(self) -> list[NormInput]:
        """Return what each normalisation layer read in the trial pass."""
        return self.layout.norm_inputs


def site_lines(network: Network, x: Tensor) -> list[str]:
    """Return a line for each noise site of a plain network: its name, placement, and the module it stands before.

    Found by running the network on a batch x; "a function" where no module reads just what the site returned.
    """
    network.eval()
    readers = watched_pass(network, x).readers
    lines = []
    for name, site in network.sites().items():
        read_by = [
            f"{other} ({type(network.get_submodule(other)).__name__})" for other in readers.get(name, [])
        ]
        lines.append(f"{name}: {site.placement}, before {' and '.join(read_by) or 'a function'}")
    return lines
