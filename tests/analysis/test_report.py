import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote
from xml.etree.ElementTree import canonicalize

import pandas as pd
import pytest

from analysis.figures import CHARTS, PAPER_CHARTS, STUDY_CHARTS
from analysis.report import main, write_report
from tests.analysis import synthetic
from tests.analysis.page import Page
from tests.conftest import files_below
from tests.full_disk import full_disk
from tests.no_files import NO_FILES, put

EVERY_CHART = [*CHARTS, *PAPER_CHARTS, *STUDY_CHARTS]


@pytest.fixture
def two_charts(monkeypatch) -> None:
    """For tests that are not about the figures: only the quickest two, one of which needs two widths."""
    two = [chart for chart in CHARTS if chart.name in ("predicted", "width")]
    monkeypatch.setattr("analysis.report.FRONT", [])
    monkeypatch.setattr("analysis.sections.networks.CHARTS", two)
    monkeypatch.setattr("analysis.sections.paper.PAPER_CHARTS", [])
    monkeypatch.setattr("analysis.sections.interventions.STUDY_CHARTS", [])


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """The folder of a whole study with its report."""
    folder = synthetic.write(tmp_path_factory.mktemp("outputs") / "full", *synthetic.tables())
    (folder / "environment.json").write_text('{"machine": "a <b>laptop</b>"}')
    assert main([str(folder)]) == 0
    return folder


def test_every_figure_lies_beside_the_page_and_in_it(full):
    report = full / "report"
    page = Page(report / "index.html")
    drawn = [name for name in page.ids if name in {"core", *(chart.name for chart in EVERY_CHART)}]
    assert drawn[0] == "core"
    assert {chart.name for chart in CHARTS} <= set(drawn)
    expected = {f"{name}.{kind}" for name in drawn for kind in ("svg", "png", "pdf")}
    expected |= {"index.html", "claims.csv", "data"} | {f"data/{name}.csv" for name in drawn}
    assert set(files_below(report)) == expected
    inlined = [unquote(image["src"].removeprefix("data:image/svg+xml,")) for image in page.images]
    beside = [(report / f"{name}.svg").read_text() for name in drawn]
    assert [canonicalize(svg).split() for svg in inlined] == [canonicalize(svg).split() for svg in beside]
    assert all(image["alt"] for image in page.images)
    assert (report / "collapse.png").read_bytes().startswith(b"\x89PNG")
    assert b"/CharProcs" in (report / "collapse.pdf").read_bytes()  # its fonts are embedded
    points = pd.read_csv(report / "data" / "shift_vs_rate.csv")
    assert {"local_ratio", "shift_ratio", "local_ratio_exact", "ratio_paper", "nominal"} <= set(
        points["quantity"]
    )


def test_under_each_figure_there_are_links_to_its_files(full):
    page = Page(full / "report" / "index.html")
    linked = {link for link in page.links if not link.startswith("#")}
    there = set(files_below(full / "report")) - {"index.html", "claims.csv", "data"}
    assert linked - {"claims.csv"} == there


def test_the_page_goes_from_the_picture_to_the_configuration(full):
    page = Page(full / "report" / "index.html")
    order = [
        "picture",
        "core",
        "words",
        "verdicts",
        "C1",
        "Q3",
        "shift_vs_rate",
        "cascade",
        "paper",
        "tables",
    ]
    order = [*order, "open-questions", "provenance"]
    assert [name for name in page.ids if name in order] == [name for name in order if name in page.ids]
    assert set(order) - set(page.ids) <= {"cascade"}  # of one depth there is none
    text = " ".join(page.text.split())
    assert "At drop rate 0.5 the variance before_bn is off by a factor of" in text
    words = text.split(" Words ")[2].split("The paper's claims on this study")[0]
    for word in (
        "BNBatchNorm",
        "placementwhere",
        "shift ratiovariance",
        "local, cumulativethe",
        "closureour",
    ):
        assert word in words


