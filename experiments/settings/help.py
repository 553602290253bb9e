"""`--help`: a page, and `--help TOPIC` for a group, a choice, a section or a key, read from the files in conf."""

import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from experiments.checks import ConfigError
from experiments.settings.explained import Key, choices_of, comment_of, keys_of, title_of
from experiments.settings.options import CONF, files_of, groups

WIDTH = 80
LAUNCHER = "hydra/launcher"
CONFIG = CONF / "config.yaml"
USAGE = """\
usage: python -m experiments.run [FLAG ...] [+sweep=NAME] [GROUP=NAME ...]
                                 [KEY=VALUE ...]

  python -m experiments.run                          one small job, seconds
  python -m experiments.run +sweep=variance_shift    the main study
  python -m experiments.run +sweep=variance_shift study=wide \\
      model.width=32,128 'members.dropout.rate=[0.2,0.4]'
  python -m experiments.run -m study=depths model.depth=2,4,8
  python -m experiments.modes          what train() and eval() really do

A list in brackets is one value (of members, say). Values separated by commas
are jobs of their own; they need a sweep or -m. A command trains the members
that its study lacks: the same one resumes a study, a larger one lets it grow.

FLAGS
  --help TOPIC    more of a group, choice, section or key: --help members,
                  --help model=densenet, --help recipe.epochs, --help sweep
  --dry-run       check everything, and say what would be trained and how long
  --detach        return once Slurm has the jobs; typed again without it, the
                  command waits for them and merges their tables
  -m              values separated by commas are jobs of their own
  --cfg job       show the configuration, run nothing

GROUPS (GROUP=NAME; a sweep with +sweep=NAME)"""


def help_text(topics: Sequence[str] = ()) -> str:
    """Return the page, or what there is to say of each topic. Raises ConfigError for one that there is not."""
    if not topics:
        return "\n".join(_page())
    return "\n\n".join("\n".join(_answer(topic)) for topic in topics)


def _page() -> Iterator[str]:
    yield USAGE
    for group, names in _groups().items():
        yield from _entry(group, ", ".join(names), 18)
    yield "\nKEYS (KEY=VALUE, with defaults)"
    keys = [key for key in keys_of(CONFIG) if not key.name.startswith("hydra")]
    for key in keys:
        if "." not in key.name:
            within = (other.name.partition(f"{key.name}.")[2] for other in keys)
            own = [name for name in within if name and "." not in name]
            yield from _entry(key.typed, f"{key.text} ({', '.join(own)})" if own else key.text, 20)


def _groups() -> dict[str, list[str]]:
    """Return all groups with their choices, Hydra's own group of launchers too."""
    return groups() | {LAUNCHER: list(files_of(LAUNCHER))}


def _file(group: str, name: str) -> Path:
    return files_of(group)[name][0]


def _keys(group: str, name: str) -> list[Key]:
    """Return the keys of a choice, as they are typed."""
    return list(keys_of(_file(group, name), f"{group.replace('/', '.')}."))


def _owners() -> Iterator[tuple[str, list[Key]]]:
    """Yield the keys that are always there, and those of each choice, GROUP=NAME; a sweep has none of its own."""
    yield "", [key for key in keys_of(CONFIG) if not key.name.startswith("hydra")]
    for group, names in _groups().items():
        for name in names if group != "sweep" else []:
            yield f"{group}={name}", _keys(group, name)


def _answer(typed: str) -> Iterator[str]:
    """Yield the lines of one topic; a key may be typed with a value."""
    (topic, _, name), all_groups = typed.lstrip("+~").partition("="), _groups()
    if name in all_groups.get(topic, []):
        return _of_sweep(name) if topic == "sweep" else _of_choice(topic, name)
    if topic in all_groups and not name:
        return _of_group(topic, all_groups[topic])
    found = [
        (owner, own)
        for owner, keys in _owners()
        if (own := [key for key in keys if f"{key.name}.".startswith(f"{topic}.")])
    ]
    if not found or topic in all_groups:
        raise _no_such_topic(typed)
    return _of_keys(found)


def _of_group(group: str, names: Sequence[str]) -> Iterator[str]:
    yield f"{'+' * (group == 'sweep')}{group}=NAME chooses one of"
    for name in names:
        yield from _entry(name, title_of(_file(group, name)), 20)
    default = choices_of(CONFIG).get(group)
    if default:
        yield f"\n{group}={default}, the default"
        yield from _entries(_keys(group, default))
    yield f"\n--help {group}=NAME says more of one."


def _of_choice(group: str, name: str) -> Iterator[str]:
    yield from _wrapped(f"{group}={name}: {' '.join(comment_of(_file(group, name)))}")
    yield from _entries(_keys(group, name))
    for path in sorted(CONF.glob("recipe/*/*.yaml")):
        title = title_of(path)
        if re.search(rf"\b{group}={name}[,:]", title):
            yield ""
            yield from _wrapped(title)
            yield from _entries(keys_of(path))


def _of_sweep(name: str) -> Iterator[str]:
    """Yield a sweep's comment, its paragraphs wrapped anew, and what it sets."""
    path = _file("sweep", name)
    paragraphs: list[str] = []
    for line in comment_of(path):
        if line.startswith("     ") and paragraphs:  # a paragraph goes on
            paragraphs[-1] += f" {line.strip()}"
        else:
            paragraphs.append(line)
    for paragraph in paragraphs:
        term = re.match(r"\w+ {2,}", paragraph)
        hanging = " " * (term.end() if term else 6 * paragraph.startswith(" "))
        yield from _wrapped(paragraph, hanging=hanging) or [""]
    yield "\nsets"
    for group, choice in choices_of(path).items():
        yield f"  {group}={choice}"
    keys = [key for key in keys_of(path) if key.value and not key.name.startswith("hydra")]
    yield from _entries(keys)
    for key in keys_of(path):
        if name := key.name.partition("hydra.sweeper.params.")[2]:
            yield from _entry(f"{name}={key.value}", "jobs of their own", 34)


def _of_keys(found: Sequence[tuple[str, list[Key]]]) -> Iterator[str]:
    for owner, keys in found:
        if owner:
            yield f"with {owner}"
        yield from _entries(keys)


def _no_such_topic(typed: str) -> ConfigError:
    """Return the error of a topic that there is not: it names the nearest ones."""
    known = [*_groups(), *(f"{group}={name}" for group, names in _groups().items() for name in names)]
    known += dict.fromkeys(key.name for _, keys in _owners() for key in keys)
    topic = typed.lstrip("+~")
    parts = [name for name in known if topic in re.split(r"[.=]", name)]
    near = parts or difflib.get_close_matches(topic, known, n=3)
    hint = f"the nearest are {', '.join(near)}" if near else "--help lists them"
    return ConfigError(f"--help {typed}: no such topic; {hint}")


def _entries(keys: Iterable[Key]) -> Iterator[str]:
    """Yield a line or more for each key: how it is typed, and what is said of it."""
    keys = list(keys)
    column = min(34, max((len(key.typed) for key in keys), default=0) + 4)
    for key in keys:
        yield from _entry(key.typed, key.text, column)


def _entry(head: str, text: str, column: int) -> list[str]:
    """Return the lines of a term and its explanation, which begins in `column`."""
    first = f"  {head}".ljust(column)
    fits = len(first) <= column and first.endswith(" ")
    lines = [] if fits else _wrapped(first, hanging=" " * 6)
    first = " " * column if lines else first
    body = _wrapped(text, first, " " * column)
    return [*lines, *(body or ([] if lines else [first.rstrip()]))]


def _wrapped(text: str, first: str = "", hanging: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=hanging, break_on_hyphens=False)
