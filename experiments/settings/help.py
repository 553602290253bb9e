"""`--help`: every configuration group and key with its line of explanation, read from the files in conf."""

from pathlib import Path

from experiments.settings.options import CONF, choice_files, files_of

USAGE = """usage: python -m experiments.run [+sweep=NAME] [-m] [GROUP=NAME ...] [KEY=VALUE ...]

  python -m experiments.run                                 one small job, a few members, seconds
  python -m experiments.run +sweep=variance_shift           the main study
  python -m experiments.modes                               what train() and eval() really do: 26 statements tested
  python -m experiments.run +sweep=variance_shift study=wide model.width=32,128 'members.dropout.rate=[0.2,0.4]'
  python -m experiments.run -m study=depths model.depth=2,4,8    a study of your own
  python -m experiments.run model.width=128 --cfg job       show the configuration, run nothing

A list in brackets is one value (of `members`, say). Values separated by commas are jobs of their own; they need
a sweep or -m. A command trains the members that its study lacks: the same one resumes a study, a larger one lets
it grow.
"""


def help_text() -> str:
    """Return the help: usage, groups with their choices, then each file's keys as they stand in it."""
    lines = [USAGE, "GROUPS (choose with GROUP=NAME; a sweep with +sweep=NAME)"]
    launchers = [path for path, *_ in files_of("hydra/launcher").values()]
    for group, files in choice_files().items():
        lines.append(f"  {group}")
        lines += [f"    {name:<20}{_title(path)}" for name, (path, *_) in files.items()]
    lines.append("  hydra/launcher    (where jobs run; without one, in this process one after the other)")
    lines += [f"    {path.stem:<20}{_title(path)}" for path in launchers]
    lines.append("\nKEYS (with their defaults; the text behind # says what is allowed)")
    lines += [f"  {line}" for line in _keys(CONF / "config.yaml")]
    for group, files in choice_files().items():
        for name, (path, *_) in files.items() if group != "sweep" else []:
            lines.append(f"\n  {group}:    # with {group}={name}")
            lines += [f"    {line}" for line in _keys(path)]
    for path in sorted(CONF.glob("recipe/*/*.yaml")):
        lines.append(f"\n  set by {_title(path)}")
        lines += [f"    {line}" for line in _keys(path)]
    for path in launchers:
        lines.append(f"\n  hydra.launcher:    # with hydra/launcher={path.stem}")
        lines += [f"    {line}" for line in _keys(path)]
    return "\n".join(lines)


def _title(path: Path) -> str:
    """Return a file's first comment that is not a directive of Hydra's; nothing where it has none."""
    comments = (line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@")), "")


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
