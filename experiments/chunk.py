"""One chunk of members from initial weights to table rows: build, train, measure, adjust, evaluate."""

import time
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from analysis.theory import shift_magnitude
from experiments.adjust import adjust_stack
from experiments.augment import measured_data
from experiments.checkpoint import find_checkpoints, load_state, save_checkpoint
from experiments.config import Job
from experiments.data import Data
from experiments.evaluate import Evaluation, evaluate
from experiments.flips import find_flips
from experiments.measure import (
    OwnNoise,
    TrainModePass,
    measure_train_mode,
    predicted_train_variance,
    source_columns,
    weight_columns,
)
from experiments.members import Member
from experiments.networks import build_network
from experiments.networks.network import Network, NormInput
from experiments.networks.norms import stores_statistics
from experiments.stack import ChunkNoise, site_shapes, stack_members
from experiments.study import job_folder
from experiments.track import mode_errors
from experiments.train import Outcome, TrainingState, train_stack
from experiments.transplant import Twins, keep_twins

Row = dict[str, object]


def run_chunk(
    job: Job,
    members: list[Member],
    data: Data,
    report_steps: Callable[[int], None] = lambda steps: None,
    twins: Twins | None = None,
) -> dict[str, list[Row]]:
    """Train and measure `members` side by side; return their rows of each table.

    `twins`, where it is given, receives the trained noise-free members.
    """
    start = time.perf_counter()
    recipe, count = job.config["recipe"], len(members)
    device = data.train_inputs.device

    def build(seed: int) -> Network:
        return build_network(job.config["model"], data.sample_shape, data.classes, seed).to(device)

    stack = stack_members(members, build)
    noise = ChunkNoise(stack, site_shapes(build(members[0].seed), data.train_inputs[:2]), members, device)

    measured = measured_data(data, recipe)

    def track(epoch: int) -> dict[str, Tensor]:
        return mode_errors(stack, members, noise, measured, recipe, epoch) if recipe["track_modes"] else {}

    def keep(state: TrainingState) -> None:
        every = recipe["checkpoint_every"]
        if every and (state.epoch % every == 0 or state.epoch == recipe["epochs"]):
            save_checkpoint(job_folder(job), job, len(data.train_labels), members, state)

    begin = load_state(members, find_checkpoints(job_folder(job)))
    outcome = train_stack(stack, members, noise, data, recipe, report_steps, track, begin, keep)
    trained, data = time.perf_counter(), measured
    in_train_mode = measure_train_mode(stack, members, noise, data, recipe, job.config["measure"]["draws"])
    wanted = job.config["measure"]["flips"]
    flips = find_flips(stack, members, noise, data, recipe, wanted) if wanted else []
    moving = moving_variances(stack)
    train = evaluate(stack, count, data.train_inputs, data.train_labels)
    test = evaluate(stack, count, data.test_inputs, data.test_labels)
    validation = None
    if len(data.validation_labels):
        validation = evaluate(stack, count, data.validation_inputs, data.validation_labels)
    layers = layer_columns(stack, noise, in_train_mode, train, moving)

    if twins is not None:
        keep_twins(twins, stack, members)
    adjust_stack(stack, count, data.train_inputs)
    adjusted_train = evaluate(stack, count, data.train_inputs, data.train_labels)
    adjusted_test = evaluate(stack, count, data.test_inputs, data.test_labels)
    add_adjusted_columns(layers, moving_variances(stack), adjusted_train)

    errors = {} if validation is None else {"validation_error": validation.error}
    errors |= {
        "train_error_train_mode": in_train_mode.error,
        "train_error_eval_mode": train.error,
        "test_error": test.error,
        "test_error_adjusted": adjusted_test.error,
        "test_loss": test.loss,
        "test_loss_adjusted": adjusted_test.loss,
    }
    end = time.perf_counter()
    seconds = {"seconds": (end - start) / count, "seconds_measuring": (end - trained) / count}
    tables = {
        "members.csv": member_rows(job, members, outcome, errors, seconds),
        "layers.csv": layer_rows(job, members, outcome, layers),
        "epochs.csv": epoch_rows(job, members, outcome),
    }
    return tables | ({"flips.csv": flip_rows(job, members, outcome, flips)} if wanted else {})


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
                "shift_magnitude": shift_magnitude(ratio),
            }
        if name in in_train_mode.own_noise:
            own = in_train_mode.own_noise[name]
            columns.update(own_noise_columns(own, norm_input, noise, train_var, columns))
        layers.append(columns)
    return layers


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


def identity(job: Job, member: Member) -> Row:
    """Return the columns that say which member a row is of."""
    model = job.config["model"]
    return {
        "data": job.config["data"]["name"],
        "model": model["name"],
        "width": model["width"],
        "depth": model["depth"],
        "norm": model["norm"],
        "noise_variance": member.noise_variance,
        "batch_size": job.config["recipe"]["batch_size"],
        "job": job.whole_name,
        **asdict(member),
    }


def member_rows(
    job: Job, members: list[Member], outcome: Outcome, errors: dict[str, Tensor], seconds: dict[str, float]
) -> list[Row]:
    """Return a row of members.csv for each member; a diverged one has its status and no errors."""
    rows: list[Row] = []
    for index, member in enumerate(members):
        row = identity(job, member) | {"status": "ok", "steps": outcome.steps[index], **seconds}
        if outcome.diverged[index]:
            row |= {"status": "diverged", "reason": "the training loss left the finite numbers"}
        else:
            row |= {name: value[index].item() for name, value in errors.items()}
        rows.append(row)
    return rows


def layer_rows(job: Job, members: list[Member], outcome: Outcome, layers: list[dict]) -> list[Row]:
    """Return a row of layers.csv for each member and BN layer; a diverged member's hold no measurements."""
    rows: list[Row] = []
    for index, member in enumerate(members):
        for columns in layers:
            row = identity(job, member)
            for key, value in columns.items():
                measured = isinstance(value, Tensor)
                if not (measured and outcome.diverged[index]):
                    row[key] = value[index].item() if measured else value  # type: ignore[index]
            rows.append(row)
    return rows


def epoch_rows(job: Job, members: list[Member], outcome: Outcome) -> list[Row]:
    """Return a row of epochs.csv for each member and epoch."""
    rows: list[Row] = []
    for index, member in enumerate(members):
        of_member = identity(job, member)
        for record in outcome.epochs:
            values = {k: v[index] if isinstance(v, list) else v for k, v in record.items()}
            rows.append(of_member | values)
    return rows


def flip_rows(job: Job, members: list[Member], outcome: Outcome, flips: list[list[Row]]) -> list[Row]:
    """Return the rows of flips.csv: those of each member that did not diverge."""
    return [
        identity(job, member) | row
        for member, diverged, rows in zip(members, outcome.diverged, flips, strict=True)
        if not diverged
        for row in rows
    ]


def failed_rows(job: Job, members: list[Member], reason: str) -> list[Row]:
    """Return the rows of members.csv of a chunk that raised an error."""
    return [identity(job, member) | {"status": "failed", "reason": reason} for member in members]
