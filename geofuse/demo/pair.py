"""From the landscape to files: what each sensor records of it, and the reference both came from.

The reference is the scene as the sensors saw it, cloud and its shadow included; both images are taken in the same pass, so both
show the cloud. Wald's protocol: the hyperspectral image is H applied to the reference, the multispectral one is R applied to it,
each plus Gaussian noise. The reference is whole; the two images lack a corner, as a swath that lies aslant on the grid would.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from geofuse.demo.canvas import CELLS
from geofuse.demo.landscape import draw_clouds, draw_landscape
from geofuse.demo.spectra import band_average, materials
from geofuse.errors import OutputError, UsageError
from geofuse.scene import BandMetadata
from geofuse.sensors import load_response, response_matrix
from geofuse.sensors.psf import Psf

RATIO = 4
FINE_M = 7.5
CRS = "EPSG:32633"
WEST_M, NORTH_M = 392400.0, 5815200.0  # corner of the scene, UTM zone 33 north
SENSOR = "landsat8"
MSI_SNR_DB = 40.0
SCALE = 1e-4
STORED = {"int16": (SCALE, -9999.0), "uint8": (1.0, 255.0)}  # dtype: scale and no data, of reflectance and of the mask
SIZES = (64, 1024)


@dataclass(frozen=True)
class DemoPaths:
    """Where the four files of a sample scene are."""

    hsi: Path
    msi: Path
    reference: Path
    mask: Path


def make_demo(out_dir: str | os.PathLike[str], *, seed: int = 0, size: int = 384) -> DemoPaths:
    """Write a sample pair, its reference and its cloud mask as GeoTIFF; the same seed and size give the same bytes.

    ``hsi.tif``: 201 bands from 405 to 2487 nm without the two water-vapour gaps, 30 m. ``msi.tif``: Landsat 8 OLI bands 1-7,
    7.5 m. ``reference.tif``: the hyperspectral bands at 7.5 m without noise. All three are reflectance as int16 with the scale
    0.0001 and -9999 for no data. ``mask.tif``: uint8 at 7.5 m, 0 clear, 1 cloud, 255 no data. Existing files are replaced.

    Parameters
    ----------
    out_dir
        Folder to write to; made if it does not exist.
    seed
        0 or more; another seed is another landscape.
    size
        Fine pixels along one side, a multiple of 4 from 64 to 1024.

    Raises
    ------
    UsageError
        If ``out_dir`` is a file, or ``seed`` or ``size`` is out of range.
    OutputError
        If the folder or a file cannot be written.
    """
    folder = _output_folder(out_dir, seed, size)
    paths = DemoPaths(*(folder / f"{name}.tif" for name in ("hsi", "msi", "reference", "mask")))
    centre, fwhm = hsi_bands()
    reference, cloudy = _draw_scene(seed, size, centre, fwhm)
    names = tuple(f"{nm:.1f} nm" for nm in centre)
    bands = BandMetadata(centre, fwhm, np.ones(len(centre), bool), names)
    about = {"GEOFUSE_DEMO_SEED": str(seed), "TIFFTAG_IMAGEDESCRIPTION": "geofuse demo: a made-up landscape"}
    fine_gap, coarse_gap = _missing_corner(size)
    _write(paths.reference, reference, bands, FINE_M, about)
    msi, msi_bands = _observe_msi(reference, centre, fwhm, seed)
    msi[:, fine_gap] = np.nan
    _write(paths.msi, msi, msi_bands, FINE_M, about)
    psf = Psf("gaussian", 1.0)
    hsi = _observe_hsi(reference, centre, psf, seed)
    hsi[:, coarse_gap] = np.nan
    _write(paths.hsi, hsi, bands, FINE_M * RATIO, {**about, "GEOFUSE_PSF": psf.to_tag()})
    mask_band = replace(BandMetadata.unknown(1), band_name=("0 clear, 1 cloud",))
    _write(paths.mask, np.where(fine_gap, np.nan, cloudy)[None], mask_band, FINE_M, about, dtype="uint8")
    return paths


def hsi_bands() -> tuple[np.ndarray, np.ndarray]:
    """Return centres and FWHM (nm) of the hyperspectral bands, without 1340-1450 and 1790-1960 nm, dark under water vapour."""
    vnir = 405.0 + 7.5 * np.arange(80)
    swir = 1007.0 + 10.0 * np.arange(149)
    swir = swir[~((swir > 1340) & (swir < 1450)) & ~((swir > 1790) & (swir < 1960))]
    return np.concatenate([vnir, swir]), np.concatenate([np.full(80, 9.0), np.full(len(swir), 11.0)])


def hsi_snr_db(centre_nm: np.ndarray) -> np.ndarray:
    """Signal-to-noise ratio of each hyperspectral band: 40 dB where the sensor is best, 35 dB at both ends."""
    return 40.0 - 5.0 * ((centre_nm - 950.0) / np.where(centre_nm < 950, 550.0, 1550.0)) ** 2


def _output_folder(out_dir: str | os.PathLike[str], seed: int, size: int) -> Path:
    """Check the arguments and make the folder."""
    folder = Path(out_dir)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder to write the sample scene to")
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; expected 0 or more")
    if size % RATIO or not SIZES[0] <= size <= SIZES[1]:
        raise UsageError(f"size {size}: expected a multiple of {RATIO} from {SIZES[0]} to {SIZES[1]} fine pixels")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"folder {folder} cannot be made: {err.strerror}; choose another folder") from None
    return folder


def _draw_scene(seed: int, size: int, centre: np.ndarray, fwhm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the reference (bands, size, size) float32, rounded as it is stored, and where the cloud is (size, size) bool."""
    rng = np.random.default_rng([seed, 0])
    canvas = draw_landscape(size, FINE_M, rng)
    opacity, shadow, relief = draw_clouds(size, FINE_M, rng)
    canvas.sun *= (1 - 0.8 * np.repeat(np.repeat(shadow, CELLS, axis=0), CELLS, axis=1)).ravel()
    scene = canvas.render(centre, fwhm)
    white = band_average(materials()["cloud"], centre, fwhm).astype(np.float32)
    scene *= 1 - opacity
    scene += white[:, None, None] * (opacity * relief)
    np.rint(scene / np.float32(SCALE), out=scene)
    return scene * np.float32(SCALE), opacity > 0


