"""The audit in daily use: shown in a notebook, drawn, and asserted in a user's own tests."""

import re

import pandas as pd
import pytest
from matplotlib.figure import Figure
from torch import nn

from analysis.audit import AuditError, assert_no_shift, audit, diagnosis, plot
from tests.analysis.audit.audit_models import mlp, trained, vectors


@pytest.fixture(scope="module")
def noisy() -> nn.Sequential:
    return trained(mlp(nn.Dropout(0.5)), vectors(), passes=20)


@pytest.fixture(scope="module")
def sound() -> nn.Sequential:
    return trained(mlp(), vectors(), passes=20)


def test_a_notebook_shows_the_verdict_then_the_layers_with_alarms(noisy):
    table = audit(noisy, vectors())
    html = table._repr_html_()
    text = re.sub(r"<[^>]+>", " ", html)
    assert text.split("Worst first")[0].strip() == diagnosis(table).split("Worst first")[0].strip()
    first_row = re.findall(r"<td>(.*?)</td>", html)[:2]
    assert first_row == ["5", "noise"]
    assert html.index("Causes") > html.index("</table>")
    assert html.index("<th>alarm</th>") < html.index("<th>shift</th>")


def test_a_notebook_shows_twenty_layers_and_counts_the_rest():
    deep = nn.Sequential(*(layer for _ in range(23) for layer in (nn.Linear(16, 16), nn.BatchNorm1d(16))))
    html = audit(trained(deep, vectors(4)), vectors(4))._repr_html_()
    assert html.count("<tr") == 1 + 20
    assert "3 more rows" in html


def test_a_network_without_bn_is_shown_by_its_verdict_alone():
    class AlwaysRandom(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5)

    html = audit(AlwaysRandom(), vectors(4))._repr_html_()
    assert "its modes need a look" in html
    assert "<table" not in html
    assert "F.dropout 0.5 is random in eval mode too" in html


def test_names_in_a_notebook_are_text_not_html():
    net = nn.Sequential()
    net.add_module("<b>", nn.BatchNorm1d(16))
    assert "<td><b>" not in audit(trained(net, vectors(4)), vectors(4))._repr_html_()


def test_what_is_computed_from_the_table_is_a_plain_frame(sound):
    table = audit(sound, vectors())
    assert type(table[["layer_name"]]) is pd.DataFrame
    assert type(table[table["alarm"] == ""]) is pd.DataFrame


def test_the_table_is_drawn_as_a_figure(noisy):
    figure = plot(audit(noisy, vectors()))
    assert isinstance(figure, Figure)
    shown = {text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()}
    assert {"alarm", "noise"} <= shown


def test_a_network_without_shift_passes(sound):
    assert list(assert_no_shift(sound, vectors())["layer_name"]) == ["1", "4", "7"]


def test_a_network_that_shifts_fails_with_the_diagnosis(noisy):
    with pytest.raises(AssertionError) as failed:
        assert_no_shift(noisy, vectors())
    message = str(failed.value)
    assert message.startswith(
        "2 of 3 BN layers shift by more than max_ratio=1.1 or max_mean=0.2 allow: 5 (x0."
    )
    assert diagnosis(audit(noisy, vectors())) in message


def test_limits_say_how_much_is_allowed(noisy):
    assert_no_shift(noisy, vectors(), max_ratio=3, max_mean=1)
    with pytest.raises(AssertionError):
        assert_no_shift(noisy, vectors(), max_ratio=3, max_mean=0)


def test_a_layer_that_cannot_be_measured_does_not_pass():
    net = nn.Sequential(nn.BatchNorm1d(16))
    batch = [vectors(1, batch=2)[0]]
    with pytest.raises(AssertionError, match="not measured"):
        assert_no_shift(trained(net, batch), [batch[0][:1].repeat(2, 1)])


@pytest.mark.parametrize("limit", [{"max_ratio": 0.9}, {"max_mean": -1}, {"max_ratio": float("nan")}])
def test_limits_that_no_network_could_keep_are_refused(sound, limit):
    with pytest.raises(AuditError, match=next(iter(limit))):
        assert_no_shift(sound, vectors(), **limit)
