"""The page of a mode study: what of modes.csv reaches the page and the figures, and what is refused."""

import csv
import json

import pytest

from analysis import report
from analysis.claims import __main__ as claims
from analysis.modes.__main__ import main
from analysis.modes.statement_charts import STATEMENT_CHARTS, StatementChart
from analysis.modes.statement_page import draw, statement_section
from analysis.modes.statements import Statement, read_statements
from analysis.schema import TABLES, VERDICTS
from analysis.select import CannotAnswerError
from experiments.modes.finding import FAILED
from experiments.modes.finding import VERDICTS as MEASURED_VERDICTS
from tests.analysis import synthetic
from tests.analysis.page import Page
from tests.conftest import files_below
from tests.full_disk import full_disk
from tests.no_files import put

# What the six statements with a figure measure, with numbers that nothing else on the page has.
MEASURED = {
    7: {
        "momentum": [0.01, 0.1, "cumulative"],
        "mean_gap_percent_by_momentum": [31.0, 2.0, 0.3],
        "variance_gap_percent_by_momentum": [211.0, 3.0, 0.5],
        "batch_size": [8, 64],
        "mean_gap_percent_by_batch_size": [7.0, 2.0],
        "variance_gap_percent_by_batch_size": [11.0, 3.0],
        "is_shuffled": [True, False],
        "mean_gap_percent_by_is_shuffled": [2.0, 8.0],
        "variance_gap_percent_by_is_shuffled": [3.0, 37.0],
        "lr": [0.0, 1.0],
        "mean_gap_percent_by_lr": [2.0, 5.0],
        "variance_gap_percent_by_lr": [3.0, 6.0],
    },
    14: {
        "batch_size": [1, 2, 256],
        "vector_error_train_mode_percent": [None, 45.0, 3.0],
        "vector_error_eval_mode_percent": 2.9,
        "image_error_train_mode_percent": [8.0, 7.5, 7.0],
        "image_error_eval_mode_percent": 7.1,
    },
    23: {
        "layer": [2, 3],
        "shift_ratio_before_bn_0.3": [0.6, 0.7],
        "shift_ratio_before_bn_0.5": [0.3, 0.02],
        "shift_ratio_before_weight_0.3": [0.9, 0.8],
        "shift_ratio_before_weight_0.5": [0.8, 0.5],
    },
    24: {
        "noise_range": ["[-1, 1]", "[0, 1]"],
        "mean_shift_in_stored_std": [0.01, 0.24],
        "shift_ratio": [0.66, 0.42],
        "test_error_percent": [2.5, 6.4],
    },
    25: {
        "drop_rate": [0.1, 0.5],
        "width": [8, 128],
        "local_ratio_by_rate_before_bn": [0.9, 0.5],
        "local_ratio_by_rate_before_weight": [0.95, 0.7],
        "local_ratio_by_width_before_bn": [0.48, 0.47],
        "local_ratio_by_width_before_weight": [0.6, 0.8],
    },
    26: {
        f"{quantity}_bn_{bn}_dropout_{dropout}": value
        for quantity, values in {
            "shift_ratio": [1.0, 1.0, 1.01, 0.76],
            "test_accuracy_percent": [93.1, 97.2, 92.3, 96.4],
        }.items()
        for (bn, dropout), value in zip(
            [("train", "train"), ("train", "eval"), ("eval", "train"), ("eval", "eval")], values, strict=True
        )
    },
}


def row(number: int, **other) -> dict:
    measured = MEASURED.get(number, {"share": 0.123})
    return {
        "number": number,
        "topic": "Dropout" if number < 5 else "BatchNorm",
        "experiment": f"experiments.modes.somewhere.number_{number}",
        "statement": f"Statement {number} with <b> & more.",
        "verdict": ["confirmed", "refuted", "needs care"][number % 3],
        "explanation": f"Explained by {number}.5 %.",
        "evidence": f"share {number} = 0.123",
        "measured": json.dumps(measured),
        "torch": "2.99.0",
    } | other


def write(folder, rows) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "modes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, TABLES["modes.csv"].columns)
        writer.writeheader()
        writer.writerows(rows)


def test_both_sides_know_the_same_verdicts():
    assert (*MEASURED_VERDICTS, FAILED) == VERDICTS


def test_a_mode_study_makes_a_page(tmp_path, capsys):
    folder = tmp_path / "modes"
    write(folder, [row(number) for number in (1, 2, *MEASURED)])
    (folder / "environment.json").write_text('{"machine": "a laptop"}')
    assert main([str(folder)]) == 0, capsys.readouterr().err
    page = Page(folder / "report" / "index.html")
    text = " ".join(page.text.split())
    for number in (1, 2, *MEASURED):
        assert f"({number}) Statement {number} with <b> & more." in text
        assert f"Explained by {number}.5 %." in text
        assert f"share {number} = 0.123" in text
        assert f"experiments.modes.somewhere.number_{number}" in text
        assert f"statement-{number}" in page.ids
    assert "torch 2.99.0: 1 confirmed, 3 refuted, 4 needs care" in text
    assert "a laptop" in text
    assert "networks finished" not in text
    assert "Beside the paper" not in text
    names = {chart.name for chart in STATEMENT_CHARTS.values()}
    files = {f"{name}.{kind}" for name in names for kind in ("svg", "png", "pdf")}
    files |= {"index.html", "data"} | {f"data/{name}.csv" for name in names}
    assert set(files_below(folder / "report")) == files
    assert len(page.images) == 6
    assert names <= set(page.ids)
    assert {f"#{name}" for name in names} <= set(page.links)


