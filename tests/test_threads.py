from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from geofuse import threads
from geofuse.errors import UsageError


@pytest.fixture
def eight_cores(monkeypatch):
    """A machine that offers eight cores, nothing asked for."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "cgroup_cores", lambda: None)
    monkeypatch.delenv("GEOFUSE_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return monkeypatch


def test_all_cores_offered_are_used(eight_cores):
    assert threads.choose_threads().count == 8


def test_affinity_limits_what_is_offered(eight_cores):
    eight_cores.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)
    assert threads.choose_threads() == threads.ThreadChoice(2, "CPU affinity", 2)


@pytest.mark.parametrize(("quota", "count"), [(3.7, 3), (0.5, 1), (64.0, 8)])
def test_a_containers_quota_limits_what_is_offered(eight_cores, quota, count):
    eight_cores.setattr(threads, "cgroup_cores", lambda: quota)
    assert threads.choose_threads().count == count


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "99"}, 8),
        ({"OMP_NUM_THREADS": "nonsense"}, 8),
        ({"GEOFUSE_THREADS": "2", "OMP_NUM_THREADS": "5"}, 2),
        ({"GEOFUSE_THREADS": "99"}, 8),
    ],
)
def test_the_user_decides_up_to_what_is_offered(eight_cores, environment, count):
    for name, value in environment.items():
        eight_cores.setenv(name, value)
    assert threads.choose_threads().count == count


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_a_thread_count_that_is_none_is_refused(eight_cores, value):
    eight_cores.setenv("GEOFUSE_THREADS", value)
    with pytest.raises(UsageError, match="GEOFUSE_THREADS"):
        threads.choose_threads()


def test_the_load_of_the_moment_does_not_change_the_choice(eight_cores):
    """Or the same seed would not give the same bytes twice."""
    eight_cores.setattr(os, "getloadavg", lambda: (100.0, 100.0, 100.0), raising=False)
    assert threads.choose_threads().count == 8


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_tightest_quota_of_the_groups_counts_version_2(tmp_path):
    write(tmp_path / "self", "0::/pod/box\n")
    write(tmp_path / "fs/pod/cpu.max", "150000 100000\n")
    write(tmp_path / "fs/pod/box/cpu.max", "max 100000\n")
    assert threads.cgroup_cores(tmp_path / "fs", tmp_path / "self") == 1.5


def test_the_tightest_quota_of_the_groups_counts_version_1(tmp_path):
    write(tmp_path / "self", "9:memory:/box\n3:cpu,cpuacct:/box\n0::/\n")
    write(tmp_path / "fs/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "fs/cpu/cpu.cfs_period_us", "100000\n")
    write(tmp_path / "fs/cpu/box/cpu.cfs_quota_us", "250000\n")
    write(tmp_path / "fs/cpu/box/cpu.cfs_period_us", "100000\n")
    assert threads.cgroup_cores(tmp_path / "fs", tmp_path / "self") == 2.5


def test_no_control_groups_is_no_quota(tmp_path):
    assert threads.cgroup_cores(tmp_path / "fs", tmp_path / "self") is None


@pytest.mark.parametrize(("before", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_importing_geofuse_makes_threads_wait_passively_unless_the_user_says_otherwise(before, expected):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": before} if before else {}
    code = "import os, geofuse; print(os.environ.get('OMP_WAIT_POLICY'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize(("asked", "at_once", "expected"), [("8", 4, 4), ("2", 4, 2), ("1", 4, 1)])
def test_each_calls_with_every_number_and_no_more_at_a_time_than_allowed(eight_cores, asked, at_once, expected):
    eight_cores.setenv("GEOFUSE_THREADS", asked)
    running, most, seen, lock = 0, 0, [], threading.Lock()

    def work(i):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
            seen.append(i)

    threads.each(work, 9, at_once)
    assert sorted(seen) == list(range(9)) and most == expected


def test_each_raises_what_was_raised_and_begins_no_more(eight_cores):
    eight_cores.setenv("GEOFUSE_THREADS", "2")
    begun = []

    def work(i):
        begun.append(i)
        time.sleep(0.02)
        if i == 1:
            raise UsageError("one")

    with pytest.raises(UsageError, match="one"):
        threads.each(work, 50, 4)
    assert len(begun) < 10
