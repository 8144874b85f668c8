"""Describe an image from its metadata alone: what ``geofuse info`` prints."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geofuse.io import tiff
from geofuse.io.bands import read_bands
from geofuse.io.guard import find_source, known_crs, opened, placed_by
from geofuse.io.products.detect import find_product
from geofuse.io.reader import header_fields, provenance
from geofuse.io.storage import Storage, read_storage
from geofuse.io.zarr_reader import read_image
from geofuse.io.zarr_store import is_store
from geofuse.scene import band_metadata, provenance_of

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from affine import Affine
    from rasterio import DatasetReader
    from rasterio.crs import CRS


@dataclass(frozen=True)
class SceneInfo:
    """What a file says of itself; no pixel was read.

    Lists have one entry a band. ``resolution``, ``bounds`` and ``transform`` are in units of the CRS (``unit``);
    ``value = stored * scale + offset``, and scale and offset are lists where bands differ.
    """

    path: str
    product: str | None  # title of the product it belongs to
    driver: str
    file_bytes: int | None
    width: int
    height: int
    bands: int
    dtype: str
    crs: str | None
    crs_name: str | None
    unit: str | None
    transform: tuple[float, ...]  # a, b, c, d, e, f of the pixel corners
    resolution: tuple[float, float]  # along x, along y
    rotation_deg: float
    bounds: tuple[float, float, float, float]  # left, bottom, right, top
    nodata: float | None
    mask: str | None
    scale: float | tuple[float, ...]
    offset: float | tuple[float, ...]
    wavelength_nm: tuple[float, ...]
    fwhm_nm: tuple[float, ...]
    good_band: tuple[bool, ...]
    band_name: tuple[str, ...]
    wavelength_source: str | None
    interleave: str | None
    compression: str | None
    block: tuple[int, int]  # rows, columns
    overviews: tuple[int, ...]
    is_cog: bool
    provenance: dict[str, str]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as values that JSON can hold; NaN becomes None."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value


def describe(path: str | os.PathLike[str], *, allow_remote: bool = False) -> SceneInfo:
    """Describe an image without reading its pixels.

    Parameters
    ----------
    path
        As for :func:`geofuse.io.open_scene`.
    allow_remote
        As for :func:`geofuse.io.open_scene`.

    Raises
    ------
    MissingFileError
        If nothing is there.
    InputError
        If the file is of another kind, damaged or implausible. Contradicting wavelengths are told in ``notes`` instead.
    """
    if is_store(path):
        return _describe_store(path, allow_remote)
    product = find_product(path)
    if product is not None:
        return describe_scene(product.open_product(Path(path)))
    source = find_source(path, allow_remote=allow_remote)
    with opened(source, check=True) as dataset:
        header = header_fields(dataset)
        storage = read_storage(dataset, header)
        report = read_bands(dataset, header, storage.index)
        structure = dataset.tags(ns="IMAGE_STRUCTURE")
        bands = report.bands
        return SceneInfo(
            path=source.path,
            product=None,
            driver=dataset.driver,
            file_bytes=Path(source.location).stat().st_size if source.is_local else None,
            width=dataset.width,
            height=dataset.height,
            bands=len(storage.index),
            dtype=storage.dtype,
            **_grid(dataset.transform, known_crs(dataset), dataset.width, dataset.height),
            nodata=storage.nodata[0],
            mask=storage.mask,
            scale=_one_or_all(storage.scale),
            offset=_one_or_all(storage.offset),
            wavelength_nm=tuple(bands.wavelength_nm.tolist()),
            fwhm_nm=tuple(bands.fwhm_nm.tolist()),
            good_band=tuple(bands.good_band.tolist()),
            band_name=bands.band_name,
            wavelength_source=report.wavelength_source,
            interleave=header.get("interleave", structure.get("INTERLEAVE", "")).lower() or None,
            compression=structure.get("COMPRESSION"),
            block=tuple(dataset.block_shapes[0]),
            overviews=tuple(dataset.overviews(1)),
            is_cog=structure.get("LAYOUT") == "COG",
            provenance=provenance(dataset, header),
            notes=tuple(_notes(dataset, storage, report.conflict)),
        )


def describe_scene(scene: xr.DataArray) -> SceneInfo:
    """Describe the scene of a product (see :mod:`geofuse.io.products`); its pixels are not computed.

    ``block`` is the size of the pieces that are read at once, ``file_bytes`` the size of all its files.
    """
    import rioxarray  # noqa: F401  (registers .rio)

    attrs, bands, files = scene.attrs, band_metadata(scene), [Path(file) for file in scene.attrs["files"]]
    notes = [*attrs["notes"], *([f"the {attrs['conflict']}; open it with the right wavelengths"] if attrs.get("conflict") else [])]
    return SceneInfo(
        path=attrs["source"],
        product=attrs["product"],
        driver=_driver(files[0]),
        file_bytes=sum(file.stat().st_size for file in files),
        width=scene.sizes["x"],
        height=scene.sizes["y"],
        bands=scene.sizes["band"],
        dtype=attrs["stored_dtype"],
        **_grid(scene.rio.transform(), scene.rio.crs, scene.sizes["x"], scene.sizes["y"]),
        nodata=attrs["stored_nodata"],
        mask=None,
        scale=attrs["stored_scale"],
        offset=attrs["stored_offset"],
        wavelength_nm=tuple(bands.wavelength_nm.tolist()),
        fwhm_nm=tuple(bands.fwhm_nm.tolist()),
        good_band=tuple(bands.good_band.tolist()),
        band_name=bands.band_name,
        wavelength_source=f"{attrs['product']} metadata",
        interleave=None,
        compression=None,
        block=(scene.chunksizes["y"][0], scene.chunksizes["x"][0]),
        overviews=(),
        is_cog=False,
        provenance=provenance_of(attrs),
        notes=tuple(notes),
    )


def _describe_store(path: str | os.PathLike[str], allow_remote: bool) -> SceneInfo:
    """Describe the image of a Zarr store; ``block`` is its chunk, ``file_bytes`` the size of the whole store."""
    image = read_image(path, allow_remote=allow_remote)
    bands, storage, (n, height, width) = image.bands, image.storage, image.shape
    notes = [f"a chunk holds {image.block[0]} of {n} bands"] if image.block[0] < n else []
    return SceneInfo(
        path=image.store.path,
        product=None,
        driver="Zarr",
        file_bytes=image.store.file_bytes,
        width=width,
        height=height,
        bands=n,
        dtype=storage.dtype,
        **_grid(image.transform, image.crs, width, height),
        nodata=storage.nodata[0],
        mask=None,
        scale=_one_or_all(storage.scale),
        offset=_one_or_all(storage.offset),
        wavelength_nm=tuple(bands.wavelength_nm.tolist()),
        fwhm_nm=tuple(bands.fwhm_nm.tolist()),
        good_band=tuple(bands.good_band.tolist()),
        band_name=bands.band_name,
        wavelength_source=image.wavelength_source,
        interleave=None,
        compression=", ".join(image.codecs) or None,
        block=image.block[1:],
        overviews=(),
        is_cog=False,
        provenance=dict(image.provenance),
        notes=(*notes, *image.notes, *_grid_notes(image.crs, image.transform)),
    )


def _driver(path: Path) -> str:
    """Return the kind of a product's file."""
    with open(path, "rb") as file:
        head = file.read(8)
    if head.startswith(b"\x89HDF"):
        return "HDF5"
    return "GTiff" if head.startswith(tiff.MAGIC) else path.suffix.lstrip(".").upper() or "ENVI"


