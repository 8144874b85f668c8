"""Components that stay fixed in the ablation of Table 8: E from the LR-HSI, A from the HR-MSI (paper, Section 7)."""

from __future__ import annotations

import torch
from torch import Tensor

_RCOND = 1e-3  # of the least-squares fit, so that bands alike up to noise do not make a wild basis
_CANDIDATES = 1024  # pixels from whose convex hull archetypes are formed
_ROUNDS, _INNER, _FINAL = 30, 10, 200  # alternations, gradient steps in each, gradient steps of the last abundances


def selected_band_basis(spectra: Tensor, d: int) -> Tensor:
    """Return E (d, C) with spectra ~ A E, where A is d of the bands themselves, as in PLRDiff (Rui et al. 2024).

    The bands are the first d pivots of a QR decomposition with column pivoting; E is the least-squares fit. As A consists of
    bands, it stays in [0, 1] and resembles what the spatial network has learnt.

    Parameters
    ----------
    spectra
        Complete spectra (n, C) in [0, 1].
    d
        Number of bands to select, at most min(n, C).
    """
    from scipy.linalg import qr

    _, pivots = qr(spectra.double().cpu().numpy(), mode="r", pivoting=True)
    bands = torch.as_tensor(pivots[:d].astype("int64"), device=spectra.device)
    inverse = torch.linalg.pinv(spectra[:, bands].double(), rtol=_RCOND)
    return (inverse @ spectra.double()).to(spectra.dtype)


def archetypes(pixels: Tensor, d: int, generator: torch.Generator) -> Tensor:
    """Return d archetypes (d, c) of ``pixels`` (n, c): mixtures of pixels that best mix back to all pixels.

    Archetypal analysis (Cutler and Breiman 1994): least squares with both kinds of mixing weights on the simplex, by alternating
    projected gradient steps, on at most 1024 pixels drawn by ``generator`` (a CPU generator). It starts from pixels chosen each
    as far as possible from those before.
    """
    index = torch.randperm(len(pixels), generator=generator)[:_CANDIDATES].to(pixels.device)
    points = pixels[index]
    mixing = torch.zeros(d, len(points), dtype=points.dtype, device=points.device)  # archetypes = mixing @ points
    distance = (points - points.mean(dim=0)).square().sum(dim=1)
    for k in range(d):
        furthest = int(distance.argmax())
        mixing[k, furthest] = 1.0
        distance = torch.minimum(distance, _to(points, furthest)) if k else _to(points, furthest)
    for _ in range(_ROUNDS):
        weights = abundances(points, mixing @ points, _INNER)  # (n, d)
        step = 1.0 / (torch.linalg.matrix_norm(weights, 2) * torch.linalg.matrix_norm(points, 2)).square().clamp(min=1e-12)
        for _ in range(_INNER):
            gradient = weights.T @ (weights @ (mixing @ points) - points) @ points.T
            mixing = project_to_simplex(mixing - step * gradient)
    return mixing @ points


def abundances(pixels: Tensor, corners: Tensor, steps: int = _FINAL) -> Tensor:
    """Return weights (n, d), not negative and adding up to one, with weights @ corners closest to ``pixels`` (n, c).

    Accelerated projected gradient (FISTA) with the step 1 / L, L the largest eigenvalue of corners corners^T.
    """
    step = 1.0 / torch.linalg.matrix_norm(corners, 2).square().clamp(min=1e-12)
    weights = ahead = pixels.new_full((len(pixels), len(corners)), 1.0 / len(corners))
    momentum = 1.0
    for _ in range(steps):
        new = project_to_simplex(ahead - step * (ahead @ corners - pixels) @ corners.T)
        following = 0.5 * (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5)
        ahead = new + (momentum - 1.0) / following * (new - weights)
        weights, momentum = new, following
    return weights


def project_to_simplex(rows: Tensor) -> Tensor:
    """Return the nearest point to each row (n, d) among those that are not negative and add up to one (Held et al. 1974)."""
    descending = rows.sort(dim=1, descending=True).values
    excess = descending.cumsum(dim=1) - 1.0
    rank = torch.arange(1, rows.shape[1] + 1, device=rows.device, dtype=rows.dtype)
    kept = (descending * rank > excess).sum(dim=1, keepdim=True)
    return (rows - excess.gather(1, kept - 1) / kept).clamp(min=0.0)


def _to(points: Tensor, index: int) -> Tensor:
    """Return the squared distance (n,) of all points from one of them."""
    return (points - points[index]).square().sum(dim=1)
