"""What was found out about how the coarse image of a pair lies on the fine one, and how a file's tags record it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.align.smooth_field import Bend
from geofuse.errors import InputError

if TYPE_CHECKING:
    from affine import Affine


@dataclass(frozen=True)
class Registration:
    """How the coarse image lies on the fine one.

    Attributes
    ----------
    model
        ``"shift"``, ``"affine"``, ``"smooth"``, or ``"none"`` where nothing could be found out (``why`` says why).
    shift
        Displacement (row, col) in the middle of the scene, in coarse pixels: true place minus stated place, rows downwards.
    shift_m
        The same along x and y in metres, y upwards (degrees are converted at the scene's latitude).
    error
        Standard error of ``shift``, (row, col).
    slope
        (2, 2) change of the displacement with the place; zero for a shift.
    origin
        Middle of the scene (row, col), which ``shift`` holds for but for ``bend``, in coarse pixels.
    rms
        What the agreeing windows leave, in coarse pixels.
    n_windows, n_agree
        Windows with enough data in both images, and those that agree with the fit.
    confidence
        0 to 1: share of the windows that agree, times their mean correlation.
    applied
        Whether it is large and sure enough to be applied.
    why
        Why nothing was found out or applied; empty where it is applied.
    bend
        What a smooth field has beyond shift and slope, else None.
    instead
        Why a smooth field that was asked for is none; empty otherwise.
    crs_map
        The affine part as a map (a to f) from stated to true coordinates in the CRS of the HSI; None where nothing is applied.
    """

    model: str
    shift: tuple[float, float]
    shift_m: tuple[float, float]
    error: tuple[float, float]
    slope: tuple[tuple[float, float], tuple[float, float]]
    origin: tuple[float, float]
    rms: float
    n_windows: int
    n_agree: int
    confidence: float
    applied: bool
    why: str = ""
    bend: Bend | None = None
    instead: str = ""
    crs_map: tuple[float, float, float, float, float, float] | None = None

    @property
    def note(self) -> str:
        """One line for log and summary."""
        if self.model == "none":
            return f"co-registration: not possible, the images stay as georeferenced: {self.why}"
        (row, col), (x, y) = self.shift, self.shift_m
        found = f"{col:+.3f} (x), {row:+.3f} (y, down) HSI pixels = {x:+.4g} m east, {y:+.4g} m north"
        sure = f"error {max(self.error):.3f}, residual {self.rms:.3f} px, {self.n_agree} of {self.n_windows} windows"
        done = "applied" if self.applied else f"not applied: {self.why}"
        done += f"; no smooth field: {self.instead}" if self.instead else ""
        return f"co-registration: the HSI lies {found} off ({self.model}; {sure}, confidence {self.confidence:.2f}); {done}"

    def to_tag(self) -> str:
        """Write the findings as one line of JSON, for a file's provenance tags."""
        return json.dumps({**asdict(self), "note": self.note})

    @classmethod
    def from_tag(cls, text: str) -> Registration:
        """Read what :meth:`to_tag` wrote.

        Raises
        ------
        InputError
            If it is anything else.
        """
        try:
            content = json.loads(text)
            content.pop("note", None)
            if bend := content.pop("bend", None):
                bend = Bend(**{name: _tuples(value) for name, value in bend.items()})
                bend.at(np.zeros((1, 2)))
            found = cls(**{name: _tuples(value) for name, value in content.items()}, bend=bend)
            if not np.isfinite([*found.shift, *found.origin, *np.ravel(found.slope), *(found.crs_map or ())]).all():
                raise ValueError("a number is not finite")
            _ = found.note, found.matrix()
        except (ValueError, TypeError, AttributeError, IndexError) as err:
            raise InputError(f"cannot read what the tag GEOFUSE_COREGISTRATION says: {err}; fuse the images again") from None
        return found

    def matrix(self) -> Affine:
        """Return the map from stated to true places, in coarse pixels of the pair (x, y)."""
        from affine import Affine

        (s00, s01), (s10, s11) = self.slope
        row = self.shift[0] - s00 * self.origin[0] - s01 * self.origin[1]
        col = self.shift[1] - s10 * self.origin[0] - s11 * self.origin[1]
        return Affine(1 + s11, s10, col, s01, 1 + s00, row)


def nothing(why: str, n_windows: int) -> Registration:
    """Return that nothing could be found out."""
    none = (0.0, 0.0)
    return Registration("none", none, none, none, (none, none), none, 0.0, n_windows, 0, 0.0, False, why)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
