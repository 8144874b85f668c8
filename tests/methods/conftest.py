"""Generated scenes and the way through the pipeline, for the claims about fusion methods."""

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from geofuse.degradation import SpatialOperator
from geofuse.methods import METHODS
from geofuse.methods.base import SceneModel, TileData, silent
from geofuse.pipeline import Fusion, FusionSettings
from geofuse.sensors import Psf
from geofuse.tiling import Edges

ALL_SIDES = Edges(True, True, True, True)


def landscape(n_bands=30, side=96, seed=0):
    """Reflectance (n_bands, side, side): patches of five materials with texture, hard borders and a gradient of light."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    waves = sum(np.sin(rng.normal(0, 0.25, 2) @ np.stack([y.ravel(), x.ravel()]) + rng.uniform(0, 6)) for _ in range(6))
    material = np.digitize(waves.reshape(side, side), np.quantile(waves, [0.2, 0.4, 0.6, 0.8]))
    band = np.linspace(0, 1, n_bands)
    spectra = np.stack([0.2 + 0.5 * rng.random() + 0.25 * np.sin(rng.uniform(2, 7) * band + rng.uniform(0, 6)) for _ in range(5)])
    light = 0.8 + 0.2 * y / side + 0.04 * rng.normal(size=(side, side))
    return (np.clip(spectra, 0.05, None)[material] * light[..., None]).transpose(2, 0, 1).astype(np.float32)


def response(n_msi, n_bands):
    """Return adjoining boxes over the first two thirds of the bands, rows summing to one."""
    edges = np.linspace(0, 2 * n_bands // 3, n_msi + 1).astype(int)
    rows = np.zeros((n_msi, n_bands))
    for row, first, last in zip(rows, edges[:-1], edges[1:], strict=True):
        row[first:last] = 1 / (last - first)
    return rows


def observe(fine, n_msi, ratio=4, psf="gaussian:1", snr_db=None, seed=1):
    """Return the model and the tile that a fine scene gives."""
    psf, rng = Psf.parse(psf), np.random.default_rng(seed)
    model = SceneModel(response(n_msi, len(fine)), psf, ratio, np.full(len(fine), np.nan))
    hsi = SpatialOperator(psf, ratio, *fine.shape[1:]).forward(fine)
    msi = np.einsum("ck,khw->chw", model.response, fine).astype(np.float32)
    if snr_db:
        hsi, msi = (
            a + rng.normal(0, np.sqrt((a**2).mean() * 10 ** (-snr_db / 10)), a.shape).astype(np.float32) for a in (hsi, msi)
        )
    return model, TileData(hsi, msi, (0, 0), ALL_SIDES)


def fuse(name, model, tile, learn_from=None):
    """Fuse one tile by the method called ``name``."""
    method = METHODS.get(name)()
    method.fit(model, [learn_from or tile], silent)
    return method.fuse(tile, silent)


def mosaic(name, model, tile, tile_size, **options):
    """Fuse the scene through the pipeline in tiles."""
    n_bands, (height, width) = len(tile.hsi), tile.msi.shape[1:]
    pair = xr.Dataset(
        {
            "hsi": (("band", "y_hsi", "x_hsi"), da.from_array(tile.hsi)),
            "msi": (("band_msi", "y", "x"), da.from_array(tile.msi)),
            "response": (("band_msi", "band"), model.response),
        },
        coords={"wavelength": ("band", model.wavelength_nm)},
        attrs={"ratio": model.ratio, "psf": model.psf.to_tag(), "output_window": (0, height, 0, width)},
    )
    fusion = Fusion(pair, FusionSettings(name, options=options, tile=tile_size, device="cpu"))
    fusion.fit()
    out = np.full((n_bands, height, width), np.nan, np.float32)
    for row, values in fusion.rows():
        out[:, row : row + values.shape[1]] = values
    return out


def psnr(reference, estimate):
    """Mean over bands of 10 log10(peak^2 / MSE)."""
    error = ((reference - estimate).astype(float) ** 2).mean(axis=(1, 2))
    return float(np.mean(10 * np.log10(reference.max(axis=(1, 2)).astype(float) ** 2 / error)))


@pytest.fixture(scope="session")
def scenes():
    """The functions above."""
    return SimpleNamespace(landscape=landscape, response=response, observe=observe, fuse=fuse, mosaic=mosaic, psnr=psnr)
