"""Studies beside each other: differences that were planted are found, and the page holds them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from analysis.differences import compare
from analysis.report import main
from analysis.tables import Study
from tests.analysis import synthetic
from tests.analysis.browser import Browser, needs_browser
from tests.analysis.page import Page

SMALL = {"widths": (16, 64), "noises": ("dropout",), "placements": ("before_bn", "before_weight")}


def changed(members: pd.DataFrame, layers: pd.DataFrame, seed: int = 7) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same networks, which under before_bn err by 2 points more and shift to 0.9 of their ratio."""
    random, noisy = np.random.default_rng(seed), members["placement"] == "before_bn"
    members = members.assign(
        test_error=members["test_error"] + random.normal(0, 0.01, len(members)) + 2 * noisy
    )
    factor = np.where(layers["placement"] == "before_bn", 0.9, 1.0)
    return members, layers.assign(shift_ratio=layers["shift_ratio"] * factor)


def difference(comparison, quantity: str, placement: str = "before_bn", strength: float = 0.5) -> pd.Series:
    table = comparison.differences
    here = (
        (table["quantity"] == quantity) & (table["placement"] == placement) & (table["strength"] == strength)
    )
    (row,) = (row for _, row in table[here].iterrows())
    return row


def test_members_that_agree_in_everything_and_share_a_seed_are_paired():
    first = synthetic.tables(**SMALL)
    comparison = compare([Study("a", *first), Study("b", *changed(*first))])
    error = difference(comparison, "test_error")
    assert (error["how"], error["n"], comparison.networks, comparison.apart) == ("paired", 5, 2, {})
    assert error["low"] < 2 < error["high"]
    assert error["high"] - error["low"] < 0.05  # seeds differ by far more than that
    strict = difference(comparison, "shift_ratio")
    ratio = first[1][(first[1]["placement"] == "before_bn") & (first[1]["strength"] == 0.5)][
        "shift_ratio"
    ].mean()
    assert strict["mean"] == pytest.approx(-0.1 * ratio)
    nothing = difference(comparison, "shift_ratio", "before_weight")
    assert nothing["mean"] == 0


def test_other_seeds_are_compared_by_welch():
    """As SciPy does, for one network."""
    shape = SMALL | {"widths": (16,)}
    first, other = synthetic.tables(**shape), changed(*synthetic.tables(**shape, seeds=range(20, 28)))
    error = difference(compare([Study("a", *first), Study("b", *other)]), "test_error")
    assert (error["how"], error["n"]) == ("Welch", 5)
    here, there = (
        members[(members["placement"] == "before_bn") & (members["strength"] == 0.5)]["test_error"]
        for members, _ in (first, other)
    )
    expected = scipy_stats.ttest_ind(there, here, equal_var=False).confidence_interval()
    assert (error["low"], error["high"]) == pytest.approx((expected.low, expected.high))


def test_what_studies_do_not_share_sets_them_apart_and_pairs_nothing():
    first, deep = synthetic.tables(**SMALL), synthetic.tables(**SMALL, depth=5)
    comparison = compare([Study("a", *first), Study("deep", *deep)])
    assert comparison.apart == {"depth": ["3", "5"]}
    assert set(comparison.differences["how"]) == {"Welch"}


def test_only_settings_that_both_have_are_compared():
    """Width 256 is in one study alone: with it the difference would be another."""
    first, wide = synthetic.tables(**SMALL), synthetic.tables(**(SMALL | {"widths": (16, 64, 256)}))
    comparison = compare([Study("a", *first), Study("wide", *wide)])
    assert set(comparison.differences["how"]) == {"same"}
    assert (comparison.differences[["mean", "low", "high"]] == 0).all(axis=None)


def test_the_page_holds_figures_differences_and_verdicts_of_each(tmp_path, capsys):
    first = synthetic.tables(**SMALL)
    folders = [
        synthetic.write(tmp_path / "my outputs" / name, *tables)
        for name, tables in (("a b", first), ("c<d>", changed(*first)))
    ]
    assert main([*map(str, folders)]) == 0
    out = tmp_path / "my outputs" / "compare-a b-c<d>"
    assert capsys.readouterr().out == f"report: {out / 'index.html'}\n"
    page = Page(out / "index.html")
    assert {path.name for path in out.iterdir()} >= {"differences.csv", "studies-dropout.svg", "index.html"}
    order = [
        "dropout",
        "studies-dropout",
        "differences-dropout",
        "words",
        "differences",
        "verdicts",
        "studies",
    ]
    assert [name for name in page.ids if name in order] == order
    text = " ".join(page.text.split())
    assert "a b beside c<d>" in text
    table = pd.read_csv(out / "differences.csv")
    error = difference(type("Read", (), {"differences": table}), "test_error")
    assert f"{error['mean']:+#.3g} [{error['low']:+#.3g}, {error['high']:+#.3g}]" in text
    assert text.count("supported") >= 4
    assert "<d>" not in (out / "index.html").read_text().replace("&lt;d&gt;", "")


def test_studies_of_one_name_are_told_apart_by_the_folders_above(tmp_path):
    first = synthetic.tables(widths=(16,), noises=("dropout",), placements=("before_bn",), seeds=(0, 1))
    folders = [synthetic.write(tmp_path / above / "s", *first) for above in ("x", "y")]
    assert main([*map(str, folders), "--out", str(tmp_path / "out")]) == 0
    text = " ".join(Page(tmp_path / "out" / "index.html").text.split())
    assert "x/s beside y/s" in text
    assert "All networks that they have in common with x/s are the very same ones." in text


def test_a_study_twice_and_studies_without_anything_in_common_are_one_line(tmp_path, capsys):
    shape = {"widths": (16,), "seeds": (0,), "placements": ("before_bn",), "baseline": False}
    one = synthetic.write(tmp_path / "one", *synthetic.tables(**shape, noises=("dropout",)))
    two = synthetic.write(tmp_path / "two", *synthetic.tables(**shape, noises=("gaussian",)))
    cases = {
        (one, tmp_path / "x" / ".." / "one"): "named 2 times; name different studies",
        (one, two): "one and two: nothing in common",
        (one, tmp_path / "none"): "no such folder",
        tuple(tmp_path / str(number) for number in range(7)): "at most 6",
    }
    (tmp_path / "x").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for folders, said in cases.items():
        assert main([*map(str, folders)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("report: ")
        assert said in line
    assert sorted(tmp_path.rglob("*")) == before


@needs_browser
def test_in_a_browser_the_page_is_silent_and_overflows_nowhere(tmp_path):
    first = synthetic.tables(**SMALL)
    folders = [
        synthetic.write(tmp_path / name, *tables)
        for name, tables in (("a study of a long name " * 3, first), ("second", changed(*first)))
    ]
    assert main([*map(str, folders), "--out", str(tmp_path / "out")]) == 0
    with Browser(tmp_path / "profile") as browser:
        browser.open(tmp_path / "out" / "index.html", 1280, 800)
        assert (
            browser.evaluate("document.querySelector('#studies-dropout img').getBoundingClientRect().top")
            < 600
        )
        for width in (1280, 800, 400):
            browser.resize(width, 800)
            browser.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.messages == []
