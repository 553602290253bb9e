"""What a notebook shows of a study."""

from xml.etree import ElementTree

import pandas as pd
import pytest

from analysis.tables import Study, read_study
from tests.analysis import synthetic

SMALL = {"widths": (16,), "seeds": (0, 1), "noises": ("dropout",)}


def shown(study: Study) -> pd.DataFrame:
    """The table of a study, whose cells are texts."""
    rows = ElementTree.fromstring(f"<div>{study._repr_html_()}</div>").iter("tr")
    heading, *cells = ([cell.text or "" for cell in row] for row in rows)
    return pd.DataFrame(cells, columns=pd.Index(heading))


@pytest.fixture
def study(tmp_path):
    return read_study(synthetic.write(tmp_path / "mine", *synthetic.tables(**SMALL)))


def test_a_study_shows_what_is_there_and_means_of_each_placement(study):
    html = study._repr_html_()
    members, layers = study.members, study.layers
    count = len(members)
    assert f"<b>mine</b>: {count} members ({count} ok), 2 seeds, width 16</p>" in html
    table = shown(study)
    assert list(zip(table.placement, table.noise, strict=True)) == [
        *dict.fromkeys(zip(members.placement, members.noise, strict=True))
    ]
    assert table.members.astype(int).sum() == table.finished.astype(int).sum() == count
    row = table[table.placement == "before_bn"].iloc[0]
    mine = lambda rows: rows[rows.placement == "before_bn"]  # noqa: E731
    assert row["test error %"] == f"{mine(members).test_error.mean():.3f}"
    assert row["shift ratio, all layers"] == f"{mine(layers).shift_ratio.mean():.3f}"


def test_members_that_did_not_finish_are_counted_and_in_no_mean(tmp_path):
    members, layers = synthetic.tables(**SMALL)
    lost = members["placement"] == "before_bn"
    study = read_study(synthetic.write(tmp_path, *synthetic.diverge(members, layers, lost)))
    assert f"{lost.sum()} diverged" in study._repr_html_()
    (row,) = shown(study).query("placement == 'before_bn'").to_dict("records")
    assert (row["finished"], row["test error %"], row["shift ratio, all layers"]) == ("0", "", "")
    assert row["members"] == str(lost.sum())


def test_networks_that_a_study_varies_have_rows_of_their_own(study):
    other = study.members.assign(data="gaussian")
    both = Study("two", pd.concat([study.members, other]), study.layers)
    assert list(shown(both).columns[:3]) == ["data", "placement", "noise"]
    assert len(shown(both)) == 2 * len(shown(study))
    assert "depth" not in shown(both)


def test_nothing_of_a_study_is_read_as_html(study):
    mark = "<script>alert(1)</script>"
    members = study.members.assign(data=[mark, *study.members["data"][1:]], status=mark, placement=mark)
    html = Study(mark, members, study.layers[:0])._repr_html_()
    assert mark not in html
    assert html.count("&lt;script&gt;") >= 4
