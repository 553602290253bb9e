"""What Python looks for among all that is in memory."""

import gc

from experiments.jobs.memory import look_for_garbage_from_here


class Cycle:
    """An object that only the collector finds."""

    found = 0

    def __init__(self):
        self.itself = self

    def __del__(self):
        Cycle.found += 1


def test_garbage_of_later_is_found_and_that_of_before_left():
    gc.collect()
    before, later = Cycle(), None
    del before
    gc.disable()
    try:
        look_for_garbage_from_here()
        assert gc.isenabled()
        later = Cycle()
        del later
        gc.collect()
        assert Cycle.found == 1
    finally:
        gc.unfreeze()
        gc.collect()
    assert Cycle.found == 2


def test_a_command_looks_for_garbage_while_its_jobs_run(run, tiny):
    gc.disable()  # as the command does until all is imported
    try:
        assert run(*tiny).status == 0
        assert gc.isenabled()
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()
        gc.enable()


def test_a_run_within_another_program_leaves_its_collector_alone(run, tiny):
    assert gc.isenabled()
    assert run(*tiny).status == 0
    assert gc.isenabled()
    assert not gc.get_freeze_count()
