"""The whole path: read, harmonise, tile, fuse, mosaic, write.

:func:`run` is that path for files; :class:`Fusion` is the part between a harmonised pair and its fused rows, which the accessor
uses as well.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import OutputError, UsageError
from geofuse.methods import METHODS
from geofuse.methods.base import Report, SceneModel, TileData, silent
from geofuse.result import OutputOptions, RunSummary, input_hashes, output_spec, provenance, summarise
from geofuse.sensors.psf import Psf
from geofuse.tiling import Edges, Mosaic, Tile, TileGrid, Window

if TYPE_CHECKING:
    import xarray as xr

    from geofuse.methods.prior import Sensors

DEFAULT_TILE = 512  # fine pixels
_SAMPLE_SIDE = 512  # fine pixels of a window to learn from; fixed, so that the tile size cannot change what is learnt
_SAMPLE_SIDE_COARSE = 32
_MAX_SAMPLES = 16


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
        Core size and halo of a tile in fine pixels, rounded up to the ratio; overlap None takes what the method needs.
    seed
        Seed of all random numbers.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    prior
        File of networks learnt from another scene to start from, written by :meth:`Fusion.save_prior`.
    """

    method: str = "argsdiff"
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    tile: int = DEFAULT_TILE
    overlap: int | None = None
    seed: int = 0
    device: str = "auto"
    prior: str | Path | None = None


@dataclass(frozen=True)
class PairOptions:
    """How to bring the two images together; see :func:`geofuse.align.make_pair`."""

    srf: Any = None
    msi_bands: Sequence[str] | str | None = None
    min_coverage: float = 0.9
    psf: Any = "auto"
    wavelengths: Any = None
    allow_remote: bool = False
    response: Any = None
    srf_bands: Any = None
    coregister: str = "off"
    msi_average: int = 1


def open_pair(
    hsi: str | Path,
    msi: str | Path,
    *,
    srf: Any,
    msi_bands: Sequence[str] | str | None = None,
    min_coverage: float = 0.9,
    psf: Any = "auto",
    wavelengths: Any = None,
    allow_remote: bool = False,
    response: Any = None,
    srf_bands: Any = None,
    coregister: str = "off",
    msi_average: int = 1,
) -> xr.Dataset:
    """Open two files as a pair on nested grids, lazily.

    Parameters are those of :func:`geofuse.io.open_scene` (``wavelengths`` and ``allow_remote``, for the HSI and both files), of
    :func:`geofuse.align.make_pair`, and ``msi_average``: N replaces N x N pixels of the MSI by their mean first.

    Raises
    ------
    GeofuseError
        If a file cannot be used or the two cannot be fused; the message says what to do.
    """
    from geofuse.align import make_pair
    from geofuse.io import open_scene
    from geofuse.io.averaging import average

    coarse = open_scene(hsi, wavelengths=wavelengths, allow_remote=allow_remote)
    fine = average(open_scene(msi, allow_remote=allow_remote), msi_average)
    return make_pair(
        coarse,
        fine,
        srf=srf,
        msi_bands=msi_bands,
        min_coverage=min_coverage,
        psf=psf,
        response=response,
        srf_bands=srf_bands,
        coregister=coregister,
    )


class Fusion:
    """A pair and a method: learn once, then fuse tile by tile."""

    def __init__(self, pair: xr.Dataset, settings: FusionSettings) -> None:
        """Choose method, preset and device, and cut the tiles; nothing is computed.

        Raises
        ------
        UnknownNameError, UsageError
            If there is no such method, preset, option or device, or the method cannot start from a prior.
        MissingFileError, InputError
            If the prior is no file of its kind or was learnt with other sensors.
        """
        from geofuse.methods.device import pick_device

        kind = METHODS.get(settings.method)
        device = pick_device(settings.device)
        self.preset = settings.preset or kind.default_preset(device)
        self.options = choose_options(kind, settings.method, self.preset, settings.options)
        self.method = kind(self.options)
        self.pair, self.settings = pair, settings
        ratio = int(pair.attrs["ratio"])
        overlap = self.method.halo * ratio if settings.overlap is None else settings.overlap
        self.grid = TileGrid(pair.sizes["y"], pair.sizes["x"], ratio, settings.tile, overlap)
        self.model = SceneModel(
            pair["response"].values, Psf.from_tag(pair.attrs["psf"]), ratio, pair["wavelength"].values, settings.seed, device
        )
        if settings.prior is not None:
            self._start_from(settings.prior)

    def fit(self, report: Report = silent) -> None:
        """Learn what holds for the whole scene from sample windows that depend on the scene alone."""
        windows = sample_windows(self.grid.height, self.grid.width, self.grid.ratio)
        samples = []
        for window, edges in windows:
            samples.append(self.read(window, edges))
            report("reading samples", len(samples), len(windows))
        samples = [s for s in samples if s.hsi_valid.any() and s.msi_valid.any()] or samples[:1]
        self.method.fit(self.model, samples, report)

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

    def _sensors(self) -> Sensors:
        from geofuse.methods.prior import Sensors

        names = tuple(str(name) for name in self.pair["msi_band_name"].values)
        return Sensors(self.model.wavelength_nm, self.model.response, self.pair.attrs["srf"], names)

    def fuse(self, tile: Tile, report: Report = silent) -> np.ndarray:
        """Fuse one tile: (C, H, W) float32 of ``tile.outer``, NaN where MSI or HSI have no data."""
        data = self.read(tile.outer, tile.edges)
        valid = data.msi_valid & np.isfinite(data.hsi).any(axis=0).repeat(self.grid.ratio, 0).repeat(self.grid.ratio, 1)
        if not valid.any():
            return np.full((self.pair.sizes["band"], *valid.shape), np.nan, np.float32)
        fused = self.method.fuse(data, report)
        fused[:, ~valid] = np.nan
        return fused

    def read(self, window: Window, edges: Edges) -> TileData:
        """Read a window of both images."""
        rows, cols = window.slices
        coarse_rows, coarse_cols = window.coarse(self.grid.ratio).slices
        msi = self.pair["msi"].data[:, rows, cols].compute()
        hsi = self.pair["hsi"].data[:, coarse_rows, coarse_cols].compute()
        return TileData(np.ascontiguousarray(hsi), np.ascontiguousarray(msi), (window.row0, window.col0), edges)

    def rows(self, report: Report = silent) -> Iterator[tuple[int, np.ndarray]]:
        """Fuse all tiles in order; iterate over finished rows (row_offset, (C, n, width)) of the output window."""
        row0, row1, col0, col1 = self.pair.attrs["output_window"]
        mosaic = Mosaic(self.grid, self.pair.sizes["band"])
        inner = report if len(self.grid) == 1 else silent
        for tile in self.grid:
            mosaic.add(tile, self.fuse(tile, inner))
            report("fusing tiles", tile.index + 1, len(self.grid))
            for start, rows in mosaic.finished():
                first, last = max(start, row0), min(start + rows.shape[1], row1)
                if first < last:
                    yield first - row0, rows[:, first - start : last - start, col0:col1]


