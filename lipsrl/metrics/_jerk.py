from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lipsrl._validation import positive_finite
from lipsrl.metrics._arrays import as_rows


def jerk(actions: ArrayLike, *, dt: float = 1.0) -> float:
    """Mean third derivative of the action, ``1/(T-3) · Σ_t ‖Δ³a_t‖₂ / dt³``.

    ``Δ³a_t = a_t − 3a_{t−1} + 3a_{t−2} − a_{t−3}``. Zero for an action that is quadratic in time.
    White noise of standard deviation s on one channel has the expectation s·√(40/π)/dt³.

    Args:
        actions: ``(T, channels)`` or ``(T,)``, in the environment's action units.
        dt: seconds per step; 1 gives action units per step³.

    Returns:
        Action units per s³, l2 over channels; ``nan`` if T < 4, where there is no third difference.

    Raises:
        ValueError: if ``actions`` has another shape or an entry that is not finite, or ``dt`` is not > 0.

    Example:
        >>> from lipsrl.metrics import jerk
        >>> jerk([0.0, 0.0, 0.0, 1.0, 4.0])  # third differences 1 and 1
        1.0
    """
    rows = as_rows("actions", actions)
    step = positive_finite("dt", dt)
    if len(rows) < 4:
        return float("nan")
    return float(np.linalg.norm(np.diff(rows, n=3, axis=0), axis=1).mean() / step**3)
