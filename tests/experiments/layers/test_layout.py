"""Activations with the batch last: who lies so, and that operations keep them so without a copy."""

import pytest
import torch
import torch.nn.functional as F

from experiments.kernels import machine
from experiments.layers.layout import batch_first, batch_last, join_channels, on_images, takes_batch_last
from tests.experiments.layers.against_torch import assert_equal, randn, with_gradients


def test_data_are_laid_out_from_either_layout():
    x = randn(2, 20, 3, 4, 5)
    for part in (x, x[:1]):
        for format_ in (torch.contiguous_format, torch.channels_last):
            last = batch_last(torch.stack([images.contiguous(memory_format=format_) for images in part]))
            assert last.is_contiguous()
            assert last.equal(part.permute(0, 3, 4, 2, 1))
            alone = part[0].contiguous(memory_format=format_)[None]
            assert batch_last(alone).equal(part[:1].permute(0, 3, 4, 2, 1))


def test_laying_out_copies_once_at_most():
    x = randn(1, 20, 3, 4, 5)
    last = batch_last(x)
    assert last.shape == (1, 4, 5, 3, 20)
    assert last.is_contiguous()
    assert batch_first(last).equal(x)
    assert batch_last(batch_first(last)).data_ptr() == last.data_ptr()
    shared = batch_last(x.expand(7, *x.shape[1:]))
    assert shared.shape[0] == 7
    assert shared.untyped_storage().nbytes() == last.untyped_storage().nbytes()


@pytest.mark.parametrize("pool", [lambda x: F.max_pool2d(x, 3, 2, padding=1), lambda x: F.avg_pool2d(x, 2)])
def test_pooling_keeps_the_layout(pool):
    x = batch_first(batch_last(randn(2, 20, 3, 6, 7)))
    ours = with_gradients(lambda x: on_images(pool, x), x)
    expected = with_gradients(lambda x: torch.stack([pool(images) for images in x]), x)
    assert_equal(ours, [part.double() for part in expected])
    assert batch_last(ours[0]).data_ptr() == ours[0].data_ptr()


def test_joining_channels_keeps_the_layout():
    x, y = randn(2, 20, 3, 4, 4), randn(2, 20, 5, 4, 4, seed=1)
    joined = join_channels(batch_first(batch_last(x)), y)
    assert joined.equal(torch.cat([x, y], 2))
    assert batch_last(joined).data_ptr() == joined.data_ptr()


def test_who_is_laid_out_batch_last():
    enough = machine.lanes(torch.float32)
    assert takes_batch_last(torch.empty(1, enough, 3, 4, 4))
    assert not takes_batch_last(torch.empty(1, enough - 1, 3, 4, 4))
    assert not takes_batch_last(torch.empty(enough, 3, 4, 4))  # one plain network's
    assert not takes_batch_last(torch.empty(1, enough, 3, 4, 4, device="meta"))
    assert not takes_batch_last(torch.empty(1, enough, 3, 4, 4, dtype=torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        assert not takes_batch_last(torch.empty(1, enough, 3, 4, 4))
