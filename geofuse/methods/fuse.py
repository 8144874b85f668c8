"""FUSE: fast fusion by a Sylvester equation (Wei, Dobigeon and Tourneret 2015, IEEE TIP 24(11), 4109-4121; arXiv 1502.03121).

Model, with the paper's names in brackets: the HSI is X = H(Z) + N_h [Y_R = X B S + N_R], the MSI Y = R Z + N_m [Y_L = L X + N_L],
both noises white with a variance for each band. Z = E U + mean lives in a subspace [H U], and U has a Gaussian prior of mean M
and precision P. The maximum a posteriori estimate solves the Sylvester equation

    C1 U + U C2 = C3,    C1 = (E^T L_h E)^-1 ((R E)^T L_m R E + P),    C2 = B S (B S)^T,

L_h and L_m being the inverse noise covariances. Theorem 1 solves it by the eigenvectors of C1: for each of them the system is
(C2 + lambda_k I) u_k = c_k.

How it is done here:

* The basis is whitened (:mod:`geofuse.methods.spectral_basis`), E^T L_h E = I, so C1 is symmetric. Its rank and both noises are
  estimated from the images; the paper takes the rank as given and the noises as known.
* The border is reflected, so B is not circulant; the system is solved exactly all the same, because H is separable
  (:mod:`geofuse.degradation.coarse_inverse`). With a circular border it is the paper's own solution.
* Rearranged by Woodbury, as in R-FUSE (Wei et al. 2016), the solution takes two steps: U_0, the estimate of each pixel by itself
  from prior and MSI, and, in C1's eigenvectors, what the HSI adds: u_k = u_0k + H^T (H H^T + lambda_k I)^-1 (a_k - H u_0k).
* Prior: M is the HSI interpolated by cubic convolution. Its covariance is that of what interpolation misses, measured one scale
  up, where it can be seen: the HSI minus H(HSI) interpolated, less the noise in it. The authors estimate it too, in their sampling
  version (Wei, Dobigeon and Tourneret 2015, IEEE JSTSP 9(6), 1117-1127); the code they released with this one has P = 1e-3 I for
  coefficients of unit variance, nearly no prior: ``prior_precision=1e-3`` gives that.
* No data: an MSI pixel without is given what its prior mean says; a coarse pixel without adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from geofuse.degradation.coarse_inverse import CoarseInverse
from geofuse.degradation.noise import consistent_noise, msi_noise
from geofuse.degradation.spatial import SpatialOperator
from geofuse.errors import InputError
from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads
from geofuse.methods.filling import WholePair, whole_pair
from geofuse.methods.injection import shared_pixels, to_fine
from geofuse.methods.spectral_basis import SpectralBasis, learn_basis
from geofuse.methods.subspace import psf_power

_LEAST_NOISE = 1e-4  # of the MSI's level
_LEAST_DETAIL = 0.01  # in units of the HSI's noise variance


@dataclass(frozen=True)
class FuseOptions:
    """Options of FUSE.

    Attributes
    ----------
    rank
        Dimension of the spectral subspace; by default found from the noise.
    prior_precision
        P in units of the inverse variances of the HSI's coefficients; by default P is estimated.
    """

    rank: int | None = None
    prior_precision: float | None = None


@dataclass(frozen=True)
class GaussianFusion:
    """The quadratic problem of the whole scene: 1/2 |a - H U|^2 + 1/2 |(y - F U) / s|^2 + 1/2 |U - M|_P^2.

    Attributes
    ----------
    mixing
        F (c, d), response of the whitened basis vectors.
    noise
        s (c,), the MSI's noise.
    covariance
        P^-1 (d, d), positive definite.
    """

    mixing: np.ndarray
    noise: np.ndarray
    covariance: np.ndarray

    def by_pixel(self) -> np.ndarray:
        """Gain G (d, c) of the estimate from prior and MSI alone: U_0 = M + G (y - F M)."""
        spread = self.mixing @ self.covariance
        return np.linalg.solve(spread @ self.mixing.T + np.diag(self.noise**2), spread).T

    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (d,) and eigenvectors (d, d) of C1."""
        seen = self.mixing / self.noise[:, None]
        values, vectors = np.linalg.eigh(seen.T @ seen + np.linalg.inv(self.covariance))
        return np.maximum(values, 1.0 / np.linalg.norm(self.covariance, 2)), vectors


