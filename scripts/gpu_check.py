"""Is the harness right on a GPU, and how fast? At most 8 minutes, on Linux with Python >= 3.11 and torch.

Everything else comes along as wheels (140 MB), made where Python has the same version:

    python -m pip wheel --wheel-dir wheels --constraint scripts/constraints.txt \\
        hydra-core pandas scikit-learn filelock llvmlite pillow pyyaml rich safetensors

On the machine with the GPU, in a copy of this checkout with that folder:

    python -m pip install --no-index --find-links wheels \\
        hydra-core pandas scikit-learn filelock llvmlite pillow pyyaml rich safetensors
    python -m scripts.gpu_check --out gpu

Its parts, each with a share of the time:

    correct        tables of small studies against the CPU's, from the same draws of the noise: every network,
                   noise and placement; several processes; convolutions in bfloat16; the GPU's own draws
    loops          stacks of MLPs against the plain loop of tests/reference.py, and that as a CUDA graph
    convolutions   time and memory of a step by the number of members side by side, against `chunk=auto`
    paper          a step of the paper's networks at full size; then, as time allows, short training

FOLDER/gpu_check.json and a CSV a table are written anew with each row, so that a run that is cut off is of use.
Images are CIFAR-10's in the folder VARIANCE_SHIFT_DATA, or drawn where that is not set. With `--device cpu --tiny`
it runs anywhere; stacks then compute with torch's own kernels, as on a GPU, which proves nothing of one. The
status is 1 where tables differ, something fails, or there is no GPU.
"""

import argparse
import gc
import json
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import product, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from analysis.schema import MEMBER_KEY, TEXT, kind_of, typed_row
from analysis.theory.noises import FAMILIES
from experiments.checks import not_allowed, one_line
from experiments.command import exit_status
from experiments.data import Data
from experiments.jobs.chunk import build_stack
from experiments.jobs.chunk_plan import chunk_capacity, member_bytes
from experiments.jobs.job import run_job
from experiments.jobs.job_data import cached_data, job_site_shapes
from experiments.jobs.workers import start_server
from experiments.layers.layout import empty_activations
from experiments.members import Member
from experiments.settings.config import Job
from experiments.settings.device import choose_device
from experiments.settings.plan import plan_jobs
from experiments.study.files import write_text
from experiments.study.tables import read_table, write_table
from experiments.training.noise import SiteNoise, fill_uniform, uniform_draws
from experiments.training.train import train_stack
from scripts.benchmark.convolutions import loop_epoch
from scripts.benchmark.timing import seconds_of
from tests import reference

CPU = torch.device("cpu")
# Wide where a sample whose units are all dropped would be normalised: the smallest rounding then changes much.
SMALL = {
    "mlp": ["model=mlp", "model.width=16"],
    "convnet": ["model=convnet", "model.width=4", "measure.flips=2"],
    "convnet, group norm": ["model=convnet", "model.width=8", "model.norm=group"],
    "mlp, layer norm": ["model=mlp", "model.width=64", "model.norm=layer"],
    "preresnet": ["model=preresnet", "model.width=4", "model.depth=1"],
    "preresnet, bottlenecks": ["model=preresnet", "model.width=4", "model.depth=1", "model.block=bottleneck"],
    "resnext": ["model=resnext", "model.width=4", "model.cardinality=2"],
    "wide_resnet": ["model=wide_resnet", "model.width=8"],
    "densenet": ["model=densenet", "model.width=4", "model.depth=2"],
}
TINY = 2  # of these, with --tiny
STRENGTHS = {"dropout": ("rate", 0.5), "uout": ("beta", 1.0), "gaussian": ("std", 0.7)}
KERNELS = ("experiments.layers.layout", "experiments.kernels.matrices", "experiments.training.noise")
# What tables may differ by: points of errors, and parts of the mean size of any other column.
FLOAT32, BFLOAT16 = (3.0, 0.02), (25.0, 0.5)
PAPER = ("preresnet_paper", "densenet_bc_100", "wrn28_10", "resnext29_8x64d")
PLAIN = "plain, no noise, channels last"
EPOCHS = 41  # of short training, at most: a quarter of the paper's

Rows = dict[str, list[dict[str, Any]]]  # of each table
Epoch = Callable[[], object]  # trains for one, with each call


