"""Members of a study by their columns: `placement=before_bn seed=3,4` are those that are as all of these say."""

from collections.abc import Sequence
from pathlib import Path

from analysis.schema import MEMBER_KEY, TEXT, Cell, kind_of, typed_row
from experiments.checks import ConfigError
from experiments.study.files import is_there
from experiments.study.inventory import take_inventory
from experiments.study.part import PARTS, Part
from experiments.study.tables import read_table


def check_there(study: Path) -> None:
    """Raise ConfigError for a folder that holds no study."""
    if not is_there(study / PARTS):
        raise ConfigError(f"{study}: no study; name its folder, for example outputs/variance_shift")


def select_rows(study: Path, selection: Sequence[str]) -> list[tuple[Part, dict[str, Cell]]]:
    """Return the rows of members.csv that are as `selection` says, each with the part that holds it.

    Raises ConfigError for what is no study, no COLUMN=VALUE[,VALUE ...], or chooses no member.
    """
    check_there(study)
    values = dict(map(_values, selection))
    rows = [
        (part, typed_row(row))
        for part in take_inventory(study).parts
        for row in read_table(part.folder / "members.csv")
    ]
    found = [(part, row) for part, row in rows if all(row[key] in values[key] for key in values)]
    if not found:
        raise ConfigError(f"{' '.join(selection)}: {study} holds no such member")
    return found


def _values(argument: str) -> tuple[str, set]:
    """Return the column that an argument names and the values that it allows, typed as the column is."""
    column, _, text = argument.partition("=")
    if column not in MEMBER_KEY:
        raise ConfigError(f"{argument}: allowed is COLUMN=VALUE, COLUMN one of {', '.join(MEMBER_KEY)}")
    try:
        return column, {word if kind_of(column) == TEXT else float(word) for word in text.split(",")}
    except ValueError as error:
        raise ConfigError(f"{argument}: allowed are numbers") from error
