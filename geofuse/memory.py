"""How much memory this process has used, and keeping it from using more than it needs."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3  # malloc.h
_LARGE_BYTES = 4 * 2**20


def peak_memory_bytes() -> int:
    """Return the largest resident set of this process so far in bytes; 0 where the platform does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    # On Linux ru_maxrss begins with the memory of the process that started this one; VmHWM is this program's own.
    status = Path("/proc/self/status")
    own = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.is_file() else None
    if own:
        return int(own[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def share_arenas() -> None:
    """Let all threads take memory from two arenas instead of one for each thread, where the C library is glibc.

    Arrays that pass from thread to thread leave holes in an arena that only its own threads can fill: measured on a run with
    reader, writer and compressing threads, the peak was 1.00 GB without this and 0.78 GB with it.
    """
    if (library := _glibc()) is not None:
        library.mallopt(_M_ARENA_MAX, 2)


def map_large_arrays() -> None:
    """Let every array of 4 MiB or more lie in pages of its own, which the system has back as soon as it is freed; glibc only.

    Otherwise such arrays leave holes that the next ones do not fit. The peak of a scene of 4096 x 4096 fine pixels fell by a tenth,
    for a tenth more processor time while tiles are fused (docs/experiments.md, section 28).
    """
    if (library := _glibc()) is not None:
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def give_back() -> None:
    """Return to the system what is free in between, where the C library is glibc, which keeps it otherwise."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> Any:
    """Return the C library if it is glibc."""
    import ctypes

    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return library if hasattr(library, "gnu_get_libc_version") else None
