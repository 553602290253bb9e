"""The paper's tables with ours beside them: what is asked, published and measured, as rows of text for a page.

Test errors of networks of another size do not compare, but what noise and adjustment change in them does. So the
tables give both errors, and the difference of the changes. Where a study has nothing for a table, it has no rows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from .. import paper
from ..stats import Interval, mean_interval
from ..theory.noises import family
from .measured import (
    DISCUSSED_RATE,
    NAME,
    PAPER_PLACEMENTS,
    cells_with,
    change_of_bar,
    depth_contrast,
    error_change,
    gain_by_adjusting,
    in_order,
    mean_magnitudes,
    means_of_table1,
    members_of,
    placement_contrast,
)
from .setting import PaperStudy
from .shape import in_words, layer_shapes


@dataclass(frozen=True)
class BesideTable:
    """A table of the page.

    Attributes:
        name: its anchor.
        question: its heading.
        columns: the headings of its columns.
        rows: its cells, as text.
        finding: what it shows, in a sentence.
        reading: how to read it.
    """

    name: str
    question: str
    columns: list[str]
    rows: list[list[str]]
    finding: str = ""
    reading: str = ""


def beside_tables(study: PaperStudy) -> list[BesideTable]:
    """Every table of the paper for which the study has rows, the bars of Figure 4 included."""
    build: Sequence[Callable[[PaperStudy], BesideTable]] = (
        figure4,
        shape,
        table1,
        table3,
        table4,
        table5,
        table6,
    )
    return [table for table in (make(study) for make in build) if table.rows]


def figure4(study: PaperStudy) -> BesideTable:
    """Figure 4 in numbers: mean shift magnitude, and what the noise costs (its row of bars)."""
    magnitudes = mean_magnitudes(study)
    bars = paper.error_rates().query("table == 'Figure 4'")
    rows = []
    for name, cell in in_order(study, magnitudes[magnitudes["strength"] > 0]):
        ours = error_change(study, name, cell["placement"], "dropout", cell["strength"])
        theirs = change_of_bar(bars, cell)
        shift = Interval(cell["mean"], cell["low"], cell["high"], cell["n"])
        rows.append(
            [
                *name,
                cell["placement"],
                f"{cell['strength']:g}",
                ("at least " if cell["clipped"] else "") + f"{cell['published']:.3f}",
                shift.with_half_width(3),
                ("at most " if cell["clipped"] else "")
                + shift.less(cell["published"]).with_half_width(3, "+"),
                f"{theirs:+.2f}",
                ours.with_half_width(1, "+"),
            ]
        )
    return BesideTable(
        "paper-figure4",
        "Figure 4: how large is the shift, and what does the noise cost?",
        [
            *["data", "network", "placement", "drop rate"],
            *["shift, published", "shift, ours", "difference", "cost, published", "cost, ours"],
        ],
        rows,
        finding=_contrasts(study) if rows else "",
        reading="Shift: mean magnitude over all BN layers; 'at least' where curves leave the paper's plot. "
        "Cost: test error less that without dropout, in points; ours paired by seed. ± is half the 95 % "
        "interval over seeds; the paper's shifts are of one model each.",
    )


def shape(study: PaperStudy) -> BesideTable:
    """Figure 4 layer by layer, of networks as deep as the paper's."""
    shapes = layer_shapes(study)
    numbers = {  # of a shape: in words, and the sign with which it is written
        "like": ("rank correlation with the paper's curve, of the paper's with its other", ""),
        "in_place": ("the same within a place in the block", ""),
        "last_block": ("shift of the last block less that of the others", "+"),
        "magnitude": ("mean shift", ""),
        "local": ("mean shift by the local law", ""),
        "like_local": ("rank correlation with the local law", ""),
    }
    rows = []
    for one in shapes:
        for number, (said, sign) in numbers.items():
            published = getattr(one.published, number)
            ours = one.ours(number).with_half_width(2, sign)
            theirs = "" if math.isnan(published) else f"{published:{sign}.2f}"
            rows.append([*one.name, one.placement, str(one.bn_layers), said, theirs, ours])
    return BesideTable(
        "paper-shape",
        "Figure 4, layer by layer: does each BN layer shift as in the paper's network of the same depth?",
        ["data", "network", "placement", "BN layers", "number", "published", "ours"],
        rows,
        finding=in_words(shapes),
        reading=f"Drop rate {DISCUSSED_RATE:g}. Rank correlation: of ours, that of our shift magnitudes with the "
        "paper's over all BN layers; the paper's own, between its curves on CIFAR-10 and on CIFAR-100. Norms of "
        "one block differ by what noise reaches them, which any such network repeats; within a place in the block "
        "(all norm2, say) ranks are taken among equals, about their mean. Last block: from its first BN layer on. "
        "Local law: the exact law of a layer's own noise, no shift where it has none; what is above it came from "
        "layers before. ± is half the 95 % interval over seeds.",
    )


