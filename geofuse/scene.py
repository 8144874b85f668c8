"""The scene: one georeferenced image as a plain ``xarray.DataArray``.

A scene has dims ``("band", "y", "x")``, float32 values in physical units (reflectance or radiance), NaN where there is no
data, and the band coordinates below. CRS and transform live in ``spatial_ref`` and are read through rioxarray's ``.rio``.

=============== ======================= =====================================================================
coordinate      dims, dtype             meaning
=============== ======================= =====================================================================
``band``        (band,) int             1-based band number in the file the scene came from
``wavelength``  (band,) float64         centre wavelength in nm; NaN where unknown
``fwhm``        (band,) float64         full width at half maximum in nm; NaN where unknown
``good_band``   (band,) bool            False where the product marks the band as bad (``bbl`` = 0)
``band_name``   (band,) str             the file's description of the band, or ``"band 7"``
``y``, ``x``    float64                 pixel centres in CRS units (absent for a rotated grid)
=============== ======================= =====================================================================

Attributes: ``stored_dtype``, ``stored_scale``, ``stored_offset``, ``stored_nodata`` (how the file held the values:
value = stored * scale + offset), ``source`` (path), and the file's ``GEOFUSE_*`` tags (:func:`provenance_of`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from geofuse.errors import InputError

if TYPE_CHECKING:
    from affine import Affine

DIMS = ("band", "y", "x")
TAG_PREFIX = "GEOFUSE_"
_TOLERANCE = 0.01  # pixels, anywhere in the image


@dataclass(frozen=True)
class BandMetadata:
    """What is known of each band; every field has one entry a band.

    ``wavelength_nm`` and ``fwhm_nm`` are NaN where unknown.
    """

    wavelength_nm: np.ndarray  # (band,) float64
    fwhm_nm: np.ndarray  # (band,) float64
    good_band: np.ndarray  # (band,) bool
    band_name: tuple[str, ...]

    @classmethod
    def unknown(cls, n_bands: int) -> BandMetadata:
        """Metadata of ``n_bands`` bands of which nothing is known."""
        nan = np.full(n_bands, np.nan)
        return cls(nan, nan.copy(), np.ones(n_bands, bool), tuple(f"band {i + 1}" for i in range(n_bands)))

    def __len__(self) -> int:
        """Return the number of bands."""
        return len(self.band_name)

    def select(self, index: Sequence[int] | np.ndarray) -> BandMetadata:
        """Return the metadata of the bands at the 0-based positions ``index``."""
        index = np.asarray(index, int)
        names = tuple(self.band_name[i] for i in index)
        return BandMetadata(self.wavelength_nm[index], self.fwhm_nm[index], self.good_band[index], names)


def provenance_of(attrs: Mapping[str, Any]) -> dict[str, str]:
    """Return the ``GEOFUSE_*`` tags among attributes: what made an image, as text that every format keeps."""
    return {key: str(value) for key, value in sorted(attrs.items()) if key.startswith(TAG_PREFIX)}


def make_scene(
    data: Any,
    bands: BandMetadata,
    transform: Affine,
    crs: Any,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Wrap an array as a scene.

    Parameters
    ----------
    data
        Array (band, y, x), numpy or dask; converted to float32 lazily if it is not. NaN means no data.
    bands
        One entry a band.
    transform
        Affine of the pixel corners (rasterio's convention), in CRS units.
    crs
        Anything rioxarray accepts, or None.
    attrs
        Extra attributes (see the module's text for those that geofuse reads).

    Raises
    ------
    InputError
        If the data are not three-dimensional or the metadata count differs from the band count.
    """
    import rioxarray  # noqa: F401  (registers .rio)

    if data.ndim != 3:
        raise InputError(f"a scene has 3 dimensions (band, y, x), found {data.ndim}")
    if len(bands) != data.shape[0]:
        raise InputError(f"band metadata for {len(bands)} bands, but the image has {data.shape[0]}")
    n, height, width = data.shape
    coords: dict[str, Any] = {
        "band": ("band", np.arange(1, n + 1)),
        "wavelength": ("band", np.asarray(bands.wavelength_nm, float), {"units": "nm", "standard_name": "radiation_wavelength"}),
        "fwhm": ("band", np.asarray(bands.fwhm_nm, float), {"units": "nm"}),
        "good_band": ("band", np.asarray(bands.good_band, bool)),
        "band_name": ("band", np.asarray(bands.band_name, dtype=object)),
    }
    if transform.is_rectilinear:
        coords["x"] = ("x", transform.c + transform.a * (np.arange(width) + 0.5))
        coords["y"] = ("y", transform.f + transform.e * (np.arange(height) + 0.5))
    if data.dtype != np.float32:
        data = data.astype(np.float32)
    scene = xr.DataArray(data, dims=DIMS, coords=coords, attrs=dict(attrs or {}), name="scene")
    scene.encoding["_FillValue"] = np.float32(np.nan)  # files that rioxarray or xarray write then declare it
    if crs is not None:
        scene = scene.rio.write_crs(crs)
    return scene.rio.write_transform(transform)


def scene_transform(scene: xr.DataArray) -> Affine:
    """Return the transform of the pixel corners: the recorded one, or that of the coordinates where these say otherwise.

    They do in a scene that was turned, thinned or averaged by hand, which leaves behind what is recorded.
    """
    import rioxarray  # noqa: F401  (registers .rio)

    recorded = scene.rio.transform()
    if "x" not in scene.coords or "y" not in scene.coords or min(scene.sizes["x"], scene.sizes["y"]) < 2:
        return recorded
    x, y = scene["x"].values, scene["y"].values
    cols, rows = ~recorded @ (x[[0, -1]].astype(float), y[[0, -1]].astype(float))
    expected = np.array([[0.5, scene.sizes["x"] - 0.5], [0.5, scene.sizes["y"] - 0.5]])
    if np.abs(np.array([cols, rows]) - expected).max() < _TOLERANCE:
        return recorded
    return scene.rio.transform(recalc=True)


def band_metadata(scene: xr.DataArray) -> BandMetadata:
    """Return the band metadata of a scene; coordinates that are absent count as unknown."""
    n = scene.sizes["band"]
    unknown = BandMetadata.unknown(n)

    def get(name: str, default: np.ndarray, dtype: type) -> np.ndarray:
        return np.asarray(scene.coords[name].values, dtype) if name in scene.coords else default

    names = scene.coords["band_name"].values if "band_name" in scene.coords else unknown.band_name
    return BandMetadata(
        get("wavelength", unknown.wavelength_nm, float),
        get("fwhm", unknown.fwhm_nm, float),
        get("good_band", unknown.good_band, bool),
        tuple(str(name) for name in names),
    )


def has_wavelengths(scene: xr.DataArray) -> bool:
    """Tell whether every band of the scene has a known centre wavelength."""
    return bool(np.isfinite(band_metadata(scene).wavelength_nm).all())
