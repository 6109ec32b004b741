"""Lower bounds on the norm of every stabilising static gain."""

from __future__ import annotations

import heapq
from itertools import count

import numpy as np
from scipy.optimize import nnls

from lipsrl.feasibility.plant import Array

_EPS = float(np.finfo(float).eps)


def gain_floor(a: Array, b: Array, c: Array, tolerance: float = 0.0) -> tuple[float, str]:
    """Under every ``G`` with ``‖G‖₂`` below this an eigenvalue of ``a + b G c`` stays outside the unit disc.

    Args:
        a, b, c: (n, n), (n, m), (p, n).
        tolerance: eigenvalues of ``a`` so near the unit circle count as on it.

    Returns:
        The bound, and the argument that proves it: ``"stable"`` or ``"neutral"`` (0: no eigenvalue is outside),
        ``"polynomial"`` (one input or one output) or ``"eigenvalue path"``. Infinite only where exact zeros in the
        matrices prove that no static gain stabilises. What is zero up to rounding makes a bound that is very large,
        but finite: a gain of that size may exist.
    """
    radius = np.abs(np.linalg.eigvals(a)).max(initial=0.0)
    if radius <= 1 + tolerance:
        return 0.0, "stable" if radius < 1 - tolerance else "neutral"
    # with b = u s vᵀ only vᵀG acts, and its norm is no larger; c alike
    b, c = _compressed(b), _compressed(c.T).T
    if min(b.shape[1], c.shape[0]) == 0:
        return float("inf"), "eigenvalue path"
    path = max(_real_floor(a, b, c), _circle_floor(a, b, c))
    # the simplex holds unstable polynomials too, so of high degree it may say nothing
    polynomial = _polynomial_floor(a, b, c)
    if polynomial >= path * (1 - 1e-6) and polynomial > 0:
        return max(polynomial, path), "polynomial"
    return path, "eigenvalue path"


def _compressed(matrix: Array) -> Array:
    """(n, r) ``matrix @ v`` with the columns that are not zero, the largest first; ``v`` has orthonormal columns."""
    u, s, _ = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray((u * s)[:, s > 0])


def _polynomial_floor(a: Array, b: Array, c: Array) -> float:
    """For one input or one output, where the characteristic polynomial is affine in the gain; 0 for others.

    Two inputs that act as one, up to rounding, count as one: through the rest of ``b`` a gain below ``spare`` changes
    ``a + b G c`` by less than ``off`` an entry. This is added to the errors of ``a``. Outputs alike.

    Args:
        a, b, c: ``b`` and ``c`` as :func:`_compressed` returns them.
    """
    if min(b.shape[1], c.shape[0]) == 1:
        return _simplex_floor(a, b, c, 0.0)
    off = 8 * len(a) * _EPS * float(np.linalg.norm(a, 2))
    size_b, size_c = float(np.linalg.norm(b, 2)), float(np.linalg.norm(c, 2))
    spare_b = off / (float(np.linalg.norm(b[:, 1:], 2)) * size_c)
    spare_c = off / (float(np.linalg.norm(c[1:], 2)) * size_b)
    return max(
        min(_simplex_floor(a, b[:, :1], c, off), spare_b), min(_simplex_floor(a, b, c[:1], off), spare_c)
    )


def _simplex_floor(a: Array, b: Array, c: Array, off: float) -> float:
    """The distance to the stable polynomials, for every matrix whose entries are within ``off`` of those of ``a``.

    The coefficients of monic polynomials with all roots in the closed unit disc lie in the simplex whose
    vertices are ``(z-1)^k (z+1)^(n-k)`` (Fam & Meditch 1978): each real factor is a convex combination of
    ``z-1`` and ``z+1``, each complex pair one of the products of two, and the product of factors is affine in
    each. So ``p - N g ∈ simplex``, and by Cauchy-Schwarz every ``y`` gives
    ``‖g‖ ≥ min_k y·(p - v_k) / ‖Nᵀy‖``. The ``y`` used comes from the point of the simplex that is nearest in
    the metric of ``NNᵀ``; whatever its accuracy, the bound holds.
    """
    n = len(a)
    rounding = 8 * n * (n + 2) * _EPS
    # in powers of z - 1: the poles of a sampled plant crowd around 1
    p, adjugate = _characteristic(a - np.eye(n))
    p_size, adjugate_size = _sizes(np.abs(a - np.eye(n)) + off / rounding)
    gains = np.stack([(c @ m @ b).reshape(-1) for m in adjugate])  # (n, m·p)
    gain_sizes = np.stack([(np.abs(c) @ m @ np.abs(b)).reshape(-1) for m in adjugate_size])
    vertices = np.stack([np.poly(np.r_[np.zeros(k), np.full(n - k, -2.0)])[1:] for k in range(n + 1)], axis=1)
    apart = p[:, None] - vertices  # (n, n + 1)
    error = rounding * (np.abs(apart) + p_size[:, None])
    silent = ~gain_sizes.any(axis=1)  # coefficients that no gain moves: zeros of the matrices say so
    values, vectors = np.linalg.eigh(gains @ gains.T)
    best = 0.0
    for small in (1e-6, 1e-8, 1e-10, 1e-12, 1e-14):
        root = (vectors / np.sqrt(np.maximum(values, 0) + small * (values.max() or 1.0))) @ vectors.T
        scaled = root @ apart
        size = np.abs(scaled).max()
        try:
            weights, _ = nnls(np.vstack([scaled / size, np.ones(n + 1)]), np.r_[np.zeros(n), 1.0])
        except RuntimeError:  # no end of its iterations, for numbers so far apart
            continue
        y = root @ (scaled @ weights) / size
        for dual in (y, np.where(silent, y, 0.0)):
            ahead = float((dual @ apart - np.abs(dual) @ error).min())
            moved = np.linalg.norm(gains.T @ dual) + rounding * np.linalg.norm(gain_sizes.T @ np.abs(dual))
            if ahead > 0:
                best = max(best, ahead / float(moved) if moved > 0 else float("inf"))
    return best


