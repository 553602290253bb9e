"""Factors of multiplicative noise, made of random draws, and their product with activations."""

import torch
from torch import Tensor

from experiments.kernels.language import Code, Integer, IntegerPointer, Pointer
from experiments.kernels.machine import NUMBERS, compiled, largest_vector, over_threads

# The numbers of a factor that a thread fills before it takes others.
PIECE = 4096


def fill_factors(
    code: Code,
    draws: Pointer,  # [draws, size]
    which: IntegerPointer,  # [members]
    parameters: Pointer,  # [members, 4]
    factors: Pointer,  # [members, size]
    size: Integer,
    pieces: Integer,
    piece: Integer,
    start: Integer,
    stop: Integer,
) -> None:
    """m = offset + slope d + step [d >= threshold], for the pieces [start, stop); each member has `pieces`."""
    with code.loop(start, stop) as number:
        member = number // pieces
        begin = (number - member * pieces) * piece
        offset, slope, threshold, step = (parameters.broadcast(member * 4 + index) for index in range(4))
        source, target = draws.at(which.integer(member) * size), factors.at(member * size)
        with code.loop(begin, (begin + piece).at_most(size), code.lanes) as number:
            place = number.at_most(size - code.lanes)
            draw = source.load(place)
            target.store(place, draw.times_plus(slope, offset) + step.where_at_least(draw, threshold))


def factors_by_kernel(draws: Tensor, which: Tensor, parameters: Tensor) -> Tensor:
    """Return each member's factor m = offset + slope d + step [d >= threshold], [members, batch, *sample_shape].

    Of the draw d of `draws` [draws, batch, *sample_shape] whose index `which` [members] says, by the member's
    `parameters` [members, 4]: offset, slope, threshold, step. Draws are on a CPU and in memory one after the
    other; factors lie as they do.
    """
    factors = torch.empty_strided((len(which), *draws.shape[1:]), draws.stride(), dtype=draws.dtype)
    size = factors[0].numel()
    pieces = -(-size // PIECE)
    fill = compiled(fill_factors, factors.dtype, largest_vector(size, factors.dtype))
    work = fill(
        draws=draws,
        which=which,
        parameters=parameters,
        factors=factors,
        size=size,
        pieces=pieces,
        piece=PIECE,
    )
    over_threads(len(factors) * pieces, work, PIECE / NUMBERS)
    return factors


def multiply_numbers(
    code: Code, x: Pointer, factor: Pointer, y: Pointer, size: Integer, start: Integer, stop: Integer
) -> None:
    """y = m x, for the members [start, stop), each of `size` numbers."""
    with code.loop(start, stop) as member, code.loop(0, size, code.lanes) as number:
        place = member * size + number.at_most(size - code.lanes)
        y.store(place, x.load(place) * factor.load(place))


def times(x: Tensor, factor: Tensor) -> Tensor:
    """Return m x, of activations and factors [members, batch, *sample_shape] that lie alike, without gaps."""
    y = torch.empty_like(x)
    size = x[0].numel()
    multiply = compiled(multiply_numbers, x.dtype, largest_vector(size, x.dtype))
    over_threads(len(x), multiply(x=x, factor=factor, y=y, size=size), size / NUMBERS)
    return y
