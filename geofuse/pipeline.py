"""The whole path: read, harmonise, tile, fuse, mosaic, write.

:func:`run` is that path for files; :class:`geofuse.fusion.Fusion` is the part between a harmonised pair and its fused rows, which
the accessor uses as well.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import OutputError, UsageError
from geofuse.flow.budget import choose_tile
from geofuse.flow.execution import ExecutionOptions as ExecutionOptions
from geofuse.flow.execution import fuse_tiles, learn
from geofuse.flow.identity import run_identity
from geofuse.flow.stitching import Output, Stitcher
from geofuse.flow.workspace import Workspace
from geofuse.fusion import DEFAULT_TILE as DEFAULT_TILE
from geofuse.fusion import Fusion, FusionSettings
from geofuse.fusion import choose_options as choose_options
from geofuse.fusion import sample_windows as sample_windows
from geofuse.memory import share_arenas
from geofuse.methods.base import Report, silent
from geofuse.result import OutputOptions, RunSummary, input_hashes, output_spec, provenance, summarise, uncertainty_spec
from geofuse.tiling import Window

if TYPE_CHECKING:
    import xarray as xr

    from geofuse.io import OutputSpec


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
    msi_encoding: str = "linear"
    radiometry: str = "off"
    mask: Any = None
    change: str = "off"
    mask_clouds: bool = True

    @property
    def files(self) -> tuple[Any, ...]:
        """What the options name that is there: a sensor's name is no folder, even where a folder is called like it."""
        tables = (self.srf, self.psf, self.wavelengths, self.response, self.srf_bands)
        return (*(table for table in tables if isinstance(table, str | Path) and Path(table).is_file()), self.mask)

    def open(self, hsi: str | Path, msi: str | Path) -> xr.Dataset:
        """Open two files as a pair; see :func:`open_pair`."""
        return open_pair(hsi, msi, **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})


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
    msi_encoding: str = "linear",
    radiometry: str = "off",
    mask: str | Path | None = None,
    change: str = "off",
    mask_clouds: bool = True,
) -> xr.Dataset:
    """Open two files as a pair on nested grids, lazily.

    Parameters are those of :func:`geofuse.io.open_scene` (``wavelengths`` for the HSI, ``allow_remote`` and ``mask_clouds`` for
    both files), of :func:`geofuse.align.make_pair`, and ``msi_average``: N replaces N x N pixels of the MSI by their mean first.
    ``msi_encoding`` is that of :func:`geofuse.align.encoding.linear_light`, ``radiometry`` that of
    :func:`geofuse.align.radiometry.match_radiometry`, ``mask`` and ``change`` are those of :func:`geofuse.align.trust.add_trust`;
    co-registration does not look at what the mask marks.

    Raises
    ------
    GeofuseError
        If a file cannot be used or the two cannot be fused; the message says what to do.
    """
    from geofuse.align import make_pair
    from geofuse.align.coregister import Registration
    from geofuse.align.encoding import encoding_tag, linear_light
    from geofuse.align.radiometry import match_radiometry
    from geofuse.align.trust import add_trust, hide
    from geofuse.io import open_scene
    from geofuse.io.averaging import average

    coarse = open_scene(hsi, wavelengths=wavelengths, allow_remote=allow_remote, mask_clouds=mask_clouds)
    linear = linear_light(coarse, open_scene(msi, allow_remote=allow_remote, mask_clouds=mask_clouds), msi_encoding)
    fine = average(linear, msi_average)

    def made(fine: xr.DataArray, coregister: Any) -> xr.Dataset:
        told = {"srf": srf, "msi_bands": msi_bands, "min_coverage": min_coverage, "psf": psf, "response": response}
        return make_pair(coarse, fine, **told, srf_bands=srf_bands, coregister=coregister)

    if mask is not None and coregister != "off" and not isinstance(coregister, Registration):
        found = made(hide(fine, mask, allow_remote=allow_remote), coregister).attrs["coregistration"]
        coregister = Registration.from_tag(found)
    pair = made(fine, coregister).assign_attrs(encoding_tag(linear))
    return add_trust(match_radiometry(pair, radiometry), mask, change, allow_remote=allow_remote)


