"""LipSDP-Neuron bounds without a solver, every returned number verified by a float64 Cholesky factorisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lipsrl.certificates._chain import Chain
from lipsrl.layers._linalg import EPS64

#: Relative distance from the optimum of the semidefinite program (of the squared constant) at which the search ends …
GAP = 2e-4
#: … and for programs of more than so many rows, where a Newton step takes a tenth of a second.
LARGE, LARGE_GAP = 400, 4e-3

#: Multipliers stay below the largest at the start times this, for the sake of float64.
LARGEST_RATIO = 1e3

#: Factor between two steps of the barrier's weight.
BARRIER_STEP = 20.0


@dataclass(frozen=True)
class EllipsoidBound:
    """``‖f(x) - f(x′)‖₂² ≤ (x - x′)ᵀ S (x - x′)`` for all x, x′.

    Attributes:
        matrix: S (n, n), positive semidefinite, float64.
        multipliers: that prove it; a start for a chain with other gains.
    """

    matrix: Tensor
    multipliers: Tensor | None = None

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
    ``A_k = C_kᵀ Q_k C_k`` has rank two: ``C_k`` holds the unit vector of v_k and the row of W of u_k.
    """

    def __init__(self, chain: Chain) -> None:
        weights = chain.weights
        self.inputs = weights[0].shape[1]
        hidden = [weight.shape[0] for weight in weights[:-1]]
        self.units = sum(hidden)
        self.size = self.inputs + self.units
        self.rows = torch.zeros(self.units, self.size, dtype=torch.float64)  # u_k = rows[k] · z
        self.blocks: list[tuple[slice, slice, Tensor]] = []  # the nonzero blocks of rows
        start, column = 0, 0
        for weight in weights[:-1]:
            self.blocks.append(
                (slice(start, start + weight.shape[0]), slice(column, column + weight.shape[1]), weight)
            )
            self.rows[start : start + weight.shape[0], column : column + weight.shape[1]] = weight
            start, column = start + weight.shape[0], column + weight.shape[1]
        self.low, self.high = torch.cat(chain.low), torch.cat(chain.high)
        self.mean, self.product = (self.low + self.high) / 2, self.low * self.high
        last = weights[-1]
        self.output = torch.zeros(last.shape[0], self.size, dtype=torch.float64)
        self.output[:, self.size - last.shape[1] :] = last
        self.chain = chain
        self.cap = math.inf  # largest multiplier; known once there is a start

    def times_rows(self, matrix: Tensor) -> Tensor:
        """``rows @ matrix``."""
        return torch.cat([weight @ matrix[columns] for _, columns, weight in self.blocks])

    def matrix(self, multipliers: Tensor, rho: float) -> Tensor:
        """M(λ, ρ)."""
        matrix = torch.zeros(self.size, self.size, dtype=torch.float64)
        last = self.chain.weights[-1]
        matrix[-last.shape[1] :, -last.shape[1] :] -= last.mT @ last
        for units, columns, weight in self.blocks:
            product = self.product[units]
            if bool((product != 0).any()):
                matrix[columns, columns] += weight.mT @ ((product * multipliers[units]).unsqueeze(1) * weight)
        cross = (self.mean * multipliers).unsqueeze(1) * self.rows
        matrix[self.inputs :] -= cross
        matrix[:, self.inputs :] -= cross.mT
        diagonal = matrix.diagonal()
        diagonal[self.inputs :] += multipliers
        diagonal[: self.inputs] += rho
        return matrix

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

    def resume(self, multipliers: Tensor) -> tuple[Tensor, float]:
        """A strictly feasible point from the multipliers of a chain with other gains at its input, if they are one."""
        try:
            largest = float(torch.linalg.eigvalsh(self.schur(multipliers))[-1])
        except RuntimeError:
            return self.start()
        return multipliers, 1.05 * max(largest, 1e-12)

    def schur(self, multipliers: Tensor) -> Tensor:
        """The smallest S such that M(λ, ·) with S in the input block is positive semidefinite."""
        matrix = self.matrix(multipliers, 0.0)
        n = self.inputs
        factor = torch.linalg.cholesky(matrix[n:, n:])
        half = torch.linalg.solve_triangular(factor, matrix[n:, :n], upper=False)
        schur: Tensor = half.mT @ half - matrix[:n, :n]
        return (schur + schur.mT) / 2

    def barrier(self, multipliers: Tensor, factor: Tensor) -> float:
        """``-logdet M - Σ log λ - Σ log(cap - λ)``: a unit that is nearly linear would take any multiplier."""
        box = multipliers.log().sum() + (self.cap - multipliers).log().sum()
        return -2.0 * float(factor.diagonal().log().sum()) - float(box)

    def newton_terms(self, multipliers: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient and Hessian of :meth:`barrier` in (λ, ρ), from the Cholesky factor of M."""
        n, units = self.inputs, self.units
        inverse = torch.cholesky_inverse(factor)
        unit = slice(n, None)
        vv = inverse[unit, unit]
        u_all = self.times_rows(inverse)
        uv = u_all[:, unit]
        uu = self.times_rows(u_all.mT)
        mean, product = self.mean, self.product
        slope = vv.diagonal() - 2 * mean * uv.diagonal() + product * uu.diagonal()
        room = (self.cap - multipliers).reciprocal()
        barrier = room - multipliers.reciprocal()
        gradient = torch.cat([-slope + barrier, -inverse.diagonal()[:n].sum().reshape(1)])
        # tr(M⁻¹ A_k M⁻¹ A_j), with Q = [[1, -mean], [-mean, product]]
        m_j, m_k = mean.unsqueeze(0), mean.unsqueeze(1)
        p_j, p_k = product.unsqueeze(0), product.unsqueeze(1)
        vu = uv.mT  # vu[k, j] = v_k · u_j
        left_v = vv - m_k * uv  # row v of Q_k applied: Q_k [v_k; u_k] against v_j
        left_u = -m_k * vv + p_k * uv
        left_v_u = vu - m_k * uu  # against u_j
        left_u_u = -m_k * vu + p_k * uu
        right_v = vv - m_j * vu  # Q_j [v_j; u_j] against v_k
        right_u = -m_j * vv + p_j * vu
        right_v_u = uv - m_j * uu  # against u_k
        right_u_u = -m_j * uv + p_j * uu
        hessian = torch.empty(units + 1, units + 1, dtype=torch.float64)
        hessian[:units, :units] = (
            left_v * right_v + left_v_u * right_u + left_u * right_v_u + left_u_u * right_u_u
        )
        v0 = inverse[unit, :n]
        u0 = u_all[:, :n]
        mixed = (v0 * v0).sum(1) - 2 * mean * (u0 * v0).sum(1) + product * (u0 * u0).sum(1)
        hessian[:units, units] = hessian[units, :units] = mixed
        hessian[units, units] = inverse[:n, :n].square().sum()
        hessian[:units, :units].diagonal().add_(multipliers.reciprocal().square() + room.square())
        return gradient, hessian


def _cholesky(matrix: Tensor) -> Tensor | None:
    factor, info = torch.linalg.cholesky_ex(matrix)
    return None if int(info) else factor


def _minimise(problem: _Problem, gap: float, max_steps: int, start: Tensor | None) -> Tensor:
    """Multipliers near the optimum, by a barrier method with Newton steps (Boyd & Vandenberghe 2004, section 11.3)."""
    multipliers, rho = problem.start() if start is None else problem.resume(start)
    problem.cap = LARGEST_RATIO * float(multipliers.max())
    degree = problem.size + 2 * problem.units
    weight = degree / rho
    for _ in range(max_steps):
        factor = _cholesky(problem.matrix(multipliers, rho))
        if factor is None:
            break
        gradient, hessian = problem.newton_terms(multipliers, factor)
        gradient[-1] += weight
        scale = hessian.diagonal().rsqrt()
        solved = _cholesky(hessian * scale.unsqueeze(1) * scale)
        if solved is None:
            break
        step = -scale * torch.cholesky_solve((gradient * scale).unsqueeze(1), solved).squeeze(1)
        decrement = -float(gradient @ step)
        length = 1.0 / (1.0 + math.sqrt(max(decrement, 0.0))) if decrement > 0.25 else 1.0
        # the damped step stays feasible; a longer one is taken where it does too and the objective falls
        best = None
        value = weight * rho + problem.barrier(multipliers, factor)
        for trial in (min(1.0, 4.0 * length), length):
            moved, moved_rho = multipliers + trial * step[:-1], rho + trial * float(step[-1])
            if not bool(((moved > 0) & (moved < problem.cap)).all()):
                continue
            moved_factor = _cholesky(problem.matrix(moved, moved_rho))
            if moved_factor is None:
                continue
            moved_value = weight * moved_rho + problem.barrier(moved, moved_factor)
            if moved_value < value:
                best = moved, moved_rho
                break
        if best is not None:
            multipliers, rho = best
        if best is None or decrement < 0.1:
            if degree / weight <= gap * rho:
                break
            weight *= BARRIER_STEP
    return multipliers


def _verified(problem: _Problem, multipliers: Tensor) -> EllipsoidBound | None:
    """The ellipsoid of ``multipliers``, if a Cholesky test proves it (Rump 2006: a shifted factorisation succeeds)."""
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
            return EllipsoidBound(ellipsoid, multipliers)
    return None


def _magnitude(problem: _Problem, multipliers: Tensor, ellipsoid: Tensor) -> Tensor:
    """Entrywise sums of absolute values of the terms of M: what its rounding errors are relative to."""
    rows = problem.rows.abs()
    scaled = multipliers.unsqueeze(1) * rows
    total = (
        rows.mT @ (problem.product.abs().unsqueeze(1) * scaled)
        + problem.output.mT.abs() @ problem.output.abs()
    )
    cross = problem.mean.abs().unsqueeze(1) * scaled
    n = problem.inputs
    total[n:] += cross
    total[:, n:] += cross.mT
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
def lipsdp_bound(
    chain: Chain, *, gap: float | None = None, max_steps: int = 120, start: Tensor | None = None
) -> EllipsoidBound | None:
    """The LipSDP-Neuron bound of ``chain``, its square within ``gap`` (relative) of the optimum.

    Args:
        chain: network of plain linear maps and elementwise activations.
        gap, max_steps: when to stop; every point on the way is a sound certificate.
        start: multipliers of a chain that differs by input gains only.

    Returns:
        The bound, or ``None`` where float64 cannot verify one (extreme weights).
    """
    if len(chain.weights) == 1:
        (weight,) = chain.weights
        gram = weight.mT @ weight
        gram.diagonal().add_(4 * EPS64 * (len(weight) + 2) * float(weight.square().sum()))
        return EllipsoidBound(gram)
    if gap is None:
        gap = GAP if chain.size <= LARGE else LARGE_GAP
    unit, scale = _normalised(chain)
    problem = _Problem(unit)
    try:
        found = _verified(problem, _minimise(problem, gap, max_steps, start))
    except RuntimeError:
        return None
    if found is None or not 1e-140 < scale < 1e140:
        return None
    return EllipsoidBound(found.matrix * scale**2, found.multipliers)


def _normalised(chain: Chain) -> tuple[Chain, float]:
    """Weights of norm about one, by powers of two (exact), and the factor that the constant is smaller by."""
    weights, scale = [], 1.0
    for weight in chain.weights:
        norm = float(weight.norm())
        power = 2.0 ** round(math.log2(norm)) if 0.0 < norm < math.inf else 1.0
        weights.append(weight / power)
        scale *= power
    return Chain(tuple(weights), chain.low, chain.high), scale
