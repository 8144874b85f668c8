"""Between a harmonised pair and its fused rows: choose a method, cut tiles, learn once, fuse tile by tile."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import UsageError
from geofuse.methods import METHODS
from geofuse.methods.base import FusesByBand, Report, SceneModel, TileData, silent
from geofuse.sensors.psf import Psf
from geofuse.tiling import Edges, Mosaic, Tile, TileGrid, Window

if TYPE_CHECKING:
    import xarray as xr

    from geofuse.methods.posterior import PosteriorSampler
    from geofuse.methods.prior import Sensors
    from geofuse.methods.spectral_basis import SubspaceImage

DEFAULT_TILE = 512  # fine pixels
_SAMPLE_SIDE = 512  # fine pixels of a window to learn from; fixed, so that the tile size cannot change what is learnt
_SAMPLE_SIDE_COARSE = 32
_WHOLE_SAMPLES = 4  # so many windows are the whole of a scene; a larger one is sampled by windows of half the side
_MAX_SAMPLES = 16
_KINDS = {  # of an option, by its annotation: what a value is an instance of, and how messages call it
    "None": (type(None), "None"),
    "bool": (bool, "true or false"),
    "int": (Integral, "a whole number"),
    "float": (Real, "a number"),
    "str": (str, "text"),
    "tuple[int, ...]": ((tuple, list), "a list of whole numbers"),
    "tuple[float, ...]": ((tuple, list), "a list of numbers"),
}


@dataclass(frozen=True)
class FusionSettings:
    """How to fuse.

    Attributes
    ----------
    method
        Name in :data:`geofuse.methods.METHODS`.
    preset
        One of the method's presets; None takes the method's default for the device.
    options
        Options of the method that replace the preset's, by name.
    tile, overlap
        Core size and halo of a tile in fine pixels, rounded up to the ratio; tile None is 512, overlap None what the method needs.
    seed
        Seed of all random numbers.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    prior
        File of networks learnt from another scene to start from, written by :meth:`Fusion.save_prior`.
    weights
        File of trained networks, written by ``geofuse train``.
    uncertainty
        Number of posterior samples whose standard deviation is given as well; None for none.
    """

    method: str = "argsdiff"
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    tile: int | None = None
    overlap: int | None = None
    seed: int = 0
    device: str = "auto"
    prior: str | Path | None = None
    weights: str | Path | None = None
    uncertainty: int | None = None


class Fusion:
    """A pair and a method: learn once, then fuse tile by tile."""

    def __init__(self, pair: xr.Dataset, settings: FusionSettings) -> None:
        """Choose method, preset and device, and cut the tiles; nothing is computed.

        Raises
        ------
        UnknownNameError, UsageError
            If there is no such method, preset, option or device, or the method cannot start from a prior or use weights, or needs
            weights and has none, or there is no posterior to draw from.
        MissingFileError, InputError
            If the prior or the weights are no file of their kind or were learnt with other sensors.
        """
        from geofuse.methods.device import pick_device

        kind = METHODS.get(settings.method)
        device = pick_device(settings.device)
        self.preset = settings.preset or kind.default_preset(device)
        self.pair, self.settings = pair, settings
        ratio = int(pair.attrs["ratio"])
        self.model = SceneModel(
            pair["response"].values, Psf.from_tag(pair.attrs["psf"]), ratio, pair["wavelength"].values, settings.seed, device
        )
        self.begin_again(choose_options(kind, settings.method, self.preset, settings.options))
        self.cut(DEFAULT_TILE if settings.tile is None else settings.tile)

    def begin_again(self, options: Any = None, device: str | None = None) -> None:
        """Make the method anew, as if nothing was learnt, with other options or on another device if given."""
        settings = self.settings
        self.options = self.options if options is None else options
        self.model = self.model if device is None else dataclasses.replace(self.model, device=device)
        self.method = METHODS.get(settings.method)(self.options)
        self._use_weights(settings.weights)
        if settings.prior is not None:
            self._start_from(settings.prior)
        self.posterior = self._posterior(settings.uncertainty)

    @property
    def n_bands(self) -> int:
        """Number of bands of a fused tile: the HSI's, and as many standard deviations after them if there is a posterior."""
        return self.pair.sizes["band"] * (1 if self.posterior is None else 2)

    def cut(self, tile: int) -> None:
        """Cut the scene into tiles of another size; may be done at any time before the first tile is fused."""
        pair, ratio, overlap = self.pair, self.model.ratio, self.settings.overlap
        overlap = self.method.halo * ratio if overlap is None else overlap
        self.grid = TileGrid(pair.sizes["y"], pair.sizes["x"], ratio, tile, overlap)

    def fit(self, report: Report = silent) -> None:
        """Learn what holds for the whole scene from sample windows that depend on the scene alone."""
        windows = sample_windows(self.grid.height, self.grid.width, self.grid.ratio)
        samples = []
        for window, edges in windows:
            samples.append(self.read(window, edges))
            report("reading samples", len(samples), len(windows))
        samples = [s for s in samples if s.hsi_valid.any() and s.msi_valid.any()] or samples[:1]
        self.method.fit(self.model, samples, report)
        if self.posterior is not None:
            self.posterior.fit(self.model, samples)

    def require_prior(self) -> None:
        """Raise ``UsageError`` if this method and preset learn nothing that could be kept for other scenes."""
        from geofuse.methods.prior import LearnsPrior

        if not isinstance(self.method, LearnsPrior):
            name = f"method {self.settings.method}, preset {self.preset},"
            raise UsageError(f"{name} has no prior to start from or to save; use argsdiff with preset fast or balanced")

    def save_prior(self, path: str | Path) -> None:
        """Write what :meth:`fit` has learnt, for other scenes of the same sensors.

        Raises
        ------
        UsageError
            If the method learns nothing that could be kept.
        OutputError
            If the file cannot be written.
        """
        from geofuse.methods.prior import save_prior

        self.require_prior()
        save_prior(path, self.method.learnt_prior(), self._sensors())

    def _start_from(self, path: str | Path) -> None:
        """Let the method start from a prior, if that was learnt with the sensors of this pair."""
        from geofuse.methods.prior import load_prior, require_same_sensors

        self.require_prior()
        prior, learnt_with = load_prior(path)
        require_same_sensors(path, learnt_with, self._sensors())
        self.method.adopt_prior(prior)

    def _use_weights(self, path: str | Path | None) -> None:
        """Give the method its trained networks, if they were trained for the sensors of this pair."""
        from geofuse.methods.trainable import Trainable
        from geofuse.methods.weights import load_weights, require_match

        name = METHODS.name_of(self.settings.method)
        if path is None:
            if isinstance(self.method, Trainable) and self.method.needs_weights:
                raise UsageError(f"method {name} needs trained networks: give --weights, made by geofuse train {name}")
            return
        if not isinstance(self.method, Trainable):
            raise UsageError(f"method {name} uses no trained networks; leave out --weights")
        card, tensors = load_weights(path)
        require_match(path, card, name, self.model)
        self.method.adopt_weights(path, card, tensors)

    def _posterior(self, count: int | None) -> PosteriorSampler | None:
        """Make what draws posterior samples, if any are asked for and the method can give them."""
        if count is None:
            return None
        from geofuse.methods.posterior import PosteriorSampler

        return PosteriorSampler(self.method, count)

    def _sensors(self) -> Sensors:
        from geofuse.methods.prior import Sensors

        names = tuple(str(name) for name in self.pair["msi_band_name"].values)
        return Sensors(self.model.wavelength_nm, self.model.response, self.pair.attrs["srf"], names)

    def fuse(self, tile: Tile, report: Report = silent) -> np.ndarray:
        """Fuse one tile: (bands, H, W) float32 of ``tile.outer``, :attr:`n_bands` bands, NaN where MSI or HSI have no data."""
        return np.asarray(self.fuse_data(self.read(tile.outer, tile.edges), report))

    def fuse_data(self, data: TileData, report: Report = silent) -> np.ndarray | SubspaceImage:
        """Fuse a tile that :meth:`read` has read; what comes out depends on its pixels, its place and what was learnt alone.

        An array as of :meth:`fuse`, or what gives the same bands one after the other, so that they are not in memory together.
        """
        valid = data.msi_covers & np.isfinite(data.hsi).any(axis=0).repeat(self.grid.ratio, 0).repeat(self.grid.ratio, 1)
        if not valid.any():
            return np.full((self.n_bands, *valid.shape), np.nan, np.float32)
        missing = None if valid.all() else ~valid
        if self.posterior is None and isinstance(self.method, FusesByBand):
            return dataclasses.replace(self.method.fuse_by_band(data, report), missing=missing)
        fused = self.method.fuse(data, report)
        if self.posterior is not None:
            fused = np.concatenate([fused, self.posterior.spread(data, report)])
        if missing is not None:
            fused[:, missing] = np.nan
        return fused

    def read(self, window: Window, edges: Edges) -> TileData:
        """Read a window of both images, in this process: on a cluster, a task that waited for others could block them all."""
        rows, cols = window.slices
        coarse_rows, coarse_cols = window.coarse(self.grid.ratio).slices
        msi, hsi = _compute(self.pair["msi"].data[:, rows, cols]), _compute(self.pair["hsi"].data[:, coarse_rows, coarse_cols])
        weight = None
        if "msi_weight" in self.pair:
            weight = self.pair["msi_weight"].data[rows, cols].compute(scheduler="threads")
            weight = np.where(np.isfinite(msi).all(axis=0), weight, np.nan).astype(np.float32)
            msi = np.where(weight > 0, msi, np.float32(np.nan))
        return TileData(np.ascontiguousarray(hsi), np.ascontiguousarray(msi), (window.row0, window.col0), edges, weight)

    def rows(self, report: Report = silent) -> Iterator[tuple[int, np.ndarray]]:
        """Fuse all tiles in order; iterate over finished rows (row_offset, (C, n, width)) of the output window."""
        row0, row1, col0, col1 = self.pair.attrs["output_window"]
        mosaic = Mosaic(self.grid, self.n_bands)
        inner = report if len(self.grid) == 1 else silent
        for tile in self.grid:
            mosaic.add(tile, self.fuse(tile, inner))
            report("fusing tiles", tile.index + 1, len(self.grid))
            for start, rows in mosaic.finished():
                first, last = max(start, row0), min(start + rows.shape[1], row1)
                if first < last:
                    yield first - row0, rows[:, first - start : last - start, col0:col1]