def choose_options(kind: Any, name: str, preset: str, overrides: Mapping[str, Any]) -> Any:
    """Take a method's preset and replace the options named in ``overrides``.

    Raises
    ------
    UsageError
        If the method has no such preset or option.
    """
    if preset not in kind.presets:
        raise UsageError(f"method {name} has no preset {preset!r}; it has {', '.join(kind.presets)}")
    known = {f.name for f in dataclasses.fields(kind.presets[preset])}
    for option in overrides:
        if option not in known:
            raise UsageError(f"method {name} has no option {option!r}; it has {', '.join(sorted(known)) or 'none'}")
    return dataclasses.replace(kind.presets[preset], **overrides)


def sample_windows(height: int, width: int, ratio: int) -> list[tuple[Window, Edges]]:
    """Choose the windows to learn from: all of a small scene, else 16 spread evenly; they depend on the scene's size alone."""
    side = max(_SAMPLE_SIDE, _SAMPLE_SIDE_COARSE * ratio)
    tiles = list(TileGrid(height, width, ratio, side, 0))
    chosen = np.unique(np.linspace(0, len(tiles) - 1, min(len(tiles), _MAX_SAMPLES)).round().astype(int))
    return [(tiles[i].outer, tiles[i].edges) for i in chosen]


def run(
    hsi: str | Path,
    msi: str | Path,
    output: str | Path,
    *,
    pair_options: PairOptions,
    settings: FusionSettings | None = None,
    output_options: OutputOptions | None = None,
    save_prior: str | Path | None = None,
    report: Report = silent,
) -> RunSummary:
    """Fuse two files into a third.

    Nothing stands at ``output`` before the whole result does; what stood there before stays until then. ``save_prior`` names a file
    that keeps what was learnt, written as soon as it is.

    Raises
    ------
    GeofuseError
        If an input, an option or the output path is no good; the message says what to do.
    """
    from geofuse.io import check_output_path, open_sink

    check_output_path(output)
    settings, output_options = settings or FusionSettings(), output_options or OutputOptions()
    told = pair_options
    inputs = (hsi, msi, told.srf, told.psf, told.wavelengths, told.response, told.srf_bands, settings.prior)
    refuse_overwriting_input(output, inputs)
    if save_prior is not None:
        check_output_path(save_prior)
        refuse_overwriting_input(save_prior, inputs)
        if Path(save_prior).resolve() == Path(output).resolve():
            raise OutputError(f"{output} is asked for as the result and as the prior; give --save-prior a name of its own")
    clock = Stopwatch()
    options = {f.name: getattr(pair_options, f.name) for f in dataclasses.fields(pair_options)}
    pair = open_pair(hsi, msi, **options)
    fusion = Fusion(pair, settings)
    if save_prior is not None:
        fusion.require_prior()
    spec = output_spec(fusion, output_options, {**provenance(fusion), **input_hashes(hsi, msi)})
    clock.lap("reading")
    fusion.fit(report)
    if save_prior is not None:
        fusion.save_prior(save_prior)
    clock.lap("learning")
    with open_sink(output, spec, driver=output_options.driver) as sink:
        for row, values in fusion.rows(report):
            clock.lap("fusing")
            sink.write(values, row)
            clock.lap("writing")
        report("finishing the file", 0, 1)
    report("finishing the file", 1, 1)
    clock.lap("writing")
    return summarise(fusion, spec, str(output), clock.seconds)


def refuse_overwriting_input(output: str | Path, inputs: Sequence[Any]) -> None:
    """Raise if the output is one of the inputs, under whatever name, the data file of an ENVI header, or inside an input folder."""
    from geofuse.io.envi import find_data

    for path in inputs:
        if not isinstance(path, str | Path) or not Path(path).exists():
            continue
        if Path(path).is_dir() and Path(output).resolve().is_relative_to(Path(path).resolve()):
            raise OutputError(f"output {output} is inside the input folder {path}; choose another place with -o")
        files = [Path(path)]
        if Path(path).suffix.lower() == ".hdr":
            files.append(find_data(Path(path)))
        if Path(output).resolve() in [file.resolve() for file in files]:
            raise OutputError(f"output {output} is an input of this run; choose another name with -o")


class Stopwatch:
    """Adds up seconds by stage."""

    def __init__(self) -> None:
        """Start now."""
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Count the time since the last lap as ``stage``."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
