"""The method that learns nothing: spectral subspace, local regression, penalised least squares solved exactly.

1. A noise-whitened spectral basis of the HSI, as many vectors as stand above the noise (:mod:`spectral_basis`).
2. Its coefficients predicted from the MSI by linear regression in sliding windows (:mod:`local_regression`).
3. The least-squares problem of both observations, held to the prediction with the precision that its own residuals on the coarse
   grid suggest, solved by conjugate gradients (:mod:`geofuse.degradation.solvers`).

Every weight follows from the noise estimated in the two images (:mod:`geofuse.degradation.noise`). Related published methods are
the stochastic mixing model (Eismann and Hardie 2004), local regression with a subspace (Simoes 2015 for the subspace) and the
Gaussian case of FUSE (Wei 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import interpolate

from geofuse.degradation.noise import consistent_noise, msi_noise, principal_components
from geofuse.degradation.solvers import FusionProblem, solve_with_prior
from geofuse.degradation.spatial import SpatialOperator
from geofuse.errors import InputError
from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads
from geofuse.methods.injection import fill_gaps, to_fine
from geofuse.methods.local_regression import REACH, CoarseMsi, predict_coarse, predict_fine, regress, scene_moments
from geofuse.methods.spectral_basis import SpectralBasis, SubspaceImage, learn_basis
from geofuse.tiling import Edges

_ALL_CUT = Edges(False, False, False, False)
_LEAST_TRUST = 0.5  # weight of a coarse pixel in the MSI's part of what is estimated from residuals
_FINE_TO_COARSE_VARIANCE = 4.0  # the prediction errs more on the fine grid than its residuals on the coarse grid show


@dataclass(frozen=True)
class SubspaceOptions:
    """Options of the subspace method.

    Attributes
    ----------
    rank
        Dimension d of the spectral subspace; by default found from the noise.
    """

    rank: int | None = None


@dataclass(frozen=True)
class MsiView:
    """The MSI in coordinates with unit noise: y' = W (y - mean), W = P^T S^-1, S the noise and P the scene's principal axes.

    Attributes
    ----------
    noise
        (c,) noise standard deviation of the MSI, its own units.
    axes
        W (c, c), strongest component first.
    spread
        (c,) standard deviation of the components of y', noise included; 1 where there is noise only.
    """

    noise: np.ndarray
    axes: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class SubspaceState:
    """The scene's subspace and how the MSI sees it."""

    basis: SpectralBasis
    view: MsiView
    mixing: torch.Tensor  # F (c, d), what the components of y' see of the basis vectors
    msi_mean: torch.Tensor  # (c,) response of the mean spectrum


@dataclass(frozen=True)
class TileProblem:
    """One tile in the subspace: the data terms and the filled-in images they came from."""

    data: FusionProblem
    msi_on_coarse: CoarseMsi
    regression_weight: torch.Tensor  # (h, w)


