"""HySure: fusion in a subspace with vector total variation.

Simoes, Bioucas-Dias, Almeida and Chanussot 2015, IEEE TGRS 53(6), 3373-3388; arXiv 1411.4005.

With the paper's names in brackets: the HSI is X = H(Z) + noise [Y_h = E X B M], the MSI Y = R Z + noise [Y_m = R E X], and Z = E A
lies in the span of p endmembers E, found by vertex component analysis [their X is A here]. The estimate minimises

    1/2 |X - E H(A)|^2 + lambda_m / 2 |Y - R E A|^2 + lambda_phi sum_pixels sqrt(sum_components (D_h A)^2 + (D_v A)^2),

where the vector total variation aligns the edges of all components. ADMM in the form of SALSA splits it [their Appendix]:

    V1 = A (HSI term),  V2 = A (MSI term),  V3 = D_h A,  V4 = D_v A (total variation),

each iteration solves for A, for each V by itself, and updates the scaled multipliers G1 ... G4.

How it is done here:

* Parameters are those of the authors' code for MSI: p = 10, lambda_m = 1, lambda_phi = 5e-4, mu = 0.05, 200 iterations, the
  largest of 20 runs of VCA; the HSI is divided by its maximum, each MSI band, with its response, by its own. H and R are known
  here, not estimated.
* The paper splits blur from decimation, V1 = A B, because a circular blur is solved by FFT. Here the border is reflected, as in H
  itself, and V1 = A is solved in closed form (:mod:`geofuse.degradation.coarse_inverse`); the differences are zero across the
  border, which the discrete cosine transform diagonalises. The minimiser is that of the objective above either way.
* It starts from the HSI's coefficients, interpolated, not from zero: the same minimum, reached sooner.
* No data: V2 of an MSI pixel without is held by the total variation alone; a coarse pixel without pulls at nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from geofuse.degradation.coarse_inverse import CoarseInverse
from geofuse.degradation.spatial import SpatialOperator
from geofuse.errors import InputError
from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads
from geofuse.methods.filling import whole_pair
from geofuse.methods.injection import to_fine
from geofuse.methods.vca import vertex_components

_VCA = 30  # purpose of the random stream
_VCA_RUNS = 20


@dataclass(frozen=True)
class HysureOptions:
    """Options of HySure; the defaults are the authors'.

    Attributes
    ----------
    endmembers
        Number p of endmembers.
    msi_weight
        lambda_m.
    variation_weight
        lambda_phi.
    penalty
        mu of ADMM.
    iterations
        Iterations of ADMM.
    """

    endmembers: int = 10
    msi_weight: float = 1.0
    variation_weight: float = 5e-4
    penalty: float = 0.05
    iterations: int = 200


@dataclass(frozen=True)
class HysureProblem:
    """One tile's objective, in scaled values.

    Attributes
    ----------
    spatial
        H.
    endmembers, seen
        E (C, p) and R E (c, p).
    hsi, msi
        (C, h, w) and (c, H, W).
    hsi_valid, msi_valid
        (h, w) and (H, W) bool.
    """

    spatial: SpatialOperator
    endmembers: torch.Tensor
    seen: torch.Tensor
    hsi: torch.Tensor
    msi: torch.Tensor
    hsi_valid: torch.Tensor
    msi_valid: torch.Tensor
    options: HysureOptions = field(default_factory=HysureOptions)

    def objective(self, a: torch.Tensor) -> float:
        """Value of the objective at A (p, H, W), in double precision."""
        hsi = (self.hsi - mix(self.endmembers, self.spatial.forward(a))) * self.hsi_valid
        msi = (self.msi - mix(self.seen, a)) * self.msi_valid
        across, down = difference(a, 2), difference(a, 1)
        variation = (across.double() ** 2 + down.double() ** 2).sum(dim=0).sqrt().sum()
        data = 0.5 * (hsi.double() ** 2).sum() + 0.5 * self.options.msi_weight * (msi.double() ** 2).sum()
        return float(data + self.options.variation_weight * variation)


class Hysure:
    """HySure with known H and R; see the module's text."""

    Options = HysureOptions
    presets = {"default": HysureOptions()}
    halo = 8

    def __init__(self, options: HysureOptions | None = None) -> None:
        """Take the options; nothing is computed before :meth:`fit`."""
        self.options = options or HysureOptions()

    @staticmethod
    def default_preset(device: str) -> str:
        """Return the only preset."""
        return "default"

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Find the scales and the endmembers.

        Raises
        ------
        InputError
            If the samples hold fewer than three pixels of the HSI with data.
        """
        use_threads()
        self.model = model
        spectra = np.concatenate([s.hsi[:, s.hsi_valid] for s in samples], axis=1).astype(np.float64)
        if spectra.shape[1] < 3:
            raise InputError(f"the HSI has {spectra.shape[1]} pixels with data in every band; hysure needs at least 3")
        msi = np.concatenate([s.msi[:, s.msi_valid] for s in samples], axis=1)
        self.hsi_scale = _positive(spectra.max())
        self.msi_scale = np.array([_positive(band.max(initial=0.0)) for band in msi])
        self.mean = spectra.mean(axis=1)
        count = min(self.options.endmembers, len(spectra), spectra.shape[1] - 1)
        rng = np.random.default_rng([model.seed, _VCA])
        endmembers = vertex_components(spectra / self.hsi_scale, count, rng, snr_db=0.0, runs=_VCA_RUNS)
        self.endmembers = self._tensor(endmembers)
        self.seen = self._tensor(model.response @ endmembers * (self.hsi_scale / self.msi_scale)[:, None])
        report("endmembers", 1, 1)

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the fused tile (C, H, W) float32 in the HSI's units."""
        use_threads()
        pair = whole_pair(tile, self.model, self.mean)
        msi = pair.msi / self._tensor(self.msi_scale)[:, None, None]
        spatial = SpatialOperator(self.model.psf, self.model.ratio, *msi.shape[1:])
        hsi = pair.hsi / self.hsi_scale
        problem = HysureProblem(spatial, self.endmembers, self.seen, hsi, msi, pair.hsi_valid, pair.msi_valid, self.options)
        abundances = minimise(problem, report)
        return (mix(self.endmembers, abundances) * self.hsi_scale).cpu().numpy()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.asarray(array, np.float32), device=self.model.device)


