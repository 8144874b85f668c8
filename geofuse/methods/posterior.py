"""How far the fused image may be off: posterior samples, drawn by perturbing all that it was made from and solving again.

The estimate of ``subspace`` and of ``argsdiff`` (presets fast and balanced) is the solution of a least-squares problem, so its
error is the same linear map of the errors of what goes into it (perturb and optimise: Papandreou and Yuille 2010; Orieux, Feron
and Giovannelli 2012):

* the HSI's noise, white with unit variance in the whitened coefficients;
* the error of what the MSI shows: for ``subspace`` its noise; for ``argsdiff`` what the reverse process makes of fresh noise, which
  is larger at edges than on calm ground, brought to the size that Stein's identity gives for the networks' error (never below
  what passes through them, so that an overestimated noise cannot make it vanish);
* that error passed on by the local regression, and the regression's own (:mod:`geofuse.methods.prediction_error`), scaled from the
  coarse to the fine grid by the gain that the MSI's bands show, and larger where its residuals are;
* where the MSI is not trusted, the detail that the HSI, interpolated, cannot show;
* what lies outside the subspace, and the error of its basis vectors: white, so their variance is added as it is.

Nothing is fitted to a reference. Noise comes from (seed, absolute position), so that tiles agree.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from geofuse.degradation.solvers import solve_with_prior
from geofuse.errors import UsageError
from geofuse.methods.argsdiff import ArgsDiff
from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads
from geofuse.methods.local_regression import predict_coarse, predict_fine, regress
from geofuse.methods.prediction_error import PredictionError, measure
from geofuse.methods.subspace import Subspace, TileProblem, psf_power
from geofuse.tiling.noise import standard_normal

STAGE = "posterior samples"
_FIRST_STREAM = 100  # of noise by position; the paper preset has 3
_KINDS = 3  # streams a sample
_SAMPLE_WINDOWS = 4  # to measure on
_TOLERANCE = 1e-3  # of the solver: a thousandth of a standard deviation
_BAND_CHUNK = 16


class PosteriorSampler:
    """Draws posterior samples of a fitted method's result and gives their standard deviation.

    Parameters
    ----------
    method
        ``subspace`` or ``argsdiff``, preset fast or balanced.
    count
        Number of samples, 2 or more.

    Attributes
    ----------
    prediction
        The error of the local regression, after :meth:`fit`.
    widening
        By what the samples' deviation is multiplied because there are few of them: twice it then holds the 95.4 % of a normal
        distribution (Student's t).

    Raises
    ------
    UsageError
        If the method has no posterior, or the count is below 2.
    """

    prediction: PredictionError

    def __init__(self, method: Subspace | ArgsDiff, count: int) -> None:
        """Take the method, fitted or to be fitted before :meth:`fit`."""
        from scipy.special import stdtrit

        require_posterior(method, count)
        self.method, self.count = method, count
        self.widening = float(stdtrit(count, 0.97725)) / 2.0

    @property
    def note(self) -> str:
        """How the deviation was scaled, for people."""
        return (
            f"{self.count} posterior samples; the regression's error is taken as {self.prediction.gain**0.5:.2f} times that on the "
            f"coarse grid, as the MSI's bands show; deviations are widened {self.widening:.2f} times because the samples are few"
        )

    def as_dict(self) -> dict[str, int | float | str]:
        """How the deviation was scaled, for a summary."""
        scales = {"from_coarse_to_fine": round(self.prediction.gain**0.5, 4), "for_few_samples": round(self.widening, 4)}
        return {"samples": self.count, **scales, "note": self.note}

    def fit(self, model: SceneModel, samples: Sequence[TileData]) -> None:
        """Measure what the samples need on windows of the scene; the method is fitted."""
        use_threads()
        self.model = model
        self.pilot = self.method.pilot if isinstance(self.method, ArgsDiff) else self.method
        state = self.pilot.state
        chosen = samples[:: -(-len(samples) // _SAMPLE_WINDOWS)]
        with torch.no_grad():
            problems = [self.pilot.prepare(s) for s in chosen]
            self.visible_error = self._visible_error()
            to_bands = self._tensor((state.view.axes * state.view.noise).T)
            noise = self.visible_error.sqrt()
            self.prediction = measure(problems, noise, self.pilot.moments, to_bands, psf_power(model))
            self.detail = self._detail(problems)
            if isinstance(self.method, ArgsDiff):
                self.enlargement = torch.ones_like(self.visible_error)
                self.enlargement = self._enlargement(problems, chosen)
        n_spectra = sum(int(s.hsi_valid.sum()) for s in samples)
        n_bands, rank = state.basis.directions.shape
        power = torch.cat([p.data.coarse[:, p.data.coarse_weight > 0] for p in problems], dim=1).pow(2).mean(dim=1)
        self.tilt = 1.0 / (n_spectra * power.clamp(min=1.0))
        # Beyond the rank, components fall below the detection limit sqrt(C / N); falling as 1 / k^2 they sum up to rank times that.
        self.outside = rank * self.prediction.gain / (n_bands * n_spectra) ** 0.5

    def spread(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the standard deviation (C, H, W) float32 of the fused tile, in the HSI's units; finite everywhere."""
        use_threads()
        with torch.no_grad():
            return self._spread(tile, report)

    def _spread(self, tile: TileData, report: Report) -> np.ndarray:
        problem, basis = self.pilot.prepare(tile), self.pilot.state.basis
        noise = self.visible_error.sqrt()
        predictor = regress(problem.msi_on_coarse, problem.data.coarse, problem.regression_weight, noise, self.pilot.moments)
        residual = problem.data.coarse - predict_coarse(predictor, problem.msi_on_coarse.blurred)
        scale = self.prediction.local_scale(residual, problem.regression_weight, problem.data.fine.shape[1:])
        coefficients = self.pilot.predict(problem)
        own = self.outside * scale**2 + torch.einsum("d,dhw->hw", self.tilt, coefficients**2)  # in units of the HSI's noise
        predictor[:, -1] = 0.0  # what follows maps deviations
        vectors = basis.vectors.astype(np.float32)
        total = np.zeros((len(vectors), *scale.shape), np.float32)
        for index in range(self.count):
            deviation = self._draw(index, tile, problem, predictor, scale).flatten(1).cpu().numpy()
            for first in range(0, len(vectors), _BAND_CHUNK):
                part = slice(first, first + _BAND_CHUNK)
                total[part] += np.square(vectors[part] @ deviation).reshape(-1, *scale.shape)
            report(STAGE, index + 1, self.count)
        white = own.cpu().numpy()
        for band, level in enumerate(basis.noise):
            total[band] = np.sqrt(self.widening**2 / self.count * total[band] + np.float32(level**2) * white)
        return total

    def _draw(self, index: int, tile: TileData, problem: TileProblem, predictor: Tensor, scale: Tensor) -> Tensor:
        """Draw how far the coefficients (d, H, W) of a tile are off."""
        data = problem.data
        coarse = self._noise(index, 0, data.coarse, tuple(n // self.model.ratio for n in tile.origin))
        fine = self._deviation_of_visible(data.fine, self._noise(index, 1, data.fine, tile.origin))
        own = self._noise(index, 2, data.coarse[:, :1, :1].expand(-1, *data.fine.shape[1:]), tile.origin)
        start = predict_fine(predictor, fine) + scale * torch.einsum("ij,jhw->ihw", self.prediction.factor, own)
        if bool((data.fine_weight < 1).any()):
            start = torch.lerp(torch.einsum("ij,jhw->ihw", self.detail, own), start, data.fine_weight)
        errors = replace(data, coarse=coarse, fine=fine, fine_noise=self.visible_error.sqrt())
        return solve_with_prior(errors, start, self.pilot.precision, tolerance=_TOLERANCE)

    def _visible_error(self) -> Tensor:
        """(c,) variance of the error of what the MSI shows, as the method's solver is told."""
        return self.method.error if isinstance(self.method, ArgsDiff) else torch.ones_like(self.pilot.state.msi_mean)

    def _deviation_of_visible(self, observed: Tensor, noise: Tensor) -> Tensor:
        """Return how far the estimate of the MSI's components (c, H, W) is off if the MSI's noise is this."""
        if not isinstance(self.method, ArgsDiff):
            return noise
        single = copy.copy(self.method)
        single.options = replace(self.method.options, symmetries=1)
        passed = single.unguided(observed + noise) - single.unguided(observed)
        passed = passed + self.method.residual_weight[:, None, None] * (noise - passed)
        return self.enlargement[:, None, None] * passed

    def _enlargement(self, problems: Sequence[TileProblem], samples: Sequence[TileData]) -> Tensor:
        """(c,) what makes the networks' response to noise as large as their error; at least 1."""
        power, count = 0.0, 0.0
        for problem, sample in zip(problems, samples, strict=True):
            observed, mask = problem.data.fine, problem.data.fine_weight
            passed = self._deviation_of_visible(observed, self._noise(0, 1, observed, sample.origin))
            power, count = power + (passed**2 * mask).sum(dim=(1, 2)), count + mask.sum()
        return (self.method.error * count / power.clamp(min=1e-12)).sqrt().clamp(min=1.0)

    def _detail(self, problems: Sequence[TileProblem]) -> Tensor:
        """(d, d): L with L L^T the covariance of what the fine coefficients show beyond the interpolated coarse ones."""
        parts = []
        for problem in problems:
            fine, known = self.pilot.predict(problem), problem.data.coarse_weight[None]
            coarse, seen = (interpolate(i[None], size=fine.shape[1:], mode="bilinear") for i in (problem.data.coarse, known))
            parts.append((fine - coarse[0])[:, (seen[0, 0] == 1) & (problem.data.fine_weight == 1)].double())
        detail = torch.cat(parts, dim=1)
        variance, axes = torch.linalg.eigh(detail @ detail.T / max(detail.shape[1], 1))
        return (axes * variance.clamp(min=0.0).sqrt()).float()

    def _noise(self, index: int, kind: int, like: Tensor, origin: tuple[int, ...]) -> Tensor:
        """Draw unit noise (n, rows, columns) for the pixels from ``origin`` on."""
        rows, cols = (slice(first, first + size) for first, size in zip(origin, like.shape[1:], strict=True))
        return self._tensor(standard_normal(self.model.seed, _FIRST_STREAM + _KINDS * index + kind, len(like), rows, cols))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(array, np.float32), device=self.model.device)


def require_posterior(method: object, count: int) -> None:
    """Raise ``UsageError`` if a method has no posterior to draw from, or too few samples are asked for."""
    if not isinstance(method, Subspace | ArgsDiff):
        raise UsageError("this method and preset give no uncertainty; use subspace, or argsdiff with preset fast or balanced")
    if count < 2:
        raise UsageError(f"a standard deviation needs at least 2 posterior samples, found {count}")
