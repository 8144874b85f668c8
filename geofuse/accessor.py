"""The xarray accessors: ``pair.fusion.argsdiff()`` on a pair, ``hsi.fusion.argsdiff(msi, srf=...)`` on a scene.

Both return a dask-backed scene that is computed tile by tile. What is learnt from the scene is learnt once, when the first tile is
computed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from geofuse.errors import InputError


def _method_call(method: str) -> Callable[..., xr.DataArray | xr.Dataset]:
    """Make the accessor method of a pair for one fusion method."""

    def fuse(self: PairFusion, *, preset: str | None = None, **options: Any) -> xr.DataArray | xr.Dataset:
        return self.fuse(method, preset=preset, **options)

    fuse.__name__ = method
    fuse.__doc__ = f"""Fuse the pair by ``{method}``; see :meth:`PairFusion.fuse` for the options and what is returned."""
    return fuse


def _scene_method_call(method: str) -> Callable[..., xr.DataArray | xr.Dataset]:
    """Make the accessor method of a hyperspectral scene for one fusion method."""

    def fuse(
        self: SceneFusion, msi: xr.DataArray, *, srf: Any = None, preset: str | None = None, **options: Any
    ) -> xr.DataArray | xr.Dataset:
        return self.fuse(msi, method, srf=srf, preset=preset, **options)

    fuse.__name__ = method
    fuse.__doc__ = f"""Fuse this scene with ``msi`` by ``{method}``; see :meth:`SceneFusion.fuse`."""
    return fuse


@xr.register_dataset_accessor("fusion")
class PairFusion:
    """Fusion of a pair made by :func:`geofuse.open_pair`."""

    def __init__(self, pair: xr.Dataset) -> None:
        """Hold the pair."""
        self._pair = pair

    def fuse(
        self,
        method: str = "argsdiff",
        *,
        preset: str | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        seed: int = 0,
        device: str = "auto",
        prior: str | Path | None = None,
        weights: str | Path | None = None,
        uncertainty: int | None = None,
        **options: Any,
    ) -> xr.DataArray | xr.Dataset:
        """Fuse the pair lazily.

        Parameters
        ----------
        method
            Name of a method, one of :data:`geofuse.methods.METHODS`. Each has a method of that name here, but for the method
            ``fuse``, which is ``fuse("fuse")``.
        preset
            One of the method's presets; None takes its default for the device.
        tile, overlap
            Core size and halo of a tile in fine pixels; None takes the defaults.
        seed
            Seed of all random numbers.
        device
            ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        prior
            File of networks learnt from another scene to start from (``geofuse run --save-prior``).
        weights
            File of trained networks (``geofuse train``).
        uncertainty
            Number of posterior samples, 2 or more, from which the standard deviation of each value is found as well
            (``subspace``, and ``argsdiff`` with preset fast or balanced).
        **options
            The method's own options by name, such as ``rank=8`` for ``subspace``.

        Returns
        -------
        DataArray
            Scene (band, y, x) float32 in the HSI's units, one dask chunk a tile, NaN = no data, with CRS, transform and the band
            coordinates of the HSI. With ``uncertainty`` a Dataset of two such variables, ``fused`` and ``uncertainty``.

        Raises
        ------
        InputError
            If the dataset is not a pair.
        UnknownNameError, UsageError
            If there is no such method, preset, option or device, no use for the prior or the weights, or no posterior.
        MissingFileError, InputError
            If the prior or the weights are no file of their kind or were learnt with other sensors.
        """
        missing = [name for name in ("hsi", "msi", "response") if name not in self._pair]
        if missing or "ratio" not in self._pair.attrs:
            lacks = f"lacks {', '.join(missing)}" if missing else "has no attribute ratio"
            raise InputError(f"this dataset is not a pair: it {lacks}; make one with geofuse.open_pair(hsi, msi, srf=...)")
        from geofuse.fusion import Fusion, FusionSettings
        from geofuse.lazy import fuse_lazily

        pair = self._pair
        if "spatial_ref" in pair.data_vars:  # as xarray reads a pair back from a file
            pair = pair.set_coords("spatial_ref")
        in_memory = [name for name in ("hsi", "msi", "msi_weight") if name in pair and pair[name].chunks is None]
        pair = pair.assign({name: pair[name].chunk() for name in in_memory})
        settings = FusionSettings(method, preset, options, tile, overlap, seed, device, prior, weights, uncertainty)
        return fuse_lazily(Fusion(pair, settings))

    argsdiff = _method_call("argsdiff")
    subspace = _method_call("subspace")
    bicubic = _method_call("bicubic")
    gsa = _method_call("gsa")
    sfim = _method_call("sfim")
    glp = _method_call("glp")
    brovey = _method_call("brovey")
    cnmf = _method_call("cnmf")
    hysure = _method_call("hysure")
    miae = _method_call("miae")
    spectralift = _method_call("spectralift")
    ddpmfus = _method_call("ddpmfus")
    ssdiff = _method_call("ssdiff")
    mossfuse = _method_call("mossfuse")


@xr.register_dataarray_accessor("fusion")
class SceneFusion:
    """Fusion of a hyperspectral scene opened by :func:`geofuse.open_scene` with a multispectral one."""

    def __init__(self, hsi: xr.DataArray) -> None:
        """Hold the hyperspectral scene."""
        self._hsi = hsi

    def fuse(
        self,
        msi: xr.DataArray,
        method: str = "argsdiff",
        *,
        srf: Any = None,
        msi_bands: Any = None,
        min_coverage: float = 0.9,
        psf: Any = "auto",
        wavelengths: Any = None,
        coregister: Any = "off",
        response: Any = None,
        srf_bands: Any = None,
        msi_average: int = 1,
        preset: str | None = None,
        **options: Any,
    ) -> xr.DataArray | xr.Dataset:
        """Bring this scene and ``msi`` together and fuse them lazily.

        Parameters
        ----------
        msi
            The fine multispectral scene.
        method, preset, **options
            As in :meth:`PairFusion.fuse`.
        srf, msi_bands, min_coverage, psf, wavelengths, coregister, response, srf_bands
            As in :func:`geofuse.align.make_pair`.
        msi_average
            N replaces N x N pixels of the MSI by their mean first.

        Raises
        ------
        GeofuseError
            If the two scenes cannot be fused; the message says what to do.
        """
        from geofuse.align import make_pair
        from geofuse.align.orient import as_scene
        from geofuse.io.averaging import average

        pair = make_pair(
            self._hsi,
            average(as_scene(msi, "MSI"), msi_average),
            srf=srf,
            msi_bands=msi_bands,
            min_coverage=min_coverage,
            psf=psf,
            wavelengths=wavelengths,
            coregister=coregister,
            response=response,
            srf_bands=srf_bands,
        )
        return pair.fusion.fuse(method, preset=preset, **options)

    argsdiff = _scene_method_call("argsdiff")
    subspace = _scene_method_call("subspace")
    bicubic = _scene_method_call("bicubic")
    gsa = _scene_method_call("gsa")
    sfim = _scene_method_call("sfim")
    glp = _scene_method_call("glp")
    brovey = _scene_method_call("brovey")
    cnmf = _scene_method_call("cnmf")
    hysure = _scene_method_call("hysure")
    miae = _scene_method_call("miae")
    spectralift = _scene_method_call("spectralift")
    ddpmfus = _scene_method_call("ddpmfus")
    ssdiff = _scene_method_call("ssdiff")
    mossfuse = _scene_method_call("mossfuse")
