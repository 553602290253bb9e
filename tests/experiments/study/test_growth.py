"""A study grows: what is missing alone is trained, and the tables are those of one command for all."""

import json

import pandas as pd
import pytest

from experiments.members import __main__ as members_command
from experiments.study.tables import read_table
from tests.conftest import files_below, in_this_process
from tests.experiments.command_line import TIMES, results
from tests.experiments.data.image_files import write_fashion

ALL = [
    "members.seed=[0,1]",
    "members.lr=[0.1,0.2]",
    "members.dropout.rate=[0.2,0.5]",
    "members.dropout.placement=[before_bn,after_last_bn]",
    "members.gaussian.std=[0.5]",
    "members.gaussian.placement=[before_weight]",
]  # 24 members a width
# In two orders, each step by what it asks for otherwise than ALL; the last asks for all.
STEPS = {
    "seeds first": [
        ["model.width=4", "members.seed=[1]", "members.gaussian=null", "members.lr=[0.1]"],
        ["model.width=4", "members.gaussian=null", "members.lr=[0.1]"],
        ["model.width=4"],
        ["model.width=8", "members.dropout.rate=[0.5]"],
    ],
    "noise first": [
        ["model.width=8", "members.dropout=null", "members.none=false", "members.seed=[0]"],
        ["model.width=8", "members.dropout=null", "members.lr=null", "recipe.lr=0.2"],
        ["model.width=8", "members.dropout.placement=[after_last_bn]", "members.dropout.rate=[0.5,0.2]"],
        ["model.width=4", "members.seed=[1,0]", "members.none=false", "job.shards=5"],
    ],
}
WHOLE = ["-m", "model.width=4,8", *ALL]


@pytest.fixture
def small(tiny) -> list[str]:
    return [*tiny, "data=gaussian", "data.train_size=128", "data.test_size=64", "data.features=6"]


@pytest.mark.parametrize(("order", "cut"), [("seeds first", []), ("noise first", ["job.shards=3"])])
def test_a_study_that_grew_in_any_order_and_cut_has_the_tables_of_one_command(
    run, tmp_path, small, order, cut
):
    assert run(*small, *WHOLE, "study=once").status == 0
    for step in STEPS[order]:
        assert run(*small, *ALL, *step, "study=grown").status == 0
    ended = run(*small, *WHOLE, *cut, "study=grown")
    assert ended.status == 0
    assert ended.err.startswith("grow: ")
    assert "48 members ok" in ended.out
    assert results(tmp_path / "out" / "grown") == results(tmp_path / "out" / "once")
    # Every command that was typed stays valid.
    for step in STEPS[order]:
        again = run(*small, *ALL, *step, "study=grown")
        assert again.status == 0
        assert again.err.startswith("grow: all ")
        assert again.err.endswith(" members are there in out/grown\n")
    assert results(tmp_path / "out" / "grown") == results(tmp_path / "out" / "once")


