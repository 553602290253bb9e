"""Every file operation of a command, before the kernel does it: it may then happen, fail, or be the last one.

The kernel asks at each of the system calls in `CALLS`, by seccomp's user notification: at those of the command, of
its threads and of the processes that it starts. Nothing is replaced in Python, and what libraries do in C is seen
too. It needs Linux and libseccomp 2.5 or later, and no rights.

Limits: calls on an open file that reach no disk (fstat, lseek, fcntl) and mapped memory are not seen. A call that
fails is not done at all: a file whose close fails stays open until the command ends, and no write fails half way.
"""

import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from scripts.faults.command import Command

# What arguments of a call say which file it is about: f a descriptor; p a path; dp a path and, before it, the
# descriptor of the folder from which it leads on.
CALLS = {
    "open": "p", "openat": "dp", "creat": "p", "close": "f",
    "read": "f", "pread64": "f", "readv": "f", "preadv": "f", "getdents64": "f",
    "write": "f", "pwrite64": "f", "writev": "f", "pwritev": "f", "sendfile": "f", "copy_file_range": "--f",
    "fsync": "f", "fdatasync": "f", "truncate": "p", "ftruncate": "f", "fallocate": "f", "flock": "f",
    "stat": "p", "lstat": "p", "newfstatat": "dp", "statx": "dp", "access": "p", "faccessat": "dp",
    "faccessat2": "dp", "readlink": "p", "readlinkat": "dp", "chdir": "p",
    "mkdir": "p", "mkdirat": "dp", "rmdir": "p", "unlink": "p", "unlinkat": "dp",
    "rename": "p", "renameat": "dp", "renameat2": "dp", "link": "p", "linkat": "dp",
    "chmod": "p", "fchmod": "f", "fchmodat": "dp", "utimensat": "dp",
}  # fmt: skip
KILL = -1  # what `decide` answers instead of an error's number

_AT_FDCWD = -100
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000  # seccomp.h: what a filter does at a call
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # its ioctl numbers, each with a structure
_NOTIFICATION, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_GO_ON = 1


class Operation(NamedTuple):
    """A file operation that is about to happen."""

    call: str
    path: Path
    makes_file: bool  # an open that makes a file, or empties it


def why_not() -> str:
    """Return why nothing can be watched here; nothing where it can."""
    try:
        return (
            "" if _seccomp().seccomp_api_get() >= 5 else "this kernel or libseccomp has no user notification"
        )
    except OSError:
        return "no libseccomp.so.2; apt-get install libseccomp2"


def watch(
    start: Callable[[Callable[[], object]], Command],
    folder: Path,
    decide: Callable[[Operation], int],
    seconds: float,
) -> tuple[int, str]:
    """Run a command to its end; return its status and what it said on stderr.

    `start` starts the command and has it call, in its own process, what `start` is given. Before each of its
    operations in `folder`, `decide` says what becomes of that: 0 lets it happen, a number of `errno` is the error
    that it fails with, and KILL is the command's end. Raises TimeoutError after so many `seconds`.
    """
    ours, its = socket.socketpair()
    command = start(lambda: socket.send_fds(its, [b"."], [_ask_at_calls()]))
    its.close()
    _, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    names = {number: call for call, number in _numbers().items()}
    asked = select.poll()
    asked.register(listener, select.POLLIN)
    end = time.monotonic() + seconds
    while command.poll() is None and time.monotonic() < end:
        if not any(event & select.POLLIN for _, event in asked.poll(20)):
            continue
        question = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, question)
            number, thread, _, call, _, _, *arguments = _NOTIFICATION.unpack(question)
            operation = _operation(names[call], thread, arguments)
            error = decide(operation) if operation and operation.path.is_relative_to(folder) else 0
            if error == KILL:
                os.kill(command.pid, signal.SIGKILL)
            else:
                fcntl.ioctl(listener, _SEND, _ANSWER.pack(number, 0, -error, 0 if error else _GO_ON))
        except FileNotFoundError:  # who asked is gone
            continue
    os.close(listener)
    return command.end(1)


def _seccomp() -> Any:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def _numbers() -> dict[str, int]:
    """Return the numbers of CALLS, as far as this machine has them."""
    resolve = _seccomp().seccomp_syscall_resolve_name
    return {call: number for call in CALLS if (number := resolve(call.encode())) >= 0}


def _ask_at_calls() -> int:
    """Have the kernel ask, from now on, at the calls of this process; return the descriptor where it does."""
    library, numbers = _seccomp(), _numbers()
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ALLOW)))
    for number in numbers.values():
        library.seccomp_rule_add(rules, ctypes.c_uint32(_NOTIFY), number, 0)
    if error := library.seccomp_load(rules):
        raise OSError(-error, os.strerror(-error))
    return library.seccomp_notify_fd(rules)


def _operation(call: str, thread: int, arguments: list[int]) -> Operation | None:
    """Return what a thread is about to do; None for what is about no file that has a path."""
    signed = [ctypes.c_int32(argument & 0xFFFFFFFF).value for argument in arguments]
    kinds = CALLS[call]
    try:
        if kinds.endswith("f"):
            path = os.readlink(f"/proc/{thread}/fd/{signed[len(kinds) - 1]}")
        else:
            place = kinds.index("p")
            path = _text(thread, arguments[place])
            if not path:  # the descriptor itself: fstat by another name
                return None
            from_here = kinds == "p" or signed[place - 1] == _AT_FDCWD
            base = os.readlink(f"/proc/{thread}/{'cwd' if from_here else f'fd/{signed[place - 1]}'}")
            path = os.path.normpath(os.path.join(base, path))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESRCH, errno.EIO):  # no such descriptor, no such memory
            raise
        return None
    flags = arguments[kinds.index("p") + 1] if call in ("open", "openat") else 0
    return Operation(call, Path(path), call == "creat" or bool(flags & (os.O_CREAT | os.O_TRUNC)))


def _text(thread: int, address: int) -> str:
    """Return the text that begins at an address in the memory of another process."""
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        return os.fsdecode(os.pread(memory.fileno(), 4096, address).partition(b"\0")[0])
