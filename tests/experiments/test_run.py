"""The command line as users type it: what it writes and prints, how a study grows, what it refuses."""

import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from filelock import FileLock
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from tests.conftest import IDENTITY, files_below
from tests.experiments.command_line import SWEEP, TABLES, TIMES, started, tables
from tests.experiments.counting import count_calls


@pytest.mark.long
def test_a_sweep_writes_its_tables_resumes_and_grows(tmp_path, run):
    arguments = [*SWEEP, "recipe.epochs=2", "study=wide", "processes=2"]
    with started(tmp_path, *arguments, "model.width=8,16") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    study = tmp_path / "outputs" / "wide"

    # Nothing is written but the study, and nothing there but what it documents.
    jobs = sorted(path.name for path in (study / "jobs").iterdir())
    assert len(jobs) == 2  # a part each
    expected = {"outputs", "outputs/wide", "outputs/wide/jobs", *(f"outputs/wide/jobs/{job}" for job in jobs)}
    expected |= {f"outputs/wide/{name}" for name in (*TABLES, "environment.json", "merged.json")}
    expected.add("outputs/wide/.lock")
    for job in jobs:
        names = (*TABLES, "environment.json", "config.yaml", "done.json")
        expected |= {f"outputs/wide/jobs/{job}/{name}" for name in names}
    written = files_below(tmp_path)
    assert set(written) == expected

    # 2 widths, 2 seeds, of no noise and 2 rates at 3 placements; 3 layers each.
    members, layers = tables(study)
    assert len(members) == 2 * 2 * (1 + 2 * 3)
    assert len(layers) == 3 * len(members)
    assert list(members.columns[:10]) == list(layers.columns[:10]) == IDENTITY
    assert not members.duplicated(IDENTITY).any()
    assert set(members.width) == {8, 16}
    assert set(members.strength) == {0, 0.2, 0.4}
    assert (members.status == "ok").all()
    assert (members.steps == 2 * (1437 // 64)).all()
    assert members.test_error.between(0, 100).all()
    assert (layers.shift_ratio > 0).all()

    # The end of the output: the table, what became of the members, and where everything is.
    lines = out.splitlines()
    assert [line.split()[:3] for line in lines if line.startswith("before_weight")] == [
        ["before_weight", "dropout", "0.2"],
        ["before_weight", "dropout", "0.4"],
    ]
    assert lines[-4:] == [
        "28 members ok",
        "tables: members.csv, layers.csv, epochs.csv in outputs/wide",
        "verdicts: python -m analysis.claims outputs/wide",
        "report: python -m analysis.report outputs/wide",
    ]
    assert [line.split(",")[0] for line in err.splitlines()] == [
        "[1/2] width 8: 14 members",
        "[2/2] width 16: 14 members",
    ]

    # The same command again trains nothing and changes nothing.
    again = run(*arguments, "model.width=8,16")
    assert (again.status, again.out) == (0, out)
    assert again.err == "grow: all 28 members are there in outputs/wide\n"
    assert files_below(tmp_path) == written

    # A new width joins; what was there stays as it was.
    grown = run(*arguments, "model.width=8,16,4", "processes=1")
    assert grown.status == 0
    assert "grow: 28 of 42 members are there; training 14" in grown.err
    assert "width8-" not in grown.err
    after = files_below(tmp_path)
    assert {name for name in written if after[name] != written[name]} == {
        f"outputs/wide/{name}" for name in (*TABLES, "environment.json", "merged.json")
    }
    assert set(tables(study)[0].width) == {4, 8, 16}
    old_lines = written["outputs/wide/members.csv"].splitlines()
    assert set(old_lines) < set(after["outputs/wide/members.csv"].splitlines())

    # Another recipe does not.
    other = run(*arguments, "model.width=8", "recipe.momentum=0.5")
    assert other.status == 2
    assert other.err == (
        "error: study=wide: outputs/wide holds results of recipe.momentum=0.9, this command has "
        "recipe.momentum=0.5; choose another study=NAME\n"
    )
    assert files_below(tmp_path) == after

    # What was lost of how it was made is written again.
    (study / "environment.json").unlink()
    assert run(*arguments, "model.width=8,16,4", "processes=1").status == 0
    assert (study / "environment.json").exists()

    # A table that somebody cut is noticed, and its job runs again with the same result.
    cut = study / "jobs" / jobs[0] / "layers.csv"
    cut.write_bytes(cut.read_bytes()[:1000])
    mended = run(*arguments, "model.width=8,16,4", "processes=1")
    assert mended.status == 0
    assert f"{jobs[0]}: its tables are not as they were written; its members are trained again" in mended.err
    assert f"{jobs[1]}:" not in mended.err
    assert_same_results(study, after, "outputs/wide")


def assert_same_results(study: Path, files: dict[str, bytes], prefix: str) -> None:
    """Check that a study's tables are those among `files`, except for the time that members took."""
    for table, left_out in (("members.csv", TIMES), ("layers.csv", []), ("epochs.csv", [])):
        expected = study / f"expected-{table}"
        expected.write_bytes(files[f"{prefix}/{table}"])
        before, now = pd.read_csv(expected), pd.read_csv(study / table)
        expected.unlink()
        # Chunks of other sizes add up in another order.
        pd.testing.assert_frame_equal(
            now.drop(columns=left_out), before.drop(columns=left_out), rtol=1e-3, atol=1e-4
        )


def test_bad_input_ends_with_status_2_and_writes_nothing(tmp_path):
    with started(tmp_path, "+sweep=variance_shift", "model.width=16,0") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == "error: model.width=0: allowed is a whole number of at least 1\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["members.dropout.rate=[1.5]"], "members.dropout.rate=1.5: allowed is a drop rate in [0, 1)"),
        (["modle.width=3"], "modle.width=3: no such key; did you mean model.width?"),
        (["recipe.batch_size=2000"], "recipe.batch_size=2000: allowed is at most 1437, digits's training samples"),
        (["-x"], "-x: no such flag here; known are --cfg"),
        (["--resolve"], "--resolve: no such flag here"),
        (["--run", "model.width=3"], "--run: no such flag here"),
        (["model=preresnet"], "model=preresnet: cannot be built for data=digits"),
        (["output=/proc"], "output=/proc: allowed is a folder that can be written"),
        (["model.width=1000000000000"], "model=mlp: cannot be built for data=digits"),
        (["data=cifar10", "data.root=empty"], "data.root"),
        (["data=cifar10", "data.root=cut"], "data.root"),
        (["--cfg", "foo"], "--cfg=foo: allowed is one of job, hydra, all"),
        (["--cfg", "job", "model.width=abc"], "model.width=abc: allowed is a whole number of at least 1"),
        (["--cfg", "job", "modle.width=3"], "modle.width=3: no such key; did you mean model.width?"),
        (["--cfg", "all", "model.width=8,16"], "model.width=8,16: --cfg shows one configuration"),
        (["-m", "--info", "defaults", "model.width=8,16"], "model.width=8,16: --info shows one configuration"),
        (["hydra/sweeper=optuna"], "hydra/sweeper=optuna: allowed is basic; a study trains every member"),
        (["hydra.sweeper._target_=a.B"], "hydra/sweeper=a.B: allowed is basic"),
        (["--config-dir", "nope"], "hydra.searchpath=nope: no such folder; allowed is a list of folders"),
        (["-sc", "install=sh"], "--shell-completion=install=sh: allowed is one of install=bash"),
        (["--info", "config", "recipe.name='${'"], "recipe.name=${: ${ begins a reference"),
        (["hydra.run.dir=/dev/null/x"], "hydra.run.dir=/dev/null/x: allowed is a folder that can be written"),
        (["-m", "hydra.sweep.dir=/dev/null/x"], "hydra.sweep.dir=/dev/null/x: allowed is a folder"),
        (["-m", "hydra.sweep.subdir=/dev/null/x"], "hydra.sweep.subdir=/dev/null/x: allowed is a folder"),
        (["hydra.output_subdir=/dev/null/x"], "hydra.output_subdir=/dev/null/x: allowed is a folder"),
        (["processes=40000"], "processes=40000: allowed is auto, or a whole number from 1 to "),
        (["output=link"], "output=link: allowed is a folder that can be written"),
        (["output=s3://b/k"], "output=s3://b/k: allowed is the path of a folder on this machine"),
        (["data=gaussian", "data.train_size=1000000000000"], "data=gaussian: it takes 308,000,000,2"),
        (["data=gaussian", "data.features=1000000000"], "data=gaussian: it takes 20,560,000,2"),
        (["model.width=1000000"], "model=mlp: cannot be built for data=digits"),
    ],
    ids=str,
)  # fmt: skip
def test_every_kind_of_bad_input_is_one_line_on_stderr_and_nothing_else(run, tmp_path, arguments, line):
    (tmp_path / "empty" / "cifar-10-batches-bin").mkdir(parents=True)
    (tmp_path / "cut" / "cifar-10-batches-bin").mkdir(parents=True)
    for name in [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]:
        (tmp_path / "cut" / "cifar-10-batches-bin" / name).write_bytes(bytes(3000))
    (tmp_path / "link").symlink_to("nowhere")
    before = files_below(tmp_path)
    ended = run(*arguments)
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith(f"error: {line}")
    assert len(ended.err.splitlines()) == 1
    assert files_below(tmp_path) == before


