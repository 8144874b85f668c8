"""CNMF: coupled non-negative matrix factorisation (Yokoya, Yairi and Iwasaki 2012, IEEE TGRS 50(2), 528-537).

Both images are unmixed with non-negative numbers, HSI X ~ W_h H_h and MSI Y ~ W_m H_m, each factorisation starting from what the
other found: spectra through the response, W_m = R W_h, abundances through the spatial operator, H_h = H(H_m). The fused image is
W_h H_m. Factors are found by the multiplicative updates of Lee and Seung (2001), which never raise the error,

    H <- H * (W^T V) / (W^T W H),    W <- W * (V H^T) / (W H H^T),

where for H a row of constants delta is appended to V and W, so that abundances of a pixel sum to about one.

The steps, as in the authors' code:

    1  W_h from vertex component analysis, H_h constant; update H_h alone, then both                         unmix the HSI
    2  W_m = R W_h, H_m = H_h interpolated; update H_m alone, then both                                      unmix the MSI
    3  H_h = H(H_m); update W_h alone, then both                                                             unmix the HSI again

with 2 and 3 repeated in the outer loop. With three MSI bands or fewer W_m and step 3's H_h stay as they are set.

How it is done here:

* Parameters are those of the authors' code: 200 inner iterations and 1 outer one (preset ``thorough``: 3, which they advise for
  simulated pairs), M = max(min(30, C), virtual dimensionality at 5 % false alarms), thresholds 1e-8 and 1e-2, and, for values
  scaled to a maximum of one, delta = 2 sqrt(mean(Y) / 0.7455) / c^3. Negative values count as zero.
* H and R are known here, not estimated.
* W_h and W_m belong to the scene and are found once from sample windows; abundances belong to the pixels. So after 1 and 2 the
  abundances are found anew with W_h and W_m held, in the same way for the samples and for every tile: step 3 fits W_h to exactly
  the abundances that it will be multiplied with.
* No data: pixels without take no part in finding W_h and W_m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from geofuse.degradation.spatial import SpatialOperator
from geofuse.errors import InputError
from geofuse.methods.base import Report, SceneModel, TileData
from geofuse.methods.device import use_threads
from geofuse.methods.filling import WholePair, whole_pair
from geofuse.methods.injection import to_fine
from geofuse.methods.vca import vertex_components, virtual_dimension

_VCA = 31  # purpose of the random stream
_FEW_BANDS = 3
_LEAST_PIXELS = 3
_ABUNDANCE_STEPS = 3  # times the inner iterations: H_h alone in step 1
_MAX_SAMPLE_PIXELS = 1 << 19  # fine pixels that the endmembers are found from
_CHECK = 10  # iterations between looks at the error
_TINY = 1e-12


@dataclass(frozen=True)
class CnmfOptions:
    """Options of CNMF; the defaults are the authors'.

    Attributes
    ----------
    endmembers
        Number M of endmembers; by default 30, or the virtual dimensionality if that is more.
    inner, outer
        Most iterations of the inner and the outer loop.
    inner_threshold, outer_threshold
        The loops stop when the error falls by less than this share of itself.
    """

    endmembers: int | None = None
    inner: int = 200
    outer: int = 1
    inner_threshold: float = 1e-8
    outer_threshold: float = 1e-2


class Cnmf:
    """Coupled non-negative matrix factorisation; see the module's text."""

    Options = CnmfOptions
    presets = {"default": CnmfOptions(), "thorough": CnmfOptions(outer=3)}
    halo = 4

    def __init__(self, options: CnmfOptions | None = None) -> None:
        """Take the options; nothing is computed before :meth:`fit`."""
        self.options = options or CnmfOptions()

    @staticmethod
    def default_preset(device: str) -> str:
        """Return ``default``; ``thorough`` learns for about three times as long and fuses as fast."""
        return "default"

    def fit(self, model: SceneModel, samples: Sequence[TileData], report: Report) -> None:
        """Find the endmembers W_h and W_m and the W_h to fuse with.

        Raises
        ------
        InputError
            If the samples hold fewer than three pixels of the HSI with data, or HSI and MSI share fewer than three.
        """
        use_threads()
        self.model = model
        spectra = np.concatenate([s.hsi[:, s.hsi_valid] for s in samples], axis=1)
        if spectra.shape[1] < _LEAST_PIXELS:
            raise InputError(f"the HSI has {spectra.shape[1]} pixels with data in every band; cnmf needs at least {_LEAST_PIXELS}")
        self.scale = float(spectra.max()) if spectra.max() > 0 else 1.0
        self.mean = spectra.mean(axis=1)
        spectra = np.maximum(spectra.astype(np.float64) / self.scale, 0.0)
        self.response = self._tensor(model.response)
        msi_mean = np.mean([np.maximum(s.msi[:, s.msi_valid], 0.0).mean() for s in samples if s.msi_valid.any()] or [0.0])
        self.delta = 2.0 * np.sqrt(msi_mean / self.scale / 0.7455) / len(model.response) ** 3
        self.unmixing = self._unmix_hsi(self._tensor(spectra))
        report("unmixing", 1, 3)
        self._couple([self._scaled(s) for s in few_pixels(samples)], report)

    def fuse(self, tile: TileData, report: Report) -> np.ndarray:
        """Return the fused tile (C, H, W) float32, not negative, in the HSI's units."""
        use_threads()
        pair = self._scaled(tile)
        abundances = self._abundances(pair)
        fused = (self.scale * self.fusing).to(abundances) @ abundances
        return fused.unflatten(1, pair.msi.shape[1:]).cpu().numpy()

    def _unmix_hsi(self, spectra: torch.Tensor) -> torch.Tensor:
        """Step 1: W_h (C, M) from the spectra (C, N)."""
        options = self.options
        n_bands, n_samples = spectra.shape
        count = options.endmembers or max(min(30, n_bands), virtual_dimension(spectra.cpu().numpy()))
        count = min(count, n_bands, n_samples - 1)
        rng = np.random.default_rng([self.model.seed, _VCA])
        w = self._tensor(vertex_components(spectra.cpu().numpy(), count, rng)).clamp(min=_TINY)
        h = torch.full((count, n_samples), 1.0 / count).to(spectra)
        factors = Factors(spectra, w, h, self.delta)
        factors.iterate(_ABUNDANCE_STEPS * options.inner, options.inner_threshold, spectra=False)
        factors.iterate(options.inner - 1, options.inner_threshold)
        return factors.w

    def _couple(self, pairs: Sequence[WholePair], report: Report) -> None:
        """Do steps 2 and 3 in the outer loop: set ``unmixing`` (C, M), ``seen`` W_m (c, M) and ``fusing``, the result's W_h."""
        errors = None
        for turn in range(self.options.outer):
            if turn > 0:
                self.unmixing = self.fusing
            self.seen, msi_error = self._unmix_msi(pairs)
            report("unmixing", 2, 3)
            self.fusing, hsi_error = self._unmix_hsi_again(pairs)
            report("unmixing", 3, 3)
            stalled = errors is not None and any(
                before - now <= self.options.outer_threshold * before
                for before, now in zip(errors, (msi_error, hsi_error), strict=True)
            )
            if stalled:
                break
            errors = (msi_error, hsi_error)

    def _unmix_msi(self, pairs: Sequence[WholePair]) -> tuple[torch.Tensor, float]:
        """Step 2: W_m (c, M) and the root mean square error of the MSI."""
        options = self.options
        msi = torch.cat([p.msi[:, p.msi_valid] for p in pairs], dim=1).double()
        h = torch.cat([self._start(p)[:, p.msi_valid.flatten()] for p in pairs], dim=1).double()
        factors = Factors(msi, self.response @ self.unmixing, h, self.delta)
        factors.iterate(options.inner, options.inner_threshold, spectra=False)
        if len(msi) > _FEW_BANDS:
            factors.iterate(options.inner - 1, options.inner_threshold)
        return factors.w, factors.error()

    def _unmix_hsi_again(self, pairs: Sequence[WholePair]) -> tuple[torch.Tensor, float]:
        """Step 3: W_h (C, M) for the abundances that fusion will find, and the root mean square error of the HSI."""
        options = self.options
        hsi, h = [], []
        for pair in pairs:
            spatial = SpatialOperator(self.model.psf, self.model.ratio, *pair.msi.shape[1:])
            whole = pair.hsi_valid & (spatial.forward(pair.msi_valid.to(pair.msi)) > 0.999)
            coarse = spatial.forward(self._abundances(pair).unflatten(1, pair.msi.shape[1:]))
            hsi.append(pair.hsi[:, whole])
            h.append(coarse[:, whole].clamp(min=0.0))
        shared = sum(part.shape[1] for part in hsi)
        if shared < _LEAST_PIXELS:
            found = f"HSI and MSI share {shared} coarse pixels with data"
            raise InputError(f"{found}, at least {_LEAST_PIXELS} are needed; check masks and overlap")
        factors = Factors(torch.cat(hsi, dim=1).double(), self.unmixing, torch.cat(h, dim=1).double(), self.delta)
        factors.iterate(options.inner, options.inner_threshold, abundances=False)
        factors.iterate(options.inner - 1, options.inner_threshold, abundances=len(pairs[0].msi) > _FEW_BANDS)
        return factors.w, factors.error()

    def _abundances(self, pair: WholePair) -> torch.Tensor:
        """Abundances H_m (M, pixels) of a tile, with W_h and W_m held."""
        factors = Factors(pair.msi.flatten(1), self.seen.to(pair.msi), self._start(pair), self.delta)
        factors.iterate(2 * self.options.inner, 0.0, spectra=False)
        return factors.h

    def _start(self, pair: WholePair) -> torch.Tensor:
        """Abundances of the HSI with W_h held, interpolated to the fine grid: (M, pixels)."""
        w = self.unmixing.to(pair.hsi)
        h = torch.full((w.shape[1], pair.hsi[0].numel()), 1.0 / w.shape[1]).to(pair.hsi)
        factors = Factors(pair.hsi.flatten(1), w, h, self.delta)
        factors.iterate((_ABUNDANCE_STEPS + 1) * self.options.inner, 0.0, spectra=False)
        return to_fine(factors.h.unflatten(1, pair.hsi.shape[1:]), self.model.ratio).clamp(min=0.0).flatten(1)

    def _scaled(self, tile: TileData) -> WholePair:
        """Fill a tile's holes and scale it to a maximum of about one, without negative values."""
        pair = whole_pair(tile, self.model, self.mean)
        hsi, msi = ((image / self.scale).clamp(min=0.0) for image in (pair.hsi, pair.msi))
        return WholePair(hsi, msi, pair.hsi_valid, pair.msi_valid)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.asarray(array, np.float64), device=self.model.device)


