from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsrl._validation import positive_int
from lipsrl.metrics._arrays import as_rows


def sensitivity_ratios(
    actions: ArrayLike, perturbed_actions: ArrayLike, displacements: ArrayLike
) -> NDArray[np.float64]:
    """Finite slopes of a policy from recorded arrays, ``‖μ(s+δ) − μ(s)‖₂ / ‖δ‖₂``, one per row.

    Each is a lower bound of the policy's Lipschitz constant: their maximum may be set beside a certificate.

    Args:
        actions: μ(s), ``(n, channels)`` or ``(n,)``.
        perturbed_actions: μ(s+δ), the same shape.
        displacements: δ, ``(n, dim)`` or ``(n,)``; no row may be zero.

    Returns:
        ``(n,)``, action units per observation unit, l2 in both.

    Raises:
        ValueError: if shapes do not match, an entry is not finite, or a displacement is zero.

    Example:
        >>> from lipsrl.metrics import sensitivity_ratios
        >>> sensitivity_ratios([[0.0], [1.0]], [[3.0], [1.0]], [[0.3, 0.4], [0.0, 1.0]]).tolist()
        [6.0, 0.0]
    """
    before, after = as_rows("actions", actions), as_rows("perturbed_actions", perturbed_actions)
    moved = as_rows("displacements", displacements)
    if before.shape != after.shape or len(before) != len(moved):
        raise ValueError(
            "actions and perturbed_actions must have one shape (n, channels) and displacements (n, dim) as "
            f"many rows, received {before.shape}, {after.shape} and {moved.shape}."
        )
    distances = np.linalg.norm(moved, axis=1)
    if not distances.all():
        raise ValueError(
            f"displacements must not be zero, row {int(np.argmin(distances))} is: leave such rows out, or "
            "use a larger std (a displacement below the rounding of the observation's dtype vanishes)."
        )
    ratios: NDArray[np.float64] = np.linalg.norm(after - before, axis=1) / distances
    return ratios


def action_sensitivity(
    policy: Callable[[NDArray[np.floating]], ArrayLike],
    states: ArrayLike,
    *,
    std: ArrayLike,
    seed: int | np.random.SeedSequence | None = 0,
    draws: int = 1,
) -> float:
    """How far the action moves per unit of observation: ``E‖μ(s+δ) − μ(s)‖₂ / ‖δ‖₂`` over the given states.

    δ is Gaussian with the given standard deviation, and is measured after s + δ has been rounded to the dtype
    of ``states``. An average of slopes, so never above the policy's Lipschitz constant; for a linear policy
    k·Q with orthonormal columns it is k exactly.

    Args:
        policy: maps a batch of observations ``(n, dim)`` to actions ``(n, channels)``; it is called once,
            with ``n·(1 + draws)`` rows in the dtype of ``states``.
        states: ``(n, dim)``; float dtypes are kept, others become float64.
        std: standard deviation of δ in observation units, a scalar or one value per dimension; finite, >= 0,
            not all zero. Small against the states for the local slope, the sensor's own for the slope at its
            noise.
        seed: of the draws.
        draws: displacements per state.

    Returns:
        Action units per observation unit, l2 in both.

    Raises:
        ValueError: if ``states`` is not ``(n, dim)`` and finite, ``std`` is negative or has another length,
            the policy returns another number of rows or values that are not finite, or every displacement is
            rounded to zero.

    Example:
        >>> import numpy as np
        >>> from lipsrl.metrics import action_sensitivity
        >>> states = np.random.default_rng(0).normal(size=(100, 2))
        >>> round(action_sensitivity(lambda s: 3.0 * s, states, std=0.01), 6)
        3.0
    """
    array = np.asarray(states)
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    if array.ndim != 2 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"states must be finite and of shape (n, dim), n and dim > 0, received shape {array.shape}."
        )
    scale = np.asarray(std, dtype=np.float64)
    if scale.shape not in ((), (array.shape[1],)) or not np.isfinite(scale).all() or (scale < 0).any():
        raise ValueError(
            f"std must be a finite number >= 0 or one per dimension ({array.shape[1]}), received {std!r}."
        )
    n = len(array)
    repeated = np.tile(array, (positive_int("draws", draws), 1))
    noise = np.random.default_rng(seed).standard_normal(repeated.shape) * scale
    perturbed = (repeated + noise).astype(array.dtype)
    displacements = perturbed.astype(np.float64) - repeated.astype(np.float64)
    actions = as_rows("the policy's actions", policy(np.concatenate([array, perturbed])))
    if len(actions) != n + len(perturbed):
        raise ValueError(
            f"policy must return one row per observation ({n + len(perturbed)}), received {len(actions)}."
        )
    seen = displacements.any(axis=1)
    if not seen.any():
        raise ValueError(
            f"std={std!r} moves no state: it is zero or below the rounding of {array.dtype}. "
            "Use a larger one."
        )
    before = np.tile(actions[:n], (draws, 1))
    return float(sensitivity_ratios(before[seen], actions[n:][seen], displacements[seen]).mean())
