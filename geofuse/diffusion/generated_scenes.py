"""Scenes made from nothing but random numbers, whose clean image is known: what the generic network is taught on.

A scene is an occlusion model of the land (dead leaves: Matheron 1968; Lee, Mumford, Huang 2001): fields and blocks, shapes whose
sizes follow a power law, roads and small targets lie on one another, each of a material whose spectrum is a random vector.
Texture inside the materials is fractal or oriented noise; relief and cloud shadows shade it; the sensor's blur and its pixels mix
it. Spectra are vectors of :data:`LATENTS` numbers; :func:`observe` draws the MSI that sees them and brings it into the coordinates
of the subspace method's view of an MSI: unit noise, principal axes, strongest component first.
"""

from __future__ import annotations

import numpy as np

LATENTS = 12
_OVERSAMPLING = 2  # shapes are drawn that much finer than the pixels
_FIELDS = 5  # textures of a scene
_BAND_COUNT_CHANCE = (0.06, 0.04, 0.2, 0.2, 0.08, 0.12, 0.2, 0.1)  # of 1 to 8 bands


def generate(rng: np.random.Generator, size: int = 128) -> np.ndarray:
    """Return a scene: latent spectra (LATENTS, size, size) float32."""
    n = _OVERSAMPLING * size
    label, count = _layout(rng, n)
    strength = np.exp(-np.arange(LATENTS) * rng.uniform(0.15, 0.7)).astype(np.float32)
    n_materials = int(rng.integers(3, 16))
    heavy_tail = np.sqrt(4 / rng.chisquare(4, (n_materials, 1)))
    materials = rng.standard_normal((n_materials, LATENTS)) * strength * heavy_tail
    kind = rng.choice(n_materials, count, p=rng.dirichlet(np.full(n_materials, 0.5)))
    spread = rng.uniform(0.02, 0.4)
    own = spread * np.exp(rng.uniform(np.log(0.03), np.log(0.8))) * rng.standard_normal((count, LATENTS)) * strength
    objects = materials[kind] * (1 + spread * rng.standard_normal((count, 1))) + own
    objects[:, 0] += rng.uniform(1, 4)  # all materials reflect
    texture, relief, direction = _textures(rng, n, kind, label, strength)
    image = objects.astype(np.float32).T[:, label] * (_shading(rng, n) * (1 + texture)) + direction.T[:, kind[label]] * relief
    if rng.random() < 0.8:
        image = _blur(image, rng.uniform(0.3, 1.6))
    image = image.reshape(LATENTS, size, _OVERSAMPLING, size, _OVERSAMPLING).mean(axis=(2, 4))
    return _with_variation(rng, image, strength).astype(np.float32)


