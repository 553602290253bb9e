"""Text from templates, and the command line of a page: what the report, the other pages and the findings share."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jinja2

from .command import PACKAGE, check_paths, exit_status
from .origins import notes
from .tables import StudyError

TEMPLATES = Path(__file__).parent / "templates"


def render(template: Path, **data: object) -> str:
    """The text of a template with `data` filled in.

    What the template includes or extends is looked for in its own folder, then in analysis/templates. HTML is
    escaped, Markdown is not; a name that `data` lacks is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=lambda name: name is not None and ".html" in name,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template.name).render(data)


def page_command(
    name: str,
    description: str,
    study_help: str,
    write: Callable[[Path, Path], Path],
    arguments: list[str] | None,
    beside: "Beside | None" = None,
) -> int:
    """Run `python -m analysis.NAME STUDY [--out DIR]`; return the exit status, 2 if there is nothing to show.

    `write(study, out)` writes the page and returns its path. With `beside` several studies may be named.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}.{name}", description=description)
    parser.add_argument("study", type=Path, nargs="+" if beside else 1, help=study_help)
    where = "the folder report inside the study" + "; of several compare-A-B beside the first" * bool(beside)
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"where to write (default: {where})")

    def work() -> int:
        options = parser.parse_args(arguments)
        first, *others = options.study
        check_paths(*options.study, options.out or first)
        if others and beside:
            page = beside.write(options.study, options.out or beside.folder(options.study))
        else:
            page = write(first, options.out or first / "report")
        for study in options.study:
            for note in notes(study):
                print(f"{name}: {f'{study.name}: ' * bool(others)}{note}", file=sys.stderr)
        print(f"{name}: {page}")
        return 0

    return exit_status(name, work, StudyError)


class Beside(NamedTuple):
    """How several studies are set beside each other.

    Attributes:
        write: writes the page of these studies to a folder and returns its path.
        folder: where it goes unless told otherwise.
    """

    write: Callable[[list[Path], Path], Path]
    folder: Callable[[list[Path]], Path]
