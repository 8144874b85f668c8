from __future__ import annotations

from collections import namedtuple

import pytest

from geofuse import doctor

Memory = namedtuple("Memory", "total available")


def test_here_nothing_is_broken():
    found = doctor.examine()
    assert found.problems == ()
    assert list(found.sections) == ["versions", "geodata", "devices", "threads", "memory", "temporary files"]
    assert all(found.sections["versions"].values())


def test_a_part_that_fails_becomes_a_problem_and_the_rest_is_still_told(monkeypatch):
    def broken(notes):
        raise ImportError("libcudart.so:\n no such file")

    monkeypatch.setattr(doctor, "_devices", broken)
    found = doctor.examine()
    assert found.problems[0].startswith("devices: ImportError: libcudart.so: no such file; ")
    assert "memory" in found.sections and "devices" not in found.sections
    assert found.verdict.startswith("1 problem;")


def test_a_library_that_is_absent_is_a_problem_with_its_remedy(monkeypatch):
    monkeypatch.setattr(doctor, "LIBRARIES", ("numpy", "no-such-library"))
    assert doctor.examine().problems == ("no-such-library is not installed; run pip install no-such-library",)


def test_a_gdal_driver_that_is_absent_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "DRIVERS", ("GTiff", "NoSuchDriver"))
    assert "GDAL lacks the drivers NoSuchDriver;" in doctor.examine().problems[0]


def test_a_wrong_thread_setting_is_a_problem(monkeypatch):
    monkeypatch.setenv("GEOFUSE_THREADS", "many")
    assert "GEOFUSE_THREADS is 'many'" in doctor.examine().problems[0]


@pytest.mark.parametrize(("policy", "hinted"), [("PASSIVE", False), ("ACTIVE", True), (None, True)])
def test_threads_that_spin_are_hinted_at(monkeypatch, policy, hinted):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    assert any("OMP_WAIT_POLICY" in hint for hint in doctor.examine().hints) is hinted


def test_little_memory_is_hinted_at(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory(4 * 1024**3, 1024**3))
    found = doctor.examine()
    assert any("only 1.0 GiB of memory" in hint for hint in found.hints)
    assert found.problems == ()