def _characteristic(a: Array) -> tuple[Array, list[Array]]:
    """Coefficients of ``det(zI - a)`` after the leading 1 and of ``adj(zI - a)``, highest power first.

    Faddeev-LeVerrier recursion.
    """
    n, coefficients, adjugate = len(a), [], [np.eye(len(a))]
    for k in range(1, n + 1):
        product = a @ adjugate[-1]
        coefficients.append(-np.trace(product) / k)
        adjugate.append(product + coefficients[-1] * np.eye(n))
    return np.array(coefficients), adjugate[:n]


def _sizes(a: Array) -> tuple[Array, list[Array]]:
    """:func:`_characteristic` of ``a`` ≥ 0 without any cancellation: sizes that rounding errors are relative to."""
    n, coefficients, adjugate = len(a), [], [np.eye(len(a))]
    for k in range(1, n + 1):
        product = a @ adjugate[-1]
        coefficients.append(np.trace(product) / k)
        adjugate.append(product + coefficients[-1] * np.eye(n))
    return np.array(coefficients), adjugate[:n]


def _real_floor(a: Array, b: Array, c: Array) -> float:
    """If an odd number of real eigenvalues lies beyond a real ``r``, |r| ≥ 1, one must pass ``r`` itself.

    ``det(rI - a - tbGc)`` changes its sign on the way from t = 0 to 1, so ``‖G‖ ≥ 1/‖c (rI - a)⁻¹ b‖`` for each
    such r. The rounding errors of the transfer are added to it.
    """
    largest = np.abs(np.linalg.eigvals(a)).max()
    radii = np.linspace(1, largest, 401)[:-1]
    z = np.concatenate([radii, -radii])
    shifted = z[:, None, None] * np.eye(len(a)) - a
    odd = np.linalg.slogdet(shifted)[0] == -(np.sign(z) ** len(a))
    condition = 8 * len(a) * _EPS * np.linalg.cond(shifted)
    odd &= condition < 1  # elsewhere the sign of the determinant is not certain
    if not odd.any():
        return 0.0
    reached = np.linalg.solve(shifted[odd], np.broadcast_to(b, (int(odd.sum()), *b.shape)))
    passing = np.linalg.norm(c @ reached, 2, axis=(1, 2))
    error = condition[odd] * np.linalg.norm(c, 2) * np.linalg.norm(reached, 2, axis=(1, 2))
    return float(1 / (passing + error).min())


def _circle_floor(a: Array, b: Array, c: Array) -> float:
    """An eigenvalue outside the circle |z| = r ≥ 1 must cross it: ``‖G‖ ≥ 1/max ‖c (zI - a)⁻¹ b‖`` over it.

    Hinrichsen & Pritchard 1986 (stability radii), for every circle between the unit one and the outermost
    eigenvalue; the maximum over the circle that looks best is bounded from above, arc by arc.
    """
    moduli = np.abs(np.linalg.eigvals(a))
    radii = np.linspace(1, moduli.max(), 33)[:-1]
    radii = radii[np.abs(moduli - radii[:, None]).min(axis=1) > 1e-9]
    if not len(radii):
        return 0.0
    z = radii[:, None] * np.exp(1j * np.linspace(0, np.pi, 65))
    resolvents = np.linalg.inv(z[..., None, None] * np.eye(len(a)) - a)
    peaks = np.linalg.norm(c @ resolvents @ b, 2, axis=(2, 3)).max(axis=1)
    return 1 / _peak(a, b, c, float(radii[peaks.argmin()]))


def _peak(a: Array, b: Array, c: Array, radius: float) -> float:
    """Upper bound, within 0.1 %, on ``‖c (zI - a)⁻¹ b‖`` over the circle |z| = radius."""
    order = count()
    arcs: list[tuple[float, int, float, float]] = []
    seen = 0.0

    def add(middle: float, half: float) -> None:
        nonlocal seen
        z = radius * np.exp(1j * middle)
        seen = max(seen, _transfer(a, b, c, z, 0.0))
        heapq.heappush(arcs, (-_transfer(a, b, c, z, radius * half), next(order), middle, half))

    for i in range(32):
        add((i + 0.5) * np.pi / 32, np.pi / 64)
    for _ in range(20_000):
        upper = -arcs[0][0]
        if np.isinf(seen):  # rounding decides there, and no smaller arc would change this
            return upper
        if upper <= 1.001 * seen:
            return upper
        _, _, middle, half = heapq.heappop(arcs)
        add(middle - half / 2, half / 2)
        add(middle + half / 2, half / 2)
    return -arcs[0][0]


def _transfer(a: Array, b: Array, c: Array, z: complex, reach: float) -> float:
    """Upper bound on ``‖c (wI - a)⁻¹ b‖`` over |w - z| ≤ reach (Neumann series); infinite if it has none."""
    shifted = z * np.eye(len(a)) - a
    resolvent = np.linalg.inv(shifted)
    size = float(np.linalg.norm(resolvent, 2))
    # inv(shifted) is the inverse of a matrix that is off by this much
    rounding = 8 * len(a) * _EPS * float(np.linalg.norm(shifted, 2))
    shrunk = 1 - (reach + rounding) * size
    if shrunk <= 0:
        return float("inf")
    value = np.linalg.norm(c @ resolvent @ b, 2)
    sides = np.linalg.norm(c @ resolvent, 2) * np.linalg.norm(resolvent @ b, 2)
    return float(value + (reach + rounding) * sides / shrunk)