def run(
    hsi: str | Path,
    msi: str | Path,
    output: str | Path,
    *,
    pair_options: PairOptions,
    settings: FusionSettings | None = None,
    output_options: OutputOptions | None = None,
    save_prior: str | Path | None = None,
    write_weights: str | Path | None = None,
    uncertainty_output: str | Path | None = None,
    execution: ExecutionOptions | None = None,
    report: Report = silent,
) -> RunSummary:
    """Fuse two files into a third.

    Nothing stands at ``output`` before the whole result does; what stood there before stays until then. ``save_prior`` names a file
    that keeps what was learnt, written as soon as it is; ``write_weights`` one that gets the weight of the MSI in each pixel, 0 to
    1. With ``settings.uncertainty`` the standard deviations go into a second image of the same form but float32, at
    ``uncertainty_output`` or beside the first. While one tile is fused, the next is read and the one before is written.
    When a run ends early, its finished tiles stay in a hidden folder beside the output, and the same call with
    ``ExecutionOptions(resume=True)`` goes on from them.

    Raises
    ------
    GeofuseError
        If an input, an option or the output path is no good; the message says what to do.
    """
    from geofuse.io import check_output_path, choose_driver

    check_output_path(output)
    share_arenas()
    settings, output_options = settings or FusionSettings(), output_options or OutputOptions()
    execution = execution or ExecutionOptions()
    beside = uncertainty_path(output, uncertainty_output, settings)
    outputs_asked = {"the result": output, "the prior": save_prior, "the weights": write_weights, "the uncertainty": beside}
    refuse_clashes(outputs_asked, (hsi, msi, *pair_options.files, settings.prior, settings.weights))
    driver = choose_driver(output, output_options.driver)
    clock = Stopwatch()
    with Workspace(output) as space:
        fusion = Fusion(pair_options.open(hsi, msi), settings)
        if save_prior is not None:
            fusion.require_prior()
        if write_weights is not None:
            from geofuse.align.trust import save_weights

            save_weights(fusion.pair, write_weights)
        _cut(fusion, output, output_options, driver, execution)
        spec = output_spec(fusion, output_options, {**provenance(fusion), **input_hashes(hsi, msi)})
        identity = run_identity(fusion, spec, driver, pair_options)
        journal = space.open_journal(identity, resume=execution.resume)
        clock.lap("reading")
        if beside is not None:  # how it is scaled goes into its tags
            learn(fusion, journal, report)
            clock.lap("learning")
        with ExitStack() as stack:
            forms = {output: spec} if beside is None else {output: spec, beside: uncertainty_spec(fusion, spec)}
            outputs = _open_outputs(stack, forms, driver, space)
            window = Window(*fusion.pair.attrs["output_window"])
            stitcher = Stitcher(fusion.grid, window, outputs, journal, space.subfolder("tiles"))
            clock.lap("reading")
            if beside is None and (stitcher.to_do or save_prior is not None):
                learn(fusion, journal, report)
            if save_prior is not None:
                fusion.save_prior(save_prior)
            clock.lap("learning")
            before = dict(clock.seconds)
            fuse_tiles(fusion, stitcher, space, execution, report, clock.lap)
            report("finishing the file", 0, 1)
        report("finishing the file", 1, 1)
    clock.lap("writing")
    return summarise(fusion, spec, str(output), clock.seconds, clock.shares_since(before), stitcher.failed, beside)


def _cut(fusion: Fusion, output: str | Path, options: OutputOptions, driver: str, execution: ExecutionOptions) -> None:
    """Cut the scene into tiles that the memory allows."""
    from geofuse.io import open_sink

    form = output_spec(fusion, options, {})
    block = open_sink(output, form, driver=driver).block
    fusion.cut(choose_tile(fusion, block, np.dtype(form.dtype).itemsize, execution.memory_bytes, fusion.settings.tile))


def _open_outputs(stack: ExitStack, forms: Mapping[Any, OutputSpec], driver: str, space: Workspace) -> list[Output]:
    """Open the result and, if asked for, its uncertainty; each takes as many bands of a fused tile as it has, in this order."""
    from geofuse.io import open_sink

    outputs: list[Output] = []
    for (path, spec), name in zip(forms.items(), ("output", "uncertainty"), strict=False):
        first = outputs[-1].bands.stop if outputs else 0
        sink = stack.enter_context(open_sink(path, spec, driver=driver, work=space.subfolder(name)))
        outputs.append(Output(sink, slice(first, first + len(spec.bands))))
    return outputs


def uncertainty_path(output: str | Path, asked: str | Path | None, settings: FusionSettings) -> Path | None:
    """Return where the standard deviations go: where asked, else beside the result with ``-uncertainty`` after its name.

    Raises
    ------
    UsageError
        If a place is given, but no uncertainty is asked for.
    """
    if settings.uncertainty is None:
        if asked is not None:
            raise UsageError(f"{asked} is given for the uncertainty, but no samples are; ask for some with --uncertainty")
        return None
    output = Path(output)
    return Path(asked) if asked is not None else output.with_name(f"{output.stem}-uncertainty{output.suffix}")


def refuse_clashes(outputs: Mapping[str, str | Path | None], inputs: Sequence[Any]) -> None:
    """Refuse outputs, by what they are called (None: not asked for), that cannot be written, are inputs, or are each other."""
    from geofuse.io import check_output_path

    taken: dict[Path, str] = {}
    for what, path in outputs.items():
        if path is None:
            continue
        check_output_path(path)
        refuse_overwriting_input(path, inputs)
        if Path(path).resolve() in taken:
            raise OutputError(f"{path} is asked for as {taken[Path(path).resolve()]} and as {what}; give each a name of its own")
        taken[Path(path).resolve()] = what


def refuse_overwriting_input(output: str | Path, inputs: Sequence[Any]) -> None:
    """Raise if the output is one of the inputs, under whatever name, a file that belongs to one, or inside an input folder."""
    from geofuse.io.envi import find_data, find_header
    from geofuse.io.products.detect import find_product

    for path in inputs:
        if not isinstance(path, str | Path) or not Path(path).exists():
            continue
        if Path(path).is_dir():
            if Path(output).resolve().is_relative_to(Path(path).resolve()):
                raise OutputError(f"output {output} is inside the input folder {path}; choose another place with -o")
            continue
        partner = find_data(Path(path)) if Path(path).suffix.lower() == ".hdr" else find_header(Path(path))
        files = [Path(path), *([partner] if partner else [])]
        if Path(output).is_file() and Path(output).resolve().parent == Path(path).resolve().parent:
            product = find_product(path)
            files += [Path(file) for file in product.open_product(Path(path)).attrs["files"]] if product else []
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

    def shares_since(self, before: Mapping[str, float]) -> dict[str, float]:
        """Return the share of each stage in the time since :attr:`seconds` was ``before``, from 0 to 1."""
        spent = {stage: value - before.get(stage, 0.0) for stage, value in self.seconds.items()}
        total = sum(spent.values()) or 1.0
        return {stage: value / total for stage, value in spent.items() if value > 0}
