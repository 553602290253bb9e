"""One chunk of members from initial weights to table rows: build, train, measure, adjust, evaluate."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from torch import Tensor

from experiments.data import Data
from experiments.jobs.checkpoint import Place, load_state, save_checkpoint
from experiments.jobs.measured import keep_measured
from experiments.loggers.chunk_log import ChunkLog
from experiments.measuring.adjust import adjust_stack
from experiments.measuring.evaluate import evaluate
from experiments.measuring.flips import find_flips
from experiments.measuring.interventions import intervene
from experiments.measuring.layer_columns import (
    add_adjusted_columns,
    add_columns,
    layer_columns,
    moving_variances,
)
from experiments.measuring.measure import measure_train_mode
from experiments.measuring.population import add_factors, population_shift
from experiments.measuring.predicted import predicted_shift
from experiments.measuring.shown import samples_at_once
from experiments.measuring.track import mode_errors
from experiments.measuring.transplant import Twins, keep_twins
from experiments.members import Member
from experiments.networks import build_network
from experiments.networks.network import Network
from experiments.settings.config import Job
from experiments.study.part import new_folder
from experiments.study.rows import Row, epoch_rows, flip_rows, layer_rows, member_rows
from experiments.study.weights import save_weights
from experiments.training.augment import measured_data
from experiments.training.stack import ChunkNoise, member_state, site_shapes, stack_members
from experiments.training.train import Outcome, TrainingState, train_stack


def run_chunk(
    job: Job,
    members: list[Member],
    data: Data,
    report_steps: Callable[[int], None] = lambda steps: None,
    twins: Twins | None = None,
    places: Mapping[Member, Place] = MappingProxyType({}),
) -> dict[str, list[Row]]:
    """Train and measure `members` side by side; return their rows of each table.

    `twins`, where it is given, receives the trained noise-free members; `places` says where training goes on.
    """
    start = time.perf_counter()
    recipe, count = job.recipe, len(members)
    stack, noise = build_stack(job, members, data)
    # What networks saw in training is what they are measured on.
    measured = measured_data(data, recipe)
    log = ChunkLog(job, members)
    outcome = train(job, members, stack, noise, data, measured, report_steps, places, log)
    if job.saves:
        wanted = set(job.members)
        for index, member in enumerate(members):
            if member in wanted:
                save_weights(new_folder(job), member, member_state(stack, index))

    end_of_training = time.perf_counter()
    in_train_mode = measure_train_mode(stack, members, noise, measured, recipe, job.measure.draws)
    flips = find_flips(stack, members, noise, measured, recipe, job.measure.flips)
    moving = moving_variances(stack)
    in_train, in_test = measured.train_inputs, measured.test_inputs
    train_set = evaluate(stack, count, in_train, measured.train_labels)
    test_set = evaluate(stack, count, in_test, measured.test_labels)
    errors: dict[str, Tensor] = {}
    if len(measured.validation_labels):
        validation_set = evaluate(stack, count, measured.validation_inputs, measured.validation_labels)
        errors["validation_error"] = validation_set.error
    layers = layer_columns(stack, noise, in_train_mode, train_set, moving)
    at_once = partial(samples_at_once, shapes=noise.shapes)
    if moving:
        draws, labels = job.measure.draws, measured.train_labels
        batch, labels_of_batch = (at_once(of_all, copies=draws) for of_all in (in_train, labels))
        add_columns(layers, population_shift(stack, members, noise, batch, labels_of_batch, draws))
        add_columns(layers, predicted_shift(stack, members, at_once(in_train), at_once(labels)))

    if moving and job.measure.interventions:
        found = intervene(
            stack,
            [member.seed for member in members],
            in_train_mode.norm_moments,
            at_once(in_train),
            noise.shapes,
            {"train": (in_train, measured.train_labels), "test": (in_test, measured.test_labels)},
        )
        errors |= found.members
        add_columns(layers, found.layers)
        add_factors(layers)
        if twins is not None:
            keep_twins(twins, stack, members)
    adjust_stack(stack, count, in_train)
    adjusted_train_set = evaluate(stack, count, in_train, measured.train_labels)
    adjusted_test_set = evaluate(stack, count, in_test, measured.test_labels)
    add_adjusted_columns(layers, moving_variances(stack), adjusted_train_set)

    errors |= {
        "train_error_train_mode": in_train_mode.error,
        "train_error_eval_mode": train_set.error,
        "train_error_adjusted": adjusted_train_set.error,
        "train_loss_eval_mode": train_set.loss,
        "train_loss_adjusted": adjusted_train_set.loss,
        "test_error": test_set.error,
        "test_error_adjusted": adjusted_test_set.error,
        "test_loss": test_set.loss,
        "test_loss_adjusted": adjusted_test_set.loss,
    }
    errors = {name: values.cpu() for name, values in errors.items()}  # which waits for a GPU
    end = time.perf_counter()
    seconds = {"seconds": (end - start) / count, "seconds_measuring": (end - end_of_training) / count}
    tables = {
        "members.csv": member_rows(job, members, outcome, errors, seconds),
        "layers.csv": layer_rows(job, members, outcome, layers),
        "epochs.csv": epoch_rows(job, members, outcome),
    }
    if job.measure.flips:
        tables["flips.csv"] = flip_rows(job, members, outcome, flips)
    log.add_results(recipe.epochs, tables)
    return tables


def run_and_keep(
    job: Job,
    members: list[Member],
    data: Data,
    report_steps: Callable[[int], None],
    twins: Twins,
    places: Mapping[Member, Place],
) -> dict[str, list[Row]]:
    """`run_chunk`, whose rows are on the disk before those of the job's other chunks are there."""
    tables = run_chunk(job, members, data, report_steps, twins, places)
    keep_measured(job, data, members, tables, twins)
    return tables


def build_stack(job: Job, members: Sequence[Member], data: Data) -> tuple[Network, ChunkNoise]:
    """Return the members as one stack with their initial weights, and their noise, where the data is."""
    device = data.train_inputs.device

    def build(seed: int) -> Network:
        return build_network(job.model, data.sample_shape, data.classes, seed).to(device)

    stack = stack_members(members, build)
    shapes = site_shapes(build(members[0].seed), data.train_inputs[:2])
    return stack, ChunkNoise(stack, shapes, members, device)


def train(
    job: Job,
    members: list[Member],
    stack: Network,
    noise: ChunkNoise,
    data: Data,
    measured: Data,
    report_steps: Callable[[int], None],
    places: Mapping[Member, Place],
    log: ChunkLog,
) -> Outcome:
    """Train a stack, from its checkpoint if it has one; track, save and log what job and recipe ask for."""
    recipe = job.recipe

    def track(epoch: int) -> dict[str, Tensor]:
        return mode_errors(stack, members, noise, measured, recipe, epoch) if recipe.track_modes else {}

    def keep(state: TrainingState) -> None:
        log.add_epochs(state.records)
        every = recipe.checkpoint_every
        if every and (state.epoch % every == 0 or state.epoch == recipe.epochs):
            save_checkpoint(job, data, members, state)

    start = load_state(members, places)
    return train_stack(stack, members, noise, data, recipe, report_steps, track, start, keep)