def observe(rng: np.random.Generator, scene: np.ndarray, bands: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw the MSI that sees a scene, and return what it would see without noise in coordinates where its noise is one.

    Parameters
    ----------
    rng
        Where the responses, the bands' noise and the signal-to-noise ratio come from.
    scene
        (LATENTS, H, W).
    bands
        Number of bands c; drawn from 1 to 8 by default.

    Returns
    -------
    components (c, H, W) float32 without noise and without mean, strongest first, and their spreads (c,) float32 with noise.
    """
    bands = bands or int(rng.choice(len(_BAND_COUNT_CHANCE), p=_BAND_COUNT_CHANCE)) + 1
    response = rng.standard_normal((bands, LATENTS)) * np.exp(-np.arange(LATENTS) * rng.uniform(0, 0.3))
    response[:, 0] = np.abs(response[:, 0]) * rng.uniform(0.3, 2)
    response /= np.exp(0.3 * rng.standard_normal((bands, 1)))  # the bands' noise
    centred = scene - scene.mean(axis=(1, 2), keepdims=True)
    flat = centred.reshape(LATENTS, -1).astype(np.float64)
    variance, axes = np.linalg.eigh(response @ (flat @ flat.T / flat.shape[1]) @ response.T)
    variance, axes = variance[::-1], axes[:, ::-1]
    gain = np.exp(rng.uniform(np.log(6), np.log(200))) / np.sqrt(max(variance[0], 1e-12))
    signs = np.where(rng.random(bands) < 0.5, -1.0, 1.0)[:, None]
    components = np.einsum("cl,lhw->chw", (signs * gain * (axes.T @ response)).astype(np.float32), centred.astype(np.float32))
    return components, np.sqrt(np.maximum(variance, 0) * gain**2 + 1).astype(np.float32)


def fractal(rng: np.random.Generator, n: int, slope: float, angle: float = 0.0, stretch: float = 1.0) -> np.ndarray:
    """Draw noise (n, n) of unit variance whose power falls as frequency to the -slope, stretched along a direction."""
    fy, fx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :]
    along, across = np.cos(angle) * fy + np.sin(angle) * fx, -np.sin(angle) * fy + np.cos(angle) * fx
    frequency = np.maximum(np.hypot(along * stretch, across / stretch), 1.0 / n)
    spectrum = np.fft.rfft2(rng.standard_normal((n, n), dtype=np.float32)) * frequency ** (-slope / 2)
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, (n, n))
    return (noise / noise.std()).astype(np.float32)


def _layout(rng: np.random.Generator, n: int) -> tuple[np.ndarray, int]:
    """Lay objects on one another; return the map (n, n) of the topmost one and their number."""
    label, count = np.zeros((n, n), np.int64), 1
    for _ in range(rng.integers(0, 4)):  # ground
        label[fractal(rng, n, rng.uniform(1.5, 3.5)) > rng.uniform(-0.5, 1.5)] = count
        count += 1
    heading = rng.uniform(0, np.pi)
    if rng.random() < 0.5:
        count = _add_blocks(rng, label, count, heading)
    count = _add_shapes(rng, label, count, heading)
    for _ in range(rng.poisson(1.5)):
        count = _add_road(rng, label, count, heading)
    for _ in range(rng.poisson(8)):  # small targets
        (row, col), (height, width) = rng.integers(0, n - 8, 2), rng.integers(1, 8, 2)
        label[row : row + height, col : col + width] = count
        count += 1
    return label, count


def _add_blocks(rng: np.random.Generator, label: np.ndarray, count: int, heading: float) -> int:
    """Lay out the blocks of a city, or fields: a turned grid of rectangles with gaps, some left out."""
    y, x = np.mgrid[: len(label), : len(label)]
    u, v = np.cos(heading) * x + np.sin(heading) * y, -np.sin(heading) * x + np.cos(heading) * y
    u, v = (axis / period for axis, period in zip((u, v), np.exp(rng.uniform(np.log(8), np.log(90), 2)), strict=True))
    column, row = np.floor(u).astype(int), np.floor(v).astype(int)
    gap = rng.uniform(0, 0.35)
    code = (column - column.min()) * (row.max() - row.min() + 1) + row - row.min()
    kept = rng.random(code.max() + 1) < rng.uniform(0.3, 1)
    number = np.cumsum(kept) - 1 + count
    inside = (u - column > gap) & (v - row > gap) & kept[code]
    label[inside] = number[code][inside]
    return count + int(kept.sum())


def _add_shapes(rng: np.random.Generator, label: np.ndarray, count: int, heading: float) -> int:
    """Drop ellipses, rectangles and polygons whose sizes follow a power law; half the scenes have the large ones below."""
    n, number, power = len(label), int(np.exp(rng.uniform(np.log(20), np.log(900)))), 1 - rng.uniform(1.6, 3.2)
    least, most = rng.uniform(0.8, 3) ** power, rng.uniform(20, n / 3) ** power
    radii = np.sort((least + rng.random(number) * (most - least)) ** (1 / power))[::-1]
    if rng.random() < 0.5:
        radii = radii[rng.permutation(number)]
    aligned, chance = rng.random() < 0.5, rng.dirichlet([1, 1, 0.6])
    for radius in radii:
        row, col = rng.uniform(0, n, 2)
        top, left = (int(max(centre - radius, 0)) for centre in (row, col))
        bottom, right = (int(min(centre + radius + 2, n)) for centre in (row, col))
        y, x = np.arange(top, bottom)[:, None] - row, np.arange(left, right)[None, :] - col
        angle = heading + rng.integers(2) * np.pi / 2 if aligned else rng.uniform(0, np.pi)
        u, v = np.cos(angle) * x + np.sin(angle) * y, -np.sin(angle) * x + np.cos(angle) * y
        label[top:bottom, left:right][_shape(rng, u, v, radius, int(rng.choice(3, p=chance)))] = count
        count += 1
    return count


def _shape(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, radius: float, kind: int) -> np.ndarray:
    """Return where a shape covers the points: an ellipse, a rectangle or a polygon."""
    if kind == 0:
        return u**2 + (v / rng.uniform(0.4, 1)) ** 2 <= radius**2
    if kind == 1:
        return (np.abs(u) <= radius) & (np.abs(v) <= rng.uniform(0.25, 1) * radius)
    inside = u**2 + v**2 <= radius**2
    for angle in rng.uniform(0, 2 * np.pi, rng.integers(3, 6)):
        inside &= np.cos(angle) * u + np.sin(angle) * v <= radius * rng.uniform(0.4, 0.9)
    return inside


def _add_road(rng: np.random.Generator, label: np.ndarray, count: int, heading: float) -> int:
    """Lay a straight or winding road across the scene."""
    n = len(label)
    y, x = np.mgrid[:n, :n] - n / 2
    angle = heading + rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    distance = np.cos(angle) * x + np.sin(angle) * y - rng.uniform(-0.5, 0.5) * n
    if rng.random() < 0.4:
        along = -np.sin(angle) * x + np.cos(angle) * y
        distance += rng.uniform(2, 20) * np.sin(along * rng.uniform(0.01, 0.05) + rng.uniform(0, 6))
    label[np.abs(distance) < np.exp(rng.uniform(np.log(0.7), np.log(8)))] = count
    return count + 1


def _textures(
    rng: np.random.Generator, n: int, kind: np.ndarray, label: np.ndarray, strength: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw each material's texture: of its brightness (n, n), and (n, n) along a spectrum of its own (materials, LATENTS)."""
    angles = [rng.uniform(0, np.pi) if rng.random() < 0.4 else 0.0 for _ in range(_FIELDS)]
    fields = [fractal(rng, n, rng.uniform(0.0, 3.5), a, rng.uniform(1, 4) if a else 1.0) for a in angles]
    if rng.random() < 0.3:  # rows of crops, waves
        y, x = np.mgrid[:n, :n]
        angle = rng.uniform(0, np.pi)
        phase = (np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / rng.uniform(4, 30)
        fields[0] = np.sin(phase + 0.5 * fields[1]).astype(np.float32)
    n_materials = int(kind.max()) + 1
    amplitude = np.exp(rng.normal(np.log(rng.uniform(0.01, 0.25)), 0.7, n_materials)).astype(np.float32)
    brightness, colour = (
        np.take_along_axis(np.stack(fields), rng.integers(0, _FIELDS, n_materials)[kind][label][None], 0)[0] for _ in range(2)
    )
    direction = rng.standard_normal((n_materials, LATENTS)) * strength * amplitude[:, None]
    return brightness * amplitude[kind][label], colour, direction.astype(np.float32)


def _shading(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw relief and, in some scenes, the shadows of clouds (n, n)."""
    shading = 1 + rng.uniform(0, 0.3) * fractal(rng, n, rng.uniform(2, 4))
    if rng.random() < 0.3:
        shaded = fractal(rng, n, rng.uniform(1.5, 3)) > rng.uniform(0.5, 2)
        shading = shading * np.where(shaded, rng.uniform(0.2, 0.8), 1).astype(np.float32)
    return shading.astype(np.float32)


def _with_variation(rng: np.random.Generator, image: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Let some latents vary from pixel to pixel on their own."""
    size, share = image.shape[-1], np.exp(rng.uniform(np.log(0.005), np.log(0.12)))
    for latent, scale in zip(image, strength, strict=True):
        if rng.random() < 0.6:
            latent += share * scale * np.exp(0.5 * rng.standard_normal()) * fractal(rng, size, rng.uniform(0, 3))
    return image


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur (..., n, n) by a Gaussian of this standard deviation in pixels, with periodic borders."""
    n = image.shape[-1]
    frequency_squared = np.fft.fftfreq(n)[:, None] ** 2 + np.fft.rfftfreq(n)[None, :] ** 2
    return np.fft.irfft2(np.fft.rfft2(image) * np.exp(-2 * (np.pi * sigma) ** 2 * frequency_squared), (n, n)).astype(np.float32)
