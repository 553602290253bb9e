"""The mode study's command: `python -m experiments.modes [study=NAME] [output=FOLDER]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.checks import FOLDER, ConfigError, check_section
from experiments.command import exit_status
from experiments.settings.config import STUDY
from experiments.study.files import check_writable
from experiments.study.locks import study_lock

USAGE = """usage: python -m experiments.modes [study=NAME] [output=FOLDER]

Tests 26 statements about train() and eval() on this torch, 16 s on 2 cores, and writes FOLDER/NAME/modes.csv
(outputs/modes/modes.csv). What is tested already is not tested again.

  study     name of the study's folder (modes)
  output    folder in which studies lie, relative to the current one (outputs)
"""
DEFAULTS = {"study": "modes", "output": "outputs"}
RULES = {"study": STUDY, "output": FOLDER}


def main() -> int:
    """Run the command line and return its exit status: 0, 1 when experiments failed, 2 for bad input."""
    return exit_status(lambda: answer(sys.argv[1:]))


def answer(arguments: Sequence[str]) -> int:
    """Show the usage, or test the statements; return the exit status."""
    if {"--help", "-h"} & set(arguments):
        print(USAGE, end="")
        return 0
    folder = study_folder(arguments)
    check_writable(folder, f"output={folder.parent}")
    from experiments.modes.study import run_statements

    with study_lock(folder):
        return run_statements(folder)


def study_folder(arguments: Sequence[str]) -> Path:
    """Return the study's folder that the arguments, each KEY=VALUE, name. Raises ConfigError."""
    for argument in arguments:
        if "=" not in argument:
            raise ConfigError(f"{argument}: allowed is KEY=VALUE with the keys {', '.join(RULES)}")
    given = dict(argument.split("=", 1) for argument in arguments)
    section = check_section("", DEFAULTS | given, RULES)
    return Path(section["output"]) / section["study"]


if __name__ == "__main__":
    sys.exit(main())
