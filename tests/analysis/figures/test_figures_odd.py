"""Every figure of odd studies: it is drawn or says why not, the same to the byte, and leaves no trace."""

from xml.etree import ElementTree

import pytest

from analysis.figures import CHARTS, shift_per_layer, shift_vs_rate, style, width
from analysis.select import CannotAnswerError
from analysis.tables import Study
from tests.analysis import synthetic


@pytest.fixture(scope="module")
def study() -> Study:
    return Study("synthetic", *synthetic.tables())


ODD_STUDIES = {
    "one seed": {"widths": (16, 64), "seeds": (3,)},
    "one width": {"widths": (32,), "seeds": (0, 1)},
    "uout before_bn only": {
        "widths": (16, 64),
        "seeds": (0, 1),
        "noises": ("uout",),
        "placements": ("before_bn",),
    },
    "gaussian only": {"widths": (16, 64), "seeds": (0, 1), "noises": ("gaussian",), "baseline": False},
    "after_last_bn only": {"widths": (16,), "seeds": (0, 1), "placements": ("after_last_bn",)},
    "baseline only": {"widths": (16,), "seeds": (0, 1), "noises": ()},
    "many layers": {"widths": (8,), "seeds": (0,), "noises": ("dropout",), "depth": 40},
}


@pytest.mark.parametrize("shape", ODD_STUDIES.values(), ids=ODD_STUDIES.keys())
@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_figure_is_drawn_or_says_why_not(chart, shape):
    draw_or_say_why(chart, Study("odd", *synthetic.tables(**shape)))


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_networks_without_stored_statistics_have_no_shift_and_are_drawn_as_far_as_they_go(chart):
    members, layers, *others = synthetic.tables(widths=(16,), seeds=(0, 1))
    of_stored = [c for c in layers if c.startswith(("shift_", "moving_var")) or c.endswith("_adjusted")]
    draw_or_say_why(
        chart, Study("odd", members, layers.assign(**dict.fromkeys(of_stored, float("nan"))), *others)
    )


@pytest.mark.parametrize("name", ["a$x_$b", "$\\frac{$", "\\$", "a\nb\x1b[31m", "日本", "\udcff"], ids=ascii)
def test_a_name_is_drawn_as_it_is_whatever_it_holds(name):
    study = Study(name, *synthetic.tables(widths=(16,), seeds=(0,), noises=("dropout",)))
    svg = style.svg_bytes(shift_vs_rate.draw(study).figure).decode()
    assert f"<!-- {style.drawable(name)} -->" in svg
    ElementTree.fromstring(svg)


def test_a_square_stands_for_what_the_font_cannot_draw():
    assert style.drawable("a$x_$b\n日é") == "a$x_$b \N{WHITE SQUARE}é"


def draw_or_say_why(chart, study: Study) -> None:
    try:
        drawing = chart.draw(study)
    except CannotAnswerError as error:
        reason = str(error)
    else:
        reason = None
        drawing.figure.draw_without_rendering()
        assert not drawing.points.empty
        assert drawing.reading
        assert drawing.finding
        assert "nan" not in drawing.finding
    assert reason is None or reason.startswith("This study has ")


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_figure_survives_holes(chart):
    members, layers = synthetic.tables(widths=(16, 64), seeds=(0, 1), noises=("dropout",))
    lost = (members["width"] == 16) & (members["placement"] == "before_bn")  # a job's whole placement
    lost |= (members["strength"] == 0.7) & (members["seed"] == 1)
    draw_or_say_why(chart, Study("holes", *synthetic.diverge(members, layers, lost)).finished())


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_without_members_or_layers_every_figure_says_why(chart):
    members, layers = synthetic.tables(widths=(16, 64), seeds=(0, 1))
    with pytest.raises(CannotAnswerError, match=r"This study has .*\."):
        chart.draw(Study("nobody", members[:0], layers[:0]))
    draw_or_say_why(chart, Study("no BN layers", members, layers[:0]))


def test_equal_tables_give_equal_bytes():
    small = synthetic.tables(widths=(16,), seeds=(0, 1))
    first, second = (shift_per_layer.draw(Study("same", *small)).figure for _ in range(2))
    style.settle(first)
    style.settle(second)
    assert style.svg_bytes(first) == style.svg_bytes(second)
    assert style.png_bytes(first) == style.png_bytes(second)


def test_drawing_leaves_matplotlib_as_it_was(study):
    import matplotlib

    before = dict(matplotlib.rcParams)
    width.draw(study)
    assert dict(matplotlib.rcParams) == before
