"""Dropout and BatchNorm together: the variance shift, measured by the harness where it is the harness's."""

from statistics import fmean

import torch
from torch import Tensor, nn

from analysis.theory import shift_magnitude
from experiments.jobs.chunk import run_chunk
from experiments.jobs.job_data import cached_data
from experiments.modes.finding import Finding, judge
from experiments.modes.networks import bn_dropout_network, digits, error_percent, stored_statistics, train
from experiments.settings.plan import plan_jobs
from experiments.study.rows import Row


def layers_of(*overrides: str) -> list[Row]:
    """Rows of layers.csv, as `python -m experiments.run OVERRIDES` would write them; nothing is written here."""
    few = ["members.none=false", "recipe.epochs=15"]
    (job,) = plan_jobs([*few, *overrides], multirun=False).jobs
    return run_chunk(job, job.members, cached_data(job.data))["layers.csv"]


def mean_of(rows: list[Row], column: str, **of: object) -> float:
    """Mean of a column over the rows that have these values."""
    return fmean(row[column] for row in rows if all(row[key] == value for key, value in of.items()))  # type: ignore[misc]


def shift_arises_when_the_mode_changes() -> Finding:
    """The variance shift arises only when the mode changes, at test."""
    rows = layers_of("members.dropout.rate=[0.5]")
    measured: dict[str, list[float]] = {}
    layers_with_noise = {"before_bn": [1, 2, 3], "before_weight": [2, 3]}
    for placement, layers in layers_with_noise.items():
        for variance, mode in (("train_var", "train"), ("test_var", "eval")):
            measured[f"variance_over_stored_{mode}_mode_{placement}"] = [
                mean_of(rows, variance, placement=placement, layer_index=layer)
                / mean_of(rows, "moving_var", placement=placement, layer_index=layer)
                for layer in layers
            ]
    train_mode, eval_mode = (
        [ratio for key, ratios in measured.items() if mode in key for ratio in ratios]
        for mode in ("_train_mode_", "_eval_mode_")
    )
    return judge(
        dict(measured),
        holds=min(train_mode) > 0.9 and max(train_mode) < 1.1 and max(eval_mode) < 0.9,
        confirmed=f"With dropout 0.5 and the weights frozen, what a BN layer reads has {min(train_mode):.2f} "
        f"to {max(train_mode):.2f} times the variance that it stored in train mode, and {min(eval_mode):.2f} "
        f"to {max(eval_mode):.2f} times in eval mode: the very same network, only its mode is another.",
        refuted=f"What a BN layer reads has {min(train_mode):.2f} to {max(train_mode):.2f} times the stored "
        f"variance in train mode, {min(eval_mode):.2f} to {max(eval_mode):.2f} times in eval mode.",
    )


def shift_accumulates_with_depth() -> Finding:
    """The variance shift accumulates with depth."""
    layers = [2, 3, 4, 5, 6, 7, 8]  # before_weight has no noise before the first one
    rows = layers_of("model.depth=8", "members.dropout.rate=[0.3,0.5]")
    ratios = {
        (placement, rate): [
            mean_of(rows, "shift_ratio", placement=placement, strength=rate, layer_index=layer)
            for layer in layers
        ]
        for placement in ("before_bn", "before_weight")
        for rate in (0.3, 0.5)
    }
    magnitudes = {case: [shift_magnitude(ratio) for ratio in values] for case, values in ratios.items()}
    grows = {case: values[-1] > 1.05 * values[0] for case, values in magnitudes.items()}
    # Falling back from its deepest point, although every layer brings in noise of its own.
    turns = {case: max(values) > 1.1 * values[-1] for case, values in magnitudes.items()}
    strong, turning = ratios["before_bn", 0.5], ratios["before_bn", 0.3]
    return judge(
        {
            "layer": layers,
            **{f"shift_ratio_{placement}_{rate:g}": values for (placement, rate), values in ratios.items()},
        },
        holds=grows["before_bn", 0.5] and grows["before_weight", 0.5],
        misleads=any(turns.values()) or not all(grows.values()),
        confirmed=f"From layer 2 to 8 the shift ratio goes from {strong[0]:.2f} to {strong[-1]:.3f} "
        "(before_bn 0.5).",
        needs_care=f"At a drop rate of 0.5 it does: from BN layer 2 to 8 the ratio falls from "
        f"{strong[0]:.2f} to {strong[-1]:.3f} (before_bn). At 0.3 before_bn it is {turning[0]:.2f} at layer "
        f"2, {min(turning):.2f} at its lowest and {turning[-1]:.2f} at layer 8: what the layers before have "
        "shifted can also cancel.",
        refuted=f"From layer 2 to 8 the shift ratio goes from {strong[0]:.2f} to {strong[-1]:.2f} (before_bn "
        "0.5).",
    )


