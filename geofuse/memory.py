"""How much memory this process has used."""

from __future__ import annotations

import re
import sys
from pathlib import Path


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
