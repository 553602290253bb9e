"""Members and jobs that fail: what is said, what is kept, and what the same command trains again."""

import pandas as pd

from tests.experiments.command_line import TIMES, tables
from tests.full_disk import full_disk


def test_a_chunk_that_raises_is_rows_with_a_reason_and_the_rest_goes_on(run, tmp_path, tiny, monkeypatch):
    from experiments.jobs import chunk

    run_chunk = chunk.run_chunk
    broken = True

    def run_or_break(job, members, *arguments):
        if broken and job.model.width == 8 and members[0].placement == "before_bn":
            raise RuntimeError("no more\n memory")
        return run_chunk(job, members, *arguments)

    monkeypatch.setattr(chunk, "run_chunk", run_or_break)
    arguments = [*tiny, "-m", "model.width=8,4"]
    ended = run(*arguments)
    assert ended.status == 1
    study = tmp_path / "out" / "first_look"
    members, layers = tables(study)
    assert len(members) == 10
    failed = members[members.status == "failed"]
    assert set(zip(failed.width, failed.placement, strict=True)) == {(8, "before_bn")}
    assert set(failed.reason) == {"RuntimeError: no more memory"}
    assert failed[["test_error", "steps"]].isna().all(axis=None)
    assert (members[members.status != "failed"].status == "ok").all()
    assert len(layers) == 3 * (10 - len(failed))
    assert "8 members ok, 2 members failed" in ended.out
    (job,) = set(failed.job)  # the setting's name, of which there is one part
    (part,) = study.glob(f"jobs/{job}-*")
    assert ended.err.splitlines()[-1] == f"error: 2 members of {job} failed: RuntimeError: no more memory"
    assert "run_or_break" in (part / "errors.txt").read_text()
    assert (part / "failed.json").exists()
    assert len(list(study.glob("jobs/*/done.json"))) == 1

    broken = False
    again = run(*arguments)
    assert again.status == 0
    assert "grow: 8 of 10 members are there; training 2" in again.err
    assert (tables(study)[0].status == "ok").all()
    assert len(tables(study)[0]) == 10
    assert len(list(study.glob(f"jobs/{job}-*/done.json"))) == 1


