"""What a BN layer stored: how certain it is, how many batches went into it, and which input it fits."""

import math

from torch.nn.modules.batchnorm import _BatchNorm

from ..theory import shift_magnitude
from .alarms import is_alarm
from .forward import Layer
from .moments import Ratio, offset, quotient, ratio
from .norms import Norm


def stored_error(layer: Layer) -> tuple[float, float]:
    """Standard errors of log moving_var and of the stored mean: averages over few batches are uncertain."""
    factor = math.sqrt(stored_weight(layer))
    if not factor:
        return 0.0, 0.0
    errors = (
        ratio(layer.train, 1.0).log_error,
        offset(layer.train, layer.train.mean, layer.train.variance + layer.norm.eps).error,
    )
    variance, mean = (0.0 if math.isnan(error) else error * factor for error in errors)
    return variance, mean


def stored_weight(layer: Layer) -> float:
    """How much less certain than the audit's moments are the stored ones: a ratio of squared errors; 0 if unknown.

    With momentum a the batches weigh a (1 - a)^i; their squares sum to a / (2 - a), 1/19 at a = 0.1, as if
    the average were over 19 batches, or over as many as there were. Training batches are taken to
    be as large as those of the audit.
    """
    count, momentum = updates(layer.norm), layer.norm.momentum
    if layer.keeps or not (count and layer.train.samples) or layer.norm.running_var is None:
        return 0.0  # of what it keeps, or never learnt, train mode knows nothing
    if layer.is_checkpointed:
        count, momentum = count / 2, None if momentum is None else 1 - (1 - momentum) ** 2
    weights = max(1 / count, momentum / (2 - momentum) if momentum is not None else 0.0)
    return weights * layer.train.batches


def small_batches(layer: Layer) -> float:
    """How much too large a sound layer may store a variance, as a factor: n / (n - 1) for n values in a batch.

    BN corrects each batch's variance for its own mean. Behind another BN layer the means of batches hardly
    differ, and there is nothing to correct.
    """
    return 1 / (1 - 1 / max(layer.train.numbers_a_batch, 2))


def beyond_small_batches(lag: Ratio, layer: Layer) -> Ratio:
    """The ratio of a layer's variance to the stored one, as far as small batches do not explain it."""
    return lag._replace(value=min(1.0, lag.value * small_batches(layer))) if lag.value < 1 else lag


def updates(norm: Norm) -> float:
    """How many batches went into what it stored; unknown: 0 for torch's BN, infinity for others."""
    if norm.num_batches_tracked is None:
        return 0 if isinstance(norm, _BatchNorm) else math.inf
    return int(norm.num_batches_tracked)


def is_adjusted(layer: Layer, error: tuple[float, float], level: float) -> bool:
    """Whether what is stored fits the input without noise, and fits it better than the one with noise."""
    norm = layer.norm
    clean_input = layer.stream("plain")
    if not clean_input.samples or norm.running_mean is None or norm.running_var is None:
        return False
    stored = float(norm.running_var.cpu().double().mean())
    clean = ratio(clean_input, stored).with_error(error[0])
    mean = offset(clean_input, norm.running_mean, norm.running_var + norm.eps)
    is_nearer = shift_magnitude(clean.value) < shift_magnitude(quotient(layer.train.layer_variance, stored))
    return is_nearer and not is_alarm(clean, level) and not is_alarm(mean, level)
