"""A torch that behaves otherwise gets other verdicts: each test changes one behaviour of torch, no experiment."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.modes import STATEMENTS, both
from experiments.modes.finding import NOT_KNOWN


def verdict(number: int) -> str:
    finding = STATEMENTS[number - 1].test()
    assert finding.verdict != "failed", finding
    assert finding.explanation  # words for every verdict, if only that they are unknown
    return finding.verdict


def replace_batch_norm(monkeypatch: pytest.MonkeyPatch, forward=None, **arguments) -> None:
    """Give BN another forward pass, or other arguments than those it is called with."""
    for plain in (nn.BatchNorm1d, nn.BatchNorm2d):

        class Changed(plain):
            def __init__(self, *args, **given):
                super().__init__(*args, **(given | arguments))

            def forward(self, x):
                return forward(super(), self, x) if forward else super().forward(x)

        monkeypatch.setattr(nn, plain.__name__, Changed)


def replace_dropout(monkeypatch: pytest.MonkeyPatch, function) -> None:
    """Give nn.Dropout and F.dropout another function of (x, p, training)."""

    class Changed(nn.Dropout):
        def forward(self, x):
            return function(x, self.p, self.training)

    monkeypatch.setattr(nn, "Dropout", Changed)
    monkeypatch.setattr(F, "dropout", lambda x, p=0.5, training=True: function(x, p, training))


def test_dropout_whose_p_keeps(monkeypatch):
    real = F.dropout
    replace_dropout(monkeypatch, lambda x, p, training: real(x, 1 - p, training))
    assert (verdict(1), verdict(3)) == ("refuted", "confirmed")


def test_dropout_that_does_not_scale(monkeypatch):
    replace_dropout(monkeypatch, lambda x, p, training: x * (torch.rand_like(x) >= p) if training else x)
    assert (verdict(1), verdict(2)) == ("confirmed", "confirmed")


def test_dropout_that_scales_at_test_instead(monkeypatch):  # the original paper's
    replace_dropout(
        monkeypatch, lambda x, p, training: x * (torch.rand_like(x) >= p) if training else x * (1 - p)
    )
    assert verdict(1) == "refuted"


def test_dropout_that_is_never_on(monkeypatch):
    replace_dropout(monkeypatch, lambda x, p, training: x)
    assert [verdict(number) for number in (1, 2, 21, 26)] == ["refuted"] * 4


def test_dropout_that_is_always_on(monkeypatch):
    real = F.dropout
    replace_dropout(monkeypatch, lambda x, p, training: real(x, p, True))
    assert [verdict(number) for number in (4, 26)] == ["refuted"] * 2


def test_bn_whose_eval_mode_uses_the_batch(monkeypatch):
    def forward(plain, bn, x):
        return F.batch_norm(x, None, None, bn.weight, bn.bias, True, 0.0, bn.eps)

    replace_batch_norm(monkeypatch, forward)
    assert [verdict(number) for number in (5, 8, 11, 15, 26)] == ["refuted"] * 5


def test_bn_that_eval_switches_off(monkeypatch):
    replace_batch_norm(monkeypatch, lambda plain, bn, x: plain.forward(x) if bn.training else x)
    assert (verdict(5), verdict(6)) == ("refuted", "confirmed")


def test_bn_that_averages_all_batches(monkeypatch):
    replace_batch_norm(monkeypatch, momentum=None)
    assert (verdict(7), verdict(10)) == ("confirmed", "refuted")


def test_bn_whose_momentum_weights_the_old(monkeypatch):
    replace_batch_norm(monkeypatch, momentum=0.9)
    assert verdict(10) == "refuted"


def test_bn_that_learns_from_test_data(monkeypatch):
    def forward(plain, bn, x):
        if bn.training and not torch.is_grad_enabled():
            bn.weight.data += 0.01
        return plain.forward(x)

    replace_batch_norm(monkeypatch, forward)
    assert verdict(9) == "confirmed"


def test_bn_that_always_tracks_and_always_has_gamma_and_beta(monkeypatch):
    replace_batch_norm(monkeypatch, affine=True, track_running_stats=True)
    assert (verdict(11), verdict(12)) == ("refuted", "refuted")


def test_bn_without_eps(monkeypatch):
    def forward(plain, bn, x):
        return (x - x.mean((0, 2, 3), keepdim=True)) / x.var((0, 2, 3), keepdim=True).sqrt()

    replace_batch_norm(monkeypatch, forward)
    assert verdict(13) == "refuted"


def test_bn_that_stands_still_when_it_is_frozen(monkeypatch):  # as in Keras
    def forward(plain, bn, x):
        frozen = bn.weight is not None and not bn.weight.requires_grad
        if not (frozen and bn.training):
            return plain.forward(x)
        bn.eval()
        try:
            return plain.forward(x)
        finally:
            bn.train()

    replace_batch_norm(monkeypatch, forward)
    assert verdict(15) == "refuted"


def test_bn_that_uses_stored_statistics_for_small_batches(monkeypatch):
    def forward(plain, bn, x):
        if len(x) > 32 or not bn.training:
            return plain.forward(x)
        return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, False, 0.0, bn.eps)

    replace_batch_norm(monkeypatch, forward)
    assert (verdict(14), verdict(16)) == ("refuted", "refuted")


def test_eval_that_stops_gradients(monkeypatch):
    real = nn.Module.eval
    monkeypatch.setattr(nn.Module, "eval", lambda module: real(module).requires_grad_(False))
    monkeypatch.setattr(
        nn.Sequential, "train", lambda module, mode=True: nn.Module.train(module, mode).requires_grad_(mode)
    )
    assert (verdict(17), verdict(18)) == ("confirmed", "refuted")


def test_inference_mode_that_keeps_the_graph(monkeypatch):
    monkeypatch.setattr(torch, "inference_mode", contextlib.nullcontext)
    assert verdict(18) == "refuted"


def test_eval_as_a_context(monkeypatch):
    monkeypatch.setattr(nn.Module, "__enter__", lambda module: module, raising=False)
    monkeypatch.setattr(nn.Module, "__exit__", lambda module, *error: module.train() and None, raising=False)
    assert verdict(19) == "confirmed"


def test_linear_layer_with_a_mode(monkeypatch):
    class Changed(nn.Linear):
        def forward(self, x):
            return super().forward(x) * (0.5 if self.training else 1.0)

    monkeypatch.setattr(nn, "Linear", Changed)
    assert verdict(20) == "refuted"


def test_children_that_do_not_follow(monkeypatch):
    monkeypatch.setattr(nn.ReLU, "train", lambda module, mode=True: module)
    assert verdict(21) == "refuted"


def test_uout_whose_noise_is_centred(monkeypatch):
    def forward(module, x):
        half = (module.high - module.low) / 2
        return x * (1 + torch.empty_like(x).uniform_(-half, half)) if module.training else x

    monkeypatch.setattr(both.UniformNoise, "forward", forward)
    assert verdict(24) == "refuted"


@pytest.mark.parametrize(
    ("number", "changes", "expected"),
    [
        (22, {"test_var": lambda row: row["moving_var"]}, "refuted"),
        (22, {"train_var": lambda row: 0.5 * row["moving_var"]}, "refuted"),
        (23, {"shift_ratio": lambda row: 0.5}, "refuted"),
        (23, {"shift_ratio": lambda row: 0.8 ** row["layer_index"]}, "confirmed"),
        (25, {"local_ratio": lambda row: 0.5}, "refuted"),
        (25, {"local_ratio": lambda row: 1 - row["strength"] / row["width"]}, "confirmed"),
    ],
)
def test_other_layers(monkeypatch, number, changes, expected):
    """The harness's own rows, thought otherwise: its training is tested elsewhere."""

    def rows(*overrides):
        options = dict(override.split("=") for override in overrides)
        return [
            row | {column: change(row) for column, change in changes.items()}
            for placement in ("before_bn", "before_weight")
            for strength in json_list(options["members.dropout.rate"])
            for layer in range(1, 1 + int(options.get("model.depth", 3)))
            for row in [
                {
                    "placement": placement,
                    "strength": strength,
                    "layer_index": layer,
                    "width": int(options.get("model.width", 64)),
                    "moving_var": 2.0,
                    "train_var": 2.0,
                    "test_var": 1.0,
                }
            ]
        ]

    monkeypatch.setattr(both, "layers_of", rows)
    assert verdict(number) == expected


def json_list(text: str) -> list[float]:
    return [float(value) for value in text.strip("[]").split(",")]


def test_an_experiment_that_fails_says_so(monkeypatch):
    monkeypatch.delattr(nn, "GroupNorm")
    finding = STATEMENTS[15].test()
    assert finding.verdict == "failed"
    assert "AttributeError" in finding.explanation
    assert finding.explanation != NOT_KNOWN
