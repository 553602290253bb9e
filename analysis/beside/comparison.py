"""The paper's tables with ours beside them: what is asked, published and measured, as rows of text for a page.

Test errors of networks of another size do not compare, but what noise and adjustment change in them does. So the
tables give both errors, and the difference of the changes. Where a study has nothing for a table, it has no rows.
"""

from collections.abc import Callable, Sequence

from analysis import paper
from analysis.beside.cells import BesideTable, less, share_span, share_text, with_half_width
from analysis.beside.changes import (
    NAME,
    cells_with,
    change_of_bar,
    error_change,
    gain_by_adjusting,
    in_order,
    members_of,
)
from analysis.beside.contrasts import sentences
from analysis.beside.measured import mean_magnitudes, means_of_table1
from analysis.beside.setting import PaperStudy
from analysis.stats import Interval, mean_interval
from analysis.theory.noises import family


def beside_tables(study: PaperStudy) -> list[BesideTable]:
    """Every table of the paper for which the study has rows, the bars of Figure 4 included."""
    build: Sequence[Callable[[PaperStudy], BesideTable]] = (figure4, table1, table3, table4, table5, table6)
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
                with_half_width(shift, 3),
                ("at most " if cell["clipped"] else "")
                + with_half_width(less(shift, cell["published"]), 3, "+"),
                f"{theirs:+.2f}",
                with_half_width(ours, 1, "+"),
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
        finding=sentences(study) if rows else "",
        reading="Shift: mean magnitude over all BN layers; 'at least' where curves leave the paper's plot. "
        "Cost: test error less that without dropout, in points; ours paired by seed. ± is half the 95 % "
        "interval over seeds; the paper's shifts are of one model each.",
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
                with_half_width(ours, digits),
                with_half_width(less(ours, cell["published"]), digits, "+"),
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
                with_half_width(measured, 1, "+"),
                with_half_width(less(measured, their_gain), 1, "+"),
                share_text(shares[-1][2]),
                share_text(share),
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
                with_half_width(ours, 2, "+"),
                with_half_width(less(ours, theirs), 2, "+"),
            ]
        )
    known = [change for change in signs if change.low == change.low]  # nan: one seed gives no interval
    clear = [change for change in known if change.low > 0 or change.high < 0]
    better = sum(change.high < 0 for change in clear)
    finding = (
        f"Of our {len(known)} changes {len(clear)} differ from zero within their intervals, {better} of "
        "them to the better."
        if known
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
    """What adjusting gains at drop rate 0.5, and without dropout, where there is nothing to adjust."""
    members = study.members
    noisy = members[(members["noise"] == "dropout") & (members["strength"] == 0.5)]
    groups = {
        placement: noisy[noisy["placement"] == placement] for placement in ("before_bn", "before_weight")
    }
    groups["without dropout"] = members[members["noise"] == "none"]
    gains = {name: gain_by_adjusting(rows) for name, rows in groups.items()}
    said = [f"{name} {with_half_width(gain, 2, '+')}" for name, gain in gains.items() if gain.n]
    return f"Mean gain over our networks, in points: {'; '.join(said)}." if said else ""


def _recovered(shares: list[tuple[str, float, float]]) -> str:
    parts = []
    for placement in dict.fromkeys(placement for placement, *_ in shares):
        ours = [share for place, share, _ in shares if place == placement and share == share]  # nan: no loss
        theirs = [share for place, _, share in shares if place == placement and share == share]
        if ours and theirs:
            parts.append(f"{placement} {share_span(ours)} (the paper's same networks {share_span(theirs)})")
    return f"Share of the loss won back: {'; '.join(parts)}." if parts else ""
