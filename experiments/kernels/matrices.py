"""Products of small matrices, many of one shape, and the transposition that goes before some of them.

The columns fill the vectors. A tile of the product is summed in registers, of some rows and some vectors of
columns. Where rows or columns are no whole number of tiles, the last tile overlaps the one before.
"""

from experiments.kernels.code import Code
from experiments.kernels.storage import Pointer
from experiments.kernels.sums import Sums
from experiments.kernels.values import Integer, transposed


def multiply(
    code: Code,
    a: Pointer,  # [members, rows, inner]; from one number to the next `a_member`, `a_row`, `a_inner`
    b: Pointer,  # [members, inner, columns], from one member to the next `b_member`; or in `b_panels`
    y: Pointer,  # [members, rows, columns]
    a_member: Integer,
    a_row: Integer,
    a_inner: Integer,
    b_member: Integer,
    b_inner: Integer,
    b_panels: Integer,
    rows: Integer,
    inner: Integer,
    columns: Integer,
    blocks: Integer,
    start: Integer,
    stop: Integer,
    *,
    tile_rows: int,
    vectors: int,
) -> None:
    """y = a b, for the blocks [start, stop) of `tile_rows` rows; each member has `blocks` of them.

    Of b the neighbours of a tile's columns are neighbours in memory. From one row to the next there are `b_inner`
    numbers; from one tile to the next as many as there are columns between them, or with `b_panels` so many.
    """
    size = vectors * code.lanes
    sums = Sums(code, tile_rows, vectors)
    with code.loop(start, stop) as number, code.loop(0, columns, size) as left:
        member, column = number // blocks, left.at_most(columns - size)
        row = ((number - member * blocks) * tile_rows).at_most(rows - tile_rows)
        factors = a.at(member * a_member + row * a_row)
        in_place = 1 - b_panels.at_most(1)  # 0 where b lies in panels, else 1
        read = b.at(member * b_member + left // size * b_panels + column * in_place)
        # Weights come from memory, and perhaps against the order in which they lie there.
        later = a.at((member + 1) * a_member + row * inner)
        sums.clear()
        sums.add_products(factors, a_row, a_inner, read, b_inner, inner, later)
        sums.store(y.at((member * rows + row) * columns + column), columns)


def transpose(
    code: Code,
    x: Pointer,  # [members, columns, inner]; from one number to the next `x_member`, `x_column`, 1
    y: Pointer,  # [members, panels, inner, columns of a panel]
    x_member: Integer,
    x_column: Integer,
    inner: Integer,
    columns: Integer,
    panels: Integer,
    start: Integer,
    stop: Integer,
    *,
    vectors: int,
) -> None:
    """Lay out x for `multiply`, of all panels of all members those in [start, stop)."""
    size = vectors * code.lanes
    with code.loop(start, stop) as number, code.loop(0, inner, code.lanes) as left:
        member, k = number // panels, left.at_most(inner - code.lanes)
        column = ((number - member * panels) * size).at_most(columns - size)
        read, written = x.at(member * x_member + column * x_column + k), y.at((number * inner + k) * size)
        with code.loop(0, size, code.lanes) as first:
            lines = [read.load((first + lane) * x_column) for lane in range(code.lanes)]
            for lane, line in enumerate(transposed(lines)):
                written.store(lane * size + first, line)
