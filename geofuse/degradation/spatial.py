"""The spatial operator H: blur with the PSF, then keep one value a coarse pixel.

Every PSF that geofuse knows is a short sum of separable kernels (most are a single one; a sampled kernel is split by its singular
value decomposition), so H acts on an image Z (H, W) as

    H(Z) = sum_k  V_k Z U_k^T

with V_k (h, H) acting along y and U_k (w, W) along x. Blur, border and decimation are all inside these matrices, which makes the
adjoint exact by construction: H^T(X) = sum_k V_k^T X U_k. They are zero away from their diagonals, so tensors are multiplied by
dense pieces along these: what it costs grows with the area.

Border: reflection about the outer edge of the outermost pixel (``... c b a | a b c ...``), so that a constant stays constant.
Centre: coarse pixel i covers fine pixels i*ratio to (i+1)*ratio - 1 and the PSF is centred on the middle of that span.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import numpy as np
from scipy import sparse

from geofuse.errors import InputError, UsageError
from geofuse.sensors.psf import Psf

MIN_RATIO, MAX_RATIO = 2, 40
_PIECE = 32  # coarse pixels of a dense piece
_UNSEEN = 1e-3  # of a PSF's weight


class SpatialOperator:
    """Blur and decimate by an integer ratio, with its exact adjoint.

    Parameters
    ----------
    psf
        Point spread function, relative to the coarse pixel.
    ratio
        Fine pixels per coarse pixel along one axis, 2 to 40.
    height, width
        Size of the fine image in pixels; multiples of the ratio.

    Raises
    ------
    UsageError
        If the ratio is out of range.
    InputError
        If the size is not a multiple of the ratio, or a sampled kernel cannot be centred (see :class:`Psf`).
    """

    def __init__(self, psf: Psf, ratio: int, height: int, width: int) -> None:
        """Build the matrices V_k and U_k."""
        if not MIN_RATIO <= ratio <= MAX_RATIO:
            raise UsageError(f"ratio {ratio} is outside {MIN_RATIO} to {MAX_RATIO}")
        if height % ratio or width % ratio:
            raise InputError(f"a fine image of {height} x {width} pixels is not a multiple of the ratio {ratio}")
        self.psf, self.ratio = psf, ratio
        self.fine_shape = (height, width)
        self.coarse_shape = (height // ratio, width // ratio)
        terms = psf.separable_terms(ratio)
        self._terms = [(_axis_matrix(v, ratio, height), _axis_matrix(u, ratio, width)) for v, u in terms]
        self._pieces: dict[Any, list[tuple[_Pieces, _Pieces]]] = {}

    def forward(self, fine: Any) -> Any:
        """Apply H to ``fine`` (..., H, W); returns (..., h, w) of the same library and dtype."""
        _check_shape(fine, self.fine_shape)
        if isinstance(fine, np.ndarray):
            return sum(_along_y(v, _along_x(u, fine)) for v, u in self._terms)
        return reduce(add, (v.along_y(u.along_x(fine)) for v, u in self._pieces_like(fine, False)))

    def adjoint(self, coarse: Any) -> Any:
        """Apply the adjoint of H to ``coarse`` (..., h, w); returns (..., H, W) of the same library and dtype."""
        _check_shape(coarse, self.coarse_shape)
        if isinstance(coarse, np.ndarray):
            return sum(_along_y(v.T, _along_x(u.T, coarse)) for v, u in self._terms)
        return reduce(add, (u.along_x(v.along_y(coarse)) for v, u in self._pieces_like(coarse, True)))

    def sees_only(self, pixels: np.ndarray) -> np.ndarray:
        """Tell which coarse pixels (h, w) see nothing but these fine ones (H, W): less than 1e-3 of the PSF falls on others.

        Negative weights count as positive ones: the sum of a bicubic PSF's weights exceeds one where its outermost fall on no data.
        """
        others = np.asarray(~pixels, np.float64)
        return sum(_along_y(abs(v), _along_x(abs(u), others)) for v, u in self._terms) < _UNSEEN

    @property
    def reach(self) -> int:
        """How many fine pixels beyond its own coarse pixel a PSF reaches, for halos."""
        longest = max(max(len(v), len(u)) for v, u in self.psf.separable_terms(self.ratio))
        return max(0, (longest - self.ratio + 1) // 2)

    def axis_matrices(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the dense pairs (V_k (h, H), U_k (w, W)) in float64, for closed forms and tests."""
        return [(v.toarray(), u.toarray()) for v, u in self._terms]

    def _pieces_like(self, like: Any, transposed: bool) -> list[tuple[_Pieces, _Pieces]]:
        """Return the matrices or their transposes in pieces on the device and of the dtype of ``like``."""
        key = (like.device, like.dtype, transposed)
        if key not in self._pieces:
            self._pieces[key] = [tuple(_Pieces(m.T.tocsr() if transposed else m, like) for m in term) for term in self._terms]
        return self._pieces[key]