def test_two_processes_do_not_work_on_one_study(run, tmp_path, tiny):
    (tmp_path / "out" / "first_look").mkdir(parents=True)
    with FileLock(tmp_path / "out" / "first_look" / ".lock"):
        ended = run(*tiny)
        assert (ended.status, ended.out) == (2, "")
        assert ended.err == "error: study=first_look: another process is at work in out/first_look\n"
        assert run(*tiny, "study=other").status == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"first_look", "other"}
    assert run(*tiny).status == 0


def test_paths_start_where_the_command_was_typed(run, tmp_path, tiny):
    ended = run(*tiny, "hydra.job.chdir=true", "-m", "hydra.sweep.subdir=deeper")
    assert ended.status == 0
    assert (tmp_path / "out" / "first_look" / "members.csv").exists()
    assert Path.cwd() == tmp_path


def test_jobs_of_this_process_are_composed_when_they_are_planned_and_never_again(
    run, tmp_path, tiny, monkeypatch
):
    composed = count_calls(monkeypatch, ConfigLoaderImpl, "load_configuration")
    assert run(*tiny, "-m", "recipe.lr=0.1,0.2", "members.dropout=null").status == 0
    assert len(list((tmp_path / "out" / "first_look").glob("jobs/*/done.json"))) == 2
    assert composed.total() == 2  # what Hydra is to do, and what both jobs choose


