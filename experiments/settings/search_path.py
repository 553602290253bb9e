"""Where Hydra looks for the files of choices: in conf, and in folders of the user's own.

`--config-dir DIR` and `hydra.searchpath=[DIR,pkg://MODULE]` are one list here. The user's files lie in folders of
the same names as conf's: DIR/sweep/mine.yaml is `+sweep=mine`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments.checks import ConfigError, not_allowed
from experiments.settings.options import CONF, SEARCH_PATH, choice_files, folder_of, quoted

ALLOWED = f"a list of folders and packages, written '{SEARCH_PATH}=[DIR,pkg://MODULE]'"


@contextmanager
def conf_in_use(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Have Hydra read conf and the folders that the command line names, while the context lasts.

    Gives the arguments with their search path as one absolute list. The caller's own use of Hydra, in a notebook
    say, comes back afterwards. Raises ConfigError for what is no folder, and for a file that conf hides.
    """
    typed = [argument for argument in arguments if _is_search_path(argument)]
    paths = list(dict.fromkeys(path for argument in typed for path in _paths(argument)))
    others = [argument for argument in arguments if not _is_search_path(argument)]
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), job_name="run", version_base="1.3"):
            if paths:
                _append(paths)
            yield [*([f"{SEARCH_PATH}=[{','.join(map(quoted, paths))}]"] if paths else []), *others]
    finally:
        GlobalHydra.instance().hydra = before


def _is_search_path(argument: str) -> bool:
    return argument.lstrip("+").partition("=")[0] == SEARCH_PATH


def _paths(argument: str) -> list[str]:
    """Return the places that an override names; each folder absolute, since jobs may run elsewhere."""
    try:
        values = OverridesParser.create().parse_override(argument).value()
    except Exception:  # the parser raises whatever its parts raise
        values = None
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        raise not_allowed(SEARCH_PATH, argument.partition("=")[2], ALLOWED)
    return [_place(value) for value in values]


def _place(text: str) -> str:
    is_package = text.startswith("pkg://")
    folder = folder_of(text)
    if folder is None or not folder.is_dir():
        kind = "package" if is_package else "folder"
        raise ConfigError(f"{SEARCH_PATH}={text}: no such {kind}; allowed is {ALLOWED}")
    return text if is_package else str(folder.absolute())


def _append(paths: Sequence[str]) -> None:
    """Let Hydra's loader look into `paths` behind conf, each of whose files may not have another's name there."""
    loader = GlobalHydra.instance().config_loader()
    search_path = loader.get_search_path()
    schema = search_path.get_path().pop()  # which is the last one
    for path in paths:
        search_path.append(SEARCH_PATH, path)
    search_path.get_path().append(schema)
    loader.repository.initialize_sources(search_path)  # type: ignore[attr-defined]
    for group, names in choice_files().items():
        for first, *hidden in names.values():
            if hidden:
                raise ConfigError(
                    f"{SEARCH_PATH}: {hidden[0]} has the name of {first}, which comes first; allowed is a name "
                    f"that no other {group} has"
                )