class Subspace:
    """Fusion in a spectral subspace without learning; the pilot of ARGS-Diff."""

    Options = SubspaceOptions
    presets = {"default": SubspaceOptions()}
    halo = 2 * REACH + 2

    def __init__(self, options: SubspaceOptions | None = None) -> None:
        """Take the options; nothing is computed before :meth:`fit`."""
        self.options = options or SubspaceOptions()

    @staticmethod
    def default_preset(device: str) -> str:
        """Return the only preset."""
        return "default"

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Estimate basis, noise, moments and the precision of the prediction from sample windows of the scene.

        Raises
        ------
        InputError
            If the samples hold too few pixels with data.
        """
        use_threads()
        self.model = model
        spectra = np.concatenate([s.hsi[:, s.hsi_valid] for s in samples], axis=1)
        basis = learn_basis(spectra, self.options.rank)
        report("subspace", 1, 3)
        noise = self._msi_noise(samples, basis)
        report("subspace", 2, 3)
        self.adopt(basis, msi_view([s.msi[:, s.msi_valid] for s in samples], noise), samples)
        report("subspace", 3, 3)

    def adopt(self, basis: SpectralBasis, view: MsiView, samples: Sequence[TileData]) -> None:
        """Work with this basis from now on: learn the moments and the precision of the prediction in it."""
        response = self.model.response
        mixing, mean = view.axes @ response @ basis.vectors, response @ basis.mean
        self.state = SubspaceState(basis, view, self._tensor(mixing), self._tensor(mean))
        parts = [self.prepare(s) for s in samples]
        self.moments = scene_moments([(p.msi_on_coarse.blurred, p.data.coarse, p.regression_weight) for p in parts])
        self.precision = self._prediction_precision(parts)

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the fused tile (C, H, W) float32 in the HSI's units."""
        return np.asarray(self.fuse_by_band(tile, report))

    def fuse_by_band(self, tile: TileData, report: Report) -> SubspaceImage:
        """Return the fused tile (C, H, W) in the HSI's units, its bands still to be computed."""
        use_threads()
        return self.to_image(self.solve(self.prepare(tile)))

    def to_image(self, coefficients: torch.Tensor) -> SubspaceImage:
        """Return the image of coefficients (d, H, W)."""
        return SubspaceImage(self.state.basis, coefficients.cpu().numpy())

    def prepare(self, tile: TileData) -> TileProblem:
        """Bring a tile into the subspace; pixels without data are filled from the other image and get weight zero.

        Where the MSI is trusted in part it is mixed with what the HSI shows of it, and weighs that much less.
        """
        state, ratio = self.state, self.model.ratio
        height, width = tile.msi.shape[1:]
        spatial = SpatialOperator(self.model.psf, ratio, height, width)
        hsi_valid, msi_valid = self._tensor(tile.hsi_valid), self._tensor(tile.msi_valid)
        hsi = np.where(tile.hsi_valid, tile.hsi, state.basis.mean.astype(np.float32)[:, None, None])
        coarse = self._tensor(state.basis.coefficients(hsi))
        msi = self._tensor(np.where(tile.msi_valid, tile.msi, 0.0)) - state.msi_mean[:, None, None]
        msi = torch.einsum("ij,jhw->ihw", self._tensor(state.view.axes), msi)
        seen_by_hsi = torch.einsum("cd,dhw->chw", state.mixing, coarse)
        stand_in = interpolate(seen_by_hsi[None], size=(height, width), mode="bilinear", align_corners=False)[0]
        msi = torch.where(msi_valid > 0, msi, stand_in)
        whole = hsi_valid * self._inside(spatial, tile.edges)
        regression_weight, fine_weight = whole * (spatial.forward(msi_valid[None])[0] > 0.999), msi_valid
        if tile.trust is not None:
            fine_weight = self._tensor(tile.trust)
            msi = torch.lerp(stand_in, msi, fine_weight)
            regression_weight = regression_weight * spatial.forward(fine_weight[None])[0].clamp(0.0, 1.0)
        data = FusionProblem(spatial, coarse, whole, msi, fine_weight, state.mixing, torch.ones_like(state.msi_mean))
        return TileProblem(data, CoarseMsi.of(msi, spatial), regression_weight)

    def predict(self, problem: TileProblem) -> torch.Tensor:
        """Predict the fine coefficients (d, H, W): by the local regression from the MSI, where that is not trusted from the HSI."""
        predicted, data = predict_fine(self._predictor(problem), problem.data.fine), problem.data
        if bool((data.fine_weight == 1).all()):
            return predicted
        known = torch.where(data.coarse_weight > 0, data.coarse, torch.nan)
        interpolated = to_fine(fill_gaps(known, torch.zeros(len(known)).to(known)), self.model.ratio)
        return torch.lerp(interpolated, predicted, data.fine_weight)

    def solve(self, problem: TileProblem) -> torch.Tensor:
        """Return the fine coefficients (d, H, W): the prediction corrected by both observations."""
        return solve_with_prior(problem.data, self.predict(problem), self.precision)

    def _predictor(self, problem: TileProblem) -> torch.Tensor:
        noise = problem.data.fine_noise
        return regress(problem.msi_on_coarse, problem.data.coarse, problem.regression_weight, noise, self.moments)

    def _prediction_precision(self, parts: Sequence[TileProblem]) -> torch.Tensor:
        """Precision of the prediction on the fine grid: its coarse residuals, scaled, and the MSI's noise passed on by it."""
        residuals, slope, count = [], 0.0, 0
        for part in parts:
            predictor = self._predictor(part)
            residual = part.data.coarse - predict_coarse(predictor, part.msi_on_coarse.blurred)
            keep = part.regression_weight > _LEAST_TRUST
            residuals.append(residual[:, keep])
            slope = slope + predictor[:, :-1, keep].sum(dim=2)
            count += int(keep.sum())
        if count < 2:
            raise InputError(f"HSI and MSI share {count} coarse pixels with data, at least 2 are needed; check masks and overlap")
        residual = torch.cat(residuals, dim=1).double()
        slope = slope.double() / count
        covariance = _FINE_TO_COARSE_VARIANCE * (residual @ residual.T) / count + slope @ slope.T
        floor = 1e-6 * covariance.diagonal().mean() + 1e-12
        return torch.linalg.inv(covariance + floor * torch.eye(len(covariance)).to(covariance)).float()

    def _msi_noise(self, samples: Sequence[TileData], basis: SpectralBasis) -> np.ndarray:
        """Noise of the MSI, from its texture and from its agreement with the HSI.

        The images are compared where the whole PSF falls on data: what lies beyond a border is not what reflection makes of it.
        """
        from_texture = msi_noise([s.msi for s in samples])
        response = self.model.response
        residuals = []
        for sample in samples:
            spatial = SpatialOperator(self.model.psf, self.model.ratio, *sample.msi.shape[1:])
            valid = sample.msi_valid & (True if sample.trust is None else sample.trust > _LEAST_TRUST)
            whole = spatial.sees_only(valid) & sample.hsi_valid & (self._inside(spatial, _ALL_CUT).cpu().numpy() > 0)
            on_coarse = spatial.forward(np.where(valid, sample.msi, 0.0).astype(np.float32))
            residuals.append(on_coarse[:, whole] - response @ sample.hsi[:, whole])
        residual = np.concatenate(residuals, axis=1)
        level = float(np.abs(np.concatenate([s.msi[:, s.msi_valid] for s in samples], axis=1)).mean()) if residual.size else 1.0
        if residual.shape[1] >= 8:
            explained = (response**2) @ basis.noise**2
            from_texture = consistent_noise(from_texture, residual, psf_power(self.model), explained)
        return np.maximum(from_texture, 1e-4 * level + 1e-12)

    def _inside(self, spatial: SpatialOperator, edges: Edges) -> torch.Tensor:
        """(h, w): 0 for coarse pixels whose PSF reaches across a side of the tile that is not the scene's border."""
        reach = -(-spatial.reach // self.model.ratio)
        inside = torch.ones(spatial.coarse_shape, device=self.model.device)
        top, bottom, left, right = edges.top, edges.bottom, edges.left, edges.right
        height, width = spatial.coarse_shape
        inside[: 0 if top else reach] = 0
        inside[height if bottom else max(height - reach, 0) :] = 0
        inside[:, : 0 if left else reach] = 0
        inside[:, width if right else max(width - reach, 0) :] = 0
        return inside

    def _tensor(self, array: object) -> torch.Tensor:
        return torch.as_tensor(np.asarray(array, np.float32), device=self.model.device)


def msi_view(pixels: Sequence[np.ndarray], noise: np.ndarray) -> MsiView:
    """Find the coordinates of the MSI with unit noise, from pixels (c, n) of the scene."""
    scaled = np.concatenate(pixels, axis=1).astype(np.float64) / noise[:, None]
    variance, directions = principal_components(np.cov(scaled, bias=True).reshape(len(noise), -1))
    return MsiView(noise, directions.T / noise[None, :], np.sqrt(np.maximum(variance, 1.0)))


def psf_power(model: SceneModel) -> float:
    """Sum of the squared weights with which one coarse pixel averages fine pixels."""
    kernel = sum(np.outer(v, u) for v, u in model.psf.separable_terms(model.ratio))
    return float((kernel**2).sum())
