"""logger=wandb and scripts.export_wandb: what W&B's own program reads from the runs is what the tables hold."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from experiments.loggers.offline import run_id
from experiments.study.part import part_folder
from scripts.export_wandb import main as export
from tests.analysis import synthetic
from tests.conftest import IDENTITY, files_below
from tests.experiments.loggers.wandb_runs import (
    artifacts,
    history,
    inspect,
    nobody_is_logged_in,  # noqa: F401
    run_folders,
    run_header,
    run_ids,
)
from tests.experiments.study.small_study import finish, make
from tests.no_files import put

OFFLINE = ["logger=wandb", "members.dropout.rate=[0.5]", "recipe.epochs=2"]


pytestmark = pytest.mark.usefixtures("nobody_is_logged_in")


def test_a_run_holds_what_the_tables_hold(run, tmp_path, tiny):
    ended = run(*tiny, *OFFLINE, "measure.flips=2")
    assert ended.status == 0
    study = tmp_path / "out" / "first_look"
    assert ended.out.splitlines()[-2:] == [
        "look at them: wandb leet out/first_look/wandb",
        "upload them:  wandb sync out/first_look/wandb",
    ]
    members, layers, epochs = (pd.read_csv(study / f"{name}.csv") for name in ("members", "layers", "epochs"))
    assert len(run_folders(study)) == len(members) + 1 == 4

    # The study as a whole: error by rate, a line for each placement, the baseline at rate 0.
    (report,) = run_folders(study, "report-*")
    header = run_header(report)
    assert (header["display_name"], header["job_type"]) == ("first_look: report", "report")
    by_rate = history(report).dropna(subset=["x/rate"]).set_index("x/rate")
    for placement in ("before_bn", "before_weight"):
        line = by_rate[f"error/{placement} width 8 dropout"].dropna()
        own = members[members.placement.isin(["none", placement])].set_index("strength").test_error
        pd.testing.assert_series_equal(line, own.sort_index(), check_names=False)

    # In lists, which are in the order of the alphabet, errors and ratios come first and the sizes of tables last.
    listed = [key.split("/")[0] for key in sorted(inspect(report)["summary"]) if key[0] != "_"]
    assert list(dict.fromkeys(listed)) == ["error", "members_ok", "shift", "views", "x"]
    (kept,) = artifacts(report)
    assert (kept["name"], kept["type"]) == ("first_look-tables", "tables")
    assert {entry["path"]: Path(entry["local_path"]) for entry in kept["manifest"]["contents"]} == {
        path.name: path for path in study.resolve().glob("*.csv")
    }

    of_member = members.placement == "before_weight"
    (member,) = members[of_member].to_dict("records")
    (folder,) = run_folders(study, "before_weight-*")
    read = inspect(folder)
    assert read["name"] == "mlp width 8 depth 3 before_weight dropout 0.5 seed 0"
    assert read["project"] == "variance-shift"
    assert set(read["tags"]) == {"digits", "mlp", "batch norm", "before_weight", "dropout"}
    assert (read["state"], read["exit_code"]) == ("finished", 0)
    assert read["config"]["train_samples"] == member["train_samples"]
    header = run_header(folder)
    assert (header["run_group"], header["job_type"]) == ("first_look", "before_weight")
    assert {key: read["config"][key] for key in IDENTITY} == {key: member[key] for key in IDENTITY}
    assert read["config"]["configuration"]["recipe"]["momentum"] == 0.9
    assert read["config"]["environment"]["packages"]["torch"]

    measured = (
        members.loc[of_member].dropna(axis=1).columns.difference([*IDENTITY, "lr", "weight_decay", "job"])
    )
    assert {"test_error", "test_error_adjusted", "train_error_train_mode", "seconds"} <= set(measured)
    for column in measured.difference(["batch_size", "train_samples"]):
        assert read["summary"][column] == member[column], column
    assert read["summary"]["mode_gap"] == member["train_error_eval_mode"] - member["train_error_train_mode"]

    own_layers = layers[layers.placement == "before_weight"].set_index("layer_index")
    for index, ratio in own_layers.shift_ratio.items():
        assert read["summary"][f"shift_ratio/{index}"] == ratio
    assert read["summary"]["shift_ratio/mean"] == pytest.approx(own_layers.shift_ratio.mean())
    assert "local_ratio/1" not in read["summary"]  # no noise before the first layer: empty, not 0
    assert read["summary"]["local_ratio/2"] == own_layers.local_ratio[2]
    table = table_of(folder, "layers")
    pd.testing.assert_series_equal(
        table.set_index("layer_index").d_cos2.astype(float), own_layers.d_cos2, rtol=1e-12
    )
    flips = pd.read_csv(study / "flips.csv")
    own_flips = flips[flips.placement == "before_weight"]
    assert list(table_of(folder, "flips")["sample"]) == list(own_flips["sample"]) != []

    logged = history(folder)
    curve = logged.dropna(subset=["x/epoch"]).set_index("x/epoch")
    own_epochs = epochs[epochs.placement == "before_weight"].set_index("epoch")
    assert list(curve.index) == [1, 2]
    assert list(curve["training/train_loss"]) == list(own_epochs.train_loss)
    assert list(curve["training/learning_rate"]) == list(own_epochs.learning_rate)
    over_layers = logged.dropna(subset=["x/layer"]).set_index("x/layer")
    assert list(over_layers["layer/shift_ratio"]) == list(own_layers.shift_ratio)
    over_strength = logged.dropna(subset=["test_error"])
    assert list(over_strength[["x/strength", "test_error"]].iloc[0]) == [0.5, member["test_error"]]

    # A run is what is needed to look at it and to upload it, and nothing more.
    media = list(folder.glob("files/media/table/views/*.table.json"))
    assert len(media) == 3  # layers, flips, and the picture's lines
    expected = {folder / f"run-{run_id(folder)}.wandb", folder / "record.sha256", *media}
    assert {path for path in folder.rglob("*") if path.is_file()} == expected
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"files"}

    # Nothing outside the study but W&B's own log; no copies of tables waiting in the home folder.
    home = tmp_path.with_name(f"{tmp_path.name}-home")
    assert all("/logs" in name or Path(name).suffix == "" for name in files_below(home))


def table_of(folder: Path, name: str) -> pd.DataFrame:
    (path,) = folder.glob(f"files/media/table/views/{name}_*.table.json")
    content = json.loads(path.read_text())
    return pd.DataFrame(content["data"], columns=content["columns"])


def test_exporting_again_adds_what_is_missing_and_nothing_else(run, tmp_path, tiny, capsys):
    assert run(*tiny, "members.dropout.rate=[0.5]").status == 0
    study = tmp_path / "out" / "first_look"
    assert not (study / "wandb").exists()
    tables = {name: (study / name).read_bytes() for name in ("members.csv", "layers.csv", "epochs.csv")}

    def exported(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        return export([str(study), *arguments]), capsys.readouterr().out.splitlines()[0]

    assert exported() == (0, f"4 runs in {study / 'wandb'}: 4 written now")
    first = [folder.stat().st_ino for folder in run_folders(study)]
    assert exported() == (0, f"4 runs in {study / 'wandb'}: 0 written now")
    assert [folder.stat().st_ino for folder in run_folders(study)] == first

    # A run lost, one that a killed process left incomplete, one of other tables.
    lost, torn, other, kept = run_folders(study)
    shutil.rmtree(lost)
    (torn / "record.sha256").unlink()
    (other / "record.sha256").write_text("0" * 64)
    assert exported() == (0, f"4 runs in {study / 'wandb'}: 3 written now")
    identifiers = run_ids(study)
    assert identifiers == sorted(folder.name.split("-", 3)[3] for folder in (lost, torn, other, kept))

    # The same command with the logger finds all of it done; another project is another place.
    assert run(*tiny, "members.dropout.rate=[0.5]", "logger=wandb").status == 0
    assert run_ids(study) == identifiers
    assert exported("--project", "other") == (0, f"4 runs in {study / 'wandb'}: 4 written now")
    assert run_ids(study) == identifiers
    assert inspect(run_folders(study)[-1])["project"] == "other"
    assert {name: (study / name).read_bytes() for name in tables} == tables


@pytest.mark.long
def test_failed_members_are_failed_runs_until_they_are_made_up(run, tmp_path, tiny):
    assert run(*tiny, "members.dropout.rate=[0.5]").status == 0
    study = tmp_path / "out" / "first_look"
    (job,) = study.glob("jobs/*")
    whole = {name: (job / name).read_bytes() for name in ("members.csv", "done.json")}
    members = pd.read_csv(job / "members.csv", keep_default_na=False, dtype=str)
    measured = [name for name in members if name.startswith(("train_error", "test_", "steps", "seconds"))]
    members.loc[0, ["status", "reason", *measured]] = [
        "failed",
        "RuntimeError: no memory",
        *[""] * len(measured),
    ]
    members.loc[1, ["status", "reason"]] = ["diverged", "at step 3"]
    members.to_csv(job / "members.csv", index=False)
    (job / "done.json").unlink()
    (study / "members.csv").write_text((study / "members.csv").read_text() * 2)  # no means of this

    assert export([str(study), "--job", job.name]) == 0
    baseline, diverged = (inspect(run_folders(study, f"{name}*")[0]) for name in ("no-noise", "before_bn"))
    assert (baseline["exit_code"], baseline["state"]) == (1, "failed")
    assert baseline["notes"] == "RuntimeError: no memory"
    assert "failed" in baseline["tags"]
    assert "test_error" not in baseline["summary"]
    assert (diverged["exit_code"], diverged["notes"]) == (0, "at step 3")
    assert "diverged" in diverged["tags"]
    identifiers = run_ids(study)

    for name, content in whole.items():
        (job / name).write_bytes(content)
    assert export([str(study)]) == 0
    assert run_ids(study) == identifiers
    assert inspect(run_folders(study, "no-noise*")[0])["exit_code"] == 0


def test_a_job_without_its_configuration_is_one_line(tmp_path, capsys):
    job = finish(make(tmp_path / "study"))
    for content in (b"", b"a: [", b"\xff\0", b"[" * 500):
        (part_folder(job) / "config.yaml").write_bytes(content)
        before = files_below(tmp_path)
        assert export([str(tmp_path / "study")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        file = part_folder(job) / "config.yaml"
        assert line.startswith(f"export_wandb: study=study: {file} is none of this version's (")
        assert files_below(tmp_path) == before


def test_a_study_that_cannot_be_exported_is_one_line(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "missing"):
        assert export([str(folder)]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith(f"export_wandb: {folder}: no job's tables")
        assert captured.err.count("\n") == 1
    assert export([str(tmp_path), "--project", "a/b"]) == 2
    assert "logger.project=a/b: allowed is letters" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["logger=mlflow"], "logger=mlflow: allowed is one of none, wandb"),
        (["logger=wandb", "logger.mode=disabled"], "logger.mode=disabled: allowed is one of offline, online"),
        (["logger=wandb", "logger.project=a/b"], "logger.project=a/b: allowed is letters"),
        (["logger=wandb", "logger.entity=3"], "logger.entity=3: allowed is null"),
        (["logger.mode=online"], "logger.mode=online: no key of the chosen logger, only of logger=wandb"),
        (["logger=wandb", "+logger.group=x"], "logger.group=x: no such key"),
        (["logger=wandb", "logger.name=none"], "logger.mode=offline: no such key"),
        (["logger=wandb", "logger.mode=online"], "logger.mode=online: not logged in to W&B; run wandb login"),
    ],
)
def test_bad_loggers_are_found_before_anything_is_trained(run, tmp_path, tiny, arguments, line):
    ended = run(*tiny, *arguments)
    assert ended.status == 2
    assert ended.err.startswith(f"error: {line}")
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["environment.json", "jobs/one/done.json"])
def test_a_pipe_in_a_study_is_one_line_of_the_export_and_not_waited_for(tmp_path, capsys, name):
    folder = synthetic.write(tmp_path / "s", *synthetic.tables(widths=(16,), seeds=(0,), noises=()))
    (folder / "jobs" / "one").mkdir(parents=True)
    (folder / "jobs" / "one" / "members.csv").touch()
    put("pipe", folder / name)
    assert export([str(folder)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("export_wandb: ")
    assert "is a pipe, not a file" in line
    assert name in line