class UniformNoise(nn.Module):
    """x + x r in train mode, r uniform on [low, high]; x in eval mode."""

    def __init__(self, low: float, high: float):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        """Return x + x r, shaped as x."""
        return x + x * torch.empty_like(x).uniform_(self.low, self.high) if self.training else x


def uout_from_0_to_1_moves_the_mean() -> Finding:
    """With Uout's noise from [0, 1], as one text has it, instead of [-beta, beta], the mean moves too, and BN's
    stored mean is wrong as well.
    """
    data = digits()
    ranges = {f"[-{beta:g}, {beta:g}]": (-beta, beta) for beta in (0.1, 0.3, 0.5, 1.0)} | {
        "[0, 1]": (0.0, 1.0)
    }
    mean_shift, variance_ratio, error = [], [], []
    for low, high in ranges.values():
        network = nn.Sequential(
            *[nn.Linear(64, 128), UniformNoise(low, high), nn.BatchNorm1d(128), nn.ReLU()],
            *[nn.Linear(128, 128), UniformNoise(low, high), nn.BatchNorm1d(128), nn.ReLU()],
            nn.Linear(128, 10),
        )
        train(network, data.train_inputs, data.train_labels, epochs=5)
        bn = network[2]
        assert isinstance(bn, nn.BatchNorm1d)
        with torch.no_grad():
            # Weights frozen, a plain average: less the errors that are the exponential average's own, see (7).
            bn.reset_running_stats()
            bn.momentum = None
            for _ in range(5):
                network.train()(data.train_inputs)
            network.eval()
            seen = network[:2](data.train_inputs)  # what BN gets, now without noise
        mean, variance = stored_statistics(bn)
        mean_shift.append(((seen.mean(0) - mean) / variance.sqrt()).square().mean().sqrt().item())
        variance_ratio.append((seen.var(0).mean() / variance.mean()).item())
        error.append(error_percent(network, data.test_inputs, data.test_labels))
    return judge(
        {
            "noise_range": list(ranges),
            "mean_shift_in_stored_std": mean_shift,
            "shift_ratio": variance_ratio,
            "test_error_percent": error,
        },
        holds=mean_shift[-1] > 0.1 and mean_shift[-1] > 5 * max(mean_shift[:-1]),
        confirmed=f"With [0, 1] the mean at the first BN is off by {mean_shift[-1]:.2f} stored standard "
        f"deviations, with [-1, 1] by {mean_shift[-2]:.2f}: the noise multiplies by 1.5 on average, not by "
        f"1. The shift ratio is {variance_ratio[-1]:.2f} against {variance_ratio[-2]:.2f}, the test error "
        f"{error[-1]:.1f} against {error[-2]:.1f} %.",
        refuted=f"With [0, 1] the mean at the first BN is off by {mean_shift[-1]:.2f} stored standard "
        f"deviations, with [-1, 1] by {mean_shift[-2]:.2f}.",
    )


