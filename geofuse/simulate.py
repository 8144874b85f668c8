"""Wald's protocol: from one hyperspectral scene, the coarse HSI and the fine MSI that two sensors would have taken of it.

The scene itself is the reference. Bands without any data are dropped and the scene is cropped from its top left corner. Then

    hsi = H(reference) + noise        H: the PSF, one value a coarse pixel, reflected borders
    msi = R reference + noise         R: the sensor's response

with Gaussian noise of power ``10^(-SNR / 10)`` of the image's own mean square (over all its bands and valid pixels), the same
power in every band. The noise of HSI and MSI comes from two independent generators made from the seed.

No data: an MSI value is missing where any band that enters it is. An HSI value is missing where any fine pixel of its own
footprint is, or where missing fine pixels around it hold more than 5 % of the PSF's absolute weight; a smaller share is made up
for by dividing by the weight that is left.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from geofuse import __version__
from geofuse.degradation import SpatialOperator
from geofuse.errors import InputError, OutputError, UsageError
from geofuse.scene import BandMetadata, band_metadata, make_scene
from geofuse.sensors import Psf, SensorResponse, load_response, match_bands, response_matrix

MAX_MISSING_SHARE = 0.05
IMAGES = ("hsi", "msi", "reference")
_CROP_MULTIPLE = 16


@dataclass(frozen=True)
class SimulationOptions:
    """How to simulate a pair from a file.

    Attributes
    ----------
    srf
        Name of the sensor, or path of a CSV table, whose response makes the MSI.
    ratio
        Fine pixels along one side of a coarse pixel, 2 to 40.
    psf
        ``bicubic``, ``gaussian[:FWHM]``, ``box`` or the path of a kernel file; see :meth:`geofuse.sensors.Psf.parse`.
    snr_db
        Signal-to-noise ratio of both images in dB; None or infinity for no noise.
    seed
        Seed of the noise, 0 or more.
    msi_bands
        Names of the response's bands to keep, in this order; all reflective ones if None.
    min_coverage
        Share of each MSI band's response that the scene must cover.
    crop_multiple
        The reference is cropped to a multiple of this many pixels, itself a multiple of the ratio. None: the least common
        multiple of the ratio and 16.
    wavelengths
        Path of a CSV table with the scene's wavelengths; see :func:`geofuse.io.open_scene`.

    Raises
    ------
    UsageError
        If the ratio does not divide the crop multiple.
    """

    srf: str
    ratio: int = 4
    psf: str = "bicubic"
    snr_db: float | None = 35.0
    seed: int = 0
    msi_bands: tuple[str, ...] | None = None
    min_coverage: float = 0.9
    crop_multiple: int | None = None
    wavelengths: str | Path | None = None

    def __post_init__(self) -> None:
        """Check the crop multiple against the ratio."""
        if self.ratio < 1 or self.multiple % self.ratio:
            raise UsageError(f"the ratio {self.ratio} does not divide the {self.multiple} pixels to crop to a multiple of")

    @property
    def multiple(self) -> int:
        """The crop multiple in pixels, with its default filled in."""
        return self.crop_multiple or math.lcm(self.ratio, _CROP_MULTIPLE)


@dataclass(frozen=True)
class SimulatedPair:
    """The two images and their reference, as scenes, and what there is to say about them.

    The scenes are float32, NaN = no data; the attributes of each hold the tags for its file.
    """

    hsi: xr.DataArray
    msi: xr.DataArray
    reference: xr.DataArray
    notes: tuple[str, ...] = ()


def prepare_reference(scene: xr.DataArray, multiple: int) -> tuple[xr.DataArray, tuple[str, ...]]:
    """Load a scene, drop the bands without any data and crop it from the top left to multiples of ``multiple`` pixels.

    Returns the reference and one note for each thing that was left out.

    Raises
    ------
    InputError
        If the scene is smaller than ``multiple`` pixels or has no data at all.
    """
    height, width = (scene.sizes[dim] // multiple * multiple for dim in ("y", "x"))
    size = f"{scene.sizes['y']} x {scene.sizes['x']} pixels"
    if not height or not width:
        raise InputError(f"the scene has {size}, expected at least {multiple} each way; lower --crop-multiple")
    data = scene.isel(y=slice(height), x=slice(width)).values
    has_data = np.array([np.isfinite(band).any() for band in data])
    if not has_data.any():
        raise InputError(f"the scene has no data in its first {height} x {width} pixels")
    notes = []
    bands = band_metadata(scene)
    if not has_data.all():
        dropped = np.flatnonzero(~has_data)
        numbers = ", ".join(str(scene["band"].values[i]) for i in dropped)
        notes.append(f"dropped {len(dropped)} of {len(bands)} bands that have no data: {numbers}")
    if (height, width) != (scene.sizes["y"], scene.sizes["x"]):
        notes.append(f"cropped from {size} to {height} x {width}, a multiple of {multiple}")
    kept = bands.select(np.flatnonzero(has_data))
    return make_scene(data[has_data], kept, scene.rio.transform(), scene.rio.crs), tuple(notes)


def simulate_pair(
    scene: xr.DataArray,
    *,
    ratio: int,
    response: SensorResponse,
    psf: Psf,
    snr_db: float | None,
    seed: int,
    min_coverage: float = 0.9,
) -> SimulatedPair:
    """Simulate the HSI and the MSI of a reference scene.

    Parameters
    ----------
    scene
        The reference, (band, y, x), height and width multiples of ``ratio``; see :func:`prepare_reference`.
    ratio
        Fine pixels along one side of a coarse pixel.
    response
        The MSI's bands.
    psf
        The HSI's point spread function.
    snr_db
        Signal-to-noise ratio in dB of both images; None or infinity for no noise.
    seed
        Seed of the noise, 0 or more.
    min_coverage
        Share of each MSI band's response that the scene must cover.

    Raises
    ------
    InputError
        If the size is not a multiple of the ratio or the scene does not cover the response.
    UsageError
        If the ratio, the SNR or the seed is out of range.
    """
    if seed < 0:
        raise UsageError(f"the seed must be 0 or more, found {seed}")
    if snr_db is not None and (math.isnan(snr_db) or snr_db < -100):
        raise UsageError(f"the SNR must be a number of dB above -100, or inf for no noise, found {snr_db}")
    bands = band_metadata(scene)
    weights = response_matrix(response, bands.wavelength_nm, bands.fwhm_nm, bands.good_band, min_coverage=min_coverage)
    reference = np.asarray(scene.values, np.float32)
    operator = SpatialOperator(psf, ratio, *reference.shape[1:])
    for_hsi, for_msi = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    hsi = add_noise(coarsen(reference, operator), snr_db, for_hsi)
    msi = add_noise(respond(reference, weights), snr_db, for_msi)
    fine, crs = scene.rio.transform(), scene.rio.crs
    coarse = type(fine)(fine.a * ratio, fine.b * ratio, fine.c, fine.d * ratio, fine.e * ratio, fine.f)
    made = {"ratio": ratio, "psf": psf.label, "srf": response.title, "msi_bands": response.band_names}
    made |= {"snr_db": None if snr_db == math.inf else snr_db, "seed": seed}
    return SimulatedPair(
        make_scene(hsi, bands, coarse, crs, _attrs("hsi", made, {"GEOFUSE_PSF": psf.to_tag()})),
        make_scene(msi, _msi_bands(response), fine, crs, _attrs("msi", made)),
        make_scene(reference, bands, fine, crs, _attrs("reference", made)),
    )


def _attrs(image: str, made: Mapping[str, Any], tags: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a scene's attributes: the tags that tell how the image was made."""
    told = {"GEOFUSE_VERSION": __version__, "GEOFUSE_SIMULATED": json.dumps({"image": image, **made})}
    return {**told, "GEOFUSE_RATIO": str(made["ratio"]), **(tags or {})}