def test_a_command_killed_while_a_study_grows_and_typed_again_ends_as_if_nobody_had(
    run, tmp_path, small, monkeypatch
):
    """Members of a killed command are found by their checkpoints, also among others and in another cut."""
    from experiments.jobs import checkpoint, chunk

    more = [*small, "recipe.epochs=3", "recipe.checkpoint_every=1", "chunk=2", "members.seed=[0,1]"]
    assert run(*more, "study=once").status == 0
    assert run(*more, "members.seed=[0]", "study=grown").status == 0
    save = checkpoint.save_checkpoint

    def killed_after_the_third(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) == 3:
            raise KeyboardInterrupt

    saved: list[tuple] = []
    with monkeypatch.context() as patch:
        patch.setattr(chunk, "save_checkpoint", killed_after_the_third)
        assert run(*more, "study=grown").status == 130
    steps: list[int] = []
    train_stack = chunk.train_stack

    def counting(stack, members, noise, data, recipe, report, *others):
        return train_stack(stack, members, noise, data, recipe, steps.append, *others)

    monkeypatch.setattr(chunk, "train_stack", counting)
    ended = run(*more, "study=grown", "job.shards=3", "model.width=8")
    assert ended.status == 0
    assert "grow: 5 of 10 members are there; training 5" in ended.err
    assert results(tmp_path / "out" / "grown") == results(tmp_path / "out" / "once")
    # 5 members and the twins of the two shards without one, but for what two members had done.
    assert sum(steps) < (5 + 2) * 3 * (128 // 64)
    assert not (tmp_path / "out" / "grown" / ".work").exists()


def test_convolutions_grow_to_the_same_numbers_but_for_rounding(run, tmp_path, tiny):
    write_fashion(tmp_path / "data" / "fashion-mnist")
    options = [
        *tiny, "data=fashion_mnist", "data.root=data", "data.image_size=8", "model=convnet", "model.width=4",
        "model.depth=1", "recipe.batch_size=10",
    ]  # fmt: skip
    assert run(*options, "study=once").status == 0
    assert run(*options, "study=grown", "members.none=false", "members.dropout.rate=[0.1]").status == 0
    assert run(*options, "study=grown").status == 0
    for name in ("members.csv", "layers.csv"):
        grown, once = (pd.read_csv(tmp_path / "out" / study / name) for study in ("grown", "once"))
        times = [column for column in TIMES if column in once]
        pd.testing.assert_frame_equal(
            grown.drop(columns=times), once.drop(columns=times), rtol=1e-3, atol=1e-4
        )


def test_dropped_members_are_missing_and_trained_again_to_the_same_numbers(
    run, tmp_path, small, monkeypatch, capsys
):
    drop = in_this_process(members_command.main, tmp_path, monkeypatch, capsys)
    more = [*small, "members.seed=[0,1]"]
    assert run(*more).status == 0
    study = tmp_path / "out" / "first_look"
    before = results(study)
    typed = ["/usr/bin/python3", "-m", "experiments.run", "members.seed=[0,1]"]
    (study / "environment.json").write_text(json.dumps({"command": typed}))
    ended = drop("out/first_look", "drop", "placement=before_bn", "seed=1")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "dropped 2 members of out/first_look",
        "train them again: python -m experiments.run 'members.seed=[0,1]'",
    ]
    kept = [row for row in before["members.csv"] if (row["placement"], row["seed"]) != ("before_bn", "1")]
    assert results(study)["members.csv"] == kept
    assert drop("out/first_look", "drop", "seed=0,1", "noise=none").status == 0
    assert drop("out/first_look", "drop", "strength=0.5").status == 0
    again = run(*more)
    assert "grow: 3 of 10 members are there; training 7" in again.err
    assert results(study) == before
    assert drop("out/first_look", "drop", "width=8").status == 0
    assert read_table(study / "members.csv") == []
    assert not list((study / "jobs").iterdir())
    assert not (study / ".work").exists()


def test_members_are_trained_again_at_once_to_the_same_numbers(run, tmp_path, small, monkeypatch, capsys):
    rerun = in_this_process(members_command.main, tmp_path, monkeypatch, capsys)
    assert run(*small, "members.seed=[0,1]").status == 0
    study = tmp_path / "out" / "first_look"
    before = results(study)
    (tmp_path / "moved").mkdir()
    study = study.rename(tmp_path / "moved" / "elsewhere")
    seconds = {row["seconds"] for row in read_table(study / "members.csv") if row["strength"] == "0.5"}
    ended = rerun("moved/elsewhere", "rerun", "strength=0.5,0.1", "seed=1")
    assert ended.status == 0
    assert ended.out.startswith("dropped 4 members of moved/elsewhere\n")
    assert "10 members ok" in ended.out
    assert results(study) == before
    again = {row["seconds"] for row in read_table(study / "members.csv") if row["strength"] == "0.5"}
    assert again != seconds
    assert not (study / ".work").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["out/x", "drop", "seed=0"],
            "error: out/x: no study; name its folder, for",
        ),
        (["out/first_look", "drop", "seed=7"], "error: seed=7: out/first_look holds no such member"),
        (["out/first_look", "drop", "seed=x"], "error: seed=x: allowed are numbers"),
        (
            ["out/first_look", "drop", "test_error=1"],
            "error: test_error=1: allowed is COLUMN=VALUE",
        ),
    ],
)
def test_what_cannot_be_dropped_is_one_line(run, tmp_path, small, monkeypatch, capsys, arguments, line):
    assert run(*small, "members.dropout=null").status == 0
    before = files_below(tmp_path)
    ended = in_this_process(members_command.main, tmp_path, monkeypatch, capsys)(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(line)
    assert ended.err.count("\n") == 1
    assert files_below(tmp_path) == before
