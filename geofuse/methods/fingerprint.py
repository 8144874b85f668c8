"""A fingerprint of what a method has learnt, to tell whether learning came out the same a second time."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def fingerprint(method: Any) -> str:
    """Return the SHA-256 of every number that an object holds: arrays, tensors, networks, and objects that hold such in turn."""
    digest = hashlib.sha256()
    _add(method, digest, set())
    return digest.hexdigest()


def _add(value: Any, digest: hashlib._Hash, seen: set[int]) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes() if value.dtype != object else repr(value.tolist()).encode())
    elif isinstance(value, bool | int | float | complex | str | np.generic | None):
        digest.update(repr(value).encode())
    elif id(value) not in seen:
        seen.add(id(value))
        for key, part in _parts(value):
            digest.update(key.encode())
            _add(part, digest, seen)


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Return what an object consists of, by name, in an order that does not change from run to run."""
    if isinstance(value, torch.nn.Module):
        return sorted(value.state_dict().items())
    if isinstance(value, Mapping):
        return sorted(((str(key), part) for key, part in value.items()), key=lambda item: item[0])
    if isinstance(value, list | tuple):
        return [(str(i), part) for i, part in enumerate(value)]
    if dataclasses.is_dataclass(value) or type(value).__module__.startswith("geofuse."):
        return sorted(vars(value).items()) if hasattr(value, "__dict__") else []
    return []
