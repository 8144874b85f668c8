"""Small scenes with known answers for the tests of geofuse.align."""

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
from affine import Affine

from geofuse.scene import BandMetadata, make_scene

UTM33 = "EPSG:32633"
WAVELENGTHS = np.arange(400.0, 700.0, 10.0)  # nm, 30 bands
CSV = "wavelength_nm,blue,green,red\n400,0,0,0\n450,1,0,0\n500,0,0,0\n550,0,1,0\n600,0,0,0\n650,0,0,1\n690,0,0,0\n"


def scene(data, transform, crs=UTM33, wavelengths=None, names=None, chunks=None, **attrs):
    """A scene from numpy values."""
    data = np.asarray(data, np.float32)
    bands = BandMetadata.unknown(len(data))
    nm = bands.wavelength_nm if wavelengths is None else np.asarray(wavelengths, float)
    bands = BandMetadata(nm, np.full(len(data), 12.0), bands.good_band, tuple(names or bands.band_name))
    return make_scene(da.from_array(data, chunks=chunks or data.shape), bands, transform, crs, attrs)


def north_up(x, y, size):
    """Transform of square pixels with the upper left corner at (x, y)."""
    return Affine(size, 0, x, 0, -size, y)


def hsi(height=12, width=10, x=300000.0, y=4000000.0, size=40.0, seed=0, **kwargs):
    """A coarse scene of random reflectance, 30 bands with wavelengths."""
    values = np.random.default_rng(seed).uniform(0.1, 0.9, (len(WAVELENGTHS), height, width))
    return scene(values, north_up(x, y, size), **{"wavelengths": WAVELENGTHS, **kwargs})


def msi(height=48, width=40, x=300000.0, y=4000000.0, size=10.0, n_bands=3, seed=1, **kwargs):
    """A fine scene of random reflectance."""
    values = np.random.default_rng(seed).uniform(0.1, 0.9, (n_bands, height, width))
    return scene(values, north_up(x, y, size), **kwargs)


@pytest.fixture(scope="session")
def build():
    """The builders above."""
    return SimpleNamespace(scene=scene, north_up=north_up, hsi=hsi, msi=msi, wavelengths=WAVELENGTHS)


@pytest.fixture(scope="session")
def rgb(tmp_path_factory):
    """Path of a response table of three bands."""
    path = tmp_path_factory.mktemp("response") / "rgb.csv"
    path.write_text(CSV)
    return path
