"""How the C library holds memory, which an activation needs anew in every step, and what Python seeks in it."""

import ctypes
import gc

# Environment of worker processes: huge pages, which save a tenth of a step at width 256, where weights and
# momentum of a chunk are many pages. Only glibc reads it, when a process starts.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's numbers for mallopt


def keep_freed_memory() -> None:
    """Have this process use freed memory again, where glibc would give it back to the system and fetch it anew.

    Fetching costs more than filling it: kept, a pass over 5,000 images takes a third of the time. No other C
    library is touched.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; on Windows there is no name for it
        return
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_MMAP_MAX, 0)


def look_for_garbage_from_here() -> None:
    """Have Python's garbage collector heed what is made from now on alone: what is imported stays.

    Among half a million objects of libraries a single search takes a tenth of a second.
    """
    gc.freeze()
    gc.enable()
