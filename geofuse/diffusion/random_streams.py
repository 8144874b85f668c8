"""One torch generator for each use of random numbers under a seed.

Noise that must belong to absolute pixel positions comes from :func:`geofuse.tiling.noise.standard_normal` instead.
"""

from __future__ import annotations

import numpy as np
import torch


def stream(seed: int, purpose: int) -> torch.Generator:
    """Return a CPU generator of its own for each ``(seed, purpose)``, both whole numbers from 0."""
    state = np.random.SeedSequence([seed, purpose]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))
