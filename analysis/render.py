"""Text from templates, and the command line of a page: what the report, the other pages and the findings share."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

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
) -> int:
    """Run `python -m analysis.NAME STUDY [--out DIR]`; return the exit status, 2 if there is nothing to show.

    `write(study, out)` writes the page and returns its path.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}.{name}", description=description)
    parser.add_argument("study", type=Path, help=study_help)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: the folder report inside the study)"
    )

    def work() -> int:
        options = parser.parse_args(arguments)
        out = options.out or options.study / "report"
        check_paths(options.study, out)
        page = write(options.study, out)
        for note in notes(options.study):
            print(f"{name}: {note}", file=sys.stderr)
        print(f"{name}: {page}")
        return 0

    return exit_status(name, work, StudyError)
