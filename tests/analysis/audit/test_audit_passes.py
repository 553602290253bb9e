"""How often the audit runs the model, and that what it normalises batches by is what torch's BN would take."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.audit import audit
from analysis.audit.forward import Layer, look_at_inputs
from tests.analysis.audit.audit_models import convnet, images, mlp, trained, vectors


class NoisyLate(nn.Module):
    """Adds noise in train mode to all batches but the first few, which are `quiet`."""

    def __init__(self, body: nn.Sequential, quiet: list[Tensor]):
        super().__init__()
        self.body, self.quiet = body, {id(batch) for batch in quiet}

    def forward(self, x):
        on = self.training and id(x) not in self.quiet
        return self.body[1:](F.dropout(self.body[0](x), 0.5, on))


@pytest.mark.parametrize(
    ("noise", "behind", "passes"),
    [
        (nn.Identity(), nn.Identity(), 2),
        (nn.Identity(), nn.Dropout(0.5), 2),
        (nn.Dropout(0.5), nn.Identity(), 3),
    ],
    ids=["none", "behind the last BN", "before a BN"],
)
def test_batches_take_three_passes_and_two_where_no_noise_reaches_bn(noise, behind, passes):
    count = [0]
    model = trained(mlp(noise).append(behind), vectors(20))
    model.register_forward_hook(lambda *_: count.__setitem__(0, count[0] + 1))
    table = audit(model, vectors(20))
    followed = (
        3 if isinstance(noise, nn.Identity) and isinstance(behind, nn.Identity) else 4
    )  # the 1st and 17th batch
    assert count[0] == passes * 18 + followed * 2
    assert table.attrs["has_noise"] == (passes == 3 or isinstance(behind, nn.Dropout))
    assert "noise" not in ",".join(table.alarm) or passes == 3


def test_noise_that_shows_late_is_compared_on_the_same_samples():
    batches = images(24)
    model = NoisyLate(convnet(nn.Identity()), batches[:16])
    row = audit(trained(model, batches), batches).iloc[-1]
    for module in model.body:
        module.train()
    with torch.no_grad():
        clean = torch.cat([model.body[:5](batch) for batch in batches])
    assert row.clean_var == pytest.approx(float(_pooled_variance(clean)), rel=1e-5)
    assert row.noise_ratio_low < row.noise_ratio < row.noise_ratio_high
    assert "random" not in row.own_noise
    assert "F.dropout 0.5" in row.upstream_noise


def _pooled_variance(x):
    return x.transpose(0, 1).flatten(1).double().var(1).mean()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float, torch.double, torch.bfloat16])
@pytest.mark.parametrize(("size", "mean"), [(2, 1), (5, 1), (9, 8), (9, 1000)])
def test_batches_are_normalised_as_by_torch(layout, dtype, size, mean):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6, track_running_stats=False).to(dtype)
    nn.init.normal_(norm.weight)
    x = (
        (torch.randn(40, 6, size, size) + mean * torch.randn(6, 1, 1))
        .to(dtype)
        .contiguous(memory_format=layout)
    )

    def look(layer, x):
        layer.train.update(x)
        return layer.train.batch_moments()

    layer = Layer("norm", norm)
    with torch.no_grad():
        expected = norm(x)
        with look_at_inputs([layer], look):
            found = norm(x)
    moments = layer.train
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 + 2e-6 * mean)
    rows = x.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(moments.variance, rows.var(1), rtol=1e-5, atol=0)
    torch.testing.assert_close(moments.mean, rows.mean(1), rtol=1e-5, atol=1e-5)
    assert "forward" not in norm.__dict__


def test_wrappers_are_looked_through():
    batches = images(4)
    model = trained(convnet(nn.Dropout(0.5)), batches)
    plain = audit(model, batches)
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        assert audit(wrapped, batches).equals(plain)
