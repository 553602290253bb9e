"""Read a study: its tables, checked and typed.

A study is the folder that the jobs of a sweep share. Whatever is wrong with it is said in one line (`StudyError`),
before anything is drawn.
"""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from .command import PACKAGE
from .files import regular_file
from .glance import glance
from .schema import COLUMNS, IDENTITY, NETWORK, NUMBER, RECIPE, TABLES, UNTIL, WHOLE, Column, kind_of

_MEND = "remove the job's folder and run the study's command again"


class StudyError(ValueError):
    """A folder that cannot be read as a study; the message is one line that says what is wrong and where."""


@dataclass(frozen=True)
class Study:
    """The tables of a study, or of a part of it. A notebook shows it as a small table (`analysis.glance`).

    Attributes:
        name: the folder's name; of a part, what sets it apart.
        members: a row per member.
        layers: a row per member and BN layer.
        flips: a row per training image kept because its member loses it in eval mode; none where not asked for.
        looks: how often verdicts are looked at before the study stops growing: once, but with until=decided.
        epochs_file: where `epochs` are read from, if there is such a table.
    """

    name: str
    members: pd.DataFrame
    layers: pd.DataFrame
    flips: pd.DataFrame = field(default_factory=lambda: empty_table("flips.csv"))
    looks: int = 1
    epochs_file: Path | None = None

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """A row per member and epoch; none in a study that was made before there was such a table.

        Read when it is first asked for: it is the longest table, and most of what is drawn does without.
        """
        if self.epochs_file is None:
            return empty_table("epochs.csv")
        return _rows_of(self.members, _read_table(self.epochs_file))

    def _repr_html_(self) -> str:
        finished = self.finished()
        return glance(self.name, self.members, finished.members, finished.layers)

    def finished(self) -> "Study":
        """The study without the members that diverged or failed, and without their rows elsewhere."""
        return self.part(self.members[self.members["status"] == "ok"])

    def part(self, members: pd.DataFrame) -> "Study":
        """The study of some of its members only."""
        if len(members) == len(self.members):  # all of them
            return replace(self, members=members)
        layers, flips = (_rows_of(members, table) for table in (self.layers, self.flips))
        return replace(self, members=members, layers=layers, flips=flips)

    def left_out(self) -> pd.DataFrame:
        """The members that diverged or failed: no mean includes them."""
        return self.members[self.members["status"] != "ok"]

    def networks(self) -> Iterator["Study"]:
        """A study for each data set, model, depth, normaliser and recipe, in the table's order, named by them."""
        varied = [name for name in RECIPE if name in self.members and self.members[name].nunique() > 1]
        for _, members in self.members.groupby([*NETWORK, *varied], sort=False, dropna=False):
            yield replace(self.part(members), name=_label(members.iloc[0], varied))


def empty_table(name: str) -> pd.DataFrame:
    """A table such as epochs.csv without rows, with the columns that it cannot lack."""
    return pd.DataFrame(columns=pd.Index(TABLES[name].required))