def test_a_study_that_cannot_draw_the_picture_says_why(tmp_path, monkeypatch):
    for name in ("networks.CHARTS", "paper.PAPER_CHARTS", "interventions.STUDY_CHARTS"):
        monkeypatch.setattr(f"analysis.sections.{name}", [])
    tables = synthetic.tables(widths=(16,), seeds=(0, 1), noises=("gaussian",))
    folder = synthetic.write(tmp_path / "gaussian", *tables)
    page = Page(write_report(folder, folder / "report"))
    said = "in the paper? This study has no dropout or Uout before BN."
    assert said in " ".join(page.text.split())
    assert "core" not in page.ids
    other, layers = synthetic.tables(widths=(16,), seeds=(0, 1), noises=("dropout",), depth=2)
    both = [pd.concat(pair, ignore_index=True) for pair in zip(tables, (other, layers), strict=True)]
    folder = synthetic.write(tmp_path / "both", *both)  # the first network that can draw it does
    page = Page(write_report(folder, folder / "report"))
    assert "core" in page.ids
    assert "digits, mlp, depth 2, batch norm, width 16, mean over" in " ".join(page.text.split())


def test_the_page_needs_no_network_and_no_other_file(full):
    page = Page(full / "report" / "index.html")
    assert all(resource.startswith("data:") for resource in page.resources)
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inside) <= set(page.ids)
    assert not [link for link in page.links if ":" in link or link.startswith("/")]
    assert len(page.ids) == len(set(page.ids))
    source = (full / "report" / "index.html").read_text()
    for image in page.images:
        source = source.replace(image["src"], "")
    assert "http" not in source
    assert "@import" not in source
    assert "url(" not in source
    for svg in (full / "report").glob("*.svg"):
        assert 'href="http' not in svg.read_text()
    assert (
        full / "report" / "index.html"
    ).stat().st_size < 3e6  # a study of four networks still fits into a mail


def test_the_page_holds_the_numbers_of_the_tables(full):
    members, layers = synthetic.tables()
    page = Page(full / "report" / "index.html")
    wanted = (
        (layers["placement"] == "before_bn") & (layers["noise"] == "dropout") & (layers["strength"] == 0.5)
    )
    assert f"{layers.loc[wanted, 'shift_ratio'].mean():.3f}" in page.text
    assert "shift ratiolocalexact lawEq 8/12" in page.text
    assert f"{layers.loc[wanted, 'ratio_paper'].mean():.3f}" in page.text
    wanted = (members["placement"] == "none") & (members["width"] == 64)
    assert f"{members.loc[wanted, 'test_error'].mean():.2f}" in page.text
    assert "435 of 435 networks finished" in page.text


def test_what_the_files_say_is_shown_not_obeyed(full, tmp_path, two_charts):
    assert "a <b>laptop</b>" in Page(full / "report" / "index.html").text
    members, layers = synthetic.tables(widths=(16,), seeds=(0,), noises=("dropout",))
    wicked = "<script>alert(1)</script>/../../x"
    both = [pd.concat([table, table.assign(data=wicked)]) for table in (members, layers)]
    folder = synthetic.write(tmp_path / "wicked", *both)
    page = Page(write_report(folder, folder / "report"))
    assert page.scripts == 1  # the page's own, which sorts tables
    assert wicked in page.text
    assert {path.parent for path in tmp_path.rglob("*.svg")} == {folder / "report"}


def test_equal_tables_give_equal_bytes(tmp_path, two_charts):
    tables = synthetic.tables(widths=(16,), seeds=(0, 1), noises=("dropout",))
    first, second = (write_report(synthetic.write(tmp_path / "s", *tables), tmp_path / out) for out in "ab")
    assert files_below(first.parent) == files_below(second.parent)


def test_one_seed_has_points_but_no_intervals(tmp_path):
    folder = synthetic.write(
        tmp_path / "one", *synthetic.tables(widths=(16, 64), seeds=(0,), noises=("dropout",))
    )
    page = Page(write_report(folder, folder / "report"))
    assert len(page.images) >= len(CHARTS) - 2  # matched_noise needs two families, width_law three widths
    assert "±" not in page.text.replace("± the 95 % interval", "")
    assert "nan" not in page.text


def test_members_that_diverged_are_named_and_not_averaged(tmp_path, two_charts):
    members, layers = synthetic.tables(widths=(16,), noises=("dropout",))
    lost = (members["strength"] == 0.7) & (members["seed"] < 2) & (members["placement"] == "before_bn")
    members["reason"] = lost.map({True: "loss is nan at step 12", False: ""})
    folder = synthetic.write(tmp_path / "holes", *synthetic.diverge(members, layers, lost))
    page = Page(write_report(folder, folder / "report"))
    assert "63 of 65 networks finished; the 2 left out" in " ".join(page.text.split())
    assert "width 16, before_bn, dropout 0.7, seed 1: diverged (loss is nan at step 12)" in page.text
    assert "1000000000" not in page.text


