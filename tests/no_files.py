"""What lies where a file should, and is none: reading it would wait forever, never end, or fail."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

NO_FILES: dict[str, Callable[[Path], None]] = {
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "device": lambda path: path.symlink_to("/dev/zero"),
}


def put(kind: str, path: Path) -> None:
    """Put something of that kind where `path` is, in place of a file that is there."""
    path.unlink(missing_ok=True)
    NO_FILES[kind](path)
