"""Random textures on the drawing grid: fractal fields and one-dimensional profiles, float32, zero mean, unit deviation."""

from __future__ import annotations

import numpy as np


def fractal(shape: tuple[int, int], cell_m: float, scale_m: float, rng: np.random.Generator, slope: float = 1.7) -> np.ndarray:
    """Gaussian random field (rows, cols) whose amplitude falls as frequency^-slope beyond 1/``scale_m``; it repeats at the borders.

    Slope 1 is rough like soil, 2 smooth like hills.
    """
    from scipy import fft

    white = rng.standard_normal(shape, dtype=np.float32)
    fy = fft.fftfreq(shape[0], cell_m).astype(np.float32)[:, None]
    fx = fft.rfftfreq(shape[1], cell_m).astype(np.float32)[None, :]
    amplitude = (fx * fx + fy * fy + np.float32(scale_m**-2)) ** np.float32(-slope / 2)
    field = fft.irfft2(fft.rfft2(white) * amplitude, s=shape)
    return ((field - field.mean()) / field.std()).astype(np.float32)


def profile(position_m: np.ndarray, pitch_m: float, rng: np.random.Generator) -> np.ndarray:
    """Random function of one coordinate that changes over ``pitch_m``: streaks when the coordinate runs across the rows."""
    low = float(position_m.min())
    n = int((float(position_m.max()) - low) / pitch_m) + 3
    knots = rng.standard_normal(n, dtype=np.float32)
    at = (position_m - low) / pitch_m
    left = at.astype(np.int64)
    part = (at - left).astype(np.float32)
    return knots[left] * (1 - part) + knots[left + 1] * part


def comb(position_m: np.ndarray, spacing_m: float, width_m: float, offset_m: float = 0.0) -> np.ndarray:
    """One on lines of ``width_m`` every ``spacing_m`` along a coordinate, else zero; bool."""
    return np.mod(position_m - offset_m, spacing_m) < width_m


def smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Cubic ramp from 0 at ``low`` to 1 at ``high`` (either may be the larger)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
