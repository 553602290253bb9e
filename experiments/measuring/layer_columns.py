"""The columns of layers.csv: what was measured of each normalisation layer, before and after BN adjustment."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from analysis import theory
from analysis.theory.layers import fan_in, squared_cosine
from experiments.layers.norms import stores_statistics
from experiments.measuring.evaluate import Evaluation
from experiments.measuring.measure import OwnNoise, TrainModePass
from experiments.measuring.moments import Moments
from experiments.measuring.shown import normalised, rms
from experiments.networks.network import Network, NormInput, Source
from experiments.training.stack import ChunkNoise


def moving_variances(stack: Network) -> dict[str, Tensor]:
    """Return the channel mean of each layer's running variance, [members] in double precision.

    Only of layers that have one.
    """
    norms = {norm_input.norm: stack.get_submodule(norm_input.norm) for norm_input in stack.norm_inputs()}
    return {
        name: norm.running_var.double().mean(1)  # type: ignore[union-attr, operator]
        for name, norm in norms.items()
        if stores_statistics(norm)
    }


def layer_columns(
    stack: Network,
    noise: ChunkNoise,
    in_train_mode: TrainModePass,
    train: Evaluation,
    moving: dict[str, Tensor],
) -> list[dict]:
    """Return for each normalisation layer its columns of layers.csv, each a tensor [members] or one for all.

    A layer without stored statistics has no column of what they are compared with.
    """
    layers = []
    for index, norm_input in enumerate(stack.norm_inputs(), start=1):
        name = norm_input.norm
        train_var = in_train_mode.norm_moments[name].variance
        test_var = train.norm_moments[name].variance.mean(1)
        columns = {
            "layer_index": index,
            "layer_name": name,
            "channels": train_var.shape[1],
            "train_var": train_var.mean(1),
            "test_var": test_var,
            **weight_columns(stack, norm_input),
        }
        if name in moving:
            ratio = test_var / moving[name]
            columns |= {
                "moving_var": moving[name],
                "shift_ratio": ratio,
                "shift_magnitude": theory.shift_magnitude(ratio),
                **channel_columns(stack.get_submodule(name), train.norm_moments[name]),
            }
        if name in in_train_mode.own_noise:
            own = in_train_mode.own_noise[name]
            columns.update(own_noise_columns(own, norm_input, noise, train_var, columns))
        layers.append(columns)
    return layers


def channel_columns(norm: nn.Module, test: Moments) -> dict[str, Tensor]:
    """Return what the channels of a BN layer show of R and D, see `shown`, behind its stored statistics.

    Each [members]: the rms over channels of D and of log R, and the R that is furthest from 1.
    """
    ratio, shift = normalised(norm, test.mean, test.variance)
    logs = ratio.log()
    worst = logs.abs().argmax(1, keepdim=True)
    return {
        "mean_shift": rms(shift),
        "log_ratio_rms": rms(logs),
        "worst_channel_ratio": ratio.gather(1, worst)[:, 0],
    }


def own_noise_columns(
    own: OwnNoise, norm_input: NormInput, noise: ChunkNoise, train_var: Tensor, weights: dict
) -> dict[str, Tensor]:
    """Return the local columns [members] of a BN with noise of its own; nan for members that have none there."""
    clean = own.clean.variance.mean(1)
    columns = {
        "local_ratio": clean / train_var.mean(1),
        "local_ratio_exact": clean / predicted_train_variance(own, noise).mean(1),
    }
    has_noise = torch.stack([noise.active[source.site].noise_variance > 0 for source in own.sources])
    for key in ("input_mean", "input_var", "input_corr", "ratio_paper"):
        columns[key] = torch.full_like(clean, torch.nan)
    for source, has_source in zip(own.sources, has_noise, strict=True):  # has_noise [sources, members]
        # Several sources at once have no single input to describe.
        single = has_source & (has_noise.sum(0) == 1)
        for key, value in source_columns(own, source, noise, weights).items():
            columns[key] = torch.where(single, value, columns[key])
    for key in ("local_ratio", "local_ratio_exact"):
        columns[key] = torch.where(has_noise.any(0), columns[key], torch.nan)
    return columns


def predicted_train_variance(own: OwnNoise, noise: ChunkNoise) -> Tensor:
    """Return the exact law's train-mode variance [members, channels] from the clean input and L2(x^2)."""
    variance = own.clean.variance  # [members, channels]
    for source, moments in own.sources.items():
        noise_variance = noise.active[source.site].noise_variance.double().unsqueeze(1)
        variance[:, source.part] = theory.exact_train_variance(
            variance[:, source.part], noise_variance, moments.mean_squared_response
        )
    return variance


def weight_columns(stack: Network, norm_input: NormInput) -> dict[str, Tensor | int]:
    """Return fan-in d, and the filter means of cos^2 and d cos^2 [members], of the layer before a BN, if any."""
    if norm_input.layer is None:
        return {}
    weight = stack.get_submodule(norm_input.layer).weight.detach()  # type: ignore[union-attr]
    cos2 = torch.stack([squared_cosine(member) for member in weight]).mean(1)  # type: ignore[union-attr]
    d = fan_in(weight[0])  # type: ignore[index]
    return {"fan_in": d, "cos2": cos2, "d_cos2": d * cos2}


def source_columns(own: OwnNoise, source: Source, noise: ChunkNoise, weights: Mapping) -> dict[str, Tensor]:
    """Return c, v, rho of one source's noise input and the paper's ratio made of them, each [members].

    Through a convolution they are means over the entries of its patches, where padding counts as zeros.
    Eq 8 where the noise goes straight in, Eq 12 through a layer; no ratio where the layer joins a shortcut,
    of which Eq 12 says nothing; and nothing at all of a source that is only some of the channels'.
    """
    if source.channels is not None:
        return {}
    inputs = own.sources[source].noise_inputs
    c, v = inputs.mean.mean(1), inputs.variance.mean(1)
    columns = {"input_mean": c, "input_var": v}
    noise_variance = noise.active[source.site].noise_variance.double()
    if source.layer is None:
        if not source.joins_shortcut:
            columns["ratio_paper"] = theory.ratio_before_bn(c, v, noise_variance)
        return columns
    rho = theory.input_correlation(own.sources[source].patch_sums.variance.mean(1), v, weights["fan_in"])
    columns["input_corr"] = rho
    if not source.joins_shortcut:
        columns["ratio_paper"] = theory.ratio_before_weight(c, v, rho, weights["d_cos2"], noise_variance)
    return columns


def add_columns(layers: Sequence[dict], found: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Add to each layer's columns those that were found of it, by its name."""
    for columns in layers:
        columns.update(found.get(columns["layer_name"], {}))


def add_adjusted_columns(layers: list[dict], moving: dict[str, Tensor], train: Evaluation) -> None:
    """Add to each layer's columns what its shift is after adjustment, where there was something to adjust."""
    for columns in layers:
        name = columns["layer_name"]
        if name not in moving:
            continue
        test_var = train.norm_moments[name].variance.mean(1)
        columns["moving_var_adjusted"] = moving[name]
        columns["test_var_adjusted"] = test_var
        columns["shift_ratio_adjusted"] = test_var / moving[name]
