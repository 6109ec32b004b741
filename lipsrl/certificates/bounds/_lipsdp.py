"""LipSDP-Neuron bounds without a solver, every returned number verified by a float64 Cholesky factorisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lipsrl.certificates.bounds._chain import Chain
from lipsrl.layers._linalg import EPS64

#: Relative distance from the optimum of the semidefinite program (of the squared constant) at which the search ends …
GAP = 5e-4
#: … if not after so many steps; 10 to 20 are usual.
MAX_STEPS = 60

#: Multipliers stay below the largest at the start times this: a unit that is nearly linear would take any.
LARGEST_RATIO = 1e3

#: Part of the way to the cone's border that a step may go.
TO_BORDER = 0.95


@dataclass(frozen=True)
class EllipsoidBound:
    """``‖f(x) - f(x′)‖₂² ≤ (x - x′)ᵀ S (x - x′)`` for all x, x′.

    Attributes:
        matrix: S (n, n), positive semidefinite, float64.
    """

    matrix: Tensor

    @property
    def lipschitz(self) -> float:
        """Upper bound of the l2 Lipschitz constant."""
        largest = float(torch.linalg.eigvalsh(self.matrix)[-1])
        slack = 4 * EPS64 * len(self.matrix) * float(self.matrix.norm())
        return math.sqrt(max(largest, 0.0) + slack) * (1 + 4 * EPS64)

    @property
    def per_input(self) -> tuple[float, ...]:
        """For each input alone: upper bound of ‖Δf‖₂ per unit of it."""
        return tuple(math.sqrt(max(float(v), 0.0)) * (1 + 4 * EPS64) for v in self.matrix.diagonal())


class _Problem:
    """``M(λ, ρ) = ρE₀ + Σ λ_k A_k - [0 … W_lᵀW_l] ⪰ 0`` (Fazlyab et al. 2019, theorem 2, with a slope range per unit).

    With u = W z, v = φ(u), slopes in [α, β]: ``(v - αu)ᵀΛ(βu - v) ≥ 0`` for every Λ ≥ 0. If ``ρ‖z₀‖² - ‖W_l z_l‖²``
    minus all of these is a nonnegative form, ρ bounds the squared Lipschitz constant. Each
    ``A_k = (a_k b_kᵀ + b_k a_kᵀ)/2`` has rank two, with ``a_k · z = v_k - αu_k`` and ``b_k · z = v_k - βu_k``.
    """

    def __init__(self, chain: Chain) -> None:
        weights = chain.weights
        self.inputs = weights[0].shape[1]
        self.units = sum(weight.shape[0] for weight in weights[:-1])
        self.size = self.inputs + self.units
        self.blocks: list[tuple[slice, slice, slice, Tensor]] = []  # units, their z (v) and their inputs' z
        start, column = 0, 0
        for weight in weights[:-1]:
            units = slice(start, start + weight.shape[0])
            own = slice(self.inputs + units.start, self.inputs + units.stop)
            self.blocks.append((units, own, slice(column, column + weight.shape[1]), weight))
            start, column = units.stop, column + weight.shape[1]
        self.low, self.high = torch.cat(chain.low), torch.cat(chain.high)
        self.mean, self.product = (self.low + self.high) / 2, self.low * self.high
        self.chain = chain

    def times_rows(self, matrix: Tensor) -> Tensor:
        """``u = times_rows(z)`` (units, …)."""
        return torch.cat([weight @ matrix[columns] for _, _, columns, weight in self.blocks])

    def combine(self, multipliers: Tensor, rho: float) -> Tensor:
        """``ρE₀ + Σ λ_k A_k``."""
        matrix = torch.zeros(self.size, self.size, dtype=torch.float64)
        for units, own, columns, weight in self.blocks:
            product = self.product[units] * multipliers[units]
            if bool(product.any()):
                matrix[columns, columns] += weight.mT @ (product.unsqueeze(1) * weight)
            cross = (self.mean[units] * multipliers[units]).unsqueeze(1) * weight
            matrix[own, columns] = -cross
            matrix[columns, own] = -cross.mT
        diagonal = matrix.diagonal()
        diagonal[self.inputs :] += multipliers
        diagonal[: self.inputs] += rho
        return matrix

    def matrix(self, multipliers: Tensor, rho: float) -> Tensor:
        """M(λ, ρ)."""
        matrix = self.combine(multipliers, rho)
        last = self.chain.weights[-1]
        matrix[-last.shape[1] :, -last.shape[1] :] -= last.mT @ last
        return matrix

    def inner(self, matrix: Tensor) -> Tensor:
        """``[tr(A_k X), …, tr(E₀ X)]`` for symmetric X: the adjoint of :meth:`combine`."""
        diagonal = matrix.diagonal()
        inner = torch.cat([diagonal[self.inputs :], diagonal[: self.inputs].sum().reshape(1)])
        for units, own, columns, weight in self.blocks:
            inner[units] -= 2 * self.mean[units] * (weight * matrix[own, columns]).sum(1)
            if bool(self.product[units].any()):
                inner[units] += self.product[units] * (weight @ matrix[columns, columns] * weight).sum(1)
        return inner

    def residual(self, x: Tensor, dual: Tensor) -> Tensor:
        """What the multipliers X of M ⪰ 0 and ``dual`` of ``0 ≤ λ ≤ cap`` miss of optimality, per variable."""
        lower, upper = dual.chunk(2)
        residual = self.inner(x)
        residual[:-1] += lower - upper
        residual[-1] -= 1.0
        return residual

    def forms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """``aᵀXa, aᵀXb, bᵀXb`` between all units, and ``aᵀX, bᵀX`` at the inputs, for symmetric X."""
        n, low, high = self.inputs, self.low.unsqueeze(1), self.high.unsqueeze(1)
        v, u = matrix[n:], self.times_rows(matrix)
        uu = self.times_rows(u.mT)
        a, b = torch.addcmul(v, low, u, value=-1), torch.addcmul(v, high, u, value=-1)
        vu = u[:, n:].mT
        au, bu = torch.addcmul(vu, low, uu, value=-1), torch.addcmul(vu, high, uu, value=-1)
        aa = torch.addcmul(a[:, n:], au, self.low, value=-1)
        a[:, n:].addcmul_(au, self.high, value=-1)  # in place: fresh pages cost more than the arithmetic
        b[:, n:].addcmul_(bu, self.high, value=-1)
        return aa, a[:, n:], b[:, n:], a[:, :n], b[:, :n]

    def hessian(self, x: Tensor, inverse: Tensor) -> Tensor:
        """``tr(A_j X A_k M⁻¹)``, symmetric in j and k; E₀ comes last."""
        n, units = self.inputs, self.units
        x_aa, x_ab, x_bb, x_a, x_b = self.forms(x)
        m_aa, m_ab, m_bb, m_a, m_b = self.forms(inverse)
        hessian = torch.empty(units + 1, units + 1, dtype=torch.float64)
        crossed = x_ab * m_ab.mT
        total = (x_aa * m_bb).addcmul_(x_bb, m_aa).add_(crossed).add_(crossed.mT)
        hessian[:units, :units] = total.div_(4)
        hessian[:units, units] = hessian[units, :units] = (x_a * m_b + x_b * m_a).sum(1) / 2
        hessian[units, units] = (x[:n, :n] * inverse[:n, :n]).sum()
        return hessian

    def start(self) -> tuple[Tensor, float]:
        """A strictly feasible point, layer by layer from the output: each multiplier outweighs what comes after it."""
        weights = self.chain.weights
        multipliers: list[Tensor] = []
        burden = weights[-1].mT @ weights[-1]
        for weight, low, high in zip(
            reversed(weights[:-1]), reversed(self.chain.low), reversed(self.chain.high), strict=True
        ):
            size = max(float(torch.linalg.eigvalsh(burden)[-1]), 1e-12)
            level = torch.full((len(burden),), 2.0 * size, dtype=torch.float64)
            rest = torch.diag(level) - burden
            cross = ((low + high) / 2 * level).unsqueeze(1) * weight
            factor = torch.linalg.cholesky(rest)
            fed = weight.mT @ ((low * high * level).unsqueeze(1) * weight)
            burden = cross.mT @ torch.cholesky_solve(cross, factor) - fed
            multipliers.insert(0, level)
        rho = max(float(torch.linalg.eigvalsh(burden)[-1]), 1e-12)
        return torch.cat(multipliers), 2.0 * rho

    def schur(self, multipliers: Tensor) -> Tensor:
        """The smallest S such that M(λ, ·) with S in the input block is positive semidefinite."""
        matrix = self.matrix(multipliers, 0.0)
        n = self.inputs
        factor = torch.linalg.cholesky(matrix[n:, n:])
        half = torch.linalg.solve_triangular(factor, matrix[n:, :n], upper=False)
        schur: Tensor = half.mT @ half - matrix[:n, :n]
        return (schur + schur.mT) / 2


def _cholesky(matrix: Tensor) -> Tensor | None:
    factor, info = torch.linalg.cholesky_ex(matrix)
    return None if int(info) else factor


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

    def __init__(self, problem: _Problem, slack: Tensor, inverse: Tensor, x: Tensor, dual: Tensor) -> None:
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
    while step > 1e-6 and _cholesky(matrix + step * change) is None:
        step *= 0.9
    return TO_BORDER * step


def _minimise(problem: _Problem, gap: float) -> Tensor:
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
        factor = _cholesky(matrix)
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


def _verified(problem: _Problem, multipliers: Tensor) -> EllipsoidBound | None:
    """The ellipsoid of ``multipliers``, if a Cholesky test proves it (Rump 2006: a shifted factorisation succeeds)."""
    if not bool((multipliers >= 0).all()):
        return None
    shape = problem.schur(multipliers)
    n = problem.inputs
    size = max(float(torch.linalg.eigvalsh(shape)[-1]), 1e-300)
    for inflation in (1e-10, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2):
        ellipsoid = shape + inflation * size * torch.eye(n, dtype=torch.float64)
        matrix = problem.matrix(multipliers, 0.0)
        matrix[:n, :n] += ellipsoid
        # a congruence by powers of two is exact and brings the diagonal near one
        diagonal = matrix.diagonal()
        if not bool((diagonal > 0).all()):
            continue
        scale = torch.exp2(-torch.round(torch.log2(diagonal) / 2))
        magnitude = _magnitude(problem, multipliers, ellipsoid) * scale.unsqueeze(1) * scale
        matrix = matrix * scale.unsqueeze(1) * scale
        # rounding while M was put together, and in the factorisation
        assembling = 4 * EPS64 * (problem.units + 8) * float(magnitude.sum(dim=1).max())
        factoring = 4 * EPS64 * (problem.size + 4) * float(matrix.diagonal().sum())
        matrix.diagonal().sub_(assembling + factoring)
        if _cholesky(matrix) is not None:
            return EllipsoidBound(ellipsoid)
    return None


def _magnitude(problem: _Problem, multipliers: Tensor, ellipsoid: Tensor) -> Tensor:
    """Entrywise sums of absolute values of the terms of M: what its rounding errors are relative to."""
    total = torch.zeros(problem.size, problem.size, dtype=torch.float64)
    for units, own, columns, weight in problem.blocks:
        scaled = multipliers[units].unsqueeze(1) * weight.abs()
        total[columns, columns] += weight.abs().mT @ (problem.product[units].abs().unsqueeze(1) * scaled)
        cross = problem.mean[units].abs().unsqueeze(1) * scaled
        total[own, columns] += cross
        total[columns, own] += cross.mT
    last = problem.chain.weights[-1].abs()
    total[-last.shape[1] :, -last.shape[1] :] += last.mT @ last
    n = problem.inputs
    total.diagonal()[n:] += multipliers
    total[:n, :n] += ellipsoid.abs()
    return total


@torch.no_grad()
def eclipse_fast_bound(chain: Chain) -> EllipsoidBound | None:
    """ECLipsE-Fast: LipSDP multipliers in closed form, one number per layer (slopes in [0, s]).

    Xu & Sivaranjani 2024, "ECLipsE", proposition 3: ``X₀ = I; l = 2/λmax(W X⁻¹ Wᵀ); X ← l·I - l²/4·W X⁻¹ Wᵀ``.

    Returns:
        The bound, or ``None`` where a slope is negative or float64 cannot verify it.
    """
    if not chain.monotone or len(chain.weights) == 1:
        return lipsdp_bound(chain) if len(chain.weights) == 1 else None
    high = torch.cat(chain.high)
    weights = [
        w if i == 0 else w * chain.high[i - 1] for i, w in enumerate(chain.weights)
    ]  # slopes in [0, 1]
    try:
        x = torch.eye(weights[0].shape[1], dtype=torch.float64)
        multipliers = []
        for weight in weights[:-1]:
            gram = weight @ torch.linalg.solve(x, weight.mT)
            size = max(float(torch.linalg.eigvalsh(gram)[-1]), 1e-300)
            level = 2.0 / size
            multipliers.append(torch.full((len(weight),), level, dtype=torch.float64))
            x = level * torch.eye(len(weight), dtype=torch.float64) - level**2 / 4 * gram
        last = weights[-1] @ torch.linalg.solve(x, weights[-1].mT)
        rho = float(torch.linalg.eigvalsh(last)[-1]) * (1 + 1e-9)
        # M counts the output with weight one, and in units of v/s a constraint is s² times smaller
        scaled = torch.cat(multipliers) * rho / high.clamp_min(1e-300).square()
        return _verified(_Problem(chain), scaled)
    except RuntimeError:
        return None


@torch.no_grad()
def lipsdp_bound(chain: Chain, *, gap: float = GAP) -> EllipsoidBound | None:
    """The LipSDP-Neuron bound of ``chain``, its square within ``gap`` (relative) of the optimum.

    Args:
        chain: network of plain linear maps and elementwise activations.
        gap: when to stop; every point on the way is a sound certificate.

    Returns:
        The bound, or ``None`` where float64 cannot verify one (extreme weights).
    """
    if len(chain.weights) == 1:
        (weight,) = chain.weights
        gram = weight.mT @ weight
        gram.diagonal().add_(4 * EPS64 * (len(weight) + 2) * float(weight.square().sum()))
        return EllipsoidBound(gram)
    unit, scale = _normalised(chain)
    problem = _Problem(unit)
    try:
        found = _verified(problem, _minimise(problem, gap))
    except RuntimeError:
        return None
    if found is None or not 1e-140 < scale < 1e140:
        return None
    return EllipsoidBound(found.matrix * scale**2)


def _normalised(chain: Chain) -> tuple[Chain, float]:
    """Weights of norm about one, by powers of two (exact), and the factor that the constant is smaller by."""
    weights, scale = [], 1.0
    for weight in chain.weights:
        norm = float(weight.norm())
        power = 2.0 ** round(math.log2(norm)) if 0.0 < norm < math.inf else 1.0
        weights.append(weight / power)
        scale *= power
    return Chain(tuple(weights), chain.low, chain.high), scale
