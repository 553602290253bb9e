"""Studies of an earlier layout: made into parts on their first use, and grown if somebody says so."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from experiments.study import earlier, part
from experiments.study.earlier import settle
from experiments.study.inventory import take_inventory
from experiments.study.tables import read_table
from tests.conftest import files_below
from tests.experiments.command_line import TABLES

# Written by the version before: width 4 in two shards, width 8 whole, their seeds asked for as 1 and 0.
STUDY = Path(__file__).with_name("earlier")
MEMBERS = [
    "data=gaussian", "data.train_size=64", "data.test_size=16", "data.features=4", "recipe.epochs=1",
    "recipe.batch_size=32", "processes=1", "study=earlier", "members.dropout.placement=[before_bn]",
    "model.depth=1", "members.seed=[1,0]", "members.dropout.rate=[0.5,0.2]",
]  # fmt: skip
SAME = ["-m", *MEMBERS, "model.width=4,8"]


@pytest.fixture
def study(tmp_path) -> Path:
    """A copy where commands of a test find it."""
    return shutil.copytree(STUDY, tmp_path / "outputs" / "earlier")


def rows(*folders: Path) -> Counter:
    """The rows of some tables, less the name of the job, which is now the setting's."""
    return Counter(
        (name, *(value for key, value in row.items() if key != "job"))
        for folder in folders
        for name in TABLES
        for row in read_table(folder / name)
    )


def test_the_command_that_made_it_finds_all_there_and_every_row_is_as_it_was(run, study):
    before = rows(*study.glob("jobs/*"))
    ended = run(*SAME)
    assert (ended.status, ended.err) == (0, "grow: all 12 members are there in outputs/earlier\n")
    assert rows(study) == before
    inventory = take_inventory(study)
    assert [found.numbers for found in inventory.parts] == [0, 0, 0]
    assert len(inventory.finished) == 2
    for name in TABLES:
        table = read_table(study / name)
        assert [row["job"] for row in table] == sorted(row["job"] for row in table)
    assert [(r["width"], r["seed"], r["strength"]) for r in read_table(study / "members.csv")] == [
        (width, seed, rate) for width in "48" for seed in "01" for rate in ("0.0", "0.2", "0.5")
    ]
    after = files_below(study)
    assert run(*SAME, "job.shards=3").status == 0
    assert files_below(study) == after


def test_it_grows_if_somebody_says_so(run, study):
    refused = run(*SAME, "members.seed=[0,1,2]")
    assert refused.status == 2
    assert refused.err == (
        "error: job.mix_versions=false: 3 of the 3 parts of outputs/earlier hold numbers of version 0, this code "
        "makes version 1; choose another study=NAME, or set it to true\n"
    )
    before = rows(*study.glob("jobs/*"))
    ended = run(*SAME, "members.seed=[0,1,2]", "job.mix_versions=true")
    assert ended.status == 0
    assert "grow: 12 of 18 members are there; training 6" in ended.err
    assert "18 members ok" in ended.out
    assert before < rows(study)


def test_failed_members_are_missing(run, study):
    folder = min(study.glob("jobs/*width8*"))
    table = folder / "members.csv"
    lines = table.read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace(",ok,", ",failed,")
    table.write_text("".join(lines))
    record = json.loads((folder / "done.json").read_text())
    record["tables"]["members.csv"] = part.checksum(table)
    (folder / "failed.json").write_text(json.dumps(record))
    (folder / "done.json").unlink()
    ended = run(*SAME, "job.mix_versions=true")
    assert ended.status == 0
    assert "grow: 11 of 12 members are there; training 1" in ended.err
    assert "12 members ok" in ended.out


def test_a_damaged_folder_is_said_and_its_members_are_trained_again(run, study):
    folder = min(study.glob("jobs/*width8*"))
    (folder / "layers.csv").write_text("cut")
    ended = run(*SAME, "job.mix_versions=true")
    assert ended.status == 0
    assert "its tables are not as they were written; its members are trained again" in ended.err
    assert "grow: 6 of 12 members are there; training 6" in ended.err
    assert len(list(study.glob("jobs/*"))) == 3


def test_a_job_that_was_begun_is_removed(study, capsys):
    begun = study / "jobs" / "gaussian-mlp-width9-depth1-batch-00000000"
    (begun / "checkpoints").mkdir(parents=True)
    settle(study)
    assert capsys.readouterr().err == (
        f"{begun}: removed, as it was never finished; its members start over\n"
    )
    assert not begun.exists()


def killed(*arguments: object, **others: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "name", ["part.write_record", "part.put_in_place", "part.remove_work_folder", "earlier.remove_part"]
)
@pytest.mark.parametrize("after", [0, 1])
def test_whoever_is_killed_at_it_the_next_command_goes_on(run, study, monkeypatch, name, after):
    expected = rows(*study.glob("jobs/*"))
    calls = iter([False] * after + [True])
    owner = getattr({"part": part, "earlier": earlier}[name.split(".")[0]], name.split(".")[1])

    def sooner_or_later(*arguments, **others):
        return (killed if next(calls) else owner)(*arguments, **others)

    with monkeypatch.context() as patch:
        patch.setattr(f"experiments.study.{name}", sooner_or_later)
        assert run(*SAME).status == 130
    assert run(*SAME).status == 0
    assert rows(study) == expected
    assert len(list(study.glob("jobs/*"))) == 3
    assert not (study / ".work").exists()
