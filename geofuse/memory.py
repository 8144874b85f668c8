"""How much memory this process has used."""

from __future__ import annotations

import sys


def peak_memory_bytes() -> int:
    """Return the largest resident set of this process so far in bytes; 0 where the platform does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
