"""What the files of a data set hold, as a short text: other files, other text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

READ_WHOLE = 2**30  # bytes; of larger sets, the files' times stand for their contents


def fingerprint(folder: Path, files: Iterable[Path], read_whole: int = READ_WHOLE) -> str:
    """Return the number of `files`, their size, and a hash of each one's name in `folder`, size and contents.

    Where they hold more than `read_whole` bytes together, the hash is of names, sizes and times of change. A copy
    of such a set in another place has the same fingerprint only where it kept the times (`cp -p`, `rsync -t`).
    """
    found = [(file.relative_to(folder).as_posix(), file, file.stat()) for file in sorted(files)]
    size = sum(status.st_size for _, _, status in found)
    whole = size <= read_whole
    hash_of_all = hashlib.sha256()
    for name, file, status in found:
        content = _digest(file) if whole else str(status.st_mtime_ns)
        hash_of_all.update(f"{name}\0{status.st_size}\0{content}\0".encode(errors="surrogateescape"))
    kind = "contents" if whole else "times"
    return f"{len(found)} files, {size} bytes, {kind} {hash_of_all.hexdigest()[:16]}"


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