class Factors:
    """A non-negative factorisation V ~ W H with abundances that sum to about one.

    Parameters
    ----------
    v, w, h
        V (n, N), W (n, M) and H (M, N), not negative.
    delta
        Weight of the sum to one.
    """

    def __init__(self, v: torch.Tensor, w: torch.Tensor, h: torch.Tensor, delta: float) -> None:
        """Take the factors to start from."""
        self.v, self.w, self.h, self.delta = v, w, h, delta

    def iterate(self, count: int, threshold: float, *, spectra: bool = True, abundances: bool = True) -> None:
        """Update W, then H, ``count`` times, or until the error falls by less than ``threshold`` of itself a time (0: never).

        With ``spectra`` or ``abundances`` false W or H is held.
        """
        before = self.objective() if threshold > 0 else 0.0
        seen = None if spectra else self._seen()
        for done in range(1, count + 1):
            if spectra:
                self.update_spectra()
            if abundances:
                self.update_abundances(seen)
            if threshold > 0 and done % _CHECK == 0:
                now = self.objective()
                if before - now < _CHECK * threshold * now:
                    break
                before = now

    def update_spectra(self) -> None:
        """Multiplicative update of W."""
        self.w = self.w * (self.v @ self.h.T) / (self.w @ (self.h @ self.h.T)).clamp(min=_TINY)

    def update_abundances(self, seen: torch.Tensor | None = None) -> None:
        """Multiplicative update of H; ``seen`` is W^T V + delta^2 if it is known."""
        gram = self.w.T @ self.w + self.delta**2
        expected = (gram @ self.h).clamp_(min=_TINY)
        self.h = self.h.mul(self._seen() if seen is None else seen).div_(expected)

    def objective(self) -> float:
        """Squared error of V, plus delta^2 times that of the sums of abundances."""
        total = ((self.v - self.w @ self.h) ** 2).sum() + self.delta**2 * ((1.0 - self.h.sum(dim=0)) ** 2).sum()
        return float(total)

    def error(self) -> float:
        """Root mean square error of V."""
        return float(((self.v - self.w @ self.h) ** 2).mean().sqrt())

    def _seen(self) -> torch.Tensor:
        return self.w.T @ self.v + self.delta**2


def few_pixels(samples: Sequence[TileData]) -> list[TileData]:
    """Choose samples, evenly, that hold about half a million fine pixels at most; at least one."""
    samples = [s for s in samples if s.hsi_valid.any() and s.msi_valid.any()] or list(samples)
    size = max(s.msi[0].size for s in samples)
    count = min(len(samples), max(1, _MAX_SAMPLE_PIXELS // size))
    chosen = np.unique(np.linspace(0, len(samples) - 1, count).round().astype(int))
    return [samples[i] for i in chosen]