def minimise(problem: HysureProblem, report: Report) -> torch.Tensor:
    """Minimise the objective by ADMM and return A (p, H, W)."""
    options = problem.options
    hsi_term, msi_term, smooth = HsiTerm(problem), MsiTerm(problem), Consensus(problem.msi)
    a = to_fine(hsi_term.start(), problem.spatial.ratio)
    v1, v2, v3, v4 = a, a, difference(a, 2), difference(a, 1)
    g1, g2, g3, g4 = (torch.zeros_like(a) for _ in range(4))
    for iteration in range(options.iterations):
        a = smooth.solve(v1 + g1 + v2 + g2 + difference_adjoint(v3 + g3, 2) + difference_adjoint(v4 + g4, 1))
        n1, n2, n3, n4 = a - g1, a - g2, difference(a, 2) - g3, difference(a, 1) - g4
        v1, v2 = hsi_term.proximal(n1), msi_term.proximal(n2)
        shrink = shrinkage(n3, n4, options.variation_weight / options.penalty)
        v3, v4 = shrink * n3, shrink * n4
        g1, g2, g3, g4 = v1 - n1, v2 - n2, v3 - n3, v4 - n4
        report("minimising", iteration + 1, options.iterations)
    return a


class HsiTerm:
    """Proximal operator of 1/2 |X - E H(V)|^2: the minimiser V of it plus mu/2 |V - N|^2.

    In the eigenvectors of E^T E, of eigenvalues l_k, it is v_k = n_k + H^T (H H^T + mu / l_k)^-1 (x_k - H n_k), x = E^+ X.
    """

    def __init__(self, problem: HysureProblem) -> None:
        """Decompose E^T E and project the HSI."""
        endmembers = problem.endmembers.double()
        values, vectors = torch.linalg.eigh(endmembers.T @ endmembers)
        values = values.clamp(min=max(1e-9 * float(values[-1]), 1e-12))  # all of them are zero in a scene of zeros
        like, self.spatial, self.valid = problem.hsi, problem.spatial, problem.hsi_valid
        self.vectors = vectors.to(like)
        self.target = mix((vectors.T @ endmembers.T / values[:, None]).to(like), problem.hsi)
        self.shift = (problem.options.penalty / values).to(like)
        self.inverse = CoarseInverse(problem.spatial, like)

    def start(self) -> torch.Tensor:
        """Return the coefficients of the HSI (p, h, w), those that endmembers hardly tell apart left small."""
        damped = self.target / (1.0 + self.shift[:, None, None])
        return mix(self.vectors, damped)

    def proximal(self, n: torch.Tensor) -> torch.Tensor:
        """Return V (p, H, W) for N (p, H, W)."""
        news = self.target - mix(self.vectors.T, self.spatial.forward(n))
        news = torch.where(self.valid, news, 0.0)
        return n + self.spatial.adjoint(mix(self.vectors, self.inverse.solve(news, self.shift)))