def test_a_study_where_nothing_finished_still_reports(tmp_path):
    members, layers = synthetic.tables(widths=(16,), seeds=(0,), noises=("dropout",))
    folder = synthetic.write(tmp_path / "lost", members.assign(status="failed"), layers[:0])
    page = Page(write_report(folder, folder / "report"))
    assert "0 of 13 networks finished" in page.text
    assert page.text.count("This study has no ") >= len(CHARTS)
    assert not {chart.name for chart in CHARTS} & set(page.ids)


def test_a_question_that_is_not_answered_is_a_sentence_and_leaves_no_old_figure(tmp_path, two_charts):
    folder = tmp_path / "study"
    synthetic.write(folder, *synthetic.tables(widths=(16, 64), seeds=(0,), noises=("dropout",)))
    write_report(folder, folder / "report")
    files = [folder / "report" / name for name in ("width.png", "width.svg", "width.pdf", "data/width.csv")]
    assert all(file.exists() for file in files)
    synthetic.write(folder, *synthetic.tables(widths=(16,), seeds=(0,), noises=("dropout",)))
    page = Page(write_report(folder, folder / "report"))
    assert (
        "Do wider networks shift less? This study has before_weight members of one width only (16)."
        in page.text
    )
    assert not any(file.exists() for file in files)


def test_a_report_that_breaks_off_leaves_the_old_one_whole(tmp_path, two_charts, monkeypatch, capsys):
    folder = synthetic.write(tmp_path / "s", *synthetic.tables(widths=(16,), seeds=(0,), noises=("dropout",)))
    (folder / "report").mkdir()
    old = dict.fromkeys(("claims.csv", "index.html", "predicted.svg", "width.png"), b"old")
    for name, content in old.items():
        (folder / "report" / name).write_bytes(content)

    with full_disk():
        assert main([str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "too large" in line
    assert files_below(folder / "report") == old

    monkeypatch.setattr("analysis.report.CLOSING", [lambda source: 1 // 0])
    with pytest.raises(ZeroDivisionError):
        write_report(folder, folder / "report")
    assert files_below(folder / "report") == old


def test_two_networks_get_a_section_each(tmp_path, two_charts):
    shape = {"widths": (16,), "seeds": (0,), "noises": ("dropout",)}
    both = zip(synthetic.tables(**shape), synthetic.tables(**shape, data="cifar10", depth=2), strict=True)
    folder = synthetic.write(tmp_path / "two", *(pd.concat(tables) for tables in both))
    page = Page(write_report(folder, folder / "report"))
    assert {"digits-mlp-depth-3-batch-norm", "cifar10-mlp-depth-2-batch-norm"} <= set(page.ids)
    assert (folder / "report" / "cifar10-mlp-depth-2-batch-norm-predicted.svg").exists()
    assert page.text.count("one width only (16).") == 1  # open in both, said once


def test_out_names_another_folder(tmp_path, two_charts):
    folder = synthetic.write(tmp_path / "s", *synthetic.tables(widths=(16,), seeds=(0,), noises=()))
    assert main([str(folder), "--out", str(tmp_path / "elsewhere")]) == 0
    assert (tmp_path / "elsewhere" / "index.html").exists()
    assert not (folder / "report").exists()


def test_no_study_is_one_line_and_status_2(tmp_path):
    command = [sys.executable, "-m", "analysis.report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("report: ")
    assert "members.csv: no such file" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_empty_tables_and_unwritable_output_are_refused_alike(tmp_path, two_charts, capsys):
    members, layers = synthetic.tables(widths=(16,), seeds=(0,), noises=())
    empty = synthetic.write(tmp_path / "empty", members[:0], layers[:0])
    assert main([str(empty)]) == 2
    assert "no rows" in capsys.readouterr().err
    good = synthetic.write(tmp_path / "good", members, layers)
    (tmp_path / "taken").write_text("a file, not a folder")
    assert main([str(good), "--out", str(tmp_path / "taken")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize(
    "name", ["members.csv", "layers.csv", "epochs.csv", "environment.json", "jobs/one/config.yaml"]
)
def test_what_is_no_file_is_said_in_one_line_and_not_waited_for(tmp_path, two_charts, capsys, name, kind):
    folder = synthetic.write(tmp_path / "s", *synthetic.tables(widths=(16,), seeds=(0,), noises=()))
    (folder / "jobs" / "one").mkdir(parents=True)
    put(kind, folder / name)
    assert main([str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert f"is a {kind}, not a file" in line
    assert not (folder / "report").exists()
