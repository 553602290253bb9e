"""One chunk of members from initial weights to table rows: build, train, measure, adjust, evaluate."""

import time
from collections.abc import Callable

from torch import Tensor

from experiments.data import Data
from experiments.jobs.checkpoint import find_checkpoints, load_state, save_checkpoint
from experiments.measuring.adjust import adjust_stack
from experiments.measuring.evaluate import evaluate
from experiments.measuring.flips import find_flips
from experiments.measuring.layer_columns import add_adjusted_columns, layer_columns, moving_variances
from experiments.measuring.measure import measure_train_mode
from experiments.measuring.track import mode_errors
from experiments.measuring.transplant import Twins, keep_twins
from experiments.members import Member
from experiments.networks import build_network
from experiments.networks.network import Network
from experiments.settings.config import Job
from experiments.study.job_folder import job_folder
from experiments.study.rows import Row, epoch_rows, flip_rows, layer_rows, member_rows
from experiments.training.augment import measured_data
from experiments.training.stack import ChunkNoise, site_shapes, stack_members
from experiments.training.train import TrainingState, train_stack


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
    recipe, count = job.recipe, len(members)
    device = data.train_inputs.device

    def build(seed: int) -> Network:
        return build_network(job.model, data.sample_shape, data.classes, seed).to(device)

    stack = stack_members(members, build)
    noise = ChunkNoise(stack, site_shapes(build(members[0].seed), data.train_inputs[:2]), members, device)

    measured = measured_data(data, recipe)

    def track(epoch: int) -> dict[str, Tensor]:
        return mode_errors(stack, members, noise, measured, recipe, epoch) if recipe.track_modes else {}

    def keep(state: TrainingState) -> None:
        every = recipe.checkpoint_every
        if every and (state.epoch % every == 0 or state.epoch == recipe.epochs):
            save_checkpoint(job_folder(job), job, len(data.train_labels), members, state)

    begin = load_state(members, find_checkpoints(job_folder(job)))
    outcome = train_stack(stack, members, noise, data, recipe, report_steps, track, begin, keep)
    trained, data = time.perf_counter(), measured
    in_train_mode = measure_train_mode(stack, members, noise, data, recipe, job.measure.draws)
    wanted = job.measure.flips
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