def _msi_bands(response: SensorResponse) -> BandMetadata:
    """Return the metadata of the MSI's bands."""
    centre, width = ([getattr(band, name) for band in response.bands] for name in ("center_nm", "fwhm_nm"))
    return BandMetadata(np.array(centre), np.array(width), np.ones(len(response), bool), response.band_names)


def coarsen(fine: np.ndarray, operator: SpatialOperator) -> np.ndarray:
    """Apply H to an image (band, H, W) with NaN = no data; returns (band, h, w) float32.

    The rule for missing pixels is that of the module's text.
    """
    out = np.empty((len(fine), *operator.coarse_shape), np.float32)
    seen: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    for band, row in zip(fine, out, strict=True):
        valid = np.isfinite(band)
        row[...] = operator.forward(np.where(valid, band, 0.0).astype(float))
        if valid.all():
            continue
        key = np.packbits(valid).tobytes()
        if key not in seen:
            # Bands mostly share one mask: the last is kept, no more.
            seen = {key: (operator.forward(valid.astype(float)), _missing(valid, operator))}
        weight, missing = seen[key]
        row[missing] = np.nan
        row[~missing] /= weight[~missing]
    return out


def _missing(valid: np.ndarray, operator: SpatialOperator) -> np.ndarray:
    """Tell which coarse pixels (h, w) have no data, given the fine pixels (H, W) that have."""
    ratio = operator.ratio
    height, width = operator.coarse_shape
    own = ~valid.reshape(height, ratio, width, ratio).all(axis=(1, 3))
    kernel = np.abs(sum(np.outer(v, u) for v, u in operator.psf.separable_terms(ratio)))
    absolute = Psf("kernel", kernel=tuple(map(tuple, kernel / kernel.sum())))
    share = SpatialOperator(absolute, ratio, *operator.fine_shape).forward((~valid).astype(float))
    return own | (share > MAX_MISSING_SHARE)


