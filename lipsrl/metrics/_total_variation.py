from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lipsrl.metrics._arrays import as_rows


def total_variation(actions: ArrayLike) -> float:
    """Distance that the actuators travel in the episode, ``Σ_t ‖a_t − a_{t−1}‖₁``, summed over channels.

    A sum, so it grows with the length of the episode; `action_fluctuation` is the rate. White noise of standard
    deviation s on every channel has the expectation (T − 1)·channels·2s/√π.

    Args:
        actions: ``(T, channels)`` or ``(T,)``, in the environment's action units.

    Returns:
        Action units, l1 over channels; ``0.0`` if T = 1.

    Raises:
        ValueError: if ``actions`` has another shape or an entry that is not finite.

    Example:
        >>> from lipsrl.metrics import total_variation
        >>> total_variation([[0.0, 0.0], [3.0, 4.0], [3.0, 3.0]])
        8.0
    """
    return float(np.abs(np.diff(as_rows("actions", actions), axis=0)).sum())
