"""Figures for papers: at the size that is asked for every text fits, and a selection is what is drawn."""

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from analysis.figures.layout import Sheet
from analysis.plot import CHART_OF, OF_PAPER, PlotError, main, plot
from analysis.select import CannotAnswerError
from analysis.selection import SelectionError, selected
from analysis.tables import Study
from tests.analysis import synthetic
from tests.conftest import files_below
from tests.places import ROOT

ELSEWHERE = {*OF_PAPER, "normalisers", "learning_rate"}  # these need other studies
OWN = [name for name in CHART_OF if name not in ELSEWHERE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    tables = synthetic.tables(widths=(16, 64, 128), seeds=(0, 1), noises=("dropout", "gaussian"))
    return synthetic.write(tmp_path_factory.mktemp("outputs") / "small", *tables)


def texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is seen outside of the panels, with its place: titles, labels, numbers, legends."""
    figure.draw_without_rendering()
    found: list[Text] = [text for legend in figure.findobj(Legend) for text in legend.get_texts()]
    for panel in figure.axes:
        if panel.axison:
            found += [panel.title, panel.xaxis.label, panel.yaxis.label]
            for axis in (panel.xaxis, panel.yaxis):
                low, high = sorted(axis.get_view_interval())
                ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
                found += [tick.label1 for tick in ticks if tick.label1.get_visible()]
    return [(text.get_text(), text.get_window_extent()) for text in found if text.get_text()]


def overlap(one: Bbox, other: Bbox) -> bool:
    """Whether two boxes share more than a pixel each way."""
    shared = Bbox.intersection(one, other)
    return shared is not None and min(shared.width, shared.height) > 1.5


@pytest.mark.parametrize("width", [3.3, 6.75])
@pytest.mark.parametrize("name", OWN)
def test_every_text_of_every_figure_fits_at_the_width_of_a_column_and_of_a_page(folder, name, width):
    figure = plot(folder, name, width=width)
    assert figure.get_figwidth() == width
    boxes = texts(figure)
    assert len(boxes) > 8
    outside = [text for text, box in boxes if box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1]
    assert outside == []
    assert [text for text, box in boxes if box.y1 > figure.bbox.y1 + 1] == []
    pairs = [
        (text, other)
        for place, (text, box) in enumerate(boxes)
        for other, its_box in boxes[:place]
        if overlap(box, its_box)
    ]
    assert pairs == []
    inside = [panel.get_window_extent() for panel in figure.axes if panel.axison]
    assert all(box.height > 0.5 * figure.dpi and box.width > 0.5 * figure.dpi for box in inside)


def test_panels_that_do_not_fit_lie_below_with_labels_of_their_own(folder):
    narrow, wide = (plot(folder, "shift_vs_rate", placement="before_bn", width=size) for size in (3.3, 6.75))
    lines = [len({round(panel.get_position().y0, 2) for panel in figure.axes}) for figure in (narrow, wide)]
    assert lines == [2, 1]
    assert [bool(panel.get_ylabel()) for panel in narrow.axes] == [True, False, True]
    assert [bool(panel.get_ylabel()) for panel in wide.axes] == [True, False, False]
    assert all(panel.get_xlabel() == "drop rate" for panel in (*narrow.axes, *wide.axes))
    assert narrow.axes[2].get_ylim() == narrow.axes[0].get_ylim()


def test_height_font_and_title_are_as_asked(folder):
    name, chosen = "shift_vs_rate", ("placement=before_bn", "width=16")
    figure = plot(folder, name, *chosen, width=4, height=3.5, font=7, title=True)
    assert figure.get_size_inches().tolist() == [4, 3.5]
    assert figure.axes[0].xaxis.label.get_fontsize() == pytest.approx(7)
    assert figure.get_suptitle().startswith("Variance shift against the drop rate")
    assert not plot(folder, name, *chosen).get_suptitle()


def test_equal_tables_give_equal_bytes_and_text_stays_text(folder, tmp_path):
    typed = [str(folder), "shift_vs_rate", "--format", "pdf,svg,png", "--placement", "before_bn"]
    for out in "ab":
        assert main([*typed, "--width", "3.3", "--font", "8", "--out", str(tmp_path / out)]) == 0
    assert files_below(tmp_path / "a") == files_below(tmp_path / "b")
    name = "shift_vs_rate-placement-before_bn"
    expected = {f"{name}.{kind}" for kind in ("pdf", "svg", "png", "csv", "txt")}
    assert set(files_below(tmp_path / "a")) == expected
    pdf = (tmp_path / "a" / f"{name}.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    (box,) = re.findall(rb"/MediaBox \[ ?0 0 ([\d.]+)", pdf)
    assert float(box) == pytest.approx(3.3 * 72)
    svg = ElementTree.parse(tmp_path / "a" / f"{name}.svg")
    words = {element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"drop rate", "before_bn, width 16"} <= words
    caption = (tmp_path / "a" / f"{name}.txt").read_text()
    assert "Study small, digits, mlp, depth 3, batch norm, placement=before_bn." in caption
    assert "At drop rate 0.5" in caption
    points = pd.read_csv(tmp_path / "a" / f"{name}.csv")
    assert set(points["placement"]) == {"before_bn"}


def test_it_writes_into_the_study_unless_told_otherwise(folder, capsys):
    assert main([str(folder), "width", "strength=0.5", "--format", "png"]) == 0
    assert set(files_below(folder / "figures")) == {
        f"width-strength-0.5.{kind}" for kind in ("png", "csv", "txt")
    }
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"plot: {folder}/figures/width-strength-0.5.{{png,csv,txt}}, 6.75 x ")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["shift_vs_time"], "shift_vs_time: no such figure; allowed: core, shift_vs_rate, "),
        (["core", "--format", "pdf,gif"], "--format gif: allowed is one or more of pdf, svg, png"),
        (["core", "--width", "0.1"], "width 0.1: allowed is 1 to 60"),
        (["core", "--font", "nan"], "font nan: allowed is 3 to 40"),
        (["core", "width=17"], "width=17: no member has width 17; allowed: 16, 64, 128"),
        (["core", "width=wide"], "width=wide: no member has width wide; allowed: 16, 64, 128"),
        (["core", "colour=red"], "colour=red: allowed is COLUMN=VALUE, COLUMN one of data, model, width, "),
        (["core", "placement"], "placement: allowed is COLUMN=VALUE, COLUMN one of data, model, width, "),
        (["core", "--placement", "none"], "This study has no "),
        (["core", "--height", "1", "--font", "12"], "core: labels and legend leave its panels no room"),
        (["width", "width=16"], "This study has before_weight members of one width only (16)."),
        (["learning_rate"], "This study has members of one learning rate only"),
        (
            ["paper_figure4"],
            "This study has no dropout before BN, or before a weight layer, in these networks.",
        ),
        (
            ["paper_error", "seed=1"],
            "seed=1: paper_error draws published values, not members; select nothing",
        ),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_what_cannot_be_drawn_is_one_line_and_leaves_nothing(folder, tmp_path, capsys, typed, said):
    assert main([str(folder), *typed, "--out", str(tmp_path / "new")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"plot: {said}")
    assert list(tmp_path.iterdir()) == []


def test_of_several_networks_each_is_drawn_and_one_that_cannot_is_named(folder, tmp_path, capsys):
    shape = {"widths": (16, 64), "seeds": (0, 1), "noises": ("dropout",)}
    parts = [synthetic.tables(**shape), synthetic.tables(**shape, depth=2)]
    parts.append(synthetic.tables(**{**shape, "widths": (16,)}, depth=4))
    members, layers = (pd.concat(tables) for tables in zip(*parts, strict=True))
    study = synthetic.write(tmp_path / "three", members, layers)
    assert main([str(study), "width", "--format", "svg"]) == 0
    names = [f"digits-mlp-depth-{depth}-batch-norm-width" for depth in (2, 3)]
    assert set(files_below(study / "figures")) == {
        f"{name}.{kind}" for name in names for kind in ("svg", "csv", "txt")
    }
    assert "digits, mlp, depth 4, batch norm: This study has before_weight" in capsys.readouterr().err
    with pytest.raises(
        PlotError, match="one network; select one of: digits, mlp, depth 3, batch norm; digits"
    ):
        plot(study, "width")
    assert len(plot(study, "width", "depth=2").axes) == 4


def test_a_selection_keeps_the_members_without_noise_and_every_finished_row_of_the_others():
    study = Study("s", *synthetic.tables(widths=(16, 64), seeds=(0, 1)))
    part = selected(
        study, ["placement=before_bn,after_last_bn", "noise=dropout", "width=64", "strength=0.1,0.50"]
    )
    assert set(part.members["noise"]) == {"none", "dropout"}
    assert set(part.members["placement"]) == {"none", "before_bn", "after_last_bn"}
    assert set(part.members["width"]) == set(part.layers["width"]) == {64}
    assert set(part.layers["strength"]) == {0, 0.1, 0.5}
    assert set(selected(study, ["noise=none"]).members["noise"]) == {"none"}
    with pytest.raises(SelectionError, match="seed=0 seed=1: s holds no such member"):
        selected(study, ["seed=0", "seed=1"])


def test_it_draws_on_axes_of_a_figure_that_is_there(folder):
    figure = Figure(figsize=(6.75, 7), layout="constrained")
    above, below = figure.subfigures(2, 1)
    left, right = below.subplots(1, 2)
    before = dict(matplotlib.rcParams)
    assert plot(folder, "core", axes=above) is figure
    assert plot(folder, "shift_vs_rate", "width=64", placement="before_bn", axes=left) is figure
    assert dict(matplotlib.rcParams) == before
    assert [panel.get_title() for panel in above.axes] == ["before_bn", "before_weight", "after_last_bn"]
    assert left.get_title() == "before_bn, width 64"
    assert (left.get_ylabel(), left.get_xlabel()) == ("Var$_{test}$ / Var$_{train}$", "drop rate")
    assert len(above.legends) == 1
    assert len(left.get_legend().get_texts()) == 7
    assert not right.has_data()
    boxes = texts(figure)
    assert all(box.x0 > -1 and box.y0 > -1 and box.y1 < figure.bbox.y1 + 1 for _, box in boxes)


def test_it_draws_on_as_many_axes_as_the_chart_has_panels(folder):
    figure = Figure(figsize=(6.75, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    plot(folder, "shift_vs_rate", placement="before_bn", axes=axes)
    assert [panel.get_title() for panel in axes] == [f"before_bn, width {width}" for width in (16, 64, 128)]
    assert all(panel.get_ylim() == axes[0].get_ylim() for panel in axes)
    assert len(figure.legends) == 1
    with pytest.raises(PlotError, match="shift_vs_rate: it has 9 panels, 3 x 3, and 3 axes are given"):
        plot(folder, "shift_vs_rate", axes=Figure().subplots(1, 3))
    with pytest.raises(PlotError, match="needs layout='constrained'"):
        plot(folder, "core", axes=Figure())
    with pytest.raises(CannotAnswerError, match="one learning rate"):
        plot(folder, "learning_rate")


def test_the_program_of_the_page_draws_both_figures(folder, tmp_path, monkeypatch):
    page = (ROOT / "analysis" / "figures" / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "variance_shift").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    with matplotlib.rc_context({"backend": "agg"}):
        exec(program, names)
    names["plt"].close(names["figure"])
    assert [panel.get_title() for panel in names["above"].axes][:2] == ["before_bn", "before_weight"]
    assert names["left"].get_title() == "before_bn, width 64"
    assert (tmp_path / "both.pdf").read_bytes().startswith(b"%PDF")


def test_columns_that_belong_together_are_not_torn_apart():
    sheet = Sheet(width=3.3)
    sheet.subplots(2, 6, width=1.45, height=1.9, together=2)
    assert [sheet.cells[0, column] for column in range(6)] == [(0, 0), (0, 1), (0, 2), (0, 3), (2, 0), (2, 1)]
    assert [sheet.cells[1, column][0] for column in range(6)] == [1, 1, 1, 1, 3, 3]
