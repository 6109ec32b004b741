"""Attacks that climb: projected steps up the gradient of what they want, all rows in one pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lipsrl._validation import positive_int
from lipsrl.attacks._base import Attack
from lipsrl.attacks._norms import FloatArray
from lipsrl.policies.normalization import NormalizeLike

Objective = Callable[[Tensor], Tensor]

# Noise in a step's direction, relative to a gradient of root mean square 1. Measured on three trained agents at
# radii .02-.3: .1 moves actions as far as none and up to 2 % farther than 1; it is there for flat places.
_NOISE = 0.1


class GradientAttack(Attack):
    """``steps`` projected steps of ``epsilon / steps`` up an objective, started off the centre by noise.

    Stochastic gradient Langevin dynamics, as in Zhang et al. 2020 (arXiv:2003.08938): a random step first,
    because the gradient of an objective that is smallest at the centre vanishes there; then each step follows
    the gradient, scaled to root mean square 1, plus a little noise that decays as 1/(k + 2). Signs of that
    direction for l-inf, its unit vector for l2. The best point of the walk is what counts. In float64, on the
    CPU.

    A new attack gives :attr:`name` and :meth:`objective`.

    Args:
        steps: number of gradient steps, > 0; the literature takes 10.

    Other arguments and errors as in :class:`~lipsrl.attacks.Attack`.
    """

    def __init__(
        self,
        model: Any,
        epsilon: float,
        norm: str = "linf",
        vec_normalize: NormalizeLike = None,
        units: str = "normalized",
        *,
        steps: int = 10,
    ) -> None:
        self.steps = positive_int("steps", steps)
        super().__init__(model, epsilon, norm, vec_normalize, units)

    @property
    def parameters(self) -> dict[str, Any]:
        return {**super().parameters, "steps": self.steps}

    @abstractmethod
    def objective(self, clean: Tensor) -> Objective:
        """What to raise.

        Args:
            clean: (n, dim) float64, what the policy receives unattacked.

        Returns:
            A differentiable function from attacked rows (n, dim) to one number per row (n,); rows are independent.
        """

    def noise_shape(self, dim: int) -> tuple[int, int]:
        return self.steps + 1, dim

    def displacements(self, observations: FloatArray, epsilon: FloatArray, noise: FloatArray) -> FloatArray:
        assert self.target is not None
        view = self.target.view
        centre = view.centre(observations)
        origin, slope = torch.from_numpy(centre), torch.from_numpy(view.slope)

        def shown(displacement: Tensor) -> Tensor:
            return (origin + slope * displacement).clamp(-view.clip, view.clip)

        def stepped(walk: FloatArray, direction: FloatArray) -> FloatArray:
            step = epsilon / self.steps * self.ball.steepest(direction)
            return view.visible(centre, self.ball.project(walk + step, epsilon))

        with torch.no_grad():
            objective = self.objective(shown(torch.zeros_like(origin)))
        walk = stepped(np.zeros_like(centre), noise[0])
        best, highest = walk, np.full((len(walk), 1), -np.inf)
        for k in range(self.steps + 1):
            values, gradients = _values_and_gradients(lambda d: objective(shown(d)), walk)
            better = values > highest
            best, highest = np.where(better, walk, best), np.where(better, values, highest)
            if k < self.steps:
                walk = stepped(walk, _unit_rms(gradients) + _NOISE / (k + 2) * noise[k + 1])
        return best


def _values_and_gradients(function: Objective, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(n, 1) values and (n, dim) gradients of a function of independent rows."""
    with torch.enable_grad():
        x = torch.tensor(points, requires_grad=True)
        values = function(x)
        (gradients,) = torch.autograd.grad(values.sum(), x)
    return values.detach().numpy()[:, np.newaxis], gradients.numpy()


def _unit_rms(rows: FloatArray) -> FloatArray:
    """Rows scaled to root mean square 1; zero rows stay zero."""
    size = np.sqrt(np.mean(rows**2, axis=1, keepdims=True))
    return np.divide(rows, size, out=np.zeros_like(rows), where=size > 0)
