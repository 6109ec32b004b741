"""Stabilising gains: the linear-quadratic one, and the smallest that a search finds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import solve_discrete_are

from lipsrl.feasibility.plant import Array

#: Weights of the barrier, from "well inside the stable set" to "at its edge".
BARRIER_WEIGHTS = 10.0 ** -np.arange(0, 7, 0.5)


def spectral_radius(a: Array) -> float:
    """Largest modulus of an eigenvalue."""
    return float(np.abs(np.linalg.eigvals(a)).max(initial=0.0))


def stabilises(a: Array, b: Array, c: Array, gain: Array, accuracy: float = 0.0) -> bool:
    """Whether ``F = a + b G c`` is stable for all matrices whose entries are within ``accuracy`` of these ones.

    A spectral radius below 1 does not say this: at the edge, rounding decides. An error ``E`` of ``F`` moves no
    eigenvalue further than ``κ(V) ‖E‖`` (Bauer & Fike 1960; ``V`` are the eigenvectors), nor further than
    ``(‖F‖ + ‖F + E‖)^(1 - 1/n) ‖E‖^(1/n)`` (Elsner 1985). ``E`` holds the rounding errors of ``F`` in any case.
    """
    f, n = a + b @ gain @ c, len(a)
    norm_a, norm_b, norm_c, norm = (float(np.linalg.norm(m, 2)) for m in (a, b, c, gain))
    error = 4 * n * float(np.finfo(float).eps) * (norm_a + norm_b * norm * norm_c)
    off_b, off_c = (accuracy * m.size**0.5 for m in (b, c))
    error += accuracy * n + norm * (off_b * norm_c + off_c * norm_b + off_b * off_c)
    values, vectors = np.linalg.eig(f)
    moved = (2 * float(np.linalg.norm(f, 2)) + error) ** (1 - 1 / n) * error ** (1 / n)
    return bool(np.abs(values).max() + min(moved, float(np.linalg.cond(vectors)) * error) < 1)


def lqr_gain(a: Array, b: Array, state_cost: Array, action_cost: Array) -> Array:
    """(m, n) ``K`` of ``u = -K x`` that minimises ``Σ xᵀQx + uᵀRu`` (discrete algebraic Riccati equation)."""
    value = solve_discrete_are(a, b, state_cost, action_cost)
    return np.asarray(np.linalg.solve(action_cost + b.T @ value @ b, b.T @ value @ a))


def smallest_gain(
    a: Array, b: Array, c: Array, start: Array, counts: Callable[[Array], bool] | None = None
) -> Array | None:
    """(m, p) stabilising ``G`` of ``u = G o`` with the smallest ‖G‖₂ found from ``start``; ``None`` without any.

    A path of minima of ``log‖G‖ + μ log tr X`` for falling μ, by BFGS, where ``X = F X Fᵀ + I`` with
    ``F = a + b G c`` grows without limit at the edge of the stable set. If ``start`` does not stabilise, ``tr X``
    of ``F/r`` is minimised first, for r falling to 1. Only gains for which ``counts`` is true count,
    by default those that pass :func:`stabilises`.

    The result is an upper estimate of the infimum: the problem is not convex, and its infimum is not attained.
    """
    # g acts through c only: the coordinates of an orthonormal basis of its range are enough
    u, s, _ = np.linalg.svd(c, full_matrices=False)
    basis = u[:, s > 1e-9 * s.max(initial=0.0)]
    reduced = basis.T @ c
    gain = _into_the_stable_set(a, b, reduced, start @ basis)
    if gain is None:
        return None

    def holds(g: Array) -> bool:
        return stabilises(a, b, reduced, g) if counts is None else counts(g @ basis.T)

    smallest = gain if holds(gain) else None
    for weight in BARRIER_WEIGHTS:
        gain = _descend(a, b, reduced, gain, weight, radius=1.0)
        if holds(gain):
            smallest = gain
        elif smallest is not None:  # too near to the edge: the last one on the way there
            edge = gain
            for _ in range(25):
                middle = (smallest + edge) / 2
                smallest, edge = (middle, edge) if holds(middle) else (smallest, middle)
            break
        elif weight < 1:
            break  # what comes is nearer to the edge
        if np.linalg.norm(gain) < 1e-6 * np.linalg.norm(start):
            break  # on the way to zero
    return None if smallest is None else np.asarray(smallest @ basis.T)


def _into_the_stable_set(a: Array, b: Array, c: Array, gain: Array) -> Array | None:
    radius = spectral_radius(a + b @ gain @ c)
    while radius >= 1:
        gain = _descend(a, b, c, gain, None, 1.02 * radius)
        before, radius = radius, spectral_radius(a + b @ gain @ c)
        if radius > 0.9999 * before:
            return None
    return gain


def _descend(a: Array, b: Array, c: Array, gain: Array, weight: float | None, radius: float) -> Array:
    """A minimum of the barrier near ``gain``; of ``log tr X`` alone where ``weight`` is ``None``."""
    scale = np.linalg.norm(gain, 2) or 1.0

    def objective(flat: Array) -> tuple[float, Array]:
        g = flat.reshape(gain.shape) * scale
        f = (a + b @ g @ c) / radius
        reach, cost = _gramian(f), _gramian(f.T)
        if spectral_radius(f) >= 1 or reach is None or cost is None:
            return np.inf, np.zeros_like(flat)
        trace = float(np.trace(reach))
        slope = 2 / radius * b.T @ cost @ f @ reach @ c.T / trace
        if weight is None:
            return float(np.log(trace)), (slope * scale).reshape(-1)
        norm, norm_slope = _smooth_norm(g)
        value = np.log(norm) + weight * np.log(trace)
        return float(value), ((norm_slope / norm + weight * slope) * scale).reshape(-1)

    return np.asarray(_bfgs(objective, gain.reshape(-1) / scale).reshape(gain.shape) * scale)


def _bfgs(objective: Callable[[Array], tuple[float, Array]], x: Array, iterations: int = 200) -> Array:
    """BFGS with a bisecting weak Wolfe line search (Lewis & Overton 2013), which may run into infinite values."""
    value, slope = objective(x)
    inverse = np.eye(len(x)) * 0.1 / max(float(np.linalg.norm(slope)), 1e-300)
    for _ in range(iterations):
        direction = -inverse @ slope
        descent = float(slope @ direction)
        low, high, t = 0.0, np.inf, 1.0
        for _ in range(40):
            new_value, new_slope = objective(x + t * direction)
            if not new_value <= value + 1e-4 * t * descent:
                high = t
            elif new_slope @ direction < 0.9 * descent:
                low = t
            else:
                break
            t = 2 * low if high == np.inf else (low + high) / 2
        if not new_value < value:
            break
        moved, bent = t * direction, new_slope - slope
        if moved @ bent > 0:
            rest = np.eye(len(x)) - np.outer(moved, bent) / (moved @ bent)
            inverse = rest @ inverse @ rest.T + np.outer(moved, moved) / (moved @ bent)
        settled = value - new_value <= 1e-9 * abs(value)
        x, value, slope = x + t * direction, new_value, new_slope
        if settled:
            break
    return x


def _gramian(f: Array) -> Array | None:
    """``X = f X fᵀ + I`` by doubling (Smith's method); ``None`` if ``f`` is not stable."""
    total = np.eye(len(f))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(64):
            term = f @ total @ f.T
            total = total + term
            if not np.isfinite(total).all():
                return None
            if np.abs(term).max() <= 1e-13 * np.abs(total).max():
                return np.asarray(total)
            f = f @ f
    return None


def _smooth_norm(gain: Array, power: int = 16) -> tuple[float, Array]:
    """Schatten norm, which nears the spectral norm from above, and its gradient."""
    u, s, vt = np.linalg.svd(gain, full_matrices=False)
    if s[0] == 0:
        return 1e-300, np.zeros_like(gain)
    norm = float(s[0] * ((s / s[0]) ** power).sum() ** (1 / power))
    return norm, np.asarray((u * (s / norm) ** (power - 1)) @ vt)