class MsiTerm:
    """Proximal operator of lambda_m/2 |Y - F V|^2, F = R E, by pixel: V = (lambda_m F^T F + mu I)^-1 (lambda_m F^T Y + mu N)."""

    def __init__(self, problem: HysureProblem) -> None:
        """Invert the matrix of all pixels with data."""
        weight, mu = problem.options.msi_weight, problem.options.penalty
        seen = problem.seen.double()
        inverse = torch.linalg.inv(weight * seen.T @ seen + mu * torch.eye(seen.shape[1]).to(seen))
        self.constant = mix((weight * inverse @ seen.T).to(problem.msi), problem.msi)
        self.keep = (mu * inverse).to(problem.msi)
        self.valid = problem.msi_valid

    def proximal(self, n: torch.Tensor) -> torch.Tensor:
        """Return V (p, H, W) for N (p, H, W)."""
        return torch.where(self.valid, self.constant + mix(self.keep, n), n)


class Consensus:
    """Solves (2 I + D_h^T D_h + D_v^T D_v) A = right side by the discrete cosine transform."""

    def __init__(self, like: torch.Tensor) -> None:
        """Make the transforms for images (..., H, W) like ``like``."""
        (self.rows, along_y), (self.cols, along_x) = (_cosines(size, like) for size in like.shape[-2:])
        self.weight = 1.0 / (2.0 + along_y[:, None] + along_x)

    def solve(self, right: torch.Tensor) -> torch.Tensor:
        """Return A (p, H, W)."""
        return self.rows.T @ ((self.rows @ right @ self.cols.T) * self.weight) @ self.cols


def difference(image: torch.Tensor, axis: int) -> torch.Tensor:
    """Forward difference along an axis of (p, H, W), zero across the border."""
    return torch.diff(image, dim=axis, append=image.narrow(axis, image.shape[axis] - 1, 1))


def difference_adjoint(image: torch.Tensor, axis: int) -> torch.Tensor:
    """Adjoint of :func:`difference`; what stands in the last row or column does not count."""
    inner = image.narrow(axis, 0, image.shape[axis] - 1)
    zero = torch.zeros_like(image.narrow(axis, 0, 1))
    return -torch.diff(torch.cat([zero, inner, zero], dim=axis), dim=axis)


def shrinkage(across: torch.Tensor, down: torch.Tensor, threshold: float) -> torch.Tensor:
    """Factor (H, W) by which vector soft thresholding shortens the gradient of all components together."""
    length = ((across**2).sum(dim=0) + (down**2).sum(dim=0)).sqrt()
    return (length - threshold).clamp(min=0.0) / length.clamp(min=torch.finfo(length.dtype).tiny)


def mix(matrix: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Multiply along the first axis: (m, n) times (n, H, W) gives (m, H, W)."""
    return (matrix @ image.flatten(1)).unflatten(1, image.shape[1:])


def _cosines(size: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal discrete cosine transform (size, size), frequencies in rows, and the eigenvalues of D^T D (size,)."""
    k, n = np.arange(size)[:, None], np.arange(size)[None, :]
    matrix = np.sqrt(np.where(k == 0, 1.0, 2.0) / size) * np.cos(np.pi * k * (n + 0.5) / size)
    values = 2.0 - 2.0 * np.cos(np.pi * np.arange(size) / size)
    return torch.as_tensor(matrix).to(like), torch.as_tensor(values).to(like)


def _positive(value: float) -> float:
    """Return the value if it can serve as a scale, else 1."""
    return float(value) if value > 0 else 1.0