def smaller_noise_and_wider_layers_help() -> Finding:
    """Two remedies reduce the shift: a smaller noise variance, and wider layers."""
    widths, rates = [8, 32, 128], [0.1, 0.3, 0.5]
    by_width = {
        width: layers_of(f"model.width={width}", f"members.dropout.rate={rates if width == 32 else [0.5]}")
        for width in widths
    }
    measured: dict[str, list[float]] = {}
    for placement in ("before_bn", "before_weight"):
        # Local: the share of a layer's own noise, so that depth does not mix in.
        of_last = {"column": "local_ratio", "placement": placement, "layer_index": 3}
        measured[f"local_ratio_by_rate_{placement}"] = [
            mean_of(by_width[32], strength=rate, **of_last) for rate in rates
        ]
        measured[f"local_ratio_by_width_{placement}"] = [
            mean_of(by_width[width], strength=0.5, **of_last) for width in widths
        ]
    by_rate = [measured[f"local_ratio_by_rate_{placement}"] for placement in ("before_bn", "before_weight")]
    straight, through = (measured[f"local_ratio_by_width_{p}"] for p in ("before_bn", "before_weight"))
    return judge(
        {"drop_rate": rates, "width": widths, **measured},
        holds=all(ratios[0] > ratios[1] > ratios[2] for ratios in by_rate) and through[2] > through[0] + 0.02,
        misleads=straight[2] < straight[0] + 0.02,
        confirmed=f"From width 8 to 128 the local ratio goes from {straight[0]:.2f} to {straight[2]:.2f} "
        f"(before_bn) and from {through[0]:.2f} to {through[2]:.2f} (before_weight).",
        needs_care=f"Less noise always helps: from drop rate 0.5 to 0.1 the local ratio rises from "
        f"{by_rate[0][2]:.2f} to {by_rate[0][0]:.2f} (before_bn) and {by_rate[1][2]:.2f} to "
        f"{by_rate[1][0]:.2f} (before_weight). Width, 8 to 128, helps before_weight only ({through[0]:.2f} "
        f"to {through[2]:.2f}); straight before BN there is no sum that could average the noise out "
        f"({straight[0]:.2f} to {straight[2]:.2f}).",
        refuted=f"From width 8 to 128 the local ratio goes from {through[0]:.2f} to {through[2]:.2f} "
        f"(before_weight), from drop rate 0.5 to 0.1 from {by_rate[1][2]:.2f} to {by_rate[1][0]:.2f}.",
    )


def shift_in_one_of_four_corners() -> Finding:
    """Of the four combinations of train and eval mode for BN and for dropout, only the one with both in eval mode
    shows the shift.
    """
    data = digits()
    network = bn_dropout_network()
    train(network, data.train_inputs, data.train_labels, epochs=10)
    bn = network[5]
    assert isinstance(bn, nn.BatchNorm1d)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    accuracy, shift = {}, {}
    for bn_mode in ("train", "eval"):
        for dropout_mode in ("train", "eval"):
            network.load_state_dict(state)  # a BN in train mode has moved its statistics
            for layer in network:
                layer.train((dropout_mode if isinstance(layer, nn.Dropout) else bn_mode) == "train")
            with torch.no_grad():
                seen = network[:5](data.train_inputs)
            divisor = seen.var(0) if bn.training else stored_statistics(bn)[1]
            corner = f"bn_{bn_mode}_dropout_{dropout_mode}"
            shift[corner] = (seen.var(0).mean() / divisor.mean()).item()
            errors = [error_percent(network, data.test_inputs, data.test_labels) for _ in range(20)]
            accuracy[corner] = 100 - fmean(errors)
    others = [value for corner, value in shift.items() if corner != "bn_eval_dropout_eval"]
    both = "bn_eval_dropout_eval"
    return judge(
        {
            **{f"shift_ratio_{corner}": value for corner, value in shift.items()},
            **{f"test_accuracy_percent_{corner}": value for corner, value in accuracy.items()},
        },
        holds=abs(shift[both] - 1) > 0.1 and all(abs(value - 1) < 0.1 for value in others),
        confirmed=f"BN's input has {shift[both]:.2f} times the variance that BN divides by when both are in "
        f"eval mode, {min(others):.2f} to {max(others):.2f} times in the other corners. Test accuracy: "
        f"{accuracy[both]:.1f} % there; {accuracy['bn_train_dropout_eval']:.1f} % with BN in train mode, "
        f"{accuracy['bn_eval_dropout_train']:.1f} % with dropout, {accuracy['bn_train_dropout_train']:.1f} % "
        "with both.",
        refuted=f"BN's input has {shift[both]:.2f} times the variance that BN divides by when both are in "
        f"eval mode, {min(others):.2f} to {max(others):.2f} times in the other corners.",
    )