def read_study(folder: str | PathLike[str]) -> Study:
    """Read and check a study, for example `read_study("outputs/variance_shift").members`.

    Args:
        folder: the study's folder, as text or as a path, with members.csv, layers.csv and, since there is such a
            table, epochs.csv.

    Returns:
        The tables, each column as the kind that `analysis.schema` says: whole numbers as Int64, other numbers as
        float with NaN where they are empty or infinite, text as str. A column that the schema does not know is
        kept as text.

    Raises:
        StudyError: no such folder; a table that is missing, unreadable or lacks a column; a value that cannot be;
            no member, or one that appears twice. Values of epochs.csv are read, and refused, when first asked for.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StudyError(f"{folder}: no such folder; name a study, for example outputs/variance_shift")
    if (folder / "modes.csv").exists() and not (folder / "members.csv").exists():
        raise StudyError(
            f"{folder}: a mode study, without networks; its page: "
            + shlex.join(["python", "-m", f"{PACKAGE}.modes", str(folder)])
        )
    members, layers = (_read_table(folder / name) for name in ("members.csv", "layers.csv"))
    if members.empty:
        raise StudyError(f"{folder / 'members.csv'}: no rows; has any job of this study finished?")
    repeated = members[members.duplicated(_key(members, layers))]
    if len(repeated):
        raise StudyError(
            f"{folder / 'members.csv'}: more than one row for {member_label(repeated.iloc[0])}; jobs that differ "
            "in something else, such as epochs, must be studies of their own"
        )
    study = Study(folder.resolve().name, members, layers, looks=_looks(folder / UNTIL))
    if (flips := folder / "flips.csv").exists():
        study = replace(study, flips=_read_table(flips))
    if (epochs := folder / "epochs.csv").exists():
        _read_text(epochs, rows=0)  # says what is wrong with its head
        study = replace(study, epochs_file=epochs)
    return study


def _looks(path: Path) -> int:
    """How often a study is looked at, by its file until.json, if it has one."""
    if not path.exists():
        return 1
    try:
        return max(1, len(json.loads(regular_file(path).read_text(encoding="utf-8"))["looks"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StudyError(f"{path}: not what until=decided wrote; type the study's command again") from error


def read_config(path: Path, sections: Sequence[str]) -> dict[str, dict[str, Any]]:
    """These sections of a job's config.yaml: name -> key -> value. Raises StudyError for a file that lacks one."""
    try:
        config = yaml.safe_load(regular_file(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise StudyError(f"{path}: not readable as YAML ({_reason(error)}); {_MEND}") from None
    for section in sections:
        if not isinstance(config, dict) or not isinstance(config.get(section), dict):
            raise StudyError(f"{path}: no section {section}; {_MEND}")
    return {section: config[section] for section in sections}


def read_environment(folder: Path) -> dict[str, Any]:
    """What a study's environment.json says, nothing where there is none. Raises StudyError for what is no JSON."""
    path = folder / "environment.json"
    try:
        environment = json.loads(regular_file(path).read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(f"{path}: not readable as JSON ({_reason(error)}); remove it") from None
    if not isinstance(environment, dict):
        raise StudyError(f"{path}: not an object of JSON; remove it")
    return environment


def _reason(error: Exception) -> str:
    return str(error.strerror) if isinstance(error, OSError) else type(error).__name__


def member_label(member: pd.Series) -> str:
    """Name a member in words, for example 'width 16, before_bn, dropout 0.7, seed 3'."""
    noise = f"{member['placement']}, {member['noise']} {member['strength']:g}"
    return f"width {member['width']}, {'no noise' if member['noise'] == 'none' else noise}, seed {member['seed']}"


def _label(member: pd.Series, varied: list[str]) -> str:
    """Name a member's network in words, for example 'digits, mlp, depth 3, batch norm, lr 0.1'."""
    depth = [] if pd.isna(member["depth"]) else [f"depth {member['depth']}"]
    recipe = [f"{name.replace('_', ' ')} {member[name]:g}" for name in varied]
    return ", ".join([member["data"], member["model"], *depth, f"{member['norm']} norm", *recipe])


def _rows_of(members: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `table` that belong to `members`."""
    key = _key(members, table)
    return table[pd.MultiIndex.from_frame(table[key]).isin(pd.MultiIndex.from_frame(members[key]))]


def _key(members: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """The columns that name a member in both tables."""
    return [*IDENTITY, *(name for name in RECIPE if name in members and name in table)]


def _read_table(path: Path) -> pd.DataFrame:
    """Read a CSV file, check that its columns are there and hold what they should, and give them their types."""
    if (plain := _read_plain_table(path)) is not None:
        return plain
    table = _read_text(path)
    for column in (COLUMNS[name] for name in table.columns if name in COLUMNS):
        if column.kind in (WHOLE, NUMBER):
            table[column.name] = _numbers(path, table[column.name], column)
        elif column.words:
            values = table[column.name]
            _check(path, values, values.isin(column.words), ", ".join(column.words))
    return table


def _read_text(path: Path, rows: int | None = None) -> pd.DataFrame:
    """Read a CSV file, or so many rows of it, as text, and check that its columns are there."""
    try:
        table = pd.read_csv(
            regular_file(path), nrows=rows, dtype=str, keep_default_na=False, encoding="utf-8"
        )
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; is this a study's folder, and has a job finished?") from None
    except (OSError, ValueError) as error:  # pandas' parser errors and broken UTF-8 are ValueErrors
        raise StudyError(f"{path}: not a readable CSV table ({str(error).splitlines()[0]})") from None
    missing = [column for column in TABLES[path.name].required if column not in table]
    if missing:
        raise StudyError(f"{path}: no column {', '.join(missing)}")
    return table


def _read_plain_table(path: Path) -> pd.DataFrame | None:
    """Read a table in which nothing is wrong, many times as fast as one in which every cell is looked at.

    None for any other, so that somebody says what is wrong with it. Of epochs, the longest table, only what is
    required and the recipe are kept.
    """
    required = TABLES[path.name].required
    try:
        columns = pd.read_csv(regular_file(path), nrows=0, encoding="utf-8").columns
        if path.name == "epochs.csv":
            columns = [name for name in columns if name in {*required, *RECIPE}]
        numbers = [name for name in columns if kind_of(name) in (WHOLE, NUMBER)]
        table = pd.read_csv(
            path,
            usecols=list(columns),
            dtype={name: float if name in numbers else str for name in columns},
            keep_default_na=False,
            na_values={name: ["", "nan", "NaN"] for name in numbers},
            encoding="utf-8",
        )
    except (OSError, ValueError):  # pandas' parser errors and broken UTF-8 are ValueErrors
        return None
    whole = [name for name in numbers if kind_of(name) == WHOLE]
    filled = [name for name in numbers if _must_be_filled(path, COLUMNS[name])]
    # Doubles count no further than 2^53 one by one.
    good = (table[whole].isna() | ((table[whole] % 1 == 0) & (table[whole].abs() < 2**53))).all(axis=None)
    good &= table[filled].notna().all(axis=None) and set(required) <= set(columns)
    words = {name: COLUMNS[name].words for name in columns if name in COLUMNS and COLUMNS[name].words}
    if not good or not all(table[name].isin(allowed).all() for name, allowed in words.items()):
        return None
    table[whole] = table[whole].astype("Int64")
    others = [name for name in numbers if name not in whole]
    table[others] = table[others].replace([np.inf, -np.inf], np.nan)
    return table


def _must_be_filled(path: Path, column: Column) -> bool:
    """Whether a cell may not be empty. What a study may lack is empty in rows of a version that lacked it."""
    return column.name in TABLES[path.name].required and not column.may_be_empty


def _numbers(path: Path, values: pd.Series, column: Column) -> pd.Series:
    whole, filled = column.kind == WHOLE, _must_be_filled(path, column)
    empty = values.isna() | values.str.lower().isin(["", "nan"])
    number = pd.to_numeric(values.mask(empty), errors="coerce")
    known = number.notna() & (((number % 1 == 0) & (number.abs() < 2**63)) | (not whole))
    allowed = ("a whole number" if whole else "a number") + ("" if filled else " or empty")
    _check(path, values, known | (empty & (not filled)), allowed)
    return number.astype("Int64") if whole else number.astype(float).replace([np.inf, -np.inf], np.nan)


def _check(path: Path, column: pd.Series, good: pd.Series, allowed: str) -> None:
    """Raise for the first row that is not good."""
    if not good.all():
        row = int((~good).to_numpy().argmax())
        raise StudyError(
            f"{path}: {column.name} in row {row + 1} is {column.iloc[row]!r}; allowed: {allowed}"
        )