class OutOfTime(BaseException):
    """The time of a part is up; it passes by whatever catches exceptions."""


class Check:
    """Where it is measured, the tables that come of it, and when the part that runs must end."""

    def __init__(self, device: torch.device, tiny: bool, out: Path, folder: Path):
        self.device, self.tiny, self.out, self.folder = device, tiny, out, folder
        self.is_gpu = device.type == "cuda"
        self.begin = self.end = time.perf_counter()
        card = torch.cuda.get_device_name(device) if self.is_gpu else "none: a CPU"
        self.where = {"card": card, "torch": torch.__version__, "cuda": torch.version.cuda}
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.is_right = True

    def add(self, table: str, **columns: Any) -> dict[str, Any]:
        """Add a row to a table, write all that is known, print the row and return it."""
        row = {name: None if _is_no_number(value) else value for name, value in columns.items()}
        rows = self.tables.setdefault(table, [])
        rows.append(row | self.where)
        write_table(self.out / f"{table}.csv", dict.fromkeys(name for row in rows for name in row), rows)
        write_text(self.out / "gpu_check.json", json.dumps(self.tables, indent=1))
        cells = {name: f"{cell:.4g}" if isinstance(cell, float) else cell for name, cell in row.items()}
        shown = ", ".join(f"{name} {cell}" for name, cell in cells.items())
        print(f"{time.perf_counter() - self.begin:4.0f} s  {table}: {shown}", flush=True)
        self.is_right = self.is_right and row.get("is_right") is not False
        return row

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """Make what fails a row of `faults`, and let the rest go on; give the GPU its memory back."""
        try:
            yield
        except Exception as error:
            reason = one_line(f"{type(error).__name__}: {error}")[:400]
            self.add("faults", what=what, reason=reason, is_right=False)
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()

    def cost(
        self, table: str, what: str, way: str, members: int, steps: int, epoch: Callable[[], Epoch]
    ) -> dict[str, Any]:
        """Add and return a row of what a step of one of so many members costs; nothing of what fails.

        It is the best of three epochs behind a first, beside the plain loop's, which is added first.
        """
        row: dict[str, Any] = {}
        with self.trying(f"{what}, {way}"):
            work = epoch()

            def whole() -> None:
                work()
                if self.is_gpu:
                    torch.cuda.synchronize(self.device)

            first = seconds_of(whole)
            if self.is_gpu:
                torch.cuda.reset_peak_memory_stats(self.device)
            seconds = min(seconds_of(whole) for _ in range(3 if first < 1 else 1))
            memory = torch.cuda.max_memory_allocated(self.device) / 1e6 if self.is_gpu else None
            cost = 1e3 * seconds / steps / members
            old = [row for row in self.tables.get(table, []) if row["what"] == what]
            plain = next((row["ms_per_member_step"] for row in old if row["way"].startswith("plain")), None)
            row = {"what": what, "way": way, "members": members, "ms_per_member_step": cost}
            row = self.add(table, **row, times_plain=plain and plain / cost, memory_mb=memory)
        return row

    def job(self, *overrides: str, device: torch.device | None = None) -> Job:
        """Return the one job of these overrides, on this device unless another is given."""
        where = [f"device={device or self.device}", f"output={self.folder}"]
        (job,) = plan_jobs([*overrides, *where], multirun=False).jobs
        return job

    def data(self, job: Job, steps: int) -> tuple[Data, int]:
        """Return a job's data on the device, cut to so many steps of training, and how many these are."""
        data, batch = cached_data(job.data), job.recipe.batch_size
        steps = min(steps, len(data.train_inputs) // batch)
        return data.first(batch * steps).to(self.device), steps

    def images(self, few: bool) -> list[str]:
        """Return the overrides of a few small images, or of 5,000 of 32x32 pixels: real ones, or drawn."""
        if "VARIANCE_SHIFT_DATA" not in os.environ:
            return ["data=custom", f"data.target=scripts.gpu_check:{'few_drawn' if few else 'drawn'}_images"]
        count, side = (256, 8) if few else (5000, 32)
        sizes = [f"data.train_size={count}", f"data.test_size={count // 5}", f"data.image_size={side}"]
        return ["data=cifar10", "data.download=false", *sizes]


def drawn_images(count: int = 5000, side: int = 32) -> list[tuple[Tensor, Tensor]]:
    """Return training and test images with their labels: ten classes, each a pattern of its own under noise."""
    random = torch.Generator().manual_seed(0)
    patterns = torch.randn(10, 3, side, side, generator=random)
    labels = [torch.arange(size) % 10 for size in (count, count // 5)]
    return [(patterns[y] + 3 * torch.randn(len(y), 3, side, side, generator=random), y) for y in labels]


def few_drawn_images() -> list[tuple[Tensor, Tensor]]:
    """Return as few and as small ones as a CPU trains on in seconds."""
    return drawn_images(256, 8)


def noises(placements: Sequence[str]) -> list[str]:
    """Return the overrides of every noise, at one strength each, at these placements."""
    strengths = [f"members.{noise}.{key}=[{value}]" for noise, (key, value) in STRENGTHS.items()]
    return [*strengths, *(f"members.{noise}.placement=[{','.join(placements)}]" for noise in STRENGTHS)]


# --- correct


def check_correct(check: Check) -> None:
    """Compare the tables of small studies, and look at the device's own draws."""
    with check.trying("draws"):
        check_draws(check)
    in_float32: dict[str, Rows] = {}
    small = dict([*SMALL.items()][:TINY]) if check.tiny else SMALL
    for name, overrides in small.items():
        with check.trying(name):
            with on_the_same_draws(check.device):
                in_float32[name] = study(check, overrides)
            compare(check, name, in_float32[name], study(check, overrides, CPU, processes="auto"), FLOAT32)
    with check.trying("two processes"):
        alone, several = (study(check, SMALL["mlp"], processes=count) for count in (1, 2))
        compare(check, "mlp, two processes", several, alone, FLOAT32)
    for name, overrides in small.items():
        if not name.startswith("mlp"):
            with check.trying(f"{name}, bfloat16"), on_the_same_draws(check.device):
                rounded = study(check, [*overrides, "recipe.precision=bfloat16"])
                compare(check, f"{name}, bfloat16", rounded, in_float32[name], BFLOAT16)


def study(
    check: Check, overrides: Sequence[str], device: torch.device | None = None, processes: int | str = 1
) -> Rows:
    """Run a small study of every noise at every placement; return the rows of its tables."""
    data = ["data=digits"] if "model=mlp" in overrides else check.images(few=True)
    recipe = ["batch_size=64", "epochs=2", "lr=0.02", "track_modes=true", "checkpoint_every=1"]
    more = [*(f"recipe.{setting}" for setting in recipe), "measure.draws=1", "members.save=true"]
    more += [*noises(("before_bn", "before_weight", "after_last_bn")), f"processes={processes}", "chunk=8"]
    with TemporaryDirectory(dir=check.folder) as folder:
        seeds = f"members.seed={[0] if check.tiny else [0, 1]}"
        job = check.job(*data, *more, seeds, *overrides, f"study={Path(folder).name}", device=device)
        run_job(job)
        rows = tables(job, "members.csv", "layers.csv", "epochs.csv")
    if failed := [row["reason"] for row in rows["members.csv"] if row["status"] == "failed"]:
        raise RuntimeError(f"{len(failed)} members failed: {failed[0]}")
    return rows


def tables(job: Job, *names: str) -> Rows:
    """Return the rows of tables of a job that has run."""
    (part,) = job.folder.glob("jobs/*")
    return {name: [typed_row(row) for row in read_table(part / name)] for name in names}


@contextmanager
def on_the_same_draws(device: torch.device) -> Iterator[None]:
    """Have the noise drawn as on a CPU, whose numbers are others than a GPU's of the same key.

    On a CPU stacks then compute with torch's own kernels, as they do on a GPU.
    """

    def fill_as_a_cpu(uniform: Tensor, keys: Sequence[tuple]) -> None:
        draws = empty_activations(len(keys), uniform.shape[1], uniform.shape[2:], CPU)
        fill_uniform(draws, keys)
        uniform.copy_(draws)

    with ExitStack() as patches:
        patches.enter_context(patch("experiments.training.noise.fill_uniform", fill_as_a_cpu))
        for module in KERNELS if device.type == "cpu" else ():
            patches.enter_context(patch(f"{module}.has_kernels", lambda x: False))
        yield


def compare(check: Check, what: str, rows: Rows, expected: Rows, allowed: tuple[float, float]) -> None:
    """Add the largest difference of all errors, and of all else that was measured."""
    points, relative = (0.0, ""), (0.0, "")
    for table, theirs in expected.items():
        for name in dict.fromkeys(name for row in theirs for name in row):
            if kind_of(name) == TEXT or name in MEMBER_KEY or name.startswith("seconds"):
                continue
            pairs = [(row.get(name), other.get(name)) for row, other in zip(rows[table], theirs, strict=True)]
            if "_error" in name:
                points = max(points, (largest_difference(pairs), f"{name} in {table}"))
            else:
                sizes = [abs(value) for _, value in pairs if value is not None and not _is_no_number(value)]
                size = max(1e-3, sum(sizes) / len(pairs))
                relative = max(relative, (largest_difference(pairs) / size, f"{name} in {table}"))
    for of, (difference, where), most in zip(
        ("errors", "the rest"), (points, relative), allowed, strict=True
    ):
        row = {"what": what, "of": of, "members": len(rows["members.csv"]), "difference": difference}
        check.add("correct", **row, allowed=most, where=where, is_right=difference <= most)


def largest_difference(pairs: Sequence[tuple[float | None, float | None]]) -> float:
    """Return the largest difference of two columns; infinite where one lacks a number that the other has."""
    known = [tuple(value is not None and not _is_no_number(value) for value in pair) for pair in pairs]
    if any(ours != theirs for ours, theirs in known):
        return math.inf
    both = [pair for pair, (is_known, _) in zip(pairs, known, strict=True) if is_known]
    return max((abs(ours - theirs) for ours, theirs in both), default=0.0)  # type: ignore[operator]


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def check_draws(check: Check) -> None:
    """Check that draws are a function of their key, and factors of the mean and variance that they must have."""
    shape, batch = (64,), 1 << 14
    same, again, other = uniform_draws([(0,), (0,), (1,)], batch, shape, check.device)
    is_right = bool(same.equal(again) and not same.equal(other) and same.min() >= 0 and same.max() < 1)
    check.add("draws", what="uniform draws", is_right=is_right)
    members = [Member("before_bn", noise, value, 0, 0.1, 0.0) for noise, (_, value) in STRENGTHS.items()]
    factors = SiteNoise("site", "before_bn", shape, members, check.device).factor(0, batch)
    for member, factor in zip(members, factors.double().flatten(1), strict=True):
        variance = FAMILIES[member.noise].noise_variance(member.strength)
        for of, values, mean in (("mean", factor, 1.0), ("variance", (factor - 1).square(), variance)):
            # In standard errors; a factor of two values has a square that is nearly constant.
            error = abs(values.mean() - mean) / (values.std() / len(values) ** 0.5 + 1e-6)
            check.add(
                "draws", what=member.noise, of=of, standard_errors=error.item(), is_right=error.item() < 5
            )


# --- loops


def check_loops(check: Check) -> None:
    """Time stacks of MLPs beside the plain loop."""
    widths, counts = ((16,), (20,)) if check.tiny else ((64, 16, 256), (100, 500))
    for width in widths:
        seeds = f"members.seed={[*range(max(counts) // 4)]}"  # of four members: three noises and none
        job = check.job("data=digits", f"model.width={width}", *noises(["before_bn"]), seeds)
        data, steps = check.data(job, 22)
        loops = PLAIN_LOOPS if check.is_gpu else {"plain": plain_loop}
        for way, loop in loops.items():
            check.cost("loops", f"width {width}", way, 1, steps, partial(loop, job, data))
        for count in counts:
            epoch = partial(stacked, job, data, job.members[:count])
            check.cost("loops", f"width {width}", "stacked", count, steps, epoch)


def stacked(job: Job, data: Data, members: list[Member]) -> Epoch:
    """Return an epoch of the harness's training of these members side by side."""
    stack, noise = build_stack(job, members, data)
    return lambda: train_stack(stack, members, noise, data, replace(job.recipe, epochs=1))


def plain_parts(job: Job, data: Data) -> tuple[reference.MLP, list[tuple[Tensor, Tensor]]]:
    """Return the plain loop's network of a noisy member, and the batches of an epoch, where the data are."""
    device, model = data.train_inputs.device, job.model
    noise = "before_bn", "dropout", 0.5, lambda step, site, shape: torch.rand(shape, device=device)
    network = reference.MLP(data.sample_shape[0], data.classes, model.width, model.depth, *noise).to(device)
    parts = (part.split(job.recipe.batch_size) for part in (data.train_inputs, data.train_labels))
    return network, [*zip(*parts, strict=True)]


def plain_loop(job: Job, data: Data) -> Epoch:
    """Return an epoch of the plain loop."""
    network, batches = plain_parts(job, data)
    return lambda: reference.train(network, batches, 0.1)


def graph_loop(job: Job, data: Data) -> Epoch:
    """Return an epoch of the plain step, at a fixed learning rate, as a CUDA graph which is replayed."""
    network, batches = plain_parts(job, data)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    x, y = (part.clone() for part in batches[0])

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()

    stream = torch.cuda.Stream(x.device)
    stream.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(stream):  # torch asks for some steps beforehand, on a stream of their own
        for _ in range(3):
            step()
    torch.cuda.current_stream(x.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def epoch() -> None:
        for inputs, labels in batches:
            x.copy_(inputs)
            y.copy_(labels)
            graph.replay()

    return epoch


PLAIN_LOOPS = {"plain": plain_loop, "plain, CUDA graph": graph_loop}


# --- convolutions


def check_convolutions(check: Check) -> None:
    """Time stacks of small convolutional networks, and take the memory of their members."""
    counts, batch = ((1, 2), 64) if check.tiny else ((1, 4, 16, 64), 128)
    noise = ["members.none=false", "members.dropout.rate=[0.5]", "members.dropout.placement=[before_bn]"]
    for model, precision in product(("preresnet", "convnet"), ("float32", "bfloat16")):
        more = [f"recipe.precision={precision}", f"recipe.batch_size={batch}", f"model={model}"]
        seeds = f"members.seed={[*range(counts[-1])]}"
        job = check.job(*check.images(few=check.tiny), *noise, *more, "model.width=12", seeds)
        (data, steps), of = check.data(job, 8), ("convolutions", f"{model}, {precision}")
        check.cost(*of, PLAIN, 1, steps, partial(loop_epoch, job, data, torch.channels_last))
        stacks = [partial(stacked, job, data, job.members[:count]) for count in counts]
        rows = [check.cost(*of, "stacked", *each) for each in zip(counts, repeat(steps), stacks)]
        if check.is_gpu and all(rows):
            add_memory(check, job, rows)


def add_memory(check: Check, job: Job, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add what a member takes, and what a chunk of as many as `chunk=auto` allows would take of the card."""
    shapes, batch = job_site_shapes(job, cached_data(job.data)), job.recipe.batch_size
    least, most = rows[0], rows[-1]
    a_member = (most["memory_mb"] - least["memory_mb"]) / (most["members"] - least["members"])
    card = torch.cuda.get_device_properties(check.device).total_memory / 1e6
    capacity = chunk_capacity(shapes, batch, check.device)
    row = {"mb_a_member": a_member, "mb_at_noise_sites": member_bytes(shapes, batch) / 1e6, "card_mb": card}
    row |= {"members_of_chunk_auto": capacity, "percent_of_card": 100 * capacity * a_member / card}
    check.add("memory", what=most["what"], **row)


# --- paper


def check_paper(check: Check) -> None:
    """Time steps of the paper's networks, noise-free and with dropout 0.5; then train them for a short while."""
    augment = "crop_flip" if "VARIANCE_SHIFT_DATA" in os.environ else "none"
    more = [*check.images(few=check.tiny), "recipe=paper", "recipe.precision=bfloat16", "members.seed=[0]"]
    more += ["members.dropout.rate=[0.5]", "members.dropout.placement=[before_bn,before_weight]"]
    more += [f"recipe.augment={augment}"]
    more += ["model.width=4", "model.depth=1", "recipe.batch_size=64"] if check.tiny else []
    seconds: dict[str, float] = {}  # of an epoch of all members
    for name in PAPER[:1] if check.tiny else PAPER:
        job = check.job(*more, f"model={name}")
        data, steps = check.data(job, 10)
        check.cost("paper", name, PLAIN, 1, steps, partial(loop_epoch, job, data, torch.channels_last))
        stacks = {member.placement: partial(stacked, job, data, [member]) for member in job.members}
        rows = [check.cost("paper", name, way, 1, steps, epoch) for way, epoch in stacks.items()]
        if all(rows):
            batches = len(cached_data(job.data).train_labels) // job.recipe.batch_size
            seconds[name] = sum(row["ms_per_member_step"] for row in rows) * batches / 1e3
    for left, (name, of_epoch) in zip(range(len(seconds), 0, -1), seconds.items(), strict=True):
        most = 4 if check.tiny else EPOCHS
        # Measuring is given as long as training.
        epochs = min(most, int((check.end - time.perf_counter()) / left / 2 / of_epoch))
        if epochs < 4:
            check.add("skipped", what=f"short training of {name}", reason=f"time for {epochs} epochs")
            continue
        short = [f"recipe.epochs={epochs}", f"recipe.drops=[{epochs // 2},{epochs * 3 // 4}]"]
        short += ["measure.draws=1", "measure.interventions=false", f"study={name}"]
        with check.trying(f"short training of {name}"):
            job = check.job(*more, *short, f"model={name}")
            run_job(job)
            for table, rows in tables(job, *TRAINED).items():
                for row in rows:
                    shown = {column: row[column] for column in TRAINED[table] if column in row}
                    check.add(f"trained_{table.removesuffix('.csv')}", what=name, epochs=epochs, **shown)


TRAINED = {
    "members.csv": ("placement", "status", "reason", "test_error", "test_error_adjusted", "seconds"),
    "layers.csv": ("placement", "layer_index", "layer_name", "shift_ratio"),
}


# --- the command

# Each part, and the share of the time that is over at its end.
PARTS: dict[str, tuple[Callable[[Check], None], float]] = {
    "correct": (check_correct, 0.35),
    "loops": (check_loops, 0.5),
    "convolutions": (check_convolutions, 0.65),
    "paper": (check_paper, 1.0),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and measure; return the exit status."""
    return exit_status(lambda: run(arguments), "gpu_check")


def run(arguments: Sequence[str] | None) -> int:
    """Do what the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.gpu_check", description="Is the harness right on a GPU, and how fast?"
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:NUMBER or cpu (%(default)s)")
    parser.add_argument("--seconds", default="480", help="at most, in all (%(default)s)")
    parser.add_argument("--parts", default=",".join(PARTS), help="which of %(default)s")
    parser.add_argument("--tiny", action="store_true", help="as little of each as a CPU does in seconds")
    options = parser.parse_args(arguments)
    parts = options.parts.split(",")
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", options.device):
        raise not_allowed("--device", options.device, "cuda, cuda:NUMBER or cpu")
    if not re.fullmatch(r"\d{1,5}", options.seconds):
        raise not_allowed("--seconds", options.seconds, "a whole number of at most five digits")
    if unknown := [part for part in parts if part not in PARTS]:
        raise not_allowed("--parts", unknown[0], f"one or several of {','.join(PARTS)}")
    if options.out.exists():
        raise not_allowed("--out", str(options.out), "a folder that is not there yet")
    if options.device != "cpu" and not torch.cuda.is_available():
        print(f"gpu_check: --device={options.device}: torch finds no GPU here", file=sys.stderr)
        return 1
    device = choose_device(options.device)
    start_server()
    with TemporaryDirectory(prefix="gpu-check-") as folder:
        check = Check(device, options.tiny, options.out, Path(folder))
        cached_data(check.job(*check.images(few=True)).data)  # images that are not there are bad input
        options.out.mkdir(parents=True)
        for name in parts:
            part, share = PARTS[name]
            check.end = check.begin + share * int(options.seconds)
            run_until(check, name, part)
    print(f"{'right' if check.is_right else 'WRONG: see is_right'}; tables are in {options.out}")
    return 0 if check.is_right else 1


def run_until(check: Check, name: str, part: Callable[[Check], None]) -> None:
    """Run a part until it ends, or its time does; a row then says so."""

    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(1e-3, check.end - time.perf_counter()))
        part(check)
    except OutOfTime:
        check.add("skipped", what=f"the rest of {name}", reason="its time was up")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    sys.exit(main())
