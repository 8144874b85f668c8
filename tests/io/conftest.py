"""Small files made without geofuse, as independent oracles for its readers and writers."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from affine import Affine

from geofuse.io import OutputSpec
from geofuse.scene import BandMetadata

GRID = Affine(30.0, 0.0, 365055.0, 0.0, -30.0, 5807085.0)
ENVI_TYPES = {"uint8": 1, "int16": 2, "int32": 3, "float32": 4, "float64": 5, "uint16": 12, "uint32": 13}
_AXES = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}


def counts(shape=(5, 40, 30), dtype="int16", seed=0):
    """Random stored values away from the ends of every type's range."""
    return np.random.default_rng(seed).integers(1, 120, shape).astype(dtype)


def make_tif(path, stored, *, band_tags=None, imagery=None, names=None, tags=None, scale=None, offset=None, **profile):
    """Write a GeoTIFF with rasterio alone."""
    settings = {
        "driver": "GTiff",
        "count": stored.shape[0],
        "height": stored.shape[1],
        "width": stored.shape[2],
        "dtype": stored.dtype.name,
        "crs": "EPSG:32633",
        "transform": GRID,
        "photometric": "MINISBLACK",
    } | profile
    with rasterio.open(path, "w", **settings) as dataset:
        dataset.write(stored)
        dataset.update_tags(**(tags or {}))
        for i in range(1, stored.shape[0] + 1):
            if band_tags:
                dataset.update_tags(i, **band_tags[i - 1])
            if imagery:
                dataset.update_tags(i, ns="IMAGERY", **imagery[i - 1])
            if names:
                dataset.set_band_description(i, names[i - 1])
        if scale is not None:
            dataset.scales = [scale] * stored.shape[0]
        if offset is not None:
            dataset.offsets = [offset] * stored.shape[0]
    return path


def make_envi(data_path, stored, *, interleave="bsq", header_path=None, big_endian=False, skip=0, **fields):
    """Write an ENVI image with numpy and a header by hand; ``fields`` are header lines, ``_`` for spaces."""
    order = ">" if big_endian else "<"
    raw = np.ascontiguousarray(stored.transpose(_AXES[interleave])).astype(stored.dtype.newbyteorder(order))
    data_path.write_bytes(b"\xaa" * skip + raw.tobytes())
    lines = {
        "samples": stored.shape[2],
        "lines": stored.shape[1],
        "bands": stored.shape[0],
        "header offset": skip,
        "file type": "ENVI Standard",
        "data type": ENVI_TYPES[stored.dtype.name],
        "interleave": interleave,
        "byte order": int(big_endian),
        "map info": "{UTM, 1, 1, 365055, 5807085, 30, 30, 33, North, WGS-84}",
    } | {key.replace("_", " "): value for key, value in fields.items()}
    text = "ENVI\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())
    header = header_path or data_path.with_suffix(".hdr")
    header.write_text(text)
    return header


def spec_for(stored_shape, dtype="float32", **kwargs):
    """An output form with telling band metadata."""
    n, height, width = stored_shape
    wavelength = 2445.5312345 - 7.1234567 * np.arange(n)  # falling, with more digits than GDAL's ENVI reader keeps
    wavelength[-1] = np.nan
    fwhm = np.linspace(5.8022, 11.4329, n)
    good = np.arange(n) % 3 != 1
    names = tuple(f"B{i + 1}, near (x)" if i else "first" for i in range(n))
    bands = BandMetadata(wavelength, fwhm, good, names)
    tags = {"GEOFUSE_VERSION": "1.2.3", "GEOFUSE_PARAMETERS": '{"rho": 0.05, "text": "a {b"}', "GEOFUSE_NOTE": "one\ntwo"}
    return OutputSpec(height, width, bands, GRID, "EPSG:32633", dtype, **({"tags": tags} | kwargs))


@pytest.fixture(scope="session")
def files() -> SimpleNamespace:
    """What makes small files and their expected values."""
    return SimpleNamespace(GRID=GRID, counts=counts, make_tif=make_tif, make_envi=make_envi, spec_for=spec_for)


@pytest.fixture
def enmap(shared_data) -> Path:
    """A crop of an EnMAP L2A scene: 224 bands, six of them without data, wavelengths that overlap."""
    return shared_data / "enmap-potsdam" / "enmap_potsdam_A_64r_128c.tif"


@pytest.fixture
def aviris(shared_data) -> Path:
    """An AVIRIS scene in ENVI format on a grid rotated by 71 degrees."""
    return shared_data / "aviris-spechomo" / "AV_mastercal_testdata.bsq"