def test_hydras_flags_show_and_run_nothing(run, tmp_path, capsys):
    for flags, text in ((["--cfg", "job", "model.width=128"], "width: 128"), (["--help"], "usage: ")):
        ended = run(*flags)
        assert ended.status == 0
        assert text in ended.out
    assert not list(tmp_path.iterdir())


def test_a_launcher_that_gives_up_before_the_first_job_is_one_line_and_leaves_nothing(run, tmp_path, tiny):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="comes with the extra joblib")
    logging = ["hydra/job_logging=default", "hydra.job_logging.version=2"]
    ended = run(*tiny, "hydra/launcher=cores", *logging)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.splitlines()[-1] == "error: the launcher gave up: ValueError: Unsupported version: 2"
    assert not list(tmp_path.iterdir())


def test_the_commands_that_tell_more_can_be_pasted_whatever_the_folder_is_called(run, tmp_path, tiny):
    ended = run(*tiny, "output=a 'b' $c", "members.dropout=null")
    assert ended.status == 2
    ended = run(*tiny, "output='a \\'b\\' $c'", "members.dropout=null")
    assert ended.status == 0
    for name in ("verdicts: ", "report: "):
        (line,) = [line for line in ended.out.splitlines() if line.startswith(name)]
        (folder,) = shlex.split(line)[4:]
        assert (tmp_path / folder / "members.csv").exists()


