"""Faults of processes: killed, deprived of a worker, or started twice."""

import os
import random
import signal
import time
from contextlib import suppress

from scripts.faults.command import wait_for_end, workers
from scripts.faults.study import Outcome, Study

# What is asked for first of a study that then grows to its whole.
PARTS = [["members.seed=[1]"], ["members.none=false"], ["model.width=8"], ["job.shards=3", "job.shard=2"]]


def kills(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Kill the command, at a random moment and by a random signal, until it was killed `count` times.

    Half of the studies hold a part already, and are killed while they grow.
    """
    outcome = Outcome()
    while outcome.tried < count:
        study.clear()
        if outcome.tried % 2:
            study.run(*draw.choice(PARTS))
        number = draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        command = study.start()
        if command.wait(draw.uniform(0, seconds)):
            continue
        before = study.done()
        # Ctrl-C reaches the whole group, a kill the command alone.
        (os.killpg if number == signal.SIGINT else os.kill)(command.pid, number)
        _, err = command.end(60)
        outcome.tried += 1
        wait_for_end(command.pid)
        if "Traceback" in err:
            outcome.note(number.name, err)
        status, err = study.run()
        study.judge(outcome, status, err)
        after = study.done()
        outcome.repeated += sum(after.get(name) != moment for name, moment in before.items())
    return outcome


def checkpoint_kills(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Kill the command once it has saved a checkpoint, from which it is then to go on."""
    outcome = Outcome()
    arguments = ["recipe.checkpoint_every=1"]
    while outcome.tried < count:
        study.clear()
        command = study.start(*arguments)
        parts_to_wait_for = draw.randrange(1, 5)  # then there is a checkpoint of this one
        while command.poll() is None and (study.begun < parts_to_wait_for or not study.checkpoints()):
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.05))
        if command.poll() is None and study.checkpoints():
            os.kill(command.pid, signal.SIGKILL)
            command.end(60)
            outcome.tried += 1
            study.judge(outcome, *study.run(*arguments))
        else:
            command.end(600)
    return outcome


def worker_kills(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Kill a worker process, as a system without memory does; the command is to mend that by itself."""
    outcome = Outcome()
    while outcome.tried < count:
        study.clear()
        command = study.start("processes=2")
        end = time.monotonic() + 60
        while command.poll() is None and not workers(command.pid) and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.5))
        victims = workers(command.pid)
        if victims:
            with suppress(ProcessLookupError):
                os.kill(draw.choice(victims), signal.SIGKILL)
            outcome.tried += 1
        status, err = command.end(600)
        if victims:
            study.judge(outcome, status, err)
    return outcome


def twins(study: Study, draw: random.Random, count: int, seconds: float) -> Outcome:
    """Start the same command twice: the second must refuse in one line, and the first not notice."""
    outcome = Outcome()
    for _ in range(count):
        study.clear()
        first = study.start()
        while first.poll() is None and not study.begun:
            time.sleep(0.05)
        status, err = study.start().end(600)
        outcome.tried += 1
        if first.poll() is None and (status != 2 or len(err.splitlines()) != 1):
            outcome.note(f"second: status {status}", err)
        study.judge(outcome, *first.end(600))
    return outcome
