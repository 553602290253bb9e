"""The one schema of the tables: what is written is what it says, and what is read has its kinds."""

import csv
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis.schema import (
    COLUMNS,
    IDENTITY,
    MEMBER_KEY,
    NETWORK,
    NUMBER,
    RECIPE,
    TABLES,
    TEXT,
    WHOLE,
    fill_tables,
    kind_of,
    main,
    markdown_table,
    typed_row,
)
from analysis.tables import StudyError, read_study
from experiments.modes import STATEMENTS
from experiments.modes.study import row_of
from experiments.study.tables import TABLES as WRITTEN
from experiments.study.tables import read_table, write_table
from tests.analysis import synthetic
from tests.conftest import IDENTITY as PROMISED

DTYPES = {WHOLE: "Int64", NUMBER: "float64"}


def test_every_column_has_a_kind_and_a_meaning():
    for name, column in COLUMNS.items():
        assert column.name == name
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert column.kind in (TEXT, WHOLE, NUMBER)
        assert len(column.meaning) > 4
        assert not set("\n|") & set(column.meaning)
        assert not column.meaning.endswith(".")
        assert not (column.unit and column.kind != NUMBER)
        assert not (column.words and column.kind != TEXT)


def test_tables_and_columns_know_each_other():
    used = {name for table in TABLES.values() for name in table.columns}
    assert used == set(COLUMNS)
    for table in TABLES.values():
        assert len(set(table.columns)) == len(table.columns)
        assert set(table.required) <= set(table.columns)


def test_tables_of_members_begin_with_what_tells_members_apart():
    assert list(IDENTITY) == PROMISED
    assert list(WRITTEN) == ["flips.csv", "epochs.csv", "layers.csv", "members.csv"]
    for name, columns in WRITTEN.items():
        assert columns == TABLES[name].columns
        assert columns[: len(IDENTITY) + len(RECIPE)] == (*IDENTITY, *RECIPE)
        assert set(IDENTITY) <= set(TABLES[name].required)
    assert set(NETWORK) < set(IDENTITY) < set(MEMBER_KEY) < {*IDENTITY, *RECIPE}


