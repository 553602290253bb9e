"""Factors of multiplicative noise, made of random draws."""

from experiments.kernels.code import Code
from experiments.kernels.storage import IntegerPointer, Pointer
from experiments.kernels.values import Integer


def fill_factors(
    code: Code,
    draws: Pointer,  # [draws, size]
    which: IntegerPointer,  # [members], of the draws
    parameters: Pointer,  # [members, 4]: offset, slope, threshold, step
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
        read, written = draws.at(which.integer(member) * size), factors.at(member * size)
        with code.loop(begin, (begin + piece).at_most(size), code.lanes) as number:
            place = number.at_most(size - code.lanes)
            draw = read.load(place)
            written.store(place, draw.times_plus(slope, offset) + step.where_at_least(draw, threshold))
