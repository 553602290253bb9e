"""Chunks on all cores: a pool of single-thread processes, and the steps they report.

Small members scale better over processes of one thread than over threads of one process. The processes are
forked from a server that has imported torch once, while the main process was still reading its configuration. They
know nothing of the program that started them: a script needs no `if __name__ == "__main__"`, a notebook no file.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from experiments.jobs.memory import HUGE_PAGES, keep_freed_memory, look_for_garbage_from_here

if TYPE_CHECKING:
    from experiments.data import Data
    from experiments.jobs.checkpoint import Place
    from experiments.measuring.transplant import Twins
    from experiments.members import Member
    from experiments.settings.config import Job

Rows = dict[str, list[dict]]  # of each table
NumberedChunk = tuple[int, list["Member"]]
POLL_SECONDS = 0.2
_START: Any = type(multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver"))


class _Worker(_START.Process):
    """A process that does not run the program's main module again, as multiprocessing otherwise has it do."""

    def start(self) -> None:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            super().start()
        finally:
            sys.modules["__main__"] = main


class _Context(_START):
    Process = _Worker


_CONTEXT: Any = _Context()

# What a worker process was started with.
_job: Any = None
_data: Any = None
_steps: Any = None
_places: Any = None


def start_server() -> None:
    """Start importing torch in the background, for the worker processes to come."""
    if sys.platform == "win32":
        return
    from multiprocessing import forkserver, resource_tracker

    _CONTEXT.set_forkserver_preload(["experiments.jobs.chunk", "llvmlite.binding"])
    resource_tracker.ensure_running()  # else the server starts it, and takes the signal back
    # Ctrl-C reaches the whole process group; the server, which inherits this, leaves it to the main process.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _environment(HUGE_PAGES):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set what is not set of the environment, for the processes that start while the context lasts."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def run_chunks(
    job: "Job",
    chunks: Sequence[list["Member"]],
    data: "Data",
    processes: int,
    report_steps: Callable[[int], None],
    twins: "Twins",
    places: "Mapping[Member, Place]",
) -> Generator[tuple[list["Member"], Rows | Exception], None, None]:
    """Yield each chunk with its rows, or with the error it raised, as they finish.

    One process means this one, also where the machine has nothing that several could share; a line says so then.
    `report_steps` is told of finished member-steps several times a second, and `twins` receives the trained
    noise-free members. `places` says where training goes on.
    """
    # Finished member-steps of each chunk. Only the process that runs a chunk writes its number, without a lock,
    # which a killed process would never give back.
    steps = None
    if processes > 1 and len(chunks) > 1:
        try:
            steps = shared_counts(len(chunks))
        except (OSError, NotImplementedError) as error:
            reason = f"which need shared memory, /dev/shm ({error})"
            print(f"{job.name}: one process instead of {processes}, {reason}", file=sys.stderr)
    if steps is None:
        from experiments.jobs.chunk import run_and_keep

        for chunk in chunks:
            try:
                yield chunk, run_and_keep(job, chunk, data, report_steps, twins, places)
            except Exception as error:
                yield chunk, error
        return
    data = data.to("cpu")  # each process has its own on the job's device
    arrays = {name: getattr(data, name).numpy() for name in _TENSORS}  # shared memory may be small
    start = (job, replace(data, **arrays), steps, places)
    left = list(enumerate(chunks))
    # A process that is killed, for want of memory say, takes the pool with it, and every chunk that is not done.
    # These run once more; then each in a pool of its own, so that a chunk which kills its process fails alone.
    for alone in (False, False, True):
        broken = []
        for group in [[chunk] for chunk in left] if alone else [left]:
            for chunk, result in _run_pool(group, min(processes, len(group)), start, report_steps, twins):
                if isinstance(result, BrokenProcessPool) and not alone:
                    broken.append(chunk)
                else:
                    yield chunk[1], result
        left = sorted(broken, key=lambda chunk: chunk[0])
        if left:
            print(f"{job.name}: a worker process was killed; {len(left)} chunks run again", file=sys.stderr)
        else:
            return


