"""The eight symmetries of the square, for images that have no preferred direction."""

from __future__ import annotations

from torch import Tensor, rot90


def symmetry(image: Tensor, index: int) -> Tensor:
    """Apply one of the eight to the last two axes: ``index % 4`` quarter turns, then a flip from 4 on."""
    turned = rot90(image, index % 4, (-2, -1))
    return turned.flip(-1) if index >= 4 else turned


def undo_symmetry(image: Tensor, index: int) -> Tensor:
    """Undo :func:`symmetry`."""
    unflipped = image.flip(-1) if index >= 4 else image
    return rot90(unflipped, -(index % 4), (-2, -1))
