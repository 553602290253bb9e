"""Batch normalisation of features, which lie in memory as [features, batch], and a ReLU behind it.

Each feature is one row, and all that is to be done to it is done while it is at hand: to the kernels of
`experiments.kernels.normalisation` it is a channel of a single pixel. Arrays and options are as there.
"""

from experiments.kernels.code import Code
from experiments.kernels.normalisation import (
    batch_statistics,
    gradient_row,
    gradient_statistics,
    normalise_row,
)
from experiments.kernels.storage import Pointer
from experiments.kernels.values import Integer, Real


def normalise(
    code: Code,
    x: Pointer,
    weight: Pointer,
    bias: Pointer,
    running_mean: Pointer,
    running_var: Pointer,
    statistics: Pointer,
    y: Pointer,
    momentum: Real,
    batch: Integer,
    start: Integer,
    stop: Integer,
    *,
    relu: int,
    ragged: int,
    eps: float,
) -> None:
    """y = scale x + shift, for the features [start, stop); running statistics move."""
    pixels, features = code.integer(1), code.integer(0)  # how many features there are plays no part
    with code.loop(start, stop) as c:
        arrays = x, weight, bias, running_mean, running_var, statistics
        batch_statistics(code, *arrays, momentum, batch, features, pixels, c, c + 1, ragged=ragged, eps=eps)
        normalise_row(code, x, statistics, y, c * batch, batch, c, relu)


def gradient(
    code: Code,
    grad: Pointer,
    x: Pointer,
    statistics: Pointer,
    made: Pointer,
    grad_x: Pointer,
    batch: Integer,
    start: Integer,
    stop: Integer,
    *,
    relu: int,
    ragged: int,
) -> None:
    """Gradients of weight, bias and x, for the features [start, stop)."""
    pixels, features = code.integer(1), code.integer(0)
    with code.loop(start, stop) as c:
        arrays, options = (grad, x, statistics, made), {"relu": relu, "ragged": ragged}
        gradient_statistics(code, *arrays, batch, features, pixels, c, c + 1, **options)
        gradient_row(code, *arrays, grad_x, c * batch, batch, c, relu)