def _one_or_all(values: np.ndarray) -> float | tuple[float, ...]:
    return float(values[0]) if (values == values[0]).all() else tuple(values.tolist())


def _grid(t: Affine, crs: CRS | None, width: int, height: int) -> dict[str, Any]:
    """Return the fields of :class:`SceneInfo` that say where the image lies."""
    corners = ((0, 0), (width, 0), (0, height), (width, height))
    xs = [t.a * column + t.b * row + t.c for column, row in corners]
    ys = [t.d * column + t.e * row + t.f for column, row in corners]
    authority = crs.to_authority() if crs else None
    return {
        "crs": (":".join(authority) if authority else crs.to_wkt()) if crs else None,
        "crs_name": crs.to_wkt().split('"')[1] if crs else None,
        "unit": crs.units_factor[0] if crs else None,
        "transform": tuple(t)[:6],
        "resolution": (math.hypot(t.a, t.d), math.hypot(t.b, t.e)),
        "rotation_deg": math.degrees(math.atan2(t.d, t.a)),
        "bounds": (min(xs), min(ys), max(xs), max(ys)),
    }


def _notes(dataset: DatasetReader, storage: Storage, conflict: str | None) -> list[str]:
    """Return what a user should know before fusing this image."""
    placed = placed_by(dataset)
    notes = _grid_notes(known_crs(dataset), dataset.transform) if placed is None else []
    if placed:
        remedy = "gdalwarp -t_srs EPSG:... FILE PLACED.tif"
        notes.append(f"placed by {placed} only: it cannot be fused before it is on a grid ({remedy})")
    if conflict:
        notes.append(f"the {conflict}; open it with the right wavelengths")
    if not storage.is_uniform:
        notes.append("bands differ in scale, offset or no-data value")
    if len(storage.index) < dataset.count:
        notes.append(f"band {storage.alpha} is an alpha band and serves as mask")
    return notes


def _grid_notes(crs: CRS | None, transform: Affine) -> list[str]:
    notes = []
    if crs is None:
        notes.append("no CRS: it cannot be fused before it has one (rio edit-info --crs EPSG:... FILE)")
    if transform.is_identity:
        notes.append("no geotransform: the image is not georeferenced")
    elif not transform.is_rectilinear:
        notes.append("the grid is rotated")
    return notes
