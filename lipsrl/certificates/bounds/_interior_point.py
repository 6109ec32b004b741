"""A primal-dual interior-point method for LipSDP-Neuron; whatever it returns is verified elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lipsrl.certificates.bounds._problem import Problem, cholesky

#: Ends after so many steps at the latest; 10 to 20 are usual.
MAX_STEPS = 60

#: Multipliers stay below the largest at the start times this: a unit that is nearly linear would take any.
LARGEST_RATIO = 1e3

#: Part of the way to the cone's border that a step may go.
TO_BORDER = 0.95


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2


@dataclass(frozen=True)
class _Direction:
    """Changes of (λ, ρ), M (and that times M⁻¹), the slack of ``0 ≤ λ ≤ cap``, and the multipliers X and ``dual``."""

    point: Tensor
    matrix: Tensor
    relative: Tensor
    slack: Tensor
    x: Tensor
    dual: Tensor


class _NewtonSystem:
    """Newton's equations for feasible multipliers with ``X M = level·I`` and ``dual·slack = level``."""

    def __init__(self, problem: Problem, slack: Tensor, inverse: Tensor, x: Tensor, dual: Tensor) -> None:
        self.problem, self.slack, self.inverse, self.x, self.dual = problem, slack, inverse, x, dual
        hessian = problem.hessian(x, inverse)
        hessian.diagonal()[:-1] += (dual / slack).view(2, -1).sum(0)
        self.scale = hessian.diagonal().rsqrt()
        self.factor = torch.linalg.cholesky(hessian.mul_(self.scale.unsqueeze(1)).mul_(self.scale))

    def direction(self, target: Tensor, aim: Tensor | float) -> _Direction:
        """To ``X = target`` and ``dual·slack = aim``, less what the changes of M and of ``slack`` take off."""
        right = self.scale * self.problem.residual(target, aim / self.slack)
        point = self.scale * torch.cholesky_solve(right.unsqueeze(1), self.factor).squeeze(1)
        matrix = self.problem.combine(point[:-1], float(point[-1]))
        relative = matrix @ self.inverse
        slack = torch.cat([point[:-1], -point[:-1]])
        x = _symmetric(target - self.x - self.x @ relative)
        return _Direction(
            point, matrix, relative, slack, x, (aim - self.dual * slack) / self.slack - self.dual
        )


def _step(matrix: Tensor, change: Tensor, positive: Tensor, change_of_positive: Tensor) -> float:
    """A step, at most one, after which ``matrix`` is positive definite and ``positive`` positive."""
    fastest = float((-change_of_positive / positive).max())
    step = 1.0 / max(fastest, TO_BORDER)
    while step > 1e-6 and cholesky(matrix + step * change) is None:
        step *= 0.9
    return TO_BORDER * step


def minimise(problem: Problem, gap: float) -> Tensor:
    """Multipliers near the optimum, by a primal-dual interior-point method.

    The direction is that of Helmberg, Rendl, Vanderbei & Wolkowicz (1996) with Mehrotra's (1992) second-order
    correction; without X (a barrier method) it takes ten times as many steps.
    """
    multipliers, rho = problem.start()
    cap = LARGEST_RATIO * float(multipliers.max())
    point = torch.cat([multipliers, multipliers.new_tensor([rho])])
    x: Tensor | None = None
    step_x = step_m = 0.8
    for _ in range(MAX_STEPS):
        matrix = problem.matrix(point[:-1], float(point[-1]))
        factor = cholesky(matrix)
        if factor is None:
            break
        multipliers = point[:-1]
        inverse = torch.cholesky_inverse(factor)
        slack = torch.cat([multipliers, cap - multipliers])
        if x is None:
            level = 1.0 / float(inverse.diagonal()[: problem.inputs].sum())
            x, dual = level * inverse, level / slack
        complementarity = float((x * matrix).sum() + dual @ slack)
        infeasibility = abs(float(problem.residual(x, dual) @ point))
        if complementarity + infeasibility <= gap * float(point[-1]):
            break
        try:
            system = _NewtonSystem(problem, slack, inverse, x, dual)
        except RuntimeError:
            break
        level = (1.0 - min(step_x, step_m)) ** 2 * complementarity / (problem.size + len(slack))
        first = system.direction(torch.zeros_like(x), 0.0)
        change = system.direction(
            level * inverse - _symmetric(first.x @ first.relative), level - first.dual * first.slack
        )
        step_x = _step(x, change.x, dual, change.dual)
        step_m = _step(matrix, change.matrix, slack, change.slack)
        point = point + step_m * change.point
        x, dual = x + step_x * change.x, dual + step_x * change.dual
    return multipliers