def test_a_name_with_the_signs_of_a_reference_is_kept_as_it_is(run, tmp_path, tiny):
    assert run(*tiny, r"recipe.name='\${'", "members.dropout=null").status == 0
    (file,) = tmp_path.glob("out/first_look/jobs/*/config.yaml")
    assert yaml.safe_load(file.read_text())["recipe"]["name"] == "${"
    assert run(*tiny, r"recipe.name='\${'", "members.dropout=null", "model.width=4").status == 0


def test_a_command_that_came_first_is_noticed_under_the_lock(run, tmp_path, tiny, monkeypatch):
    """Two commands typed at once: when the second gets the lock, the study holds results of another recipe."""
    from experiments.study import locks

    study_lock = locks.study_lock

    def other_command_first(folder):
        monkeypatch.setattr(locks, "study_lock", study_lock)
        assert run(*tiny, "recipe.epochs=2").status == 0
        return study_lock(folder)

    monkeypatch.setattr(locks, "study_lock", other_command_first)
    ended = run(*tiny)
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert "holds results of recipe.epochs=2, this command has recipe.epochs=1" in line
    members, _ = tables(tmp_path / "out" / "first_look")
    assert len(members) == 5


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_a_finished_table_that_cannot_be_read_is_no_damage(run, tmp_path, tiny):
    """Errors of the disk end the command with a line; the table is there when the disk is well again."""
    assert run(*tiny).status == 0
    before = files_below(tmp_path)
    (table,) = tmp_path.glob("out/first_look/jobs/*/layers.csv")
    elsewhere = table.rename(tmp_path / "elsewhere")
    table.symlink_to("/proc/self/mem")  # opens, and gives EIO when it is read
    ended = run(*tiny)
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert line.startswith(f"error: [Errno 5] Input/output error: '{table.relative_to(tmp_path)}'; ")
    elsewhere.replace(table)
    assert files_below(tmp_path) == before
    assert run(*tiny).status == 0


def test_a_command_that_cannot_merge_is_one_line_and_the_same_command_leaves_a_whole_study(
    run, tmp_path, tiny
):
    study = tmp_path / "out" / "first_look"
    (study / "layers.csv" / "in the way").mkdir(parents=True)
    ended = run(*tiny)
    assert ended.status == 1
    assert ended.err.splitlines()[-1].startswith("error: [Errno ")
    shutil.rmtree(study / "layers.csv")
    assert run(*tiny).status == 0
    assert {path.name for path in study.iterdir()} == {
        *TABLES,
        "environment.json",
        "merged.json",
        "jobs",
        ".lock",
    }


def test_a_study_whose_merge_leaves_a_part_out_is_not_status_0(run, tmp_path, tiny):
    assert run(*tiny, "-m", "model.width=8,4").status == 0
    (table,) = (tmp_path / "out" / "first_look").glob("jobs/*-width4-*/members.csv")
    table.write_text(table.read_text().replace(",ok,", ",OK,"))
    ended = run(*tiny)  # the other job alone
    assert ended.status == 1
    assert "left out, its tables are not as they were written" in ended.err
    # Made up for by two commands that ask for other members each, it goes.
    for arguments in (["members.dropout=null"], []):
        ended = run(*tiny, "model.width=4", *arguments)
        assert ended.status == (1 if arguments else 0)
    assert not table.exists()
    assert len(list((tmp_path / "out" / "first_look").glob("jobs/*"))) == 3
