"""Whether something fits into this machine, asked before it is made: else the system kills this process."""

import os
import sys
from pathlib import Path

# What a container may use, where Linux keeps it: of control groups version 2, and version 1.
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_memory(needed: int) -> None:
    """Raise MemoryError, which says both numbers, for more bytes than this process can ever have."""
    if needed > (limit := memory_limit()):
        raise MemoryError(f"it takes {needed:,} bytes of memory, this machine has {limit:,}")


def memory_limit() -> int:
    """Return how many bytes of memory this process can have: the machine's, its container's or its own limit."""
    limits = [sys.maxsize]
    if hasattr(os, "sysconf"):  # not on Windows
        from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit

        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        limits += [limit for limit in getrlimit(RLIMIT_AS)[:1] if limit != RLIM_INFINITY]
    for path in map(Path, CONTAINER_LIMITS):
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits)
