"""Noise modules to put where a Dropout was: Uout and Gaussian of any variance, and the replacement itself."""

import copy
import math

import torch
from torch import Tensor, nn

from analysis import theory
from analysis.audit.batches import AuditError
from analysis.theory.noises import DROPOUT, FAMILIES, family

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class MultiplicativeNoise(nn.Module):
    """m * x in train mode, x in eval mode; E[m] = 1, Var(m) = `noise_variance`.

    `noise` is a family of `analysis.theory.noises` other than dropout.
    `per_channel`: one factor for all positions of a channel (dimensions from the third on), as Dropout2d has.
    """

    def __init__(self, noise: str, noise_variance: float, per_channel: bool = False):
        super().__init__()
        others = [name for name in FAMILIES if name != DROPOUT.name]
        if noise not in others:
            raise AuditError(f"noise={noise}: allowed is {' or '.join(others)}.")
        try:
            self.strength = theory.strength_for(noise, noise_variance)
        except ValueError as error:
            raise AuditError(f"{error}.") from None
        self.noise, self.noise_variance, self.per_channel = noise, noise_variance, per_channel

    def forward(self, x: Tensor) -> Tensor:
        """Return m * x, shaped as x [batch, channels, *positions]."""
        if not self.training or self.strength == 0:
            return x
        shape = (*x.shape[:2], *(1 for _ in x.shape[2:])) if self.per_channel else x.shape
        # A uniform draw of half precision would be 0 or 1 too often for the tails of a law.
        uniform = torch.rand(shape, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        return x * family(self.noise).factor(uniform, self.strength).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the settings, as a module is printed."""
        return f"{self.noise}, noise_variance={self.noise_variance:g}, per_channel={self.per_channel}"


def replace_noise(model: nn.Module, noise: str = "uout", noise_variance: float | None = None) -> nn.Module:
    """Return a copy of the model with every Dropout module replaced; the model itself stays as it is.

    Args:
        model: any module; its Dropout, Dropout1d, 2d and 3d are replaced, 1d to 3d by noise per channel.
        noise: uout or gaussian.
        noise_variance: of the new noise; None keeps each module's own, rate / (1 - rate). Uout reaches 1/3 at
            most, which is dropout 0.25. The paper's Uout beta = 0.1 has 0.0033.

    Raises:
        AuditError: if there is no such module (functional dropout cannot be replaced from outside), or if the
            noise cannot have that variance.

    The copy's weights are trained for the old noise: train it on, then `adjust` it.
    """
    replaced = copy.deepcopy(model)
    made: dict[int, MultiplicativeNoise] = {}
    for parent in list(replaced.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, _DROPOUTS):
                new = made.setdefault(id(module), _instead_of(module, noise, noise_variance))
                setattr(parent, name, new.train(module.training))
    if not made:
        raise AuditError(
            "The model has no Dropout module to replace; "
            "a functional dropout has to be changed where it is called."
        )
    return replaced


def _instead_of(module: nn.Module, noise: str, noise_variance: float | None) -> MultiplicativeNoise:
    rate = float(module.p)  # type: ignore[arg-type]
    own = theory.noise_variance("dropout", rate) if rate < 1 else math.inf
    wanted = own if noise_variance is None else noise_variance
    return MultiplicativeNoise(noise, wanted, per_channel=not isinstance(module, nn.Dropout))


def is_noise_site(module: nn.Module) -> bool:
    """Whether a module is the harness's own `NoiseSite`, told by name: nothing of it is imported."""
    return type(module).__name__ == "NoiseSite" and hasattr(module, "factor")
