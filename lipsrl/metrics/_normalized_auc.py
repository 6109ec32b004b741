from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsrl.metrics._arrays import as_curve


def normalized_auc(strengths: ArrayLike, returns: ArrayLike, *, floor: float) -> NDArray[np.float64]:
    """Area under the return curve, as a share of what the clean return would give at every strength.

    ``∫₀^σ_max (R(σ) − floor) dσ / (σ_max · (R(0) − floor))`` by the trapezoid rule. 1: nothing is lost
    anywhere; 0: everything from the first strength on; above 1: the disturbance helps; below 0: worse than
    the floor. Measured from a floor (the random policy's return on the task), because the zero of a return is
    arbitrary.

    Args:
        strengths: ``(S,)``, S >= 2, starting at 0, strictly rising.
        returns: ``(..., S)``, the return at each strength; leading axes (seeds, bootstrap samples) are kept.
        floor: the return that counts as nothing.

    Returns:
        ``(...)``, without unit; ``nan`` where the clean return is not above the floor (nothing to lose).

    Raises:
        ValueError: if the strengths do not start at 0 or do not rise, lengths differ, or the floor is not
            finite.

    Example:
        >>> from lipsrl.metrics import normalized_auc
        >>> float(normalized_auc([0.0, 1.0, 2.0], [-200.0, -200.0, -1200.0], floor=-1200.0))
        0.75
    """
    grid, above = as_curve(strengths, returns, floor)
    clean = above[..., 0]
    share = above / np.where(clean > 0, clean, np.nan)[..., np.newaxis]
    trapezoids = (share[..., 1:] + share[..., :-1]) / 2 * np.diff(grid)
    return np.asarray(trapezoids.sum(axis=-1) / grid[-1])
