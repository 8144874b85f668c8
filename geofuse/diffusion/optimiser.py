"""Adam and Muon on a one-cycle schedule, for hundreds of steps of small networks.

torch.optim imports torch's compiler at its first step: 2 to 3.5 s and 85 MB, a twentieth of the whole time of ``argsdiff --preset
fast``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_WARMING = 0.1  # share of the steps in which the rate rises
_FIRST_RATE, _LAST_RATE = 1 / 25, 1 / 2500  # of the highest
_LEAST_MEMORY, _MOST_MEMORY = 0.85, 0.95  # beta_1 of the paper, of the first moment: least where the rate is highest
_SECOND_MEMORY, _LEAST_SPREAD = 0.99, 1e-8  # its beta_2 and epsilon
_INNER_RATE = 2.0  # of inner kernels, in units of the others' rate
_QUINTIC, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5  # Muon's polynomial and how often it is applied


class OneCycleAdam:
    """Adam (Kingma and Ba 2015) whose rate rises and falls once, its first moment's memory the other way (Smith and Topin 2019).

    Kernels between hidden channels move by Muon (Jordan et al. 2024) if they are named: along the first moment with all its
    singular values made about one, so that what few gradients point to is learnt as fast as what all of them share.

    Parameters
    ----------
    parameters
        What is learnt, but for ``inner``; changed in place.
    highest_rate
        Learning rate at the top of the cycle.
    steps
        How many steps there will be.
    inner
        Kernels (outputs, inputs, ...) that Muon moves.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], highest_rate: float, steps: int, inner: Iterable[nn.Parameter] = ()
    ) -> None:
        """Start with moments of zero."""
        self.parameters, self.inner = list(parameters), list(inner)
        self.highest_rate, self.steps = highest_rate, steps
        self._first = [torch.zeros_like(p) for p in self.parameters]
        self._second = [torch.zeros_like(p) for p in self.parameters]
        self._momentum = [torch.zeros_like(p) for p in self.inner]
        self._done = 0

    def schedule(self, step: int) -> tuple[float, float]:
        """Return the learning rate and beta_1 of a step, counted from 0: half cosines up and down."""
        top = max(_WARMING * self.steps - 1.0, 0.0)
        if step < top:
            height, low = _half_cosine(step / top), _FIRST_RATE
        else:
            height, low = 1.0 - _half_cosine((step - top) / max(self.steps - 1.0 - top, 1.0)), _LAST_RATE
        return self.highest_rate * (low + (1.0 - low) * height), _MOST_MEMORY - (_MOST_MEMORY - _LEAST_MEMORY) * height

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters along their gradients, which are then forgotten."""
        rate, memory = self.schedule(self._done)
        self._done += 1
        first_weight, second_weight = 1.0 - memory**self._done, 1.0 - _SECOND_MEMORY**self._done
        for parameter, first, second in zip(self.parameters, self._first, self._second, strict=True):
            if parameter.grad is None:
                continue
            first.lerp_(parameter.grad, 1.0 - memory)
            second.lerp_(parameter.grad.square(), 1.0 - _SECOND_MEMORY)
            spread = (second / second_weight).sqrt_().add_(_LEAST_SPREAD)
            parameter.addcdiv_(first, spread, value=-rate / first_weight)
            parameter.grad = None
        for kernel, momentum in zip(self.inner, self._momentum, strict=True):
            if kernel.grad is None:
                continue
            momentum.lerp_(kernel.grad, 1.0 - memory)
            kernel.sub_(orthogonal(kernel.grad.lerp(momentum, memory)), alpha=_INNER_RATE * rate)
            kernel.grad = None


def orthogonal(kernel: Tensor) -> Tensor:
    """Bring the singular values of a kernel (outputs, inputs, ...), taken as a matrix with a row an output, to about one.

    By Newton and Schulz's iteration with the polynomial of Jordan et al. 2024, which leaves those that were not near zero between
    0.7 and 1.2.
    """
    matrix = kernel.flatten(1)
    matrix = matrix / matrix.norm().clamp(min=1e-7)
    linear, cubic, quintic = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = matrix @ matrix.T
        matrix = linear * matrix + (cubic * gram + quintic * gram @ gram) @ matrix
    return matrix.view_as(kernel)


def _half_cosine(share: float) -> float:
    """Rise from 0 to 1 as ``share`` does."""
    return 0.5 * (1.0 - math.cos(math.pi * share))