def table1(study: PaperStudy) -> BesideTable:
    """Table 1: means of cos^2 and d cos^2."""
    rows = []
    for _, cell in in_order(study, means_of_table1(study)):
        digits = 4 if cell["quantity"] == "mean_cos2" else 2
        ours = Interval(cell["mean"], cell["low"], cell["high"], cell["n"])
        rows.append(
            [
                cell["dataset"],
                cell["network"],
                cell["quantity"].removeprefix("mean_").replace("_", " "),
                f"{cell['published']:.{digits}f}",
                ours.with_half_width(digits),
                ours.less(cell["published"]).with_half_width(digits, "+"),
            ]
        )
    return BesideTable(
        "paper-table1",
        "Table 1: do filters point along the all-ones vector?",
        ["data", "network", "mean over convolutions of", "published", "ours", "difference"],
        rows,
        reading="Networks trained without noise. ± is half the 95 % interval over seeds.",
    )


def table3(study: PaperStudy) -> BesideTable:
    """Table 3: what adjusting BN's statistics wins back at drop rate 0.5."""
    rows, shares = [], []
    published = paper.error_rates().query("table == 'Table 3'")
    baselines = (
        paper.error_rates().query("table == 'Table 4' and placement == 'none'").set_index(NAME)["error"]
    )
    pairs = published.pivot(index=[*NAME, "placement"], columns="adjusted", values="error")
    for name, placement in cells_with(study, "dropout", 0.5, ("before_bn", "before_weight")):
        if (*name, placement) not in pairs.index:
            continue
        theirs = pairs.xs((*name, placement)).to_dict()
        here = members_of(study, name, placement, "dropout", 0.5).set_index("seed")
        gain = here["test_error"] - here["test_error_adjusted"]
        loss = error_change(study, name, placement, "dropout", 0.5)
        their_gain, their_loss = theirs[False] - theirs[True], theirs[False] - baselines[name]
        share = gain.mean() / loss.mean if loss.mean > 0 else float("nan")
        shares.append((placement, share, their_gain / their_loss if their_loss > 0 else float("nan")))
        measured = mean_interval(gain)
        rows.append(
            [
                *name,
                placement,
                f"{theirs[False]:.2f} → {theirs[True]:.2f}",
                f"{here['test_error'].mean():.1f} → {here['test_error_adjusted'].mean():.1f}",
                f"{their_gain:+.2f}",
                measured.with_half_width(1, "+"),
                measured.less(their_gain).with_half_width(1, "+"),
                _share_text(shares[-1][2]),
                _share_text(share),
            ]
        )
    return BesideTable(
        "paper-table3",
        "Table 3: how much error does adjusting BN win back?",
        [
            *["data", "network", "placement", "error → adjusted, published", "ours"],
            *["gain, published", "gain, ours", "difference", "share of the loss, published", "ours"],
        ],
        rows,
        finding=" ".join([_recovered(shares), _gains(study)]).strip() if rows else "",
        reading="Test errors in percent at drop rate 0.5. Gain: error less adjusted error, in points. Share of "
        "the loss: gain over what dropout cost against no dropout. ± is half the 95 % interval over seeds; the "
        "paper published no spread.",
    )


def table4(study: PaperStudy) -> BesideTable:
    """Table 4: one dropout after the last BN."""
    return _changes_table(
        study, "Table 4", "after_last_bn", "dropout", "Is one dropout after the last BN a gain?"
    )


def table5(study: PaperStudy) -> BesideTable:
    """Table 5: the same on ImageNet, top-1 errors."""
    return _changes_table(study, "Table 5", "after_last_bn", "dropout", "Is it a gain on ImageNet?")


def table6(study: PaperStudy) -> BesideTable:
    """Table 6: uniform noise before the weight layer."""
    return _changes_table(
        study, "Table 6", "before_weight", "uout", "Is uniform noise before the weight layer a gain?"
    )


