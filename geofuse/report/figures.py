"""The figures of a report as PNG pictures, for papers and slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geofuse.errors import OutputError
from geofuse.report.content import ReportContent
from geofuse.report.encode import GAP, MAP_COLOURS, error_top

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"hsi": "#a85300", "msi": "#00805a", "fused": "#0b62a8", "reference": "#1b1f23"}
_LINES = {"hsi": "--", "fused": "-", "reference": ":"}
_PANEL = 3.2  # inches
_DPI = 150
_N_SPECTRA = 4


def write_figures(content: ReportContent, folder: str | Path) -> tuple[Path, ...]:
    """Write the figures of a report to a folder, which is made if need be.

    ``true-colour.png`` and ``false-colour.png`` show the images side by side, ``spectra.png`` the spectra of four pixels spread
    over the scene; with a reference there are ``errors.png`` (RMSE and spectral angle) and ``psnr.png`` (PSNR of each band).

    Returns the paths written.

    Raises
    ------
    OutputError
        If the folder or a file cannot be written.
    """
    figures = {f"{view.id}-colour": _pictures(content, view.id) for view in content.views}
    figures["spectra"] = _spectra(content)
    if content.errors is not None:
        figures |= {"errors": _errors(content), "psnr": _psnr(content)}
    folder = Path(folder)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            paths.append(folder / f"{name}.png")
            figure.savefig(paths[-1], dpi=_DPI, facecolor="white", bbox_inches="tight", metadata={"Software": None})
    except OSError as err:
        raise OutputError(f"cannot write figures to {folder}: {err.strerror}; choose a folder that may be written") from None
    return tuple(paths)


def _figure(columns: int, height_inch: float, width_inch: float) -> tuple[Figure, list[Axes]]:
    """Make a figure with panels side by side; no window and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inch * columns, height_inch), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _shape(content: ReportContent) -> float:
    """Return height over width of the scene, within what a figure can take."""
    return min(3.0, max(0.3, content.grid.height / content.grid.width))


def _pictures(content: ReportContent, view: str) -> Figure:
    """Draw all layers side by side on the fused scene's footprint; no data is white."""
    figure, panels = _figure(len(content.layers), _PANEL * _shape(content) + 0.4, _PANEL)
    for panel, layer in zip(panels, content.layers, strict=True):
        levels = layer.pictures[view]
        alpha = np.where((levels > 0).all(axis=0), 255, 0).astype(np.uint8)
        left, top, right, bottom = layer.box
        panel.imshow(np.dstack([*levels, alpha]), extent=(left, right, bottom, top), interpolation="nearest")
        _frame(panel, content, layer.name)
    return figure


def _frame(panel: Axes, content: ReportContent, title: str) -> None:
    panel.set(xlim=(0, content.grid.width), ylim=(content.grid.height, 0), xticks=[], yticks=[], aspect="equal")
    panel.set_title(title, fontsize=10)


def _axis(content: ReportContent) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the horizontal axis (band,), the order that sorts it, and its title."""
    nm = content.bands.wavelength_nm
    known = bool(np.isfinite(nm).all())
    x = nm if known else np.arange(1.0, len(nm) + 1)
    return x, np.argsort(x, kind="stable"), "Wavelength (nm)" if known else "Band"


def _with_gaps(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Break a sorted line where bands are missing, by a NaN in between."""
    steps = np.diff(x)
    at = np.flatnonzero(steps > GAP * np.median(steps)) + 1 if len(steps) else np.array([], int)
    return np.insert(x, at, (x[at - 1] + x[at]) / 2), np.insert(y.astype(float), at, np.nan)


def _spectra(content: ReportContent) -> Figure:
    x, order, title = _axis(content)
    pixels = _spread_pixels(content)
    figure, panels = _figure(len(pixels), 3.2, 3.4)
    for panel, (i, j) in zip(panels, pixels, strict=True):
        for layer in content.layers:
            if layer.id == "msi":
                if content.msi_in_units and title.startswith("Wavelength"):
                    nm, values = layer.bands.wavelength_nm, layer.sampled[:, i, j]
                    panel.plot(nm, values, "o", mfc="none", ms=5, color=_COLOURS["msi"], label="MSI")
                continue
            values = np.where(layer.band_of >= 0, layer.sampled[layer.band_of, i, j], np.nan)
            panel.plot(*_with_gaps(x[order], values[order]), _LINES[layer.id], lw=1.3, color=_COLOURS[layer.id], label=layer.name)
        panel.set_title(f"row {content.sample_rows[i]}, column {content.sample_cols[j]}", fontsize=10)
        panel.set_xlabel(title)
        _quiet(panel)
    panels[0].set_ylabel("Value (units of the fused image)")
    panels[0].legend(fontsize=8, frameon=False)
    return figure


def _spread_pixels(content: ReportContent) -> list[tuple[int, int]]:
    """Choose sampled pixels that differ: brightness quantiles of those with data."""
    fused = content.layer("fused").sampled
    valid = np.flatnonzero(np.isfinite(fused).any(axis=0).ravel())
    brightness = np.nanmean(fused.reshape(len(fused), -1)[:, valid], axis=0)
    ranks = np.linspace(0.1, 0.9, _N_SPECTRA) * (len(valid) - 1)
    chosen = valid[np.argsort(brightness, kind="stable")[np.unique(ranks.round().astype(int))]]
    return [divmod(int(flat), fused.shape[2]) for flat in chosen]


def _quiet(panel: Axes) -> None:
    panel.grid(alpha=0.3, lw=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)


def _errors(content: ReportContent) -> Figure:
    figure, panels = _figure(2, 1.35 * _PANEL * _shape(content) + 0.7, 1.35 * _PANEL)
    left, top, right, bottom = content.errors.box
    maps = (("RMSE over bands", "reference's units", content.errors.rmse), ("Spectral angle", "degrees", content.errors.angle))
    for panel, (title, unit, values) in zip(panels, maps, strict=True):
        vmax = error_top(values)
        extent = (left, right, bottom, top)
        image = panel.imshow(values, cmap=MAP_COLOURS, vmin=0, vmax=vmax, extent=extent, interpolation="nearest")
        _frame(panel, content, title)
        bar = figure.colorbar(image, ax=panel, orientation="horizontal", fraction=0.05, pad=0.03, extend="max")
        bar.set_label(unit, fontsize=9)
        bar.ax.tick_params(labelsize=8)
    return figure


def _psnr(content: ReportContent) -> Figure:
    x, order, title = _axis(content)
    figure, (panel,) = _figure(1, 3.2, 6.4)
    values = np.where(np.isfinite(content.errors.psnr), content.errors.psnr, np.nan)
    panel.plot(*_with_gaps(x[order], values[order]), color=_COLOURS["fused"], lw=1.4)
    panel.set(xlabel=title, ylabel="PSNR (dB)")
    _quiet(panel)
    return figure
