"""Trained networks of MossFuse, DDPM-Fus and SSDiff in files, with what must be known to use them.

The file is safetensors (:mod:`geofuse.methods.tensor_file`): the network's ``state_dict`` and two tensors of the sensors,
``sensors.wavelength_nm`` (C,) in nm, NaN where unknown, and ``sensors.response`` (c, C), zeros where it is not known. Its one
metadata entry, ``geofuse_weights``, is a JSON object with the fields of :class:`Card` and the version of geofuse that wrote it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geofuse.errors import InputError
from geofuse.methods.base import SceneModel
from geofuse.methods.tensor_file import FileKind, damaged, read_tensors, write_tensors

KIND = FileKind("weights", "geofuse_weights", 1, "geofuse train", 1 << 30)
NORMALISATION = "each image divided by its scene's 99.9th percentile over all bands"
_SAME_BAND_NM = 2.0  # band centres of one sensor drift by less from flight to flight
_SENSORS = ("sensors.wavelength_nm", "sensors.response")


@dataclass(frozen=True)
class Card:
    """What weights are for and where they come from.

    Attributes
    ----------
    method
        Name of the method.
    bands, msi_bands
        C and c.
    ratio
        Fine pixels along one side of a coarse pixel.
    wavelength_nm
        (C,) band centres of the HSI in nm, NaN where unknown.
    response
        (c, C) what each MSI band sees of the HSI's bands; zeros where unknown.
    srf
        Title of the MSI's response.
    options
        Options of the method that shape the network, by name.
    normalisation
        How images are scaled.
    trained_on
        Names of the scenes.
    training
        Steps, seconds, seed, batch, patch, SNR.
    metrics
        Scores of the last validation that was the best.
    """

    method: str
    bands: int
    msi_bands: int
    ratio: int
    wavelength_nm: np.ndarray
    response: np.ndarray
    srf: str
    options: Mapping[str, Any]
    trained_on: tuple[str, ...]
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    normalisation: str = NORMALISATION


def save_weights(path: str | Path, card: Card, network: nn.Module) -> None:
    """Write weights, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from geofuse import __version__

    told = {f.name: getattr(card, f.name) for f in dataclasses.fields(card) if f.name not in ("wavelength_nm", "response")}
    arrays = zip(_SENSORS, (card.wavelength_nm, card.response), strict=True)
    sensors = {name: torch.from_numpy(np.array(array, np.float64)) for name, array in arrays}
    write_tensors(path, KIND, {"geofuse": __version__, **told}, network.state_dict() | sensors)


def load_weights(path: str | Path) -> tuple[Card, dict[str, Tensor]]:
    """Read weights: their card and the network's ``state_dict``.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it holds something else, is of another schema, or damaged.
    """
    header, tensors = read_tensors(path, KIND)
    try:
        wavelength, response = (tensors.pop(name).double().numpy() for name in _SENSORS)
        known = {f.name for f in dataclasses.fields(Card)}
        told = {name: value for name, value in header.items() if name in known}
        card = Card(**{**told, "trained_on": tuple(told["trained_on"])}, wavelength_nm=wavelength, response=response)
        if wavelength.shape != (card.bands,) or response.shape != (card.msi_bands, card.bands):
            raise ValueError("the sizes of its sensors' tensors do not agree with its numbers of bands")
        wrong = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
        if wrong:
            raise ValueError(f"{wrong[0]} holds values that are not finite")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, KIND, error) from None
    return card, tensors


def damaged_card(path: str | Path, error: Exception) -> InputError:
    """Say that a card does not describe a network of its method."""
    return damaged(path, KIND, error)


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> nn.Module:
    """Put loaded tensors into a network and return it in evaluation mode, without gradients.

    Raises
    ------
    InputError
        If names or sizes are not the network's.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise damaged(path, KIND, error) from None
    return network.eval().requires_grad_(False)


def require_match(path: str | Path, card: Card, method: str, model: SceneModel) -> None:
    """Raise ``InputError`` if weights are of another method, ratio, number of bands or sensor than the scene at hand."""
    remedy = "train some for these sensors with geofuse train, or give others"
    if card.method != method:
        raise InputError(f"weights {path} are of method {card.method}, not {method}; use --method {card.method} or other weights")
    msi_bands, bands = model.response.shape
    if (card.bands, card.msi_bands) != (bands, msi_bands):
        raise InputError(
            f"weights {path} are for {card.bands} bands and a fine image of {card.msi_bands}, this pair has {bands} and "
            f"{msi_bands}; {remedy}"
        )
    if card.ratio != model.ratio:
        raise InputError(f"weights {path} are for ratio {card.ratio}, this pair has ratio {model.ratio}; {remedy}")
    shift = np.abs(card.wavelength_nm - model.wavelength_nm)
    if (shift > _SAME_BAND_NM).any():
        k = int(np.nanargmax(shift))
        raise InputError(
            f"weights {path} are for a band {k + 1} at {card.wavelength_nm[k]:.1f} nm, here it lies at "
            f"{model.wavelength_nm[k]:.1f} nm, more than {_SAME_BAND_NM:g} nm away; {remedy}"
        )