def _changes_table(study: PaperStudy, title: str, placement: str, noise: str, question: str) -> BesideTable:
    published = paper.error_rates()
    published = published[(published["table"] == title) & (published["metric"] == "top1")]
    baselines = published[published["placement"] == "none"].set_index(NAME)["error"]
    rows, signs = [], []
    for name, cell in in_order(study, published[published["placement"] == placement]):
        ours = error_change(study, name, placement, noise, cell["strength"])
        if not ours.n:
            continue
        theirs = cell["error"] - baselines[name]
        signs.append(ours)
        rows.append(
            [
                *name,
                f"{cell['strength']:g}",
                f"{baselines[name]:.2f} → {cell['error']:.2f}",
                f"{members_of(study, name, 'none', 'none', 0)['test_error'].mean():.1f} → "
                f"{members_of(study, name, placement, noise, cell['strength'])['test_error'].mean():.1f}",
                f"{theirs:+.2f}",
                ours.with_half_width(2, "+"),
                ours.less(theirs).with_half_width(2, "+"),
            ]
        )
    with_interval = [
        change for change in signs if change.low == change.low
    ]  # nan: one seed gives no interval
    clear = [change for change in with_interval if change.low > 0 or change.high < 0]
    better = sum(change.high < 0 for change in clear)
    finding = (
        f"Of our {len(with_interval)} changes {len(clear)} differ from zero within their intervals, {better} of "
        "them to the better."
        if with_interval
        else "One seed gives no interval for a change."
        if rows
        else ""
    )
    return BesideTable(
        f"paper-{title.lower().replace(' ', '')}",
        f"{title}: {question[0].lower()}{question[1:]}",
        [
            *["data", "network", family(noise).strength_label],
            *["error without → with, published", "ours", "change, published", "change, ours", "difference"],
        ],
        rows,
        finding=finding,
        reading="Test errors in percent, changes in points; ours paired by seed, ± half their 95 % interval. The "
        "paper published no spread; see below what its own digits say of it.",
    )


def _gains(study: PaperStudy) -> str:
    """The gain by adjusting at drop rate 0.5, and without dropout, where there is nothing to adjust."""
    members = study.members
    noisy = members[(members["noise"] == "dropout") & (members["strength"] == 0.5)]
    groups = {
        placement: noisy[noisy["placement"] == placement] for placement in ("before_bn", "before_weight")
    }
    groups["without dropout"] = members[members["noise"] == "none"]
    gains = {name: gain_by_adjusting(rows) for name, rows in groups.items()}
    parts = [f"{name} {gain.with_half_width(2, '+')}" for name, gain in gains.items() if gain.n]
    return f"Mean gain over our networks, in points: {'; '.join(parts)}." if parts else ""


def _recovered(shares: list[tuple[str, float, float]]) -> str:
    parts = []
    for placement in dict.fromkeys(placement for placement, *_ in shares):
        ours = [share for place, share, _ in shares if place == placement and share == share]  # nan: no loss
        theirs = [share for place, _, share in shares if place == placement and share == share]
        if ours and theirs:
            parts.append(f"{placement} {_share_span(ours)} (the paper's same networks {_share_span(theirs)})")
    return f"Share of the loss won back: {'; '.join(parts)}." if parts else ""


def _share_span(shares: list[float]) -> str:
    """Several shares as '20% to 71%', equal ones as one."""
    low, high = (f"{end:.0%}" for end in (min(shares), max(shares)))
    return low if low == high else f"{low} to {high}"


def _share_text(share: float) -> str:
    """A share of what was lost; nan where nothing was."""
    return f"{share:.0%}" if share == share else "no loss"


def _contrasts(study: PaperStudy) -> str:
    """Does (a) shift more than (b), and do deeper layers shift more? In words, ours and the paper's."""
    parts = []
    placements = placement_contrast(study)
    if len(placements):
        parts.append(
            f"At drop rate {DISCUSSED_RATE:g} before_bn shifts more than before_weight in {_count(placements)}."
        )
    depths = depth_contrast(study)
    for placement, label in PAPER_PLACEMENTS.items():
        rows = depths[depths["placement"] == placement]
        if len(rows):
            parts.append(
                f"{label}: the deeper half of the layers shifts more than the other in {_count(rows)}."
            )
    return " ".join(parts)


def _count(rows: pd.DataFrame) -> str:
    ours: list[Interval] = list(rows["ours"])
    clear, against = sum(i.low > 0 for i in ours), sum(i.high < 0 for i in ours)
    theirs = rows["published"].tolist()
    return (
        f"{clear} of our {len(ours)} networks, less in {against} (by 95 % intervals; difference "
        f"{_span([i.mean for i in ours])}), and in {sum(t > 0 for t in theirs)} of the paper's ({_span(theirs)})"
    )


def _span(values: list[float]) -> str:
    low, high = (f"{end:+.2f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