def test_a_folder_with_networks_and_statements_has_a_page_for_each(tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.sections.networks.CHARTS", [])
    monkeypatch.setattr("analysis.sections.paper.PAPER_CHARTS", [])
    folder = synthetic.write(tmp_path / "both", *synthetic.tables())
    write(folder, [row(2)])
    assert main([str(folder), "--out", str(tmp_path / "modes")]) == 0
    page = Page(tmp_path / "modes" / "index.html")
    assert "Statement 2 with" in page.text
    assert "networks finished" not in page.text
    assert report.main([str(folder)]) == 0
    page = Page(folder / "report" / "index.html")
    assert "Statement 2 with" not in page.text
    assert "networks finished" in page.text


@pytest.mark.parametrize("command", [report, claims])
def test_other_commands_name_the_one_for_a_mode_study(tmp_path, capsys, command):
    write(tmp_path, [row(2)])
    assert command.main([str(tmp_path)]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.endswith(f"python -m analysis.modes {tmp_path}")
    assert printed.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["modes.csv"]


def test_a_folder_without_a_mode_study_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "rows", [])
    for folder, words in (
        ("gone", "no such folder"),
        ("empty", "modes.csv: no such file"),
        ("rows", "no rows"),
    ):
        assert main([str(tmp_path / folder)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"modes: {tmp_path / folder}")
        assert words in line
        assert not (tmp_path / folder / "report").exists()


@pytest.mark.timeout(60)
def test_a_page_that_breaks_off_leaves_the_old_one_whole(tmp_path, capsys):
    write(tmp_path, [row(7)])
    assert main([str(tmp_path)]) == 0
    old = files_below(tmp_path / "report")
    write(tmp_path, [row(7), row(14)])
    capsys.readouterr()
    with full_disk():
        assert main([str(tmp_path)]) == 2
    put("pipe", tmp_path / "modes.csv")
    assert main([str(tmp_path)]) == 2
    full, pipe = capsys.readouterr().err.splitlines()
    assert "too large" in full
    assert "modes.csv: not a readable CSV table" in pipe
    assert "is a pipe, not a file" in pipe
    assert files_below(tmp_path / "report") == old


@pytest.mark.parametrize("number", MEASURED)
def test_a_figure_shows_what_was_measured(number):
    drawing = STATEMENT_CHARTS[number].draw(MEASURED[number])
    shown = drawing.points.to_numpy().ravel().tolist()
    for key, value in MEASURED[number].items():
        values = value if isinstance(value, list) else [value]
        assert all(item in shown for item in values if item is not None), key
    assert drawing.reading


def test_the_corners_stand_where_their_labels_say():
    figure = STATEMENT_CHARTS[26].draw(MEASURED[26]).figure
    shift = figure.axes[0]
    texts = {text.get_position(): text.get_text() for text in shift.texts}
    assert texts == {(0, 0): "1.00", (1, 0): "1.00", (0, 1): "1.01", (1, 1): "0.76"}
    assert [label.get_text() for label in shift.get_xticklabels()] == ["dropout train", "dropout eval"]
    assert [label.get_text() for label in shift.get_yticklabels()] == ["BN train", "BN eval"]


def test_a_single_vector_that_torch_refuses_is_said():
    reading = STATEMENT_CHARTS[14].draw(MEASURED[14]).reading
    assert "refuses" in reading
    accepted = MEASURED[14] | {"vector_error_train_mode_percent": [90.0, 45.0, 3.0]}
    assert "refuses" not in STATEMENT_CHARTS[14].draw(accepted).reading


def test_numbers_of_another_version_leave_the_figure_out(tmp_path):
    write(tmp_path, [row(7, measured='{"gap": 1}'), row(14, measured="{}", verdict="failed")])
    files = {}
    (panel,) = statement_section(read_statements(tmp_path), files).panels
    assert "Statement 7 was measured otherwise" in panel.missing
    assert set(files.values()) == {None}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("number,verdict\n1,confirmed\n", "no column topic"),
        (row(1) | {"number": "x"}, "'x'"),
        (row(1, measured="{"), "cannot be read (Expecting"),
        (row(1, measured="[]"), "statement 1"),
        (row(1, verdict="maybe"), "'maybe'; allowed: confirmed, refuted"),
    ],
    ids=["columns", "number", "json", "list", "verdict"],
)
def test_a_table_that_cannot_be_is_refused_in_one_line(tmp_path, capsys, content, words):
    if isinstance(content, dict):
        write(tmp_path, [content])
    else:
        (tmp_path / "modes.csv").write_text(content)
    assert main([str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "modes.csv" in line


def test_statements_come_back_as_they_were_written(tmp_path):
    write(tmp_path, [row(1), row(7)])
    first, second = read_statements(tmp_path)
    assert (first.number, first.verdict, first.measured) == (1, "refuted", {"share": 0.123})
    assert second.measured == MEASURED[7]


def test_no_other_error_hides_behind_a_missing_figure():
    with pytest.raises(ZeroDivisionError):
        draw(read(1), StatementChart("a", "b", lambda measured: 1 / 0))
    with pytest.raises(CannotAnswerError):
        draw(read(1), StatementChart("a", "b", lambda measured: measured["gone"]))


def read(number: int):
    return Statement(**(row(number) | {"measured": {}}))
