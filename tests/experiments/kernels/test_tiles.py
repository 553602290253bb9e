"""Tiles cover what they are cut from, and waste little."""

import pytest

from experiments.kernels import tiles
from experiments.kernels.tiles import even_tiles


@pytest.mark.parametrize("most", [1, 4, 6, 24])
def test_tiles_cover_each_channel_once(most):
    for count in range(1, 200):
        covered = []
        for begin, end, size in even_tiles(count, most):
            assert size <= most
            assert (end - begin) % size == 0
            covered += range(begin, end)
        assert covered == list(range(count))


def test_tiles_of_vectors_waste_little(monkeypatch):
    """What they compute, in vectors, beside the vectors that there are."""
    monkeypatch.setattr(tiles, "accumulators", lambda: 24)
    tile_vectors = tiles.tile_vectors.__wrapped__
    for columns in range(16, 500):
        vectors = tile_vectors(columns, 16)
        assert vectors * 16 <= columns
        computed = -(-columns // (vectors * 16)) * vectors
        assert computed <= 1.35 * -(-columns // 16) + 1
    assert [tile_vectors(columns, 16) for columns in (16, 64, 80, 128, 160)] == [1, 4, 3, 4, 4]
    assert tile_vectors(160, 16, saving=0) == 2
