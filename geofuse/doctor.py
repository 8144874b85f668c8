"""Looks at the installation: versions, data paths, devices, threads, memory; says what is broken and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from geofuse import threads
from geofuse.errors import GeofuseError

LIBRARIES = (
    *("rasterio", "rioxarray", "xarray", "dask", "numpy", "scipy", "scikit-image"),
    *("torch", "pyrsr", "matplotlib", "psutil", "click", "rich"),
)
DRIVERS = ("GTiff", "COG", "ENVI")  # GDAL drivers that geofuse cannot do without
TEST_CRS = "EPSG:32633"
_LITTLE_MEMORY, _LITTLE_SPACE = 2 * 1024**3, 1024**3  # bytes below which a hint is given


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes
    ----------
    sections
        Section title to label to value; values are what JSON can hold, sizes in bytes under labels that end in ``_bytes``.
    problems
        What keeps geofuse from working, one line each, with the remedy.
    hints
        What makes it slow or may fail later, one line each.
    """

    sections: Mapping[str, Mapping[str, str | int | bool | None]]
    problems: tuple[str, ...]
    hints: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """One line that sums it up."""
        if self.problems:
            return f"{_counted(len(self.problems), 'problem')}; geofuse will not work before that is solved"
        return f"works, with {_counted(len(self.hints), 'hint')}" if self.hints else "all well"


def _counted(number: int, noun: str) -> str:
    """Write ``"1 hint"`` or ``"2 hints"``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class _Notes:
    """Collects problems and hints while the parts are examined."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.hints: list[str] = []


def examine() -> Examination:
    """Examine this installation; nothing is raised, whatever is broken becomes a problem of the result."""
    notes = _Notes()
    parts: dict[str, Callable[[_Notes], dict[str, str | int | bool | None]]] = {
        "versions": _versions,
        "geodata": _geodata,
        "devices": _devices,
        "threads": _threads,
        "memory": _memory,
        "temporary files": _temporary_files,
    }
    sections = {}
    for title, part in parts.items():
        try:
            sections[title] = part(notes)
        except Exception as error:  # a broken installation may fail in any way, and the rest is still worth telling
            reason = " ".join(str(error).split())
            notes.problems.append(f"{title}: {type(error).__name__}: {reason}; pip install --force-reinstall geofuse may help")
    return Examination(sections, tuple(notes.problems), tuple(notes.hints))


def _versions(notes: _Notes) -> dict[str, str | int | bool | None]:
    """Return the versions of geofuse, Python and the libraries."""
    from geofuse import __version__

    found: dict[str, str | int | bool | None] = {
        "geofuse": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    }
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = None
            notes.problems.append(f"{library} is not installed; run pip install {library}")
    return found


def _geodata(notes: _Notes) -> dict[str, str | int | bool | None]:
    """Look whether GDAL has its drivers and PROJ finds its data base."""
    import rasterio
    from rasterio._env import get_gdal_data, get_proj_data_search_paths  # what rasterio.show_versions() prints
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        CRS.from_string(TEST_CRS)
        works = True
    except CRSError as error:
        works = False
        by_user = [name for name in ("PROJ_DATA", "PROJ_LIB") if name in os.environ]
        remedy = f"unset {' and '.join(by_user)}" if by_user else "reinstall rasterio with pip install --force-reinstall rasterio"
        notes.problems.append(f"PROJ cannot look up {TEST_CRS} ({' '.join(str(error).split())}); {remedy}")
    with rasterio.Env() as env:
        absent = [driver for driver in DRIVERS if driver not in env.drivers()]
        gdal_data, proj_data = get_gdal_data(), os.pathsep.join(get_proj_data_search_paths())
    if absent:
        notes.problems.append(f"GDAL lacks the drivers {', '.join(absent)}; install rasterio's wheel and unset GDAL_SKIP")
    return {
        "GDAL": rasterio.__gdal_version__,
        "PROJ": rasterio.__proj_version__,
        "GDAL data": gdal_data,
        "PROJ data": proj_data,
        f"{TEST_CRS} found": works,
    }


def _devices(notes: _Notes) -> dict[str, str | int | bool | None]:
    """Return the CPU, the GPUs and what ``--device auto`` takes."""
    from geofuse.methods.device import available_devices, pick_device

    found: dict[str, str | int | bool | None] = {}
    for device in available_devices():
        if device.memory_bytes is None:
            found[device.name] = f"{_cpu_model()} ({device.title})"
        else:
            found[device.name] = f"{device.title}, {device.memory_bytes / 1024**3:.1f} GiB"
    return found | {"auto": pick_device("auto")}


def _cpu_model() -> str:
    """Return the CPU's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _threads(notes: _Notes) -> dict[str, str | int | bool | None]:
    """Return the cores offered, the threads chosen and the load of the machine."""
    found: dict[str, str | int | bool | None] = {"cores of the machine": os.cpu_count()}
    try:
        choice = threads.choose_threads()
        found |= {"cores offered": choice.offered, "threads": choice.count, "because of": choice.reason}
    except GeofuseError as error:
        notes.problems.append(str(error))
    found["waiting threads"] = threads.waiting()
    if threads.waiting() != "passive":
        notes.hints.append("threads that wait spin (OMP_WAIT_POLICY); on shared cores this is many times slower, set it to PASSIVE")
    if hasattr(os, "getloadavg"):  # not on Windows
        load = os.getloadavg()[0]
        found["load"] = f"{load:.1f} in the last minute"
        if load > (os.cpu_count() or 1):
            notes.hints.append(f"the machine is busy (load {load:.1f} on {os.cpu_count()} cores); runs will take longer")
    return found


def _memory(notes: _Notes) -> dict[str, str | int | bool | None]:
    """Return the machine's memory."""
    import psutil

    memory = psutil.virtual_memory()
    if memory.available < _LITTLE_MEMORY:
        notes.hints.append(f"only {memory.available / 1024**3:.1f} GiB of memory are free; use smaller tiles (--tile)")
    return {"total_bytes": memory.total, "available_bytes": memory.available}


def _temporary_files(notes: _Notes) -> dict[str, str | int | bool | None]:
    """Look whether the folder for temporary files can be written to."""
    folder = tempfile.gettempdir()
    with tempfile.TemporaryFile() as file:
        file.write(b"geofuse")
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_SPACE:
        notes.hints.append(f"only {free / 1024**3:.1f} GiB are free in {folder}; set TMPDIR to a folder with more")
    return {"folder": folder, "free_bytes": free}
