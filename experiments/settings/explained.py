"""What the files in conf say of themselves: their comments, their keys and the line that explains each."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_KEY = re.compile(r"(\s*)([\w.]+):(?:\s+(.*))?$")
_CHOICE = re.compile(r"\s*- (?:override )?/?(\w+): (\w+)\b")


class Key(NamedTuple):
    """A key of a file: its name with dots, its value as it stands there, and the text behind #.

    A section's value is "".
    """

    name: str
    value: str
    text: str

    @property
    def typed(self) -> str:
        """The key as it is typed with this value; of a section its name."""
        value = self.value.replace(", ", ",") if self.value.startswith("[") else self.value
        return f"{self.name}={value}" if value else self.name


def comment_of(path: Path) -> list[str]:
    """Return the lines of the comment that a file begins with, less what is a directive of Hydra's."""
    lines: list[str] = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            lines.append(line[1:].removeprefix(" "))
    return lines


def title_of(path: Path) -> str:
    """Return the first line of a file's comment; nothing where it has none."""
    return next(iter(comment_of(path)), "")


def keys_of(path: Path, prefix: str = "") -> Iterator[Key]:
    """Yield the keys of a file in their order, sections too, with `prefix` before their names.

    The list `defaults` is none of them; the section `hydra` is.
    """
    above: list[tuple[int, str]] = []
    for line in path.read_text().splitlines():
        if line.startswith("#") or not (found := _KEY.match(line)) or found[2] == "defaults":
            continue
        value, _, text = f" {found[3] or ''}".partition(" # ")
        depth = len(found[1])
        above = [(indent, name) for indent, name in above if indent < depth] + [(depth, found[2])]
        yield Key(prefix + ".".join(name for _, name in above), value.strip(), text.strip())


def choices_of(path: Path) -> dict[str, str]:
    """Return which choice of which group a file makes, in its list `defaults`."""
    found = map(_CHOICE.match, path.read_text().splitlines())
    return {match[1]: match[2] for match in found if match}