def _missing_corner(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where (fine, coarse) pixels lie beyond the edge of the swath; the hyperspectral swath ends 40 m before the other."""

    def beyond(n: int, pixel_m: float, inset_m: float) -> np.ndarray:
        at = (np.arange(n) + 0.5) * pixel_m - inset_m
        side = size * FINE_M
        return at[None, :] / (0.13 * side) + at[:, None] / (0.55 * side) < 1

    return beyond(size, FINE_M, 0.0), beyond(size // RATIO, FINE_M * RATIO, 40.0)


def _add_noise(image: np.ndarray, snr_db: np.ndarray | float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise whose power is each band's mean square times 10^(-SNR/10)."""
    rms = np.sqrt((image**2).mean(axis=(1, 2), dtype=np.float64))
    sigma = (rms * 10 ** (-np.asarray(snr_db) / 20)).astype(np.float32)
    return image + sigma[:, None, None] * rng.standard_normal(image.shape, dtype=np.float32)


def _observe_hsi(reference: np.ndarray, centre: np.ndarray, psf: Psf, seed: int) -> np.ndarray:
    """Blur, decimate and add noise; (bands, size / 4, size / 4)."""
    from geofuse.degradation import SpatialOperator

    coarse = SpatialOperator(psf, RATIO, *reference.shape[1:]).forward(reference)
    return _add_noise(coarse, hsi_snr_db(centre), np.random.default_rng([seed, 1]))


def _observe_msi(reference: np.ndarray, centre: np.ndarray, fwhm: np.ndarray, seed: int) -> tuple[np.ndarray, BandMetadata]:
    """Average under the sensor's response and add noise; (7, size, size) and the names and places of its bands."""
    from scipy import sparse

    response = load_response(SENSOR).reflective()
    matrix = sparse.csr_array(response_matrix(response, centre, fwhm).astype(np.float32))  # sparse: same bits for any thread count
    image = (matrix @ reference.reshape(len(centre), -1)).reshape(-1, *reference.shape[1:])
    names = tuple(f"{band.name} {band.aliases[0]}" for band in response.bands)
    place = [np.array([getattr(band, key) for band in response.bands]) for key in ("center_nm", "fwhm_nm")]
    bands = BandMetadata(*place, np.ones(len(names), bool), names)
    return _add_noise(image, MSI_SNR_DB, np.random.default_rng([seed, 2])), bands


def _write(
    path: Path, image: np.ndarray, bands: BandMetadata, pixel_m: float, tags: dict[str, str], *, dtype: str = "int16"
) -> None:
    """Write an image (bands, rows, cols), NaN = no data, from the scene's corner; the file appears whole or not at all."""
    from affine import Affine

    from geofuse.io import OutputSpec, open_sink

    scale, nodata = STORED[dtype]
    transform = Affine(pixel_m, 0.0, WEST_M, 0.0, -pixel_m, NORTH_M)
    spec = OutputSpec(image.shape[1], image.shape[2], bands, transform, CRS, dtype, scale, 0.0, nodata, tags)
    with open_sink(path, spec, driver="GTiff") as sink:
        sink.write(np.asarray(image, np.float32), 0)
