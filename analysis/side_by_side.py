"""Set studies beside each other on one page: `python -m analysis.report outputs/A outputs/B [--out DIR]`.

Writes DIR/index.html, which needs no other file, its figures beside it, and differences.csv. The first study is
what the others are compared with.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from .differences import MOST, compare
from .files import written_together
from .render import TEMPLATES, render
from .sections import studies as sections
from .sections import words
from .tables import Study, StudyError, read_study


def write_comparison(folders: list[Path], out: Path) -> Path:
    """Write index.html, figures and differences.csv of the studies in `folders` to `out`; return the page's path.

    All of them are written or none. Raises StudyError where a folder holds no readable study, is named twice, or
    where the studies have nothing in common; OSError if `out` cannot be written.
    """
    studies = read_studies(folders)
    comparison = compare(studies)
    names = [study.name for study in studies]
    with written_together(out) as files:
        figures, *rest = sections.sections(comparison, studies, folders, files)
        files["differences.csv"] = comparison.differences.to_csv(index=False).encode()
        page = render(
            TEMPLATES / "comparison.html.j2",
            name=" beside ".join(names),
            names=names,
            comparison=comparison,
            sections=[figures, *words.sections(), *rest],
            open_questions=[],
            closing=[],
        )
        files["index.html"] = page.encode()
    return out / "index.html"


def comparison_folder(folders: list[Path]) -> Path:
    """Where the page goes unless told otherwise: beside the first study, named by all."""
    names = "-".join(name.replace("/", "-") for name in names_of(folders))
    return folders[0].resolve().parent / f"compare-{names}"


def read_studies(folders: list[Path]) -> list[Study]:
    """Read the studies, each under a name of its own."""
    if len(folders) > MOST:
        raise StudyError(f"{len(folders)} studies: at most {MOST} can be told apart on one page")
    for folder, times in Counter(folder.resolve() for folder in folders).items():
        if times > 1:
            raise StudyError(f"{folder}: named {times} times; name different studies")
    return [
        replace(read_study(folder), name=name)
        for folder, name in zip(folders, names_of(folders), strict=True)
    ]


def names_of(folders: list[Path]) -> list[str]:
    """The folders' names, with as many of the folders above as tell them apart."""
    paths = [folder.resolve() for folder in folders]
    longest = max(len(path.parts) for path in paths)
    for length in range(1, longest + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            break
    return names
