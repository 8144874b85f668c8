"""Point spread functions: how a coarse pixel weighs the fine scene.

A PSF is stated relative to the coarse pixel, so the same object serves any ratio. Kernels sum to one; borders are the
business of :class:`geofuse.degradation.SpatialOperator`, which reflects them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geofuse.errors import InputError, MissingFileError, UsageError

KINDS = ("gaussian", "bicubic", "box", "kernel")
_SIGMA_PER_FWHM = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))
_GAUSSIAN_REACH_SIGMA = 4.0
_LEAST_TERM = 1e-4


@dataclass(frozen=True)
class Psf:
    """A point spread function.

    Attributes
    ----------
    kind
        ``"gaussian"``, ``"bicubic"`` (antialiased cubic convolution with a = -0.5, the papers'), ``"box"`` (the mean of the
        fine pixels inside the coarse pixel) or ``"kernel"`` (sampled on the fine grid).
    fwhm
        Full width at half maximum of the Gaussian, in coarse pixels.
    kernel
        Rows of the sampled kernel on the fine grid, for ``"kernel"`` only.
    """

    kind: str
    fwhm: float | None = None
    kernel: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        """Check the parts against each other."""
        if self.kind not in KINDS:
            raise UsageError(f"unknown PSF {self.kind!r}; expected one of {', '.join(KINDS)} or a kernel file")
        if self.kind == "gaussian" and not (self.fwhm and 0.05 <= self.fwhm <= 5):
            raise UsageError(f"a Gaussian PSF needs a FWHM from 0.05 to 5 coarse pixels, found {self.fwhm}")
        if self.kind == "kernel":
            array = np.asarray(self.kernel, float)
            if array.ndim != 2 or not np.isfinite(array).all() or array.sum() <= 0:
                raise InputError("a PSF kernel must be a table of finite numbers with a positive sum")

    @classmethod
    def parse(cls, text: str) -> Psf:
        """Read ``gaussian``, ``gaussian:1.2`` (FWHM in coarse pixels), ``bicubic``, ``box`` or the path of a kernel file.

        A kernel file is ``.npy`` or a text table (commas or spaces), sampled on the fine grid and centred on the coarse pixel.

        Raises
        ------
        UsageError, MissingFileError, InputError
            If the text is none of these, the file is absent, or it holds no kernel.
        """
        kind, _, width = text.strip().partition(":")
        if kind.lower() in ("bicubic", "box") and not width:
            return cls(kind.lower())
        if kind.lower() == "gaussian":
            try:
                return cls("gaussian", float(width or 1.0))
            except ValueError as err:
                if isinstance(err, UsageError):
                    raise
                raise UsageError(f"PSF {text!r}: {width!r} is not a number of coarse pixels") from None
        if Path(text).suffix.lower() in (".npy", ".csv", ".txt"):
            return cls.from_file(text)
        raise UsageError(f"unknown PSF {text!r}; expected gaussian[:FWHM], bicubic, box or a file .npy, .csv, .txt")

    @classmethod
    def from_file(cls, path: str | Path) -> Psf:
        """Read a sampled kernel from ``.npy`` or a text table; it is normalised to sum one."""
        path = Path(path)
        if not path.is_file():
            raise MissingFileError(f"PSF file {path} does not exist")
        array = _read_table(path)
        if array.ndim != 2:
            raise InputError(f"PSF file {path} holds {array.ndim} dimensions, expected 2: rows and columns of fine pixels")
        total = array.sum()
        if not (np.isfinite(array).all() and total > 0):
            found = f"sum to {total:g}" if np.isfinite(total) else "are not all finite"
            raise InputError(f"PSF file {path} holds weights that {found}; expected finite numbers with a positive sum")
        return cls("kernel", kernel=tuple(tuple(float(v) for v in row) for row in array / total))

    @property
    def label(self) -> str:
        """One phrase for summaries."""
        if self.kind == "gaussian":
            return f"Gaussian, FWHM {self.fwhm:g} coarse pixel{'' if self.fwhm == 1 else 's'}"
        if self.kind == "kernel":
            rows = np.asarray(self.kernel)
            return f"kernel of {rows.shape[0]} x {rows.shape[1]} fine pixels"
        return {"bicubic": "antialiased bicubic", "box": "box of one coarse pixel"}[self.kind]

    def to_tag(self) -> str:
        """Write the PSF as one line of JSON, for a file's provenance tags."""
        parts = {"kind": self.kind, "fwhm": self.fwhm, "kernel": self.kernel}
        return json.dumps({k: v for k, v in parts.items() if v is not None})

    @classmethod
    def from_tag(cls, tag: str) -> Psf:
        """Read back what :meth:`to_tag` wrote."""
        try:
            parts = json.loads(tag)
            kernel = parts.get("kernel")
            return cls(parts["kind"], parts.get("fwhm"), tuple(map(tuple, kernel)) if kernel else None)
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise InputError(f"the PSF recorded in the file's tags cannot be read: {err}") from None

    def separable_terms(self, ratio: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return pairs of 1-D kernels (along y, along x) whose outer products add up to the kernel on the fine grid.

        Each kernel has ``2 * reach + (ratio even ? 0 : 1)`` taps, symmetric about the centre of the coarse pixel; tap ``k`` sits
        at the fine-pixel offset ``k - (taps - 1) / 2`` from that centre. A sampled kernel whose size has the other parity than
        the ratio is refused, because its centre would not be the coarse pixel's.
        """
        if self.kind == "kernel":
            return _low_rank(np.asarray(self.kernel, float), ratio)
        reach = {"bicubic": 2 * ratio, "box": ratio / 2}.get(self.kind)
        if reach is None:
            reach = _GAUSSIAN_REACH_SIGMA * self.fwhm * _SIGMA_PER_FWHM * ratio
        half = int(np.ceil(reach + 0.5))
        offset = np.arange(-half, half + 1) + (0.5 if ratio % 2 == 0 else 0.0)
        offset = offset[np.abs(offset) < reach]
        if self.kind == "bicubic":
            taps = cubic(offset / ratio)
        elif self.kind == "box":
            taps = np.ones(len(offset))
        else:
            taps = np.exp(-0.5 * (offset / (self.fwhm * _SIGMA_PER_FWHM * ratio)) ** 2)
        taps = taps / taps.sum()
        return [(taps, taps)]


def _read_table(path: Path) -> np.ndarray:
    """Read a file's numbers as float64; ``.npy`` keeps its dimensions, a text table has two."""
    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, allow_pickle=False)
            if array.dtype.kind not in "iuf":
                raise ValueError(f"its type is {array.dtype}")
            return array.astype(float)
        lines = [line.partition("#")[0] for line in path.read_text(encoding="utf-8-sig").splitlines()]  # -sig: spreadsheets' mark
        if not any(line.strip() for line in lines):
            raise ValueError("it is empty")
        return np.loadtxt(lines, delimiter="," if any("," in line for line in lines) else None, ndmin=2)
    except (ValueError, OSError, EOFError) as err:
        raise InputError(f"PSF file {path} is not a table of numbers: {err}") from None