def header(path: Path) -> tuple[str, ...]:
    with path.open(newline="") as file:
        return tuple(next(csv.reader(file)))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A study of two members, the noisy one with images that it loses in eval mode."""
    from experiments.jobs.job import run_job
    from experiments.settings.plan import plan_jobs
    from experiments.study.inventory import take_inventory
    from experiments.study.merge import merge_tables

    output = tmp_path_factory.mktemp("schema")
    members = ["members.seed=[0]", "members.dropout.rate=[0.5]", "members.dropout.placement=[before_bn]"]
    small = ["recipe.epochs=2", "recipe.track_modes=true", "model.width=8", "measure.flips=3", "processes=1"]
    plan = plan_jobs([*members, *small, f"output={output}"], multirun=False)
    run_job(plan.jobs[0], None)
    merge_tables(take_inventory(plan.folder))
    return plan.folder


def test_written_tables_have_the_columns_of_the_schema(written, tmp_path):
    for name in WRITTEN:
        assert header(written / name) == TABLES[name].columns
        (job,) = written.glob(f"jobs/*/{name}")
        assert header(job) == TABLES[name].columns
    path = tmp_path / "modes.csv"
    write_table(path, TABLES[path.name].columns, [row_of(STATEMENTS[0])])
    assert header(path) == TABLES[path.name].columns == tuple(row_of(STATEMENTS[0]))


def test_written_cells_are_of_their_kind_and_filled_where_the_schema_says_so(written):
    for name in WRITTEN:
        rows = read_table(written / name)
        assert rows, name
        for row in rows:
            for column, cell in typed_row(row).items():
                assert type(cell) is {TEXT: str, WHOLE: int, NUMBER: float}[kind_of(column)]
                assert not COLUMNS[column].words or cell in COLUMNS[column].words
            assert all(COLUMNS[column].may_be_empty for column, text in row.items() if text == "")


def test_what_is_read_has_the_kinds_of_the_schema(written):
    study = read_study(written)
    for table in (study.members, study.layers, study.flips):
        assert {name: str(dtype) for name, dtype in table.dtypes.items() if kind_of(name) != TEXT} == {
            name: DTYPES[kind_of(name)] for name in table if kind_of(name) != TEXT
        }
        assert all(pd.api.types.is_string_dtype(table[name]) for name in table if kind_of(name) == TEXT)
    assert tuple(study.members) == TABLES["members.csv"].columns
    assert tuple(study.layers) == TABLES["layers.csv"].columns
    assert tuple(study.flips) == TABLES["flips.csv"].columns
    # The longest table holds what is drawn, and no more.
    assert set(study.epochs) == {*TABLES["epochs.csv"].required, *RECIPE}
    assert study.members["seconds"].gt(0).all()
    assert study.layers["channels"].tolist() == [8] * 6


def rewrite(study: Path, name: str, change) -> None:
    table = pd.read_csv(study / name, dtype=str, keep_default_na=False)
    change(table).to_csv(study / name, index=False)


def test_a_study_may_lack_every_column_that_is_not_required(tmp_path):
    members, layers = synthetic.tables(widths=(16,), seeds=(0, 1), noises=("dropout",))
    folder = synthetic.write(tmp_path, members, layers)
    for name in ("members.csv", "layers.csv"):
        rewrite(folder, name, lambda table, name=name: table[[*TABLES[name].required]])
    study = read_study(folder)
    assert len(study.members) == len(members)
    assert study.layers["shift_ratio"].tolist() == layers["shift_ratio"].tolist()


@pytest.mark.parametrize("name", ["members.csv", "layers.csv"])
def test_a_study_may_lack_no_column_that_is_required(tmp_path, name):
    tables = synthetic.tables(widths=(16,), seeds=(0,), noises=("dropout",))
    for column in TABLES[name].required:
        folder = synthetic.write(tmp_path / column, *tables)
        rewrite(folder, name, lambda table, column=column: table.drop(columns=column))
        with pytest.raises(StudyError, match=rf"{name}: no column {column}$"):
            read_study(folder)


def test_a_column_that_the_schema_does_not_know_stays_text(tmp_path):
    members, layers = synthetic.tables(widths=(16,), seeds=(0,), noises=("dropout",))
    folder = synthetic.write(tmp_path, members.assign(mine="1.50"), layers)
    assert set(read_study(folder).members["mine"]) == {"1.50"}
    assert typed_row({"mine": "1.50", "seed": "3", "lr": "1", "reason": ""}) == {
        "mine": "1.50",
        "seed": 3,
        "lr": 1.0,
    }


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("steps", "1.5", "allowed: a whole number or empty"),
        ("batch_size", "64.5", "allowed: a whole number or empty"),
        ("seconds", "long", "allowed: a number or empty"),
        ("seed", "", "allowed: a whole number"),
    ],
)
def test_a_cell_of_another_kind_is_refused(tmp_path, column, value, said):
    members, layers = synthetic.tables(widths=(16,), seeds=(0,), noises=("dropout",))
    folder = synthetic.write(tmp_path, members.assign(**{column: value}), layers)
    with pytest.raises(StudyError, match=rf"{column} in row 1 is '{value}'; {said}$"):
        read_study(folder)


def test_a_cell_that_is_no_number_is_no_typed_row():
    with pytest.raises(ValueError, match="much"):
        typed_row({"test_error": "much"})


# --- documentation


def test_markdown_has_a_line_for_every_column():
    lines = markdown_table("members.csv").splitlines()
    assert len(lines) == 2 + len(TABLES["members.csv"].columns)
    assert lines[2] == "| `data` | text |  |  | data set |"
    assert {line.count("|") for line in lines} == {6}
    layers = markdown_table("layers.csv")
    assert "| `shift_ratio` | number |  | yes | `test_var / moving_var`" in layers
    assert "`seed`" not in layers


def test_marked_places_are_filled_and_stay_filled():
    text = (
        "before\n<!-- columns of flips.csv -->\nold\n<!-- end of columns -->\nbetween\n"
        "<!-- columns of epochs.csv -->\n<!-- end of columns -->\nafter\n"
    )
    filled = fill_tables(text)
    assert filled == (
        f"before\n<!-- columns of flips.csv -->\n{markdown_table('flips.csv')}\n<!-- end of columns -->\nbetween\n"
        f"<!-- columns of epochs.csv -->\n{markdown_table('epochs.csv')}\n<!-- end of columns -->\nafter\n"
    )
    assert fill_tables(filled) == filled
    with pytest.raises(KeyError, match=r"none\.csv"):
        fill_tables("<!-- columns of none.csv -->\n<!-- end of columns -->")


def test_the_command_prints_all_tables_and_fills_files(tmp_path, capsys):
    main([])
    printed = capsys.readouterr().out
    assert all(markdown_table(name) in printed for name in TABLES)
    file = tmp_path / "README.md"
    file.write_text("<!-- columns of modes.csv -->\n<!-- end of columns -->\n")
    main([str(file)])
    assert markdown_table("modes.csv") in file.read_text()
    assert capsys.readouterr().out == ""