class Fuse:
    """FUSE with a Gaussian prior; see the module's text."""

    Options = FuseOptions
    presets = {"default": FuseOptions()}
    halo = 8

    def __init__(self, options: FuseOptions | None = None) -> None:
        """Take the options; nothing is computed before :meth:`fit`."""
        self.options = options or FuseOptions()

    @staticmethod
    def default_preset(device: str) -> str:
        """Return the only preset."""
        return "default"

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Find the subspace, both noises and the prior's covariance.

        Raises
        ------
        InputError
            If the samples hold too few pixels with data.
        """
        use_threads()
        self.model = model
        spectra = np.concatenate([s.hsi[:, s.hsi_valid] for s in samples], axis=1)
        self.basis = learn_basis(spectra, self.options.rank)
        report("subspace", 1, 2)
        noise = estimate_msi_noise(model, samples, self.basis)
        if self.options.prior_precision is None:
            covariance = detail_covariance(model, [self._coarse(whole_pair(s, model, self.basis.mean)) for s in samples])
        else:
            covariance = np.diag(self.basis.coefficients(spectra).astype(np.float64).var(axis=1) / self.options.prior_precision)
        self.problem = GaussianFusion(model.response @ self.basis.vectors, noise, covariance)
        report("subspace", 2, 2)

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the fused tile (C, H, W) float32 in the HSI's units."""
        use_threads()
        pair = whole_pair(tile, self.model, self.basis.mean)
        coarse = self._coarse(pair)
        fine = pair.msi - self._tensor(self.model.response @ self.basis.mean)[:, None, None]
        prior_mean = to_fine(coarse, self.model.ratio)
        fine = torch.where(pair.msi_valid, fine, _mix(self._tensor(self.problem.mixing), prior_mean))
        spatial = SpatialOperator(self.model.psf, self.model.ratio, *fine.shape[1:])
        solution = solve_sylvester(self.problem, spatial, coarse, fine, prior_mean, pair.hsi_valid)
        return self.basis.image(solution.cpu().numpy())

    def _coarse(self, pair: WholePair) -> torch.Tensor:
        """Return the coefficients a (d, h, w) of the HSI."""
        return self._tensor(self.basis.coefficients(pair.hsi.cpu().numpy()))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.asarray(array, np.float32), device=self.model.device)


def solve_sylvester(
    problem: GaussianFusion,
    spatial: SpatialOperator,
    coarse: torch.Tensor,
    fine: torch.Tensor,
    prior_mean: torch.Tensor,
    coarse_valid: torch.Tensor,
) -> torch.Tensor:
    """Solve C1 U + U C2 = C3 in closed form.

    Parameters
    ----------
    problem
        The scene's matrices.
    spatial
        H.
    coarse, fine, prior_mean
        a (d, h, w), y (c, H, W) and M (d, H, W).
    coarse_valid
        (h, w) bool; False: the coarse pixel is taken to be as the estimate without it says.

    Returns
    -------
    U (d, H, W).
    """
    gain, mixing, (values, vectors) = problem.by_pixel(), problem.mixing, problem.eigen()
    gain, mixing, values, vectors = (torch.as_tensor(m).to(fine) for m in (gain, mixing, values, vectors))
    by_pixel = prior_mean + _mix(gain, fine - _mix(mixing, prior_mean))
    news = torch.where(coarse_valid, coarse - spatial.forward(by_pixel), 0.0)
    step = CoarseInverse(spatial, fine).solve(_mix(vectors.T, news), values)
    return by_pixel + spatial.adjoint(_mix(vectors, step))


def detail_covariance(model: SceneModel, images: Sequence[torch.Tensor]) -> np.ndarray:
    """Covariance (d, d) of what interpolation misses, measured on the coefficients (d, h, w), of unit noise, one scale up.

    Directions in which noise explains all of it keep a hundredth of a noise variance.
    """
    total, count = 0.0, 0
    for image in images:
        height, width = (size // model.ratio * model.ratio for size in image.shape[1:])
        if min(height, width) == 0:
            continue
        image = image[:, :height, :width].double()
        missed = image - to_fine(SpatialOperator(model.psf, model.ratio, height, width).forward(image), model.ratio)
        total, count = total + (missed.flatten(1) @ missed.flatten(1).T).cpu().numpy(), count + height * width
    if count == 0:
        least = f"{model.ratio} x {model.ratio} pixels"
        why = f"the HSI is smaller than the {least} from which fuse learns at this ratio"
        raise InputError(f"{why}; use subspace, or in Python the option prior_precision")
    values, vectors = np.linalg.eigh(total / count)
    return (vectors * np.maximum(values - 1.0, _LEAST_DETAIL)) @ vectors.T


def estimate_msi_noise(model: SceneModel, samples: Sequence[TileData], basis: SpectralBasis) -> np.ndarray:
    """Noise of the MSI (c,), from its texture and from its agreement with the HSI."""
    hsi, blurred = shared_pixels(model, samples)
    response = model.response
    noise = msi_noise([s.msi for s in samples])
    if hsi.shape[1] >= 8:
        noise = consistent_noise(noise, blurred - response @ hsi, psf_power(model), (response**2) @ basis.noise**2)
    return np.maximum(noise, _LEAST_NOISE * np.abs(blurred).mean() + 1e-12)


def _mix(matrix: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Multiply along the first axis: (m, n) times (n, H, W) gives (m, H, W)."""
    return (matrix @ image.flatten(1)).unflatten(1, image.shape[1:])