def cubic(u: np.ndarray) -> np.ndarray:
    """Cubic convolution kernel with a = -0.5 (Keys 1981, eq. 8); support |u| < 2."""
    u = np.abs(u)
    near = (1.5 * u - 2.5) * u * u + 1.0
    far = ((-0.5 * u + 2.5) * u - 4.0) * u + 2.0
    return np.where(u <= 1, near, np.where(u < 2, far, 0.0))


def _low_rank(kernel: np.ndarray, ratio: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split a sampled kernel into the separable terms of its singular value decomposition that exceed 1e-4 of the largest.

    A turned Gaussian of 16 x 16 pixels so has about 5 terms, not 16. What is left out is made up for in the sum, which stays one.
    """
    if any(size % 2 != ratio % 2 for size in kernel.shape):
        parity = "even" if ratio % 2 == 0 else "odd"
        raise InputError(
            f"the PSF kernel is {kernel.shape[0]} x {kernel.shape[1]} fine pixels; ratio {ratio} needs {parity} sizes, so that the "
            "kernel's centre is the coarse pixel's centre; pad it with a row or column of zeros or resample it"
        )
    u, s, vt = np.linalg.svd(kernel / kernel.sum())
    keep = max(1, int((s > _LEAST_TERM * s[0]).sum()))
    total = float((u[:, :keep].sum(axis=0) * s[:keep] * vt[:keep].sum(axis=1)).sum())
    return [(u[:, k] * s[k] / total, vt[k]) for k in range(keep)]
