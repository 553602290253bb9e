"""Sections of the page that sets studies beside each other."""

from functools import partial
from pathlib import Path

from ..claims import CLAIMS, QUESTIONS, verdicts
from ..claims.verdict import signed
from ..differences import QUANTITIES, Comparison
from ..figures import studies as figures
from ..files import Files
from ..origins import notes, typed_command
from ..schema import IDENTITY
from ..select import KIND, noises_in
from ..tables import Study
from .section import Section, draw_panel


def sections(
    comparison: Comparison, studies: list[Study], folders: list[Path], files: Files
) -> list[Section]:
    """Figures, differences in numbers, verdicts beside each other, and what the studies are."""
    return [
        *figure_sections(comparison, files),
        difference_table(comparison),
        verdict_table(studies),
        origin_table(studies, folders),
    ]


def figure_sections(comparison: Comparison, files: Files) -> list[Section]:
    """A section for each kind of noise that a later study shares with the first, with two figures."""
    shared = noises_in(comparison.differences)
    found = []
    for noise in shared or ["dropout"]:
        panels = [
            draw_panel(partial(draw, comparison, noise), f"{name}-{noise}", question, files)
            for name, draw, question in (
                ("studies", figures.draw_means, f"How much do networks shift and err under {noise}?"),
                ("differences", figures.draw_differences, f"What differs under {noise}?"),
            )
        ]
        found.append(Section(noise, f"Under {noise}", "figures.html.j2", panels=panels))
    return found


def difference_table(comparison: Comparison) -> Section:
    """Each later study minus the first: a row for each kind of noise, a column for each quantity."""
    means = comparison.means.set_index([*KIND, "study", "quantity"])
    rows = []
    for key, group in comparison.differences.groupby([*KIND, "study"], sort=False):
        cells = {row["quantity"]: row for row in group.to_dict("records")}
        kind = dict(zip([*KIND, "study"], key, strict=True))
        of_first = {name: means["mean"].get((*key[:3], comparison.names[0], name)) for name in cells}
        rows.append(kind | {"cells": cells, "of_first": of_first})
    data = {
        "rows": rows,
        "quantities": QUANTITIES,
        "first": comparison.names[0],
        "several": len(comparison.names) > 2,
        "signed": signed,
    }
    return Section("differences", "Differences in numbers", "differences.html.j2", data)


def verdict_table(studies: list[Study]) -> Section:
    """Each claim's verdict and headline number in every study."""
    found = [verdicts(study) for study in studies]
    rows = [(claim, [each[place] for each in found]) for place, claim in enumerate((*CLAIMS, *QUESTIONS))]
    data = {"rows": rows, "names": [study.name for study in studies]}
    return Section("verdicts", "The paper's claims on these studies", "verdicts_beside.html.j2", data)


def origin_table(studies: list[Study], folders: list[Path]) -> Section:
    """What each study holds, how it was made, and what a reader should know of its origin."""
    rows = []
    for study, folder in zip(studies, folders, strict=True):
        members = study.members
        varied = {
            name: ", ".join(map(str, dict.fromkeys(members[name])))
            for name in IDENTITY
            if name not in ("strength", "noise_variance", "seed")
        }
        rows.append(
            {
                "name": study.name,
                **varied,
                "seeds": members["seed"].nunique(),
                "members": len(members),
                "left out": len(study.left_out()),
                "command": typed_command(folder),
                "notes": " ".join(notes(folder)),
            }
        )
    return Section("studies", "The studies", "studies.html.j2", {"rows": rows})
