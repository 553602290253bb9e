"""Bring files from an archive or the network into a folder: all of them, verified, or nothing at all."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from experiments.checks import ConfigError

CHUNK_BYTES = 1 << 20
SILENCE_SECONDS = 30  # a server that sends nothing for so long has given up
_fetches = True


class FetchError(OSError):
    """A download that failed, or a file that is not the published one; the text says which."""


class Remote(NamedTuple):
    """A published file: where it is served, and the md5 of its bytes."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The file's own name, without the address."""
        return self.url.rsplit("/", 1)[-1]


def place(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make `folder` with what `fill(empty_folder)` writes; it appears complete, in one step, or not at all.

    The parent of `empty_folder` is scratch space that vanishes; what a killed process leaves of it, the next one
    removes. Jobs that run side by side wait for the first one to fetch, and then use its folder.

    Raises:
        FetchError, OSError: from `fill`, or a folder that cannot be written; nothing is left behind.
    """
    from filelock import FileLock

    root = folder.parent
    root_is_new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    lock, prefix = root / f".{folder.name}.lock", f".{folder.name}-"
    try:
        with FileLock(lock), TemporaryDirectory(prefix=prefix, dir=root) as scratch:
            for left_behind in set(root.glob(f"{prefix}*")) - {Path(scratch)}:
                shutil.rmtree(left_behind, ignore_errors=True)
            if folder.is_dir():
                return
            complete = Path(scratch, folder.name)
            complete.mkdir()
            fill(complete)
            try:
                complete.rename(folder)
            except OSError:  # on a file system without locks another job may have been faster
                if not folder.is_dir():
                    raise
    finally:
        lock.unlink(missing_ok=True)
        if root_is_new:
            with suppress(OSError):  # it is not empty when all went well
                root.rmdir()


@contextmanager
def fetching_nothing() -> Iterator[None]:
    """Have `provide` say what it would fetch, in a ConfigError, while the context lasts."""
    global _fetches
    _fetches = False
    try:
        yield
    finally:
        _fetches = True


def provide(folder: Path, fill: Callable[[Path], None], can_fill: bool, name: str, mend: str) -> None:
    """Make `folder`, in data.root, with `place`. Raises ConfigError with the mend where that cannot be.

    `can_fill` says whether `fill` may do its work, be it from an archive or because downloads are allowed.
    """
    if not can_fill:
        raise ConfigError(
            f"data.root={folder.parent}: {name} is not there; {mend}, or set data.download=true"
        )
    if not _fetches:
        raise ConfigError(f"data.root={folder.parent}: {name} is not there; the command fetches it first")
    try:
        place(folder, fill)
    except OSError as error:
        raise ConfigError(f"data.root={folder.parent}: {error}; {mend}") from error


def download(remote: Remote, target: Path) -> None:
    """Write the published file to `target`, with a progress bar on stderr, and verify its checksum.

    Raises:
        FetchError: no connection, a connection that broke off, or bytes that are not the published ones.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    from rich.console import Console
    from rich.progress import Progress

    try:
        with urlopen(remote.url, timeout=SILENCE_SECONDS) as response, target.open("wb") as file:
            size = int(response.headers.get("Content-Length", 0))
            with Progress(console=Console(stderr=True)) as progress:
                bar = progress.add_task(f"{remote.name} ({size / 1e6:.0f} MB)", total=size or None)
                while chunk := response.read(CHUNK_BYTES):
                    file.write(chunk)
                    progress.advance(bar, len(chunk))
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it carries the server's answer, and with it the connection
        raise FetchError(f"downloading {remote.url} failed ({error})") from error
    received = target.stat().st_size
    if received < size:
        raise FetchError(f"downloading {remote.url} broke off after {received} of {size} bytes")
    verify(target, remote)


def verify(path: Path, remote: Remote) -> None:
    """Raise FetchError unless the file holds exactly the published bytes."""
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    if md5 != remote.md5:
        raise FetchError(f"{path.name} has md5 {md5}, the published file {remote.md5}")


def unpack(archive: Path, wanted: Collection[str], folder: Path) -> None:
    """Copy the members of a tar archive whose base name is `wanted` into `folder`, and nothing else.

    No path that the archive names is ever written to, so it cannot reach outside of `folder`; tarfile's own
    data filter does as much, but the first releases of Python 3.11 lack it.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.rsplit("/", 1)[-1]
            content = tar.extractfile(member) if name in wanted else None
            if content is not None:
                with content, (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file, CHUNK_BYTES)
