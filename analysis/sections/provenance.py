"""The page's end: which members no mean includes, and how the numbers were made."""

from pathlib import Path

from ..origins import origins, read_provenance
from ..tables import member_label
from .section import Section, Source


def sections(source: Source) -> list[Section]:
    """A section for the members left out, one for configuration and environment; either only if there is any."""
    left_out = [
        (member_label(member), member["status"], member.get("reason"))
        for _, member in source.study.left_out().iterrows()
    ]
    left_out_section = Section("left-out", "Left out", "left_out.html.j2", {"members": left_out})
    return [left_out_section] * bool(left_out) + provenance(source.folder)


def provenance(folder: Path) -> list[Section]:
    """A section for what the study in `folder` keeps of its configuration and environment, if there is any."""
    files = read_provenance(folder)
    data = {"files": files, "origins": origins(folder)}
    section = Section("provenance", "How these numbers were made", "provenance.html.j2", data)
    return [section] * bool(files)
