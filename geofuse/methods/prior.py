"""What ARGS-Diff has learnt from one scene, kept in a file for its neighbours and other dates.

A prior is the two networks of the fast presets and the coordinates in which the spatial one sees the MSI. The file is safetensors:
numbers and nothing that could run. Its one metadata entry, ``geofuse_prior``, is a JSON object,

    {"schema": 1, "geofuse": version, "method": "argsdiff", "srf": title, "msi_bands": [names]}

and its tensors are

=================== ============ =====================================================================
name                shape        meaning
=================== ============ =====================================================================
``wavelength_nm``   (C,)         band centres of the HSI in nm, NaN where unknown
``response``        (c, C)       what each MSI band sees of the HSI's bands
``msi_noise``       (c,)         noise of the MSI that was learnt from
``msi_axes``        (c, c)       its whitening, :class:`geofuse.methods.subspace.MsiView`
``msi_spread``      (c,)         spread of its components
``texture.*``       -            weights of :class:`geofuse.diffusion.texture_network.TextureNetwork`
``spectrum.*``      -            weights of :class:`geofuse.diffusion.spectrum_network.SpectrumNetwork`
=================== ============ =====================================================================

The first five are float64, the weights float32; the sizes of the networks are those of their weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from geofuse.diffusion.spectrum_network import SpectrumNetwork
from geofuse.diffusion.texture_network import TextureNetwork
from geofuse.errors import InputError
from geofuse.methods.subspace import MsiView
from geofuse.methods.tensor_file import FileKind, damaged, read_tensors, write_tensors

KIND = FileKind("prior", "geofuse_prior", 1, "geofuse run --save-prior", 64 * 2**20)  # most are a fraction of a megabyte
_SAME_BAND_NM = 2.0  # band centres of one sensor drift by less from flight to flight
_SAME_RESPONSE = 0.95  # least cosine of two rows of R that are the same MSI band


@dataclass(frozen=True)
class Sensors:
    """The two sensors that a prior was learnt with.

    Attributes
    ----------
    wavelength_nm
        (C,) band centres of the HSI, NaN where unknown.
    response
        (c, C) what each MSI band sees of the HSI's bands.
    srf
        Title of the MSI's response.
    msi_bands
        Names of the MSI's bands.
    """

    wavelength_nm: np.ndarray
    response: np.ndarray
    srf: str
    msi_bands: tuple[str, ...]


@dataclass(frozen=True)
class Prior:
    """The networks, and the view of the MSI that the spatial one works in."""

    texture: TextureNetwork
    spectrum: SpectrumNetwork
    view: MsiView

    def align(self, view: MsiView) -> MsiView:
        """Return the coordinates of another scene's MSI that the spatial network is to see.

        The other scene's own noise is whitened and then turned as the prior's scene was, so that noise has unit variance and each
        component stays the mixture of bands that the network knows. (Of all rotations of the new whitened bands this one comes
        nearest to the prior's axes, because both whitenings are diagonal.) The components are scaled as in the prior's scene.
        """
        return MsiView(view.noise, self.view.axes * (self.view.noise / view.noise)[None, :], self.view.spread)


class TurnedNetwork(nn.Module):
    """The spatial network of another scene, for components along this scene's own axes.

    Pilot, error estimates and data terms stay in this scene's principal axes, where weak components hold next to nothing. Only the
    network works in the axes that it was taught in. Both kinds of axes have unit noise, so one is a rotation of the other.

    Parameters
    ----------
    network
        The network to adapt.
    turn
        Rotation (c, c) from this scene's components to the network's.
    """

    def __init__(self, network: TextureNetwork, turn: np.ndarray) -> None:
        """Hold both; the rotation is not learnt."""
        super().__init__()
        self.network = network
        self.register_buffer("turn", torch.as_tensor(turn, dtype=torch.float32))

    @property
    def reach(self) -> int:
        """How many pixels away an input still matters."""
        return self.network.reach

    @property
    def inner_kernels(self) -> list[nn.Parameter]:
        """The network's kernels between hidden channels."""
        return self.network.inner_kernels

    def forward(self, state: Tensor, level: Tensor) -> Tensor:
        """Estimate clean components (B, c, H, W) from states of levels (B,)."""
        turned = torch.einsum("ij,bjhw->bihw", self.turn, state).contiguous(memory_format=torch.channels_last)
        return torch.einsum("ij,bihw->bjhw", self.turn, self.network(turned, level))


@runtime_checkable
class LearnsPrior(Protocol):
    """A method whose learning can be kept and taken up again."""

    def adopt_prior(self, prior: Prior) -> None:
        """Start learning from this prior; called before ``fit``."""

    def learnt_prior(self) -> Prior:
        """Return what ``fit`` has learnt."""


def require_same_sensors(path: str | Path, learnt: Sensors, found: Sensors) -> None:
    """Raise ``InputError`` if a prior was learnt with other bands or another MSI sensor than the pair at hand has."""
    remedy = "learn one from a scene of these sensors with --save-prior, or leave out --prior"
    if len(learnt.wavelength_nm) != len(found.wavelength_nm):
        raise InputError(f"prior {path} was learnt on an HSI of {_bands(learnt)}, this one has {_bands(found)}; {remedy}")
    shift = np.abs(learnt.wavelength_nm - found.wavelength_nm)
    if (shift > _SAME_BAND_NM).any():
        k = int(np.nanargmax(shift))
        raise InputError(
            f"prior {path} was learnt on an HSI whose band {k + 1} lies at {learnt.wavelength_nm[k]:.1f} nm, here it lies at "
            f"{found.wavelength_nm[k]:.1f} nm, more than {_SAME_BAND_NM:g} nm away; {remedy}"
        )
    same = learnt.response.shape == found.response.shape and bool((_cosines(learnt, found) >= _SAME_RESPONSE).all())
    if not same:
        raise InputError(f"prior {path} was learnt on an MSI of {_msi(learnt)}, this one has {_msi(found)}; {remedy}")


def save_prior(path: str | Path, prior: Prior, sensors: Sensors) -> None:
    """Write a prior, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from geofuse import __version__

    header = {"geofuse": __version__, "method": "argsdiff", "srf": sensors.srf, "msi_bands": sensors.msi_bands}
    numbers = {
        "wavelength_nm": sensors.wavelength_nm,
        "response": sensors.response,
        "msi_noise": prior.view.noise,
        "msi_axes": prior.view.axes,
        "msi_spread": prior.view.spread,
    }
    tensors = {name: torch.from_numpy(np.array(value, np.float64, order="C")) for name, value in numbers.items()}
    for part, network in (("texture", prior.texture), ("spectrum", prior.spectrum)):
        tensors |= {f"{part}.{name}": value for name, value in network.state_dict().items()}
    write_tensors(path, KIND, header, tensors)


def load_prior(path: str | Path) -> tuple[Prior, Sensors]:
    """Read a prior; nothing is unpickled, and nothing in the file can make it take more memory than its own size.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it is something else than a prior, or of another schema, or damaged.
    """
    header, tensors = read_tensors(path, KIND)
    try:
        return _assemble(header, tensors)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise damaged(path, KIND, error) from None


def _assemble(header: Mapping, tensors: Mapping[str, Tensor]) -> tuple[Prior, Sensors]:
    """Build networks and sensors; raises ValueError, KeyError or RuntimeError where they do not fit together."""
    wrong = [name for name, tensor in tensors.items() if name != "wavelength_nm" and not torch.isfinite(tensor).all()]
    if wrong:
        raise ValueError(f"{wrong[0]} holds values that are not finite")
    names = ("wavelength_nm", "response", "msi_noise", "msi_axes", "msi_spread")
    wavelength, response, noise, axes, spread = (tensors[name].double().numpy() for name in names)
    c, n_bands = response.shape
    if [a.shape for a in (wavelength, noise, axes, spread)] != [(n_bands,), (c,), (c, c), (c,)]:
        raise ValueError("the sizes of its tensors do not agree")
    if not (noise > 0).all() or not (spread > 0).all():
        raise ValueError("noise and spread must be above zero")
    texture, spectrum = _weights(tensors, "texture."), _weights(tensors, "spectrum.")
    with torch.device("meta"):  # sizes without memory: the weights themselves are put in below
        networks = (
            TextureNetwork(torch.ones(c), texture["first.weight"].shape[0], _depth(texture)),
            SpectrumNetwork(n_bands, spectrum["first.weight"].shape[0], _depth(spectrum), spectrum["first.weight"].shape[2]),
        )
    for network, weights in zip(networks, (texture, spectrum), strict=True):
        network.load_state_dict(weights, assign=True)
        network.eval()
    sensors = Sensors(wavelength, response, str(header["srf"]), tuple(str(name) for name in header["msi_bands"]))
    return Prior(*networks, MsiView(noise, axes, spread)), sensors


def _weights(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return the weights of one network by the names that it gives them."""
    return {name.removeprefix(part): tensor.float() for name, tensor in tensors.items() if name.startswith(part)}


def _depth(weights: Mapping[str, Tensor]) -> int:
    """Count the inner convolutions."""
    return sum(name.startswith("body.") and name.endswith(".weight") for name in weights)


def _cosines(one: Sensors, other: Sensors) -> np.ndarray:
    """Cosine (c,) between each MSI band's response in the one and the other."""
    lengths = np.linalg.norm(one.response, axis=1) * np.linalg.norm(other.response, axis=1)
    return (one.response * other.response).sum(axis=1) / np.maximum(lengths, 1e-12)


def _bands(sensors: Sensors) -> str:
    """Describe the HSI's bands."""
    known = sensors.wavelength_nm[np.isfinite(sensors.wavelength_nm)]
    span = f" from {known.min():.0f} to {known.max():.0f} nm" if len(known) else ""
    return f"{len(sensors.wavelength_nm)} bands{span}"


def _msi(sensors: Sensors) -> str:
    """Describe the MSI."""
    return f"{len(sensors.response)} bands ({', '.join(sensors.msi_bands)}; {sensors.srf})"
