"""The devices that torch can compute on here, and the choice of one."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from geofuse.errors import UsageError
from geofuse.threads import choose_threads


@dataclass(frozen=True)
class DeviceInfo:
    """One device."""

    name: str  # what `--device` takes: "cpu", "cuda:0"
    title: str  # the model
    memory_bytes: int | None  # its own memory; None for the CPU, which has the machine's


def available_devices() -> tuple[DeviceInfo, ...]:
    """Return the devices torch can use, the GPUs first, the CPU last."""
    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        gpus.append(DeviceInfo(f"cuda:{index}", properties.name, properties.total_memory))
    return (*gpus, DeviceInfo("cpu", torch.backends.cpu.get_cpu_capability(), None))


def pick_device(name: str = "auto") -> str:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into the name of a device that is here: ``"cpu"`` or ``"cuda:N"``.

    ``auto`` is the first GPU, else the CPU.

    Raises
    ------
    UsageError
        If the name is none of these or the device is not here.
    """
    name = name.strip().lower()
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UsageError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N")
    present = [device.name for device in available_devices()]
    if name == "auto":
        return present[0]
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in present:
        reason = "" if torch.version.cuda else "; this torch is built without CUDA"
        raise UsageError(f"device {name} is not available here, only {', '.join(present)}{reason}; use --device auto or cpu")
    return wanted


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that a device has no memory left; if so, give back what torch keeps in reserve there."""
    if not isinstance(error, torch.OutOfMemoryError):
        return False
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return True


def use_threads() -> int:
    """Let torch compute with the number of threads that :func:`geofuse.threads.choose_threads` chooses; returns it."""
    count = choose_threads().count
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
    return count


def peak_device_memory_bytes(device: str) -> int:
    """Return the most memory that torch has held on a GPU so far in this process, in bytes; 0 for the CPU."""
    return torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else 0