class _Pieces:
    """A sparse matrix (m, n) whose rows meet few columns, as dense pieces of some rows each, for products with tensors."""

    def __init__(self, matrix: sparse.csr_array, like: Any) -> None:
        import torch

        self.pieces = []
        for rows in np.array_split(np.arange(matrix.shape[0]), max(1, round(min(matrix.shape) / _PIECE))):
            part = matrix[rows[0] : rows[-1] + 1]
            used = np.unique(part.nonzero()[1])
            columns = slice(int(used[0]), int(used[-1]) + 1)
            self.pieces.append((columns, torch.as_tensor(part.toarray()[:, columns], device=like.device, dtype=like.dtype)))

    def along_x(self, image: Any) -> Any:
        """Apply the matrix to the last axis: (..., n) to (..., m)."""
        return _joined([image[..., columns] @ dense.transpose(0, 1) for columns, dense in self.pieces], -1)

    def along_y(self, image: Any) -> Any:
        """Apply the matrix to the last axis but one: (..., n, w) to (..., m, w)."""
        return _joined([dense @ image[..., columns, :] for columns, dense in self.pieces], -2)


def _joined(parts: list[Any], axis: int) -> Any:
    """Put the results of the pieces together along an axis."""
    import torch

    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)


def _axis_matrix(taps: np.ndarray, ratio: int, size: int) -> sparse.csr_array:
    """Blur along one axis, reflect at both ends and keep every ratio-th value: a sparse (size / ratio, size) matrix."""
    n_coarse = size // ratio
    centre = (np.arange(n_coarse) + 0.5) * ratio - 0.5
    offset = np.arange(len(taps)) - (len(taps) - 1) / 2
    position = np.rint(centre[:, None] + offset[None, :]).astype(int)
    position = np.mod(position, 2 * size)
    position = np.where(position >= size, 2 * size - 1 - position, position)
    row = np.repeat(np.arange(n_coarse), len(taps))
    matrix = sparse.coo_array((np.tile(taps, n_coarse), (row, position.ravel())), shape=(n_coarse, size))
    return matrix.tocsr()


def _along_x(matrix: sparse.csr_array, image: np.ndarray) -> np.ndarray:
    """Apply a matrix (m, n) to the last axis of ``image`` (..., n)."""
    flat = image.reshape(-1, image.shape[-1])
    out = (matrix.astype(image.dtype) @ flat.T).T
    return np.ascontiguousarray(out).reshape(*image.shape[:-1], matrix.shape[0])


def _along_y(matrix: sparse.csr_array, image: np.ndarray) -> np.ndarray:
    """Apply a matrix (m, n) to the last axis but one of ``image`` (..., n, w)."""
    return np.swapaxes(_along_x(matrix, np.swapaxes(image, -1, -2)), -1, -2)


def _check_shape(array: Any, expected: tuple[int, int]) -> None:
    """Refuse an array whose last two axes are not ``expected``."""
    if tuple(array.shape[-2:]) != expected:
        raise InputError(f"expected an image of {expected[0]} x {expected[1]} pixels, found {array.shape[-2]} x {array.shape[-1]}")