def shared_counts(count: int) -> Any:
    """Return so many numbers that processes share.

    Raises OSError, or NotImplementedError, where there is no room for them and for the semaphores of a pool: on
    Linux both lie in /dev/shm.
    """
    counts = _CONTEXT.RawArray("q", count)
    ProcessPoolExecutor(1, _CONTEXT).shutdown()  # which has as many semaphores as a larger one
    return counts


def _run_pool(
    chunks: Sequence[NumberedChunk],
    processes: int,
    start: tuple,
    report_steps: Callable[[int], None],
    twins: "Twins",
) -> Iterator[tuple[NumberedChunk, Rows | Exception]]:
    """Run chunks in a pool of processes, each started with `start`: what `_start_worker` takes."""
    pool = ProcessPoolExecutor(processes, _CONTEXT, _start_worker, start)
    futures: dict[Future, NumberedChunk] = {}
    try:
        try:
            for chunk in chunks:
                futures[pool.submit(_run_chunk, *chunk)] = chunk
        except (BrokenProcessPool, OSError) as error:  # a process was killed before it had begun
            _abandon(pool)
            yield from ((chunk, BrokenProcessPool(str(error))) for chunk in chunks)
            return
        yield from _as_completed(futures, start[2], report_steps, twins)
        pool.shutdown()
    except BaseException:  # Ctrl-C too: nobody waits for the chunks under way
        _abandon(pool)
        raise


def _abandon(pool: ProcessPoolExecutor) -> None:
    """End a pool's processes at once, and wait until the pool has noticed.

    Its thread, left alone, closes a pipe that Python's own exit writes to: now and then that is a traceback.
    """
    for process in multiprocessing.active_children():
        if isinstance(process, _Worker):  # the caller's own stay
            process.terminate()
    pool.shutdown(cancel_futures=True)


def _as_completed(
    futures: dict[Future, NumberedChunk],
    steps: Sequence[int],
    report_steps: Callable[[int], None],
    twins: "Twins",
) -> Iterator[tuple[NumberedChunk, Rows | Exception]]:
    reported, pending = sum(steps), set(futures)
    while pending:
        done, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
        count = sum(steps)
        report_steps(count - reported)
        reported = count
        for future in done:
            error = future.exception()
            if isinstance(error, Exception):
                yield futures[future], error
            else:
                rows, arrays = future.result()
                twins.update({member: _to_tensors(state) for member, state in arrays.items()})
                yield futures[future], rows


_TENSORS = tuple(
    f"{part}_{what}" for part in ("train", "validation", "test") for what in ("inputs", "labels")
)


def _start_worker(job: "Job", arrays: "Data", steps: Any, places: "Mapping[Member, Place]") -> None:
    """Prepare a worker process: one thread, its data, and an end when the main process ends."""
    import numpy as np
    import torch

    from experiments.settings.device import choose_device

    global _job, _data, _steps, _places
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process decides
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    look_for_garbage_from_here()
    keep_freed_memory()
    torch.set_num_threads(1)
    _job, _steps, _places = job, steps, places
    # What is no array are images that stay on disk.
    tensors = {
        name: torch.from_numpy(value) if isinstance(value := getattr(arrays, name), np.ndarray) else value
        for name in _TENSORS
    }
    _data = replace(arrays, **tensors).to(choose_device(job.device))


def _exit_with_parent() -> None:
    """End this process as soon as the main process is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _to_tensors(state: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(array) for name, array in state.items()}


def _run_chunk(number: int, chunk: list["Member"]) -> tuple[Rows, dict]:
    from experiments.jobs.chunk import run_and_keep

    _steps[number] = 0

    def report(steps: int) -> None:
        _steps[number] += steps

    twins: Twins = {}
    rows = run_and_keep(_job, chunk, _data, report, twins, _places)
    # Plain bytes again.
    arrays = {m: {name: value.cpu().numpy() for name, value in state.items()} for m, state in twins.items()}
    return rows, arrays