def _compute(part: Any) -> np.ndarray:
    """Compute a part of a scene; what is cut out of each chunk is copied, so that the rest of the chunk leaves memory at once."""
    return part.map_blocks(np.ascontiguousarray, dtype=part.dtype, meta=part._meta).compute(scheduler="threads")


def choose_options(kind: Any, name: str, preset: str, overrides: Mapping[str, Any]) -> Any:
    """Take a method's preset and replace the options named in ``overrides``.

    Raises
    ------
    UsageError
        If the method has no such preset or option, or a value is not of the option's kind.
    """
    if preset not in kind.presets:
        raise UsageError(f"method {name} has no preset {preset!r}; it has {', '.join(kind.presets)}")
    known = {f.name: str(f.type) for f in dataclasses.fields(kind.presets[preset])}
    for option, value in overrides.items():
        if option not in known:
            raise UsageError(f"method {name} has no option {option!r}; it has {', '.join(sorted(known)) or 'none'}")
        expected = [_KINDS[part] for part in known[option].split(" | ")]
        if not any(isinstance(value, types) and (types is bool or not isinstance(value, bool)) for types, _ in expected):
            raise UsageError(f"option {option} of {name} must be {' or '.join(text for _, text in expected)}, found {value!r}")
    return dataclasses.replace(kind.presets[preset], **overrides)


def sample_windows(height: int, width: int, ratio: int) -> list[tuple[Window, Edges]]:
    """Choose the windows to learn from: all of a small scene, else 16 spread evenly; they depend on the scene's size alone.

    A small scene has up to 4 windows of 512 pixels (32 coarse ones at ratios above 16). Those of a larger one have half the side,
    so that learning takes no more memory than for a scene of 1024 x 1024, however large it is.
    """
    side = max(_SAMPLE_SIDE, _SAMPLE_SIDE_COARSE * ratio)
    tiles = TileGrid(height, width, ratio, side, 0)
    if len(tiles) > _WHOLE_SAMPLES:
        tiles = TileGrid(height, width, ratio, side // 2, 0)
    chosen = np.unique(np.linspace(0, len(tiles) - 1, min(len(tiles), _MAX_SAMPLES)).round().astype(int))
    return [(tiles[i].outer, tiles[i].edges) for i in chosen]
