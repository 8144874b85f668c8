"""What all tests share. Importing geofuse here, before any test module imports torch, makes waiting threads sleep."""

from pathlib import Path

import pytest

import geofuse  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scenes; tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real scenes are not here ({folder})")
    return folder
