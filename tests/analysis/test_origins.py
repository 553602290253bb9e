"""What a report says of how a study's numbers were made."""

import json
import shlex

import pytest

from analysis.origins import edited_tables, notes, origins, read_provenance, sweep_of, typed_command
from experiments.study.inventory import take_inventory
from experiments.study.merge import merge_tables
from tests.analysis import synthetic
from tests.experiments.study.small_study import finish, make


def test_provenance_is_what_lies_there(tmp_path):
    folder = synthetic.write(tmp_path, *synthetic.tables(widths=(16,), seeds=(0, 1), noises=("dropout",)))
    assert read_provenance(folder) == {}
    (folder / "jobs" / "one").mkdir(parents=True)
    (folder / "jobs" / "one" / "config.yaml").write_text("seed: 1")
    (folder / "environment.json").write_text("{}")
    assert read_provenance(folder) == {"environment.json": "{}", "jobs/one/config.yaml": "seed: 1"}
    assert origins(folder).empty
    assert notes(folder) == []


@pytest.fixture
def merged(tmp_path):
    """A study of two jobs, as the harness writes it."""
    folder = tmp_path / "outputs" / "merged"
    for width in (8, 16):
        finish(make(folder, model__width=width))
    merge_tables(take_inventory(folder))
    return folder


def test_jobs_of_one_version_are_one_row_and_need_no_note(merged):
    table = origins(merged)
    assert table["jobs"].tolist() == [2]
    assert "torch " in table["packages"][0]
    assert table["data"].tolist() == ["digits"]
    assert notes(merged) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"git_commit": "f" * 40}, "The jobs of this study were made by 2 commits of the code"),
        ({"packages": {"torch": "1.0"}}, "The jobs of this study were made by 2 sets of package versions"),
        ({"git_diff": "0" * 16}, "The jobs of this study were made by 2 states of a changed checkout"),
    ],
)
def test_a_study_made_by_several_versions_says_so_and_lists_them(merged, change, sentence):
    path = min(merged.glob("jobs/*/environment.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert origins(merged)["jobs"].tolist() == [1, 1]
    assert notes(merged) == [f"{sentence}; the end of its report lists them."]


def test_a_table_that_was_edited_after_merging_is_noticed_until_it_is_merged_again(merged):
    assert edited_tables(merged) == []
    members = merged / "members.csv"
    members.write_text(members.read_text().replace("ok", "failed", 1))
    assert edited_tables(merged) == ["members.csv"]
    assert notes(merged) == [
        "Since the jobs of this study were merged, members.csv changed: edited by hand, perhaps. "
        "The command that made the study writes it anew."
    ]
    merge_tables(take_inventory(merged))
    assert notes(merged) == []


@pytest.mark.parametrize("text", ["", "[", "[1]", '"x"'])
def test_records_that_cannot_be_read_say_nothing(merged, text):
    for path in (*merged.glob("jobs/*/*.json"), merged / "merged.json"):
        path.write_text(text)
    assert origins(merged)["commit"].tolist() == ["unknown"]
    assert notes(merged) == []


@pytest.mark.parametrize(
    "text", ['{"command": null}', '{"command": "python"}', '{"command": ["python", "x.py"]}', "{"]
)
def test_a_command_that_was_not_recorded_is_empty_and_the_sweep_is_the_folder_s_name(tmp_path, text):
    (tmp_path / "environment.json").write_text(text)
    assert typed_command(tmp_path) == ""
    assert sweep_of(tmp_path) == tmp_path.name


def test_a_command_can_be_pasted_whatever_its_words_hold(tmp_path):
    words = [
        "python",
        "-m",
        "experiments.run",
        "study=a b",
        "recipe.name='$x'",
        "model.width=16,64",
        "+sweep=width",
    ]
    (tmp_path / "environment.json").write_text(json.dumps({"command": words}))
    assert shlex.split(typed_command(tmp_path)) == words


def test_a_command_is_what_somebody_else_would_type(tmp_path):
    words = [
        "/home/me/python",
        "-m",
        "experiments.run",
        "+sweep=width",
        "output=/home/me/out",
        "members.seed=[0, 1]",
    ]
    (tmp_path / "environment.json").write_text(json.dumps({"command": [*words, "data.root=/home/me/data"]}))
    expected = "python -m experiments.run +sweep=width 'members.seed=[0, 1]' data.root=PATH/data"
    assert typed_command(tmp_path) == expected
    assert sweep_of(tmp_path) == "width"
