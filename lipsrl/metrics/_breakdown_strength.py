from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsrl.metrics._arrays import as_curve


def breakdown_strength(
    strengths: ArrayLike, returns: ArrayLike, *, floor: float, fraction: float = 0.5
) -> NDArray[np.float64]:
    """The first strength at which ``fraction`` of the way from the clean return down to the floor is lost.

    The first σ with ``R(σ) <= R(0) − fraction·(R(0) − floor)``, with R linear between the measured strengths.

    Args:
        strengths: ``(S,)``, S >= 2, starting at 0, strictly rising.
        returns: ``(..., S)``, the return at each strength; leading axes are kept.
        floor: the return that counts as nothing.
        fraction: in (0, 1].

    Returns:
        ``(...)``, in units of strength; ``inf`` where the curve never falls so far within the measured range,
        ``nan`` where the clean return is not above the floor or a return is ``nan``.

    Raises:
        ValueError: as `normalized_auc`, or for a fraction outside (0, 1].

    Example:
        >>> from lipsrl.metrics import breakdown_strength
        >>> float(breakdown_strength([0.0, 1.0, 2.0], [-200.0, -200.0, -1200.0], floor=-1200.0))
        1.5
    """
    grid, above = as_curve(strengths, returns, floor)
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], received {fraction!r}.")
    clean = above[..., :1]
    below = above - (1 - fraction) * clean  # the curve has broken down where this is not above zero
    broken = below <= 0
    after = np.where(broken.any(axis=-1), broken.argmax(axis=-1), 1)
    after = np.maximum(after, 1)[..., np.newaxis]
    left = np.take_along_axis(below, after - 1, axis=-1)[..., 0]
    right = np.take_along_axis(below, after, axis=-1)[..., 0]
    start, stop = grid[after[..., 0] - 1], grid[after[..., 0]]
    with np.errstate(invalid="ignore", divide="ignore"):  # a flat piece, only where the answer is inf or nan
        crossing = start + (stop - start) * left / (left - right)
    strength = np.where(broken.any(axis=-1), crossing, np.inf)
    known = (clean[..., 0] > 0) & ~np.isnan(above).any(axis=-1)
    return np.where(known, strength, np.nan)
