"""Which modes a static output feedback can move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lipsrl.feasibility.plant import Array

Complex = NDArray[np.complex128]


def movable_part(a: Array, b: Array, c: Array, tolerance: float) -> tuple[Array, Array, Array, Complex]:
    """Leave out neutral modes (|λ| = 1) that the observation does not show or the action does not reach.

    A robot's position along the floor is such a mode: nothing depends on it. The quotient by an unobservable
    eigenvector and the restriction to the annihilator of an uncontrollable left one have the same transfer
    function and the same remaining eigenvalues under every output feedback (Kalman decomposition).

    Args:
        a, b, c: (n, n), (n, m), (p, n).
        tolerance: of |λ| = 1, and of the Popov-Belevitch-Hautus test.

    Returns:
        ``a, b, c`` of the rest, and the eigenvalues left out.

    Raises:
        ValueError: an unstable mode is unobservable or uncontrollable.
    """
    left_out: list[complex] = []
    while len(a):
        for value in np.linalg.eigvals(a):
            if abs(value) < 1 - tolerance or value.imag < 0:
                continue
            unseen, vector = hautus(a.T, c.T, value)
            unreached, left = hautus(a, b, value)
            if min(unseen, unreached) > tolerance:
                continue
            if abs(value) > 1 + tolerance:
                raise ValueError(_immovable(value, unseen <= tolerance, tolerance))
            direction = vector if unseen <= tolerance else left
            spanned = np.stack([direction.real, direction.imag], axis=1)[
                :, : 1 + (abs(value.imag) > tolerance)
            ]
            basis = np.linalg.qr(spanned, mode="complete")[0][:, spanned.shape[1] :]
            a, b, c = basis.T @ a @ basis, basis.T @ b, c @ basis
            left_out += [value, value.conjugate()][: spanned.shape[1]]
            break
        else:
            break
    return a, b, c, np.array(left_out, dtype=np.complex128)


def hautus(a: Array, b: Array, value: complex) -> tuple[float, Complex]:
    """How far the mode ``value`` is from uncontrollable: smallest singular value of ``[a - value·I, b/‖b‖]``.

    Popov-Belevitch-Hautus test; 0 if and only if the mode is uncontrollable. Also its left singular vector.
    """
    norm = np.linalg.norm(b, 2)
    shown = b / norm if norm > 0 else b
    # a real value needs a real vector
    shift = value.real if value.imag == 0 else value
    u, s, _ = np.linalg.svd(np.hstack([a - shift * np.eye(len(a)), shown]))
    return float(s[-1]), u[:, -1].conj().astype(np.complex128)


def _immovable(value: complex, unseen: bool, tolerance: float) -> str:
    mode = f"the unstable mode with eigenvalue {value:.6g} (|λ| = {abs(value):.6g}) "
    within = f"as far as {tolerance:.1g}, the accuracy of the finite differences, can tell: "
    if unseen:
        return (
            f"{mode}does not show in the observation, {within}no policy of it can stabilise this equilibrium."
        )
    return f"{mode}is not reached by the action, {within}no policy at all can stabilise this equilibrium."
