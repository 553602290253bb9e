"""Turn a mode study into a page and its figures: `python -m analysis.modes outputs/modes [--out DIR]`.

Writes DIR/index.html, which needs no other file and no network, and every figure beside it as PNG, SVG, PDF and
CSV.
"""

import sys

from ..render import page_command
from .statement_page import write_page


def main(arguments: list[str] | None = None) -> int:
    """Write the page; return the exit status, 2 if there is no mode study to show."""
    description, study_help = (
        "Write a mode study's figures and page.",
        "the mode study's folder, for example outputs/modes",
    )
    return page_command("modes", description, study_help, write_page, arguments)


if __name__ == "__main__":
    sys.exit(main())
