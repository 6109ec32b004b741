"""What is known of a linear plant with quadratic cost: the best controller, the least gain, what noise costs.

``x⁺ = a x + b u``, the sensors show ``o = x + v`` with ``v ~ N(0, σ² I)``, a step costs ``x'qx + u'ru``, and a
controller without memory is ``u = -k o``. All in the units of the plant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_are, solve_discrete_lyapunov

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinearPlant:
    """``x⁺ = a x + b u``, cost ``x'qx + u'ru`` per step.

    Attributes:
        a, b: (n, n), (n, m).
        q, r: (n, n) ⪰ 0, (m, m) ≻ 0.
    """

    a: Array
    b: Array
    q: Array
    r: Array


def unstable_plant(rate: float, gain: float, dt: float, q: Any, r: float) -> LinearPlant:
    """``ẍ = rate·x + gain·u`` with u held for ``dt`` s; the state is (x, ẋ). The solution of the differential equation.

    Args:
        rate: > 0, 1/s²: the plant falls as e^(√rate t).
        gain: acceleration per unit of u.
        q, r: diagonal (2,) of the state's cost, and the action's cost.
    """
    w = np.sqrt(rate)
    cosh, sinh = np.cosh(w * dt), np.sinh(w * dt)
    a = np.array([[cosh, sinh / w], [w * sinh, cosh]])
    b = np.array([[gain / rate * (cosh - 1)], [gain / w * sinh]])
    return LinearPlant(a, b, np.diag(np.asarray(q, dtype=float)), np.array([[float(r)]]))


def optimal_gain(plant: LinearPlant) -> tuple[Array, Array]:
    """(k, p): the best controller ``u = -k x`` and ``x'px``, the cost from x on, over an infinite time.

    The discrete algebraic Riccati equation (Bertsekas, Dynamic Programming and Optimal Control I, 4.1).
    """
    p = solve_discrete_are(plant.a, plant.b, plant.q, plant.r)
    s = plant.r + plant.b.T @ p @ plant.b
    return np.linalg.solve(s, plant.b.T @ p @ plant.a), p


def smallest_stabilising_gain(plant: LinearPlant) -> tuple[float, Array]:
    """(‖k‖₂, k) at the edge of stability: no controller ``u = -k x`` with a smaller ‖k‖₂ keeps a plant of two states.

    Trace and determinant of ``a - b k`` are affine in k, and both eigenvalues lie in the unit disc where
    ``1 ± tr + det > 0`` and ``det < 1`` (Jury, 1962): a triangle of k, whose point nearest to 0 is meant.

    Raises:
        ValueError: not two states and one action.
    """
    a, b = plant.a, plant.b
    if a.shape != (2, 2) or b.shape != (2, 1):
        raise ValueError(
            f"the plant must have two states and one action, received {a.shape[0]} and {b.shape[1]}."
        )
    # tr(a - bk) = tr a - k·b, and det(a - bk) = det a - k·adj(a) b
    adjugate = np.array([[a[1, 1], -a[0, 1]], [-a[1, 0], a[0, 0]]])
    trace, determinant = (np.trace(a), -b[:, 0]), (np.linalg.det(a), -(adjugate @ b)[:, 0])
    normals = np.array([trace[1] + determinant[1], determinant[1] - trace[1], -determinant[1]])
    offsets = np.array([1 + trace[0] + determinant[0], 1 - trace[0] + determinant[0], 1 - determinant[0]])
    candidates = [np.zeros(2)]
    candidates += [
        -offset * normal / (normal @ normal) for normal, offset in zip(normals, offsets, strict=True)
    ]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        candidates.append(np.linalg.solve(normals[[i, j]], -offsets[[i, j]]))
    feasible = [k for k in candidates if (normals @ k + offsets >= -1e-9).all()]
    best = min(feasible, key=np.linalg.norm)
    return float(np.linalg.norm(best)), best


def expected_cost(plant: LinearPlant, k: Array, *, steps: int, start: Array, noise: float = 0.0) -> float:
    """Expected cost of ``steps`` steps of ``u = -k (x + v)`` from ``x ~ N(0, start)``.

    The covariance of x goes on as ``Σ⁺ = (a - bk) Σ (a - bk)' + σ² b k k' b'``, and a step costs
    ``tr((q + k'rk) Σ) + σ² tr(k'rk)``.

    Args:
        k: (m, n).
        start: (n, n).
        noise: σ of every sensor.
    """
    closed, used = plant.a - plant.b @ k, k.T @ plant.r @ k
    driven = noise**2 * plant.b @ k @ k.T @ plant.b.T
    sigma, total = np.asarray(start, dtype=float), 0.0
    for _ in range(steps):
        total += float(np.trace((plant.q + used) @ sigma) + noise**2 * np.trace(used))
        sigma = closed @ sigma @ closed.T + driven
    return total


def cost_of_noise(plant: LinearPlant, k: Array, noise: float) -> float:
    """Cost per step, in the long run, of ``u = -k (x + v)``: what the noise on the sensors costs.

    The discrete Lyapunov equation for the covariance of :func:`expected_cost`.

    Raises:
        ValueError: k does not stabilise.
    """
    closed, used = plant.a - plant.b @ k, k.T @ plant.r @ k
    if np.abs(np.linalg.eigvals(closed)).max() >= 1:
        raise ValueError(
            f"k={np.asarray(k).tolist()} does not stabilise the plant, so its cost has no limit."
        )
    sigma = solve_discrete_lyapunov(closed, noise**2 * plant.b @ k @ k.T @ plant.b.T)
    return float(np.trace((plant.q + used) @ sigma) + noise**2 * np.trace(used))


def kalman_filter(plant: LinearPlant, noise: float) -> tuple[Array, Array]:
    """(gain, covariance): of the steady filter, and of what is left of its error after each measurement.

    ``x̂ = x̂⁻ + gain (o - x̂⁻)``, ``x̂⁻ = a x̂ + b u`` (Anderson & Moore, Optimal Filtering, 4.4). The plant itself has
    no noise: an error that was not seen grows with its unstable mode.
    """
    size = len(plant.a)
    before = solve_discrete_are(plant.a.T, np.eye(size), np.zeros((size, size)), noise**2 * np.eye(size))
    gain = np.linalg.solve((before + noise**2 * np.eye(size)).T, before.T).T
    return gain, (np.eye(size) - gain) @ before


def kalman_cost(plant: LinearPlant, noise: float) -> float:
    """Cost per step, in the long run, of the best controller with any memory: ``u = -k x̂`` with the Kalman filter's x̂.

    By the separation theorem ``tr(k'(r + b'pb) k Σ)`` with Σ of :func:`kalman_filter` (Bertsekas I, 5.2). With no noise
    in the plant it is the floor of what a window policy can reach.
    """
    k, p = optimal_gain(plant)
    _, sigma = kalman_filter(plant, noise)
    return float(np.trace(k.T @ (plant.r + plant.b.T @ p @ plant.b) @ k @ sigma))
