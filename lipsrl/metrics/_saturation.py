from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lipsrl.metrics._arrays import as_rows


def saturation(actions: ArrayLike, low: ArrayLike, high: ArrayLike, *, tolerance: float = 1e-3) -> float:
    """Share of actions at or beyond the limits of the actuator.

    Give the action *before* it is clipped: an unsquashed policy's mean may lie far outside the box. A
    squashed policy approaches its limits without reaching them, hence the tolerance.

    Args:
        actions: ``(T, channels)`` or ``(T,)``, in the environment's action units.
        low, high: limits, scalars or ``(channels,)``; an infinite one is never reached.
        tolerance: an action counts from ``tolerance · (high − low)/2`` before the limit; a channel with an
            infinite limit has no tolerance. In [0, 1).

    Returns:
        A number in [0, 1]: the share of (step, channel) entries. Channels without a range (``low == high``) do not
        count; ``nan`` if there are no others.

    Raises:
        ValueError: if ``actions`` has another shape or an entry that is not finite, the limits have another
            shape, are ``nan`` or not ``low <= high``, or for a tolerance outside [0, 1).

    Example:
        >>> from lipsrl.metrics import saturation
        >>> saturation([-3.0, 0.0, 1.0, 1.9999], -2.0, 2.0)
        0.5
    """
    rows = as_rows("actions", actions)
    channels = rows.shape[1]
    lower, upper = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if any(bound.shape not in ((), (channels,)) for bound in (lower, upper)) or not (lower <= upper).all():
        raise ValueError(
            f"low and high must be numbers or one per channel ({channels}) with low <= high, "
            f"received {low!r} and {high!r}."
        )
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be in [0, 1), received {tolerance!r}.")
    half = (upper - lower) / 2
    margin = np.where(np.isfinite(half), tolerance * half, 0.0)
    moving = np.broadcast_to(lower < upper, (channels,))
    if not moving.any():
        return float("nan")
    return float(((rows <= lower + margin) | (rows >= upper - margin))[:, moving].mean())
