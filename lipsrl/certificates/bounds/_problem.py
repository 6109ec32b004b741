"""The semidefinite program of LipSDP-Neuron: its matrix, what Newton's method needs of it, a feasible start."""

from __future__ import annotations

import torch
from torch import Tensor

from lipsrl.certificates.bounds._chain import Chain


class Problem:
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


def cholesky(matrix: Tensor) -> Tensor | None:
    """The lower factor, or ``None`` where ``matrix`` is not positive definite."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    return None if int(info) else factor