def respond(fine: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Apply R: ``weights`` (c, C) times an image (C, H, W) with NaN = no data; returns (c, H, W) float32.

    A value is missing where any band with a weight other than zero is.
    """
    out = np.empty((len(weights), *fine.shape[1:]), np.float32)
    for row, band_weights in zip(out, weights, strict=True):
        total = np.zeros(fine.shape[1:])
        for index in np.flatnonzero(band_weights):
            total += band_weights[index] * fine[index]
        row[...] = total
    return out


def add_noise(image: np.ndarray, snr_db: float | None, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of power ``10^(-snr_db / 10)`` of the image's mean square; NaN stays NaN.

    Parameters
    ----------
    image
        (band, y, x) float32; the mean square is taken over all its finite values.
    snr_db
        Signal-to-noise ratio in dB; None or infinity returns the image as it is.
    rng
        Where the noise comes from; one draw a value, band by band.
    """
    if snr_db is None or snr_db == math.inf:
        return image
    count = sum(int(np.isfinite(band).sum()) for band in image)
    power = sum(float(np.nansum(np.square(band, dtype=float))) for band in image) / max(count, 1)
    sigma = math.sqrt(power * 10 ** (-snr_db / 10))
    return np.stack([(band + sigma * rng.standard_normal(band.shape)).astype(np.float32) for band in image])


def load_bands(srf: str, names: Sequence[str] | None) -> SensorResponse:
    """Load a response with only the bands called ``names``, in that order; all reflective ones if None.

    Raises
    ------
    GeofuseError
        If there is no such response or band, a band is named twice, or one cannot be made from reflectance.
    """
    response = load_response(srf)
    if not names:
        return response.reflective()
    chosen = match_bands(response, (), np.empty(0), len(names), names).response
    if len(chosen) < len(names):
        usable = ",".join(chosen.band_names)
        raise UsageError(f"of --msi-bands {','.join(names)} only {usable} can be made from one scene; name only these")
    return chosen


def simulate(path: str | Path, out_dir: str | Path, options: SimulationOptions) -> SimulatedPair:
    """Simulate a pair from the scene at ``path`` and write ``hsi.tif``, ``msi.tif`` and ``reference.tif`` into ``out_dir``.

    The files are float32 in the scene's units, NaN = no data, with band metadata, CRS and ``GEOFUSE_*`` tags; the same scene,
    options and version give the same bytes. ``out_dir`` is made if it is absent (its parent must exist).

    Raises
    ------
    GeofuseError
        If the scene, the options or the folder cannot be used; nothing is written then.
    """
    from geofuse.io import open_scene, write_scene

    response, psf = load_bands(options.srf, options.msi_bands), Psf.parse(options.psf)
    paths = _output_paths(Path(out_dir), Path(path))
    reference, notes = prepare_reference(open_scene(path, wavelengths=options.wavelengths), options.multiple)
    pair = simulate_pair(
        reference,
        ratio=options.ratio,
        response=response,
        psf=psf,
        snr_db=options.snr_db,
        seed=options.seed,
        min_coverage=options.min_coverage,
    )
    Path(out_dir).mkdir(exist_ok=True)
    for name, target in paths.items():
        write_scene(getattr(pair, name), target)
    return replace(pair, notes=notes)


def _output_paths(folder: Path, source: Path) -> dict[str, Path]:
    """Return the path of each image in ``folder``, which need not exist yet; refuse what cannot be written."""
    from geofuse.io import check_output_path

    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is not a folder; choose another with -o")
    paths = {name: folder / f"{name}.tif" for name in IMAGES}
    for path in paths.values() if folder.is_dir() else (folder,):
        check_output_path(path)
    if source.resolve() in [path.resolve() for path in paths.values()]:
        raise OutputError(f"{source} would be overwritten by its own simulation; choose another folder with -o")
    return paths
