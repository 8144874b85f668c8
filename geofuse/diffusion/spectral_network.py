"""The spectral network c_zeta: a fully connected denoiser of single spectra (paper, Section 3.2, Figure 6b, Table 7)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


def hidden_widths(bands: int) -> tuple[int, int, int]:
    """Return the hidden widths for ``bands`` bands: n, 2 n, n with n = (26 + 17/8 bands), rounded up to a multiple of 16.

    This meets the authors' three published sizes: 128-256-128 for 48 bands, 256-512-256 for 103, 400-800-400 for 176.
    """
    n = 16 * -(-(208 + 17 * bands) // 128)
    return n, 2 * n, n


def time_width(bands: int) -> int:
    """Return the length of the time embedding: 0.58 times the bands, to the nearest ten (60 for 103 bands), at least 10."""
    return max(10, 10 * round(0.058 * bands))


class SpectralNetwork(nn.Module):
    """Estimates the noise in noisy spectra; each spectrum is treated by itself.

    A learned embedding of the noise level is concatenated to the spectrum; linear layers with ReLU follow.
    With 103 bands it has 0.39 M parameters, as the paper's.

    Parameters
    ----------
    bands
        Number of bands C.
    hidden
        Widths of the hidden layers; None takes :func:`hidden_widths`.
    timesteps
        Number of noise levels T.
    """

    def __init__(self, bands: int, hidden: tuple[int, ...] | None = None, timesteps: int = 1000) -> None:
        """Make the layers; see :func:`~geofuse.diffusion.initialisation.build` for weights from a generator."""
        super().__init__()
        embedding = time_width(bands)
        widths = (bands + embedding, *(hidden or hidden_widths(bands)), bands)
        self.time = nn.Embedding(timesteps, embedding)
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths))

    def forward(self, spectra: Tensor, t: Tensor) -> Tensor:
        """Estimate the noise (n, C) in ``spectra`` (n, C) at the noise levels ``t`` (n,) in 1 ... T."""
        x = torch.cat((spectra, self.time(t - 1)), dim=1)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)
