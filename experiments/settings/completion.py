"""Completion in a shell: `eval "$(python -m experiments.run -sc install=bash)"`, as Hydra has it.

Hydra's own script for the shell knows `python FILE.py` alone. This one asks `python -m experiments.run -sc
query=bash`, which Hydra answers.
"""

import re

COMPLETES = ("install", "uninstall", "query")
SHELLS = ("bash", "zsh")
INSTALL = r"""_experiments_run() {
    local line=${COMP_LINE:0:$COMP_POINT}
    COMPREPLY=()
    case $line in *" -m experiments.run "*)
        COMPREPLY=($(compgen -W "$(COMP_LINE=$line "${line%% *}" -m experiments.run -sc query=bash 2>/dev/null)" \
            -- "${line##* }"))
    esac
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _experiments_run python python3"""
FOR_ZSH = "autoload -Uz bashcompinit && bashcompinit"
UNINSTALL = "complete -r python python3; unset -f _experiments_run"


def shell_script(wanted: str) -> str:
    """Return what a shell runs to install completion, or to be rid of it: `install=bash`, say."""
    what, _, shell = wanted.partition("=")
    if what == "uninstall":
        return UNINSTALL
    return f"{FOR_ZSH}\n{INSTALL}" if shell == "zsh" else INSTALL


def as_of_a_file(line: str) -> str:
    """Return a command line in the form whose arguments Hydra finds: `python FILE.py`, and overrides alone."""
    line = re.sub(r"\s(--config-dir|-cd)[ =](\S+)\s", r" hydra.searchpath=[\2] ", line)
    return re.sub(r"^.*?\s-m\s+experiments\.run(?=\s|$)", "python run.py", line)
