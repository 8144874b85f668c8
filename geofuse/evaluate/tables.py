"""Scores as people and programs read them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping

UNITS = {"psnr": "dB", "psnr_global": "dB", "sam": "degrees", "hsi_db": "dB", "msi_db": "dB"}
MEANINGS = {
    "psnr": "mean over bands, each with its own maximum",
    "psnr_global": "one maximum and one error for all bands",
    "rmse": "in the reference's units",
    "sam": "mean angle between spectra",
    "ergas": "relative error, per cent over the ratio",
    "ssim": "mean over bands, 11 x 11 Gaussian windows",
    "uiqi": "mean over bands, 8 x 8 windows",
    "q2n": "all bands at once, 32 x 32 blocks",
    "scc": "correlation of fine detail, mean over bands",
    "d_lambda": "change of relations among bands, 0 is best",
    "d_s": "change of relations to the fine bands, 0 is best",
    "qnr": "(1 - d_lambda) (1 - d_s), 1 is best",
    "d_lambda_k": "1 - q2n on the coarse grid, 0 is best",
    "hqnr": "(1 - d_lambda_k) (1 - d_s), 1 is best",
    "hsi_rms": "made coarse, less the HSI, in its units",
    "hsi_db": "the same against the HSI's own power",
    "msi_rms": "seen by the MSI's bands, less the MSI",
    "msi_db": "the same against the MSI's own power",
}


def score_lines(scores: Mapping[str, float]) -> list[str]:
    """Write one line a score: name, value, unit, meaning; within 80 columns."""
    lines = []
    for name, value in scores.items():
        shown = "undefined" if math.isnan(value) else f"{value:.6g}"
        lines.append(f"{name:<11} {shown:>11} {UNITS.get(name, ''):<7} {MEANINGS[name]}".rstrip())
    return lines


def note_lines(notes: Iterable[str]) -> list[str]:
    """Write one note after the other, within 80 columns."""
    return [textwrap.fill(f"note: {note}", 80, subsequent_indent=" " * 6, break_on_hyphens=False) for note in notes]


def json_number(value: float) -> float | str | None:
    """Return a float as JSON can hold it: ``"inf"`` and ``"-inf"`` for infinities, None for NaN."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def json_scores(scores: Mapping[str, float]) -> dict[str, float | str | None]:
    """Return scores as JSON can hold them; see :func:`json_number`."""
    return {name: json_number(value) for name, value in scores.items()}
