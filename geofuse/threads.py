"""How many threads to compute with, and how they wait for each other.

Two facts, both measured with torch 2.13 on two shared cores (a small network in training, steps a second):

* Threads that spin while they wait are ruinous when cores are shared. With torch's default, 2 threads ran 0.7 steps a second where
  1 thread ran 11; waiting passively, 2 threads ran 11 to 14, also with a second such process beside them. So geofuse asks OpenMP
  to wait passively (:func:`wait_passively`, called at ``import geofuse``); a policy set by the user stands.
* The number of threads changes the last bits of sums and decompositions. The same seed must give the same bytes, so the number
  depends on what the machine offers this process and on what the user asked for, never on the load of the moment.

This module computes numbers and sets environment variables; whoever imports torch applies them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from geofuse.errors import UsageError

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_CGROUP_MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class ThreadChoice:
    """A number of threads and why it was chosen."""

    count: int
    reason: str  # one phrase, for `geofuse doctor`
    offered: int  # cores this process may use


_fixed: int | None = None


def fix_threads(count: int | None) -> None:
    """Let :func:`choose_threads` choose this number from now on, whatever is offered here; None takes it back.

    For processes that go on with what another has begun: the same number of threads gives the same bytes.
    """
    global _fixed
    _fixed = count


def choose_threads() -> ThreadChoice:
    """Choose how many threads to compute with.

    What :func:`fix_threads` was told decides, else ``GEOFUSE_THREADS``, else ``OMP_NUM_THREADS``, else the cores offered; the last
    three never more than the cores offered.

    Raises
    ------
    UsageError
        If ``GEOFUSE_THREADS`` is not a whole number from 1 up.
    """
    offered, reason = _offered_cores()
    if _fixed is not None:
        return ThreadChoice(_fixed, "as many as in the process that began this work", offered)
    asked = os.environ.get("GEOFUSE_THREADS", "").strip()
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise UsageError(f"GEOFUSE_THREADS is {asked!r}, expected a whole number from 1 up; unset it to let geofuse choose")
        return _limited(int(asked), "GEOFUSE_THREADS", offered)
    # OpenMP allows a list, one number a nesting level ("4,2"): the first counts. What OpenMP ignores, we ignore.
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdecimal() and int(first) >= 1:
        return _limited(int(first), "OMP_NUM_THREADS", offered)
    return ThreadChoice(offered, reason, offered)


def _limited(asked: int, source: str, offered: int) -> ThreadChoice:
    """Grant what ``source`` asked for, up to the cores offered."""
    if asked > offered:
        return ThreadChoice(offered, f"{source} asks for {asked}, only {offered} offered", offered)
    return ThreadChoice(asked, source, offered)


def _offered_cores() -> tuple[int, str]:
    """Return the cores this process may use, and which limit decided."""
    total = os.cpu_count() or 1
    offered, reason = total, "all cores of the machine"
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < offered:  # Linux only
        offered, reason = len(os.sched_getaffinity(0)), "CPU affinity"
    quota = cgroup_cores()
    if quota is not None and max(1, int(quota)) < offered:
        offered, reason = max(1, int(quota)), f"the container's quota of {quota:g} cores"
    return offered, reason


def cgroup_cores(root: Path = _CGROUP_ROOT, membership: Path = _CGROUP_MEMBERSHIP) -> float | None:
    """Return the CPU quota of this process's control groups in cores, the tightest of all levels; None when there is none.

    Parameters
    ----------
    root
        Where the control group file system is mounted.
    membership
        The file that names this process's groups, one ``id:controllers:path`` a line (cgroups(7)).
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None  # not Linux, or no control groups
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for base in (root, root / "cpu") if controllers else (root, root / "unified"):
            group = base / path.strip("/")
            quotas += [_quota(folder) for folder in (group, *group.parents) if folder.is_relative_to(base)]
    return min((quota for quota in quotas if quota), default=None)


def _quota(folder: Path) -> float | None:
    """Return the quota one control group sets itself, in cores: version 2 first, then version 1."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        cores = float(quota) / float(period)  # "max" is not a number, "-1" is version 1's word for it
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def each(work: Callable[[int], object], count: int, at_once: int) -> None:
    """Call ``work`` with 0 to ``count`` - 1, in ``at_once`` threads, or in as many as :func:`choose_threads` says if that is less.

    Raises
    ------
    BaseException
        What ``work`` raised, of several the one of the lowest number; what has not begun by then is left out.
    """
    threads = min(choose_threads().count, count, at_once)
    if threads < 2:
        for i in range(count):
            work(i)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="geofuse-each") as pool:
        for _ in pool.map(work, range(count)):
            pass


def wait_passively() -> None:
    """Ask OpenMP to let waiting threads sleep rather than spin, unless the user set a policy.

    OpenMP reads the variable when its library is loaded, so this has no effect once torch is imported; :func:`waiting` tells.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def waiting() -> str:
    """Say how OpenMP threads wait, as far as the environment tells: ``"passive"``, ``"active"`` or ``"default"``."""
    return os.environ.get("OMP_WAIT_POLICY", "default").lower()
