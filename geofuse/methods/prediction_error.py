"""How far the local regression errs on the fine grid, where no truth is known: measured on what the two images show of it.

On the coarse grid its error is known: coarse pixels are held out, predicted from the others' regression and compared with the HSI,
whose noise is then taken off. On the fine grid the same error is larger, because averaging over a coarse pixel hides part of it. By
how much is read off the MSI: each of its bands is predicted from the others by the very same regression, fitted on the coarse grid,
and compared both there (held out) and on the fine grid, where it is known. The ratio of the two variances is the *gain*.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from geofuse.methods.local_regression import CoarseMsi, Moments, predict_coarse, predict_fine, regress, scene_moments
from geofuse.methods.subspace import TileProblem

_PHASES = 3  # coarse pixels are held out every third row and column; a window reaches that far
_ENOUGH = 600  # held-out coarse pixels of a sample window
_ONE_BAND_GAIN = 4.0  # for an MSI of one band, which no other can predict: the variance ratio that the subspace method assumes
_NEIGHBOURS, _SCENE_NEIGHBOURS = 1, 3.0  # the local scale looks one coarse pixel around; the scene counts as three more
_LEAST_SCALE = 0.2  # of a local variance, in units of the scene's


@dataclass(frozen=True)
class PredictionError:
    """The error of the prediction on the fine grid.

    Attributes
    ----------
    factor
        L (d, d), L L^T the covariance of the error of a fine pixel's coefficients.
    gain
        By how much its variance exceeds that on the coarse grid.
    energy
        Mean over the scene of the sum of the squared residuals of a coarse pixel.
    """

    factor: Tensor
    gain: float
    energy: float

    def local_scale(self, residual: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
        """Return how much larger or smaller the error is here and there in a tile, (H, W), from its residuals (d, h, w)."""
        energy = residual.pow(2).sum(dim=0) / max(self.energy, 1e-12)
        total, count = (_sum_around(image) for image in (energy * weight, weight))
        variance = ((total + _SCENE_NEIGHBOURS) / (count + _SCENE_NEIGHBOURS)).clamp(min=_LEAST_SCALE)
        return interpolate(variance[None, None], size=size, mode="bilinear", align_corners=False)[0, 0].sqrt()


def measure(
    problems: Sequence[TileProblem], noise: Tensor, moments: Moments, to_bands: Tensor, psf_power: float
) -> PredictionError:
    """Measure the error on sample windows of the scene.

    Parameters
    ----------
    problems
        The windows, at least one with data.
    noise
        (c,) noise of the MSI's components that the regression is told of.
    moments
        The scene's moments.
    to_bands
        (c, c) orthonormal: turns the MSI's components, which have unit noise, into its bands.
    psf_power
        Sum of the squared weights with which a coarse pixel averages fine ones.
    """
    covariance, energy, count, counted = 0.0, 0.0, 0, 0.0
    fine_error, coarse_error = 0.0, 0.0
    for problem in problems:
        coarse, weight = problem.data.coarse, problem.regression_weight
        held_out = _held_out(problem.msi_on_coarse, coarse, weight, noise, moments).double()
        covariance, count = covariance + held_out @ held_out.T, count + held_out.shape[1]
        residual = regression_residual(problem, noise, moments)
        energy, counted = energy + float((residual.pow(2).sum(dim=0) * weight).sum()), counted + float(weight.sum())
        fine, on_coarse = _cross_prediction(problem, to_bands, psf_power)
        fine_error, coarse_error = fine_error + fine, coarse_error + on_coarse
    gain = _ONE_BAND_GAIN if len(to_bands) == 1 else min(max(fine_error / max(coarse_error, 1e-12), 1.0), 1.0 / psf_power)
    covariance = covariance / max(count, 1)
    variance, axes = torch.linalg.eigh(covariance - torch.eye(len(covariance)).to(covariance))  # less the HSI's noise
    factor = axes * (gain * variance.clamp(min=0.0)).sqrt()
    return PredictionError(factor.float(), gain, energy / max(counted, 1.0))


def regression_residual(problem: TileProblem, noise: Tensor, moments: Moments) -> Tensor:
    """Return what the local regression leaves of the HSI's coefficients on the coarse grid, (d, h, w)."""
    predictor = regress(problem.msi_on_coarse, problem.data.coarse, problem.regression_weight, noise, moments)
    return problem.data.coarse - predict_coarse(predictor, problem.msi_on_coarse.blurred)


def _held_out(msi: CoarseMsi, target: Tensor, weight: Tensor, noise: Tensor, moments: Moments) -> Tensor:
    """Return the errors (n, m) of predicting coarse pixels that the regression has not seen."""
    parts = [target.new_zeros(len(target), 0)]
    for fold in _folds(weight):
        predictor = regress(msi, target, weight * ~fold, noise, moments)
        parts.append((target - predict_coarse(predictor, msi.blurred))[:, fold & (weight > 0)])
    return torch.cat(parts, dim=1)


def _folds(weight: Tensor) -> Iterator[Tensor]:
    """Yield masks (h, w) of pixels to hold out, as many as give enough of them."""
    rows, cols = (torch.arange(n, device=weight.device) % _PHASES for n in weight.shape)
    each = float((weight > 0).sum()) / _PHASES**2
    wanted = min(_PHASES**2, max(1, round(_ENOUGH / max(each, 1.0))))
    for index in range(wanted):
        yield (rows[:, None] == index // _PHASES) & (cols[None, :] == index % _PHASES)


def _cross_prediction(problem: TileProblem, to_bands: Tensor, psf_power: float) -> tuple[float, float]:
    """Predict each band of the MSI from the others; return the sums of the error variances, on the fine and the coarse grid.

    The noise of the band and what the prediction passes on of the others' is taken off both.
    """
    bands = torch.einsum("ij,jhw->ihw", to_bands, problem.data.fine)
    weight, spatial, seen = problem.regression_weight, problem.data.spatial, problem.data.fine_weight > 0
    if len(bands) == 1 or not bool((weight > 0).any()):
        return 0.0, 0.0
    unit = torch.ones(len(bands) - 1, device=bands.device)
    on_fine, on_coarse = 0.0, 0.0
    for index in range(len(bands)):
        others = torch.cat([bands[:index], bands[index + 1 :]])
        msi, target = CoarseMsi.of(others, spatial), spatial.forward(bands[index : index + 1])
        moments = scene_moments([(msi.blurred, target, weight)])
        predictor = regress(msi, target, weight, unit, moments)
        noise = 1.0 + float((predictor[:, :-1].pow(2).sum(dim=1) * weight).sum() / weight.sum())
        error = (bands[index] - predict_fine(predictor, others)[0])[seen]
        held_out = _held_out(msi, target, weight, unit, moments)
        pixels = float(weight.sum())  # so that large windows count for more
        on_fine += pixels * (float(error.pow(2).mean()) - noise)
        on_coarse += pixels * (float(held_out.pow(2).mean()) - psf_power * noise)
    return on_fine, on_coarse


def _sum_around(image: Tensor) -> Tensor:
    """Sum over each pixel of an image (h, w) and its neighbours."""
    side = 2 * _NEIGHBOURS + 1
    return side**2 * avg_pool2d(pad(image[None, None], (_NEIGHBOURS,) * 4), side, stride=1)[0, 0]
