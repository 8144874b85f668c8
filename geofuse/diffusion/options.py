"""The settings of ARGS-Diff; the defaults are the paper's (Zhu et al., CVPR 2025, Section 4.2 and Table 7)."""

from __future__ import annotations

from dataclasses import dataclass, fields

from geofuse.errors import UsageError

UPDATES = ("both", "A", "E")


@dataclass(frozen=True)
class PaperOptions:
    """Settings of ARGS-Diff, all of them the paper's unless stated otherwise.

    Attributes
    ----------
    d
        Number of subspace dimensions, the paper's d.
    timesteps
        Number of noise levels of the diffusion, on which the networks are trained.
    sampling_steps
        Number of reverse steps, the paper's T, evenly spaced over ``timesteps``.
    train_steps
        Optimiser steps of the spatial network.
    spectral_steps
        Optimiser steps of the spectral network. The paper gives none; as many as for the spatial network (3 minutes).
    batch
        Patches an optimiser step of the spatial network.
    spectral_batch
        Spectra an optimiser step of the spectral network. The paper gives none; 128 are 16 samples of d = 8 spectra.
    learning_rate
        Of Adam, for both networks.
    patch, patch_stride
        Side of the training patches and distance between their origins, in fine pixels.
    base_channels, multipliers
        Width of the U-Net's first level, and width of each level in units of the first.
    hidden
        Widths of the spectral network's hidden layers; None takes :func:`~geofuse.diffusion.spectral_network.hidden_widths`.
    rho
        Step size of the guidance, the paper's rho_1 = rho_2.
    r
        Ratio of the guidance's step to the ARGM's.
    lambda1, lambda2
        Weight of the multispectral residual in the guidance (10) and in the ARGM (16).
    argm
        Whether the adaptive residual guided module runs (Table 4).
    update
        ``"both"`` components, or only ``"A"`` (spatial) or ``"E"`` (spectral) with the other one held fixed (Table 8).
    """

    d: int = 8
    timesteps: int = 1000
    sampling_steps: int = 500
    train_steps: int = 30_000
    spectral_steps: int = 30_000
    batch: int = 16
    spectral_batch: int = 128
    learning_rate: float = 1e-4
    patch: int = 128
    patch_stride: int = 32
    base_channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    hidden: tuple[int, ...] | None = None
    rho: float = 0.05
    r: float = 10.0
    lambda1: float = 1.0
    lambda2: float = 1.0
    argm: bool = True
    update: str = "both"

    def __post_init__(self) -> None:
        """Check the values.

        Raises
        ------
        UsageError
            If a count is not positive, a weight is negative, or ``update`` is not one of ``UPDATES``.
        """
        free = {"multipliers", "hidden", "argm", "update", "lambda1", "lambda2"}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in free and not value > 0:
                raise UsageError(f"{field.name} must be above 0, found {value}")
        for name in ("multipliers", "hidden"):
            widths = getattr(self, name)
            if widths is not None and (not widths or min(widths) < 1):
                raise UsageError(f"{name} must be whole numbers of 1 or more, found {widths}")
        if min(self.lambda1, self.lambda2) < 0:
            raise UsageError(f"lambda1 and lambda2 must not be negative, found {self.lambda1} and {self.lambda2}")
        if self.sampling_steps > self.timesteps:
            raise UsageError(f"sampling_steps ({self.sampling_steps}) must not exceed timesteps ({self.timesteps})")
        if self.update not in UPDATES:
            raise UsageError(f"update must be one of {', '.join(UPDATES)}, found {self.update!r}")
