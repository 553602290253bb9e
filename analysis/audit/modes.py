"""Switching a model's BN layers, and its noise, between train and eval mode."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from analysis.audit.noise import is_noise_site


class Modes:
    """Puts the BN layers among a model's modules, and everything else, in train or eval mode.

    BN in train mode keeps its statistics: `track_running_stats = False` makes a layer normalise by its batch and
    leave alone what it stored. A SyncBatchNorm of a single process works from now on as the plain layer that it
    then is, which runs on a CPU too. The harness's own noise, which is data, is taken out where noise is off.
    """

    def __init__(self, model: nn.Module):
        modules = list(model.modules())
        norms = [module for module in modules if isinstance(module, _BatchNorm)]
        # Attributes are set directly: nn.Module's way takes as long as a small layer.
        self._norms = [norm.__dict__ for norm in norms]
        self._storing = [norm.__dict__ for norm in norms if norm.running_var is not None]
        self._others = [module.__dict__ for module in modules if not isinstance(module, _BatchNorm)]
        self._sites = [module.__dict__ for module in modules if is_noise_site(module)]
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            for norm in norms:
                if isinstance(norm, nn.SyncBatchNorm):
                    norm.__dict__["forward"] = partial(_BatchNorm.forward, norm)

    def set(self, norms_train: bool, noise_on: bool) -> None:
        """Set whether BN normalises by its batch, and whether noise and everything else is in train mode."""
        for own in self._norms:
            own["training"] = norms_train
        for own in self._storing:
            own["track_running_stats"] = not norms_train
        for own in self._others:
            own["training"] = noise_on
        for own in self._sites:
            own.pop("forward", None)
            if not noise_on:
                own["forward"] = _identity


def _identity(x: Tensor) -> Tensor:
    return x
