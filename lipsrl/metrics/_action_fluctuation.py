from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lipsrl.metrics._arrays import as_rows


def action_fluctuation(actions: ArrayLike) -> float:
    """Mean change of the action per step, ``1/(T-1) · Σ_t ‖a_t − a_{t−1}‖₂``: the chatter of a controller.

    Also called AFR, action fluctuation rate. Zero for a constant action. White noise of standard deviation s
    on one channel has the expectation 2s/√π.

    Args:
        actions: ``(T, channels)`` or ``(T,)``, in the environment's action units.

    Returns:
        Action units per step, l2 over channels; ``nan`` if T = 1, where there is no step between two actions.

    Raises:
        ValueError: if ``actions`` has another shape or an entry that is not finite.

    Example:
        >>> from lipsrl.metrics import action_fluctuation
        >>> action_fluctuation([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])
        2.5
    """
    rows = as_rows("actions", actions)
    if len(rows) < 2:
        return float("nan")
    return float(np.linalg.norm(np.diff(rows, axis=0), axis=1).mean())