def test_an_error_before_the_first_chunk_fails_all_members_of_its_job_alone(run, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("experiments.jobs.job.choose_chunks", lambda *arguments: 1 // 0)
    ended = run(*tiny)
    assert ended.status == 1
    members, layers = tables(tmp_path / "out" / "first_look")
    assert len(members) == 5
    assert set(members.reason.str.split(":").str[0]) == {"ZeroDivisionError"}
    assert layers.empty
    assert pd.read_csv(tmp_path / "out" / "first_look" / "epochs.csv").empty
    assert "5 members failed" in ended.out


def test_an_error_in_the_transplants_is_said_and_the_same_command_makes_up_for_it(
    run, tmp_path, tiny, monkeypatch
):
    """All members are trained when the transplants fail: those that lack one are trained again."""

    def no_memory(*arguments):
        raise MemoryError("transplants")

    assert run(*tiny, "study=whole").status == 0
    with monkeypatch.context() as patch:
        patch.setattr("experiments.jobs.job.add_transplanted_errors", no_memory)
        for _ in range(2):
            ended = run(*tiny)
            assert ended.status == 1
            assert "MemoryError: transplants" in ended.err
    study = tmp_path / "out" / "first_look"
    members, _ = tables(study)
    assert (members.status == "ok").all()
    assert members.test_error_twin_shift.isna().all()
    assert not list(study.glob("jobs/*/done.json"))

    assert run(*tiny).status == 0
    for table, whole in zip(tables(study), tables(tmp_path / "out" / "whole"), strict=True):
        drop = [column for column in TIMES if column in table]
        pd.testing.assert_frame_equal(table.drop(columns=drop), whole.drop(columns=drop), check_exact=True)
    assert tables(study)[0].test_error_twin_shift.notna().sum() == 4


def test_a_job_without_the_transplants_that_it_could_have_is_not_done(run, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("experiments.jobs.job.add_transplanted_errors", lambda *arguments: None)
    ended = run(*tiny)
    assert ended.status == 1
    assert "4 members have no test_error_twin_shift" in ended.err
    assert not list(tmp_path.glob("out/first_look/jobs/*/done.json"))


def test_a_diverged_member_is_a_row_and_its_neighbours_do_not_notice(run, tmp_path, tiny):
    # No BN layer would let a network diverge by its weights' size alone; 1e30 overflows them.
    ended = run(*tiny, "members.lr=[0.1,1e30]", "study=both")
    assert ended.status == 0
    assert "5 members ok, 5 members diverged" in ended.out
    members, layers = tables(tmp_path / "out" / "both")
    assert dict(zip(members.lr, members.status, strict=True)) == {0.1: "ok", 1e30: "diverged"}
    measured = [
        "train_error_train_mode",
        "train_error_eval_mode",
        "test_error",
        "test_error_adjusted",
        "test_loss",
    ]
    assert members[members.status == "diverged"][measured].isna().all(axis=None)
    assert members[members.status == "diverged"].reason.notna().all()
    ruined = layers[layers.lr == 1e30]
    assert len(ruined) == 15
    assert ruined[["moving_var", "train_var", "test_var", "shift_ratio", "local_ratio"]].isna().all(axis=None)

    assert run(*tiny, "members.lr=[0.1]", "study=alone").status == 0
    for table, alone in zip((members, layers), tables(tmp_path / "out" / "alone"), strict=True):
        beside = table[table.lr == 0.1].reset_index(drop=True)
        drop = [column for column in ("job", "reason", *TIMES) if column in table]
        pd.testing.assert_frame_equal(
            beside.drop(columns=drop), alone.drop(columns=drop), rtol=1e-3, atol=1e-5, check_dtype=False
        )


def test_a_job_that_cannot_write_is_two_lines_and_the_same_command_makes_up_for_it(
    run, tmp_path, tiny, monkeypatch
):
    with full_disk():
        ended = run(*tiny)
    assert ended.status == 1
    *_, failed, left = ended.err.splitlines()
    assert "File too large" in failed
    assert left.startswith("error: 5 members of digits-mlp-")
    assert left.endswith(" are missing; the same command trains them")
    assert "Traceback" not in ended.err
    assert run(*tiny).status == 0
    assert len(tables(tmp_path / "out" / "first_look")[0]) == 5


def test_failed_members_alone_run_again_and_not_at_all_if_they_are_to_be_left(
    run, tmp_path, tiny, monkeypatch
):
    from experiments.jobs import chunk

    run_chunk = chunk.run_chunk
    trained: list[str] = []

    def run_or_break(job, members, *arguments):
        trained.extend(member.placement for member in members)
        if breaks and members[0].placement == "before_bn":
            raise RuntimeError("no more memory")
        return run_chunk(job, members, *arguments)

    monkeypatch.setattr(chunk, "run_chunk", run_or_break)
    breaks = False
    assert run(*tiny, "study=whole").status == 0
    breaks = True
    assert run(*tiny).status == 1
    study = tmp_path / "out" / "first_look"
    good = [line for line in (study / "members.csv").read_text().splitlines() if ",ok," in line]
    assert len(good) == 3

    trained.clear()
    left = run(*tiny, "job.retry=none")
    assert (left.status, trained) == (1, [])
    assert "2 members of" in left.err.splitlines()[-1]

    breaks = False
    assert run(*tiny).status == 0
    # And the noise-free network whose statistics they borrow, without a row of its own.
    assert sorted(trained) == ["before_bn", "before_bn", "none"]
    # What was good is there as it was, to the second that it took.
    assert set(good) < set((study / "members.csv").read_text().splitlines())
    whole = tables(tmp_path / "out" / "whole")
    for table, expected in zip(tables(study), whole, strict=True):
        drop = [column for column in TIMES if column in table]
        pd.testing.assert_frame_equal(table.drop(columns=drop), expected.drop(columns=drop), check_exact=True)
