"""`--help`: every configuration group and key with its line of explanation, read from the files in conf."""

from pathlib import Path

from experiments.plan import CONF

USAGE = """usage: python -m experiments.run [+sweep=NAME] [GROUP=NAME ...] [KEY=VALUE ...]

  python -m experiments.run                                 one small job, a few members, seconds
  python -m experiments.run +sweep=variance_shift           the main study
  python -m experiments.run +sweep=variance_shift study=wide model.width=32,128 'members.dropout.rate=[0.2,0.4]'

A list in brackets is one value (of `members`, say); values separated by commas are jobs of their own.
A study is resumed by the same command: what is finished is not run again.
"""


def help_text() -> str:
    """Return the help: usage, groups with their choices, then each file's keys as they stand in it."""
    groups = sorted(path.name for path in CONF.iterdir() if path.is_dir())
    sections = [USAGE, "GROUPS (choose with GROUP=NAME; sweep with +sweep=NAME)"]
    for group in groups:
        sections.append(f"  {group}")
        sections += [f"    {path.stem:<16}{_title(path)}" for path in sorted((CONF / group).glob("*.yaml"))]
    sections.append("\nKEYS (as they stand in conf; the text behind # says what is allowed)")
    sections += [f"  {line}" for line in _keys(CONF / "config.yaml")]
    for group in groups:
        if group == "sweep":
            continue
        for path in sorted((CONF / group).glob("*.yaml")):
            sections.append(f"\n  {group}:    # with {group}={path.stem}")
            sections += [f"    {line}" for line in _keys(path)]
    return "\n".join(sections)


def _title(path: Path) -> str:
    """Return a file's first comment that is not a directive of Hydra's."""
    comments = (line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#"))
    return next(comment for comment in comments if not comment.startswith("@"))


def _keys(path: Path) -> list[str]:
    """Return a file's lines of keys, without its comment lines and without what is only Hydra's."""
    lines: list[str] = []
    hidden = False
    for line in path.read_text().splitlines():
        if line and not line[0].isspace():
            hidden = line.startswith(("defaults:", "hydra:", "#"))
        if line.strip() and not hidden:
            lines.append(line)
    return lines
