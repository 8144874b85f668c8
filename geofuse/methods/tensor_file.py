"""Files of learnt numbers: safetensors with one JSON entry of metadata. Nothing in them is ever unpickled or can run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from geofuse.errors import InputError, MissingFileError, OutputError


@dataclass(frozen=True)
class FileKind:
    """One kind of such files.

    Attributes
    ----------
    noun
        What messages call it, such as ``prior``.
    entry
        Name of its metadata entry.
    schema
        Version of its layout.
    maker
        The command that writes one, for messages.
    most_bytes
        Size above which a file is not read.
    """

    noun: str
    entry: str
    schema: int
    maker: str
    most_bytes: int


def write_tensors(path: str | Path, kind: FileKind, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a file, whole or not at all; ``schema`` is added to the header.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    contiguous = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    data = save(contiguous, {kind.entry: json.dumps({"schema": kind.schema, **header})})
    path = Path(path)
    made = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(made, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        made.replace(path)
    except OSError as error:
        made.unlink(missing_ok=True)
        raise OutputError(f"cannot write the {kind.noun} {path}: {error.strerror}; free space, or choose another place") from None


def read_tensors(path: str | Path, kind: FileKind) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return header and tensors; nothing in the file can make reading take more memory than its own size.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it is something else, of another schema, or damaged.
    """
    data = _read(Path(path), kind)
    try:
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except (SafetensorError, ValueError):
        raise InputError(f"{kind.noun} {path} is not a safetensors file; expected one written by {kind.maker}") from None
    try:
        header = json.loads(metadata[kind.entry])
        schema = int(header["schema"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} holds safetensors, but no {kind.noun}; expected a file written by {kind.maker}") from None
    if schema != kind.schema:
        raise InputError(
            f"{kind.noun} {path} has schema {schema}, this version reads schema {kind.schema}; make it again with {kind.maker}"
        )
    return header, tensors


def damaged(path: str | Path, kind: FileKind, error: Exception) -> InputError:
    """Say in one line that a file's contents do not fit together."""
    reason = " ".join(str(error).split())[:160]
    return InputError(f"{kind.noun} {path} is damaged ({reason}); make it again with {kind.maker}")


def _read(path: Path, kind: FileKind) -> bytes:
    """Read the bytes of a file that may be of this kind."""
    if not path.is_file():
        raise MissingFileError(f"{kind.noun} {path} does not exist or is no file; give one written by {kind.maker}")
    size = path.stat().st_size
    if size > kind.most_bytes:
        raise InputError(
            f"{kind.noun} {path} has {size / 2**20:.0f} MiB; one written by {kind.maker} has less than {kind.most_bytes >> 20}"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{kind.noun} {path} cannot be read: {error.strerror}; check its permissions") from None
    # A safetensors file starts with its header's length, whose first byte may well be that of a pickle, and goes on with "{".
    if data[8:9] != b"{" and (data[:1] == b"\x80" or data[:4] == b"PK\x03\x04"):
        raise InputError(
            f"{kind.noun} {path} is a pickle or a PyTorch archive, which is never opened because it can run code; expected a "
            f"safetensors file written by {kind.maker}"
        )
    return data
