"""Turn a mode study into a page and its figures: `python -m analysis.modes outputs/modes [--out DIR]`.

Writes DIR/index.html, which needs no other file and no network, and every figure beside it as PNG and SVG.
"""

import argparse
import sys
from pathlib import Path

from analysis.modes.statement_page import write_page
from analysis.tables import StudyError


def main(arguments: list[str] | None = None) -> int:
    """Write the page; return the exit status, 2 if there is no mode study to show."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.modes", description="Write a mode study's figures and page."
    )
    parser.add_argument("study", type=Path, help="the mode study's folder, for example outputs/modes")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: the folder report inside the study)"
    )
    options = parser.parse_args(arguments)
    try:
        page = write_page(options.study, options.out or options.study / "report")
    except (StudyError, OSError) as error:
        print(f"modes: {error}", file=sys.stderr)
        return 2
    print(f"modes: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
