"""Files of a study, to be read; and those of a page, which are written all together or not at all."""

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

SCRATCH = ".partial-"
# What is no file, by the letter of `ls -l`.
NO_FILES = {"d": "folder", "p": "pipe", "s": "socket", "c": "device", "b": "device"}


Files = dict[str, bytes | None]  # content by name; None for a file that is to go


def regular_file(path: Path) -> Path:
    """Return `path` if it is a file, perhaps through links. Raises OSError where it is none, or nothing is there.

    To be asked before a file of the user's is opened: a pipe may let its reader wait forever, and a device may
    have no end.
    """
    if not stat.S_ISREG(mode := path.stat().st_mode):
        kind = NO_FILES.get(stat.filemode(mode)[0], "thing of another kind")
        raise OSError(errno.EINVAL, f"is a {kind}, not a file", str(path))
    return path


def is_tracked(path: Path) -> bool:
    """Whether git tracks a file: what is written there shows up as a change of somebody's repository."""
    if not path.exists() or not (git := shutil.which("git")):
        return False
    command = [git, "ls-files", "--error-unmatch", "--", path.resolve().name]
    return (
        subprocess.run(command, cwd=path.resolve().parent, capture_output=True, check=False).returncode == 0
    )


@contextmanager
def written_together(folder: Path) -> Iterator[Files]:
    """Yield a dictionary of files to be filled, which come into `folder` together at the end.

    The folder is made if it is missing, so is one inside that a name has, such as data/points.csv, and other files
    stay. Whatever goes wrong before all files are on the disk, a full disk or a kill, leaves the old ones as they
    were. Then each takes its place, in their order: put the file last that a reader opens first.

    Raises OSError where they cannot be written.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    files: Files = {}
    try:
        with TemporaryDirectory(prefix=SCRATCH, dir=folder):  # said before anything is drawn
            pass
        yield files
        for left_behind in folder.glob(f"{SCRATCH}*"):  # by a process that was killed
            shutil.rmtree(left_behind, ignore_errors=True)
        for name in files:
            if (folder / name).exists():
                regular_file(folder / name)
        with TemporaryDirectory(prefix=SCRATCH, dir=folder) as scratch:
            for name, content in files.items():
                if content is not None:
                    Path(scratch, name).parent.mkdir(parents=True, exist_ok=True)
                    with Path(scratch, name).open("xb") as file:
                        file.write(content)
                        file.flush()
                        os.fsync(file.fileno())
            for name in files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                if content is None:
                    (folder / name).unlink(missing_ok=True)
                else:
                    Path(scratch, name).replace(folder / name)
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise
