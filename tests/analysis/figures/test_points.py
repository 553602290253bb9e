"""The points of a figure, its CSV file, are all that it draws."""

import numpy as np
import pandas as pd
import pytest

from analysis.figures import CHARTS, CORE, PAPER_CHARTS, cascade, learning_rate, normalisers
from analysis.tables import Study
from tests.analysis import synthetic
from tests.analysis.drawn import heights, not_in
from tests.analysis.figures.test_interventions import by_norm, by_rate


@pytest.fixture(scope="module")
def study() -> Study:
    return Study("synthetic", *synthetic.tables(widths=(8, 16, 64), seeds=(0, 1, 2)))


@pytest.mark.parametrize("chart", [CORE, *CHARTS, *PAPER_CHARTS], ids=lambda chart: chart.name)
def test_every_number_that_is_drawn_is_among_the_points(chart, study):
    drawing = chart.draw(study)
    drawn = heights(drawing.figure)
    assert len(drawn) > 20
    assert len(not_in(drawing.points, drawn, factor=100)) == 0


@pytest.mark.parametrize(
    ("chart", "study"),
    [(cascade, lambda: Study("s", *synthetic.tables())), (normalisers, by_norm), (learning_rate, by_rate)],
    ids=["cascade", "normalisers", "learning_rate"],
)
def test_every_number_that_an_intervention_draws_is_among_the_points(chart, study):
    drawing = chart.draw(study())
    drawn = heights(drawing.figure)
    assert len(drawn) > 10
    assert len(not_in(drawing.points, drawn)) == 0


def test_a_number_that_is_missing_is_found(study):
    drawing = CORE.draw(study)
    points = drawing.points[drawing.points["quantity"] != "published"]
    assert len(not_in(points, heights(drawing.figure))) > 0


def test_the_csv_has_curves_without_and_points_with_a_number_of_seeds(study, tmp_path):
    (tmp_path / "core.csv").write_bytes(CORE.draw(study).csv())
    points = pd.read_csv(tmp_path / "core.csv")
    assert set(points.loc[points["n"].notna(), "quantity"]) == {"local_ratio", "shift_ratio"}
    assert set(points.loc[points["n"].isna(), "quantity"]) == {
        *("ratio_paper", "local_ratio_exact", "shift_ratio_predicted", "published")
    }
    curve = points.query("quantity == 'ratio_paper' and placement == 'before_bn' and noise == 'dropout'")
    assert {0.1, 0.3, 0.5, 0.7} <= set(curve["strength"])
    assert np.diff(curve["strength"]).max() < 0.01
    assert {"dataset", "network", "clipped"} <= set(points)
