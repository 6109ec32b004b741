from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lipsrl.metrics._arrays import as_rows


def high_frequency_ratio(actions: ArrayLike, *, cutoff: float = 0.5) -> float:
    """Share of the action's power (its variance over time) that lies above a frequency.

    The mean of each channel is removed, and the power of the two-sided spectrum is summed over channels:
    ``Σ_{f_k > f_c} |Y_k|² / Σ_{k > 0} |Y_k|²``. By Parseval the denominator is T² times the variance. White
    noise has the expectation (number of two-sided bins above the cutoff)/(T − 1), about 1 − cutoff.

    Args:
        actions: ``(T, channels)`` or ``(T,)``, in the environment's action units. Channels of different units
            should be scaled to a common one first.
        cutoff: f_c as a fraction of the Nyquist frequency (half a cycle per step), in [0, 1). A frequency of
            h Hz at dt seconds per step is 2·h·dt. Bins exactly at f_c do not count as above.

    Returns:
        A number in [0, 1] without unit. ``0.0`` for an action that does not change (up to float64 rounding);
        ``nan`` if T = 1, where nothing could change.

    Raises:
        ValueError: if ``actions`` has another shape or an entry that is not finite, or for a cutoff outside
            [0, 1).

    Example:
        >>> import numpy as np
        >>> from lipsrl.metrics import high_frequency_ratio
        >>> time = np.arange(100) / 100
        >>> slow, fast = np.sin(2 * np.pi * 3 * time), np.sin(2 * np.pi * 40 * time)
        >>> round(high_frequency_ratio(2 * slow + fast), 6)
        0.2
    """
    rows = as_rows("actions", actions)
    if not 0 <= cutoff < 1:
        raise ValueError(
            f"cutoff must be a fraction of the Nyquist frequency in [0, 1), received {cutoff!r}."
        )
    n = len(rows)
    if n < 2:
        return float("nan")
    centred = rows - rows.mean(axis=0)
    # what is left of a constant after its mean is removed is rounding, and a ratio of roundings says nothing
    if np.abs(centred).max() <= 8 * np.finfo(np.float64).eps * np.abs(rows).max():
        return 0.0
    # scaled first, so that neither tiny nor huge actions leave the range of float64 when squared
    power = (np.abs(np.fft.rfft(centred / np.abs(centred).max(), axis=0)) ** 2).sum(axis=1)
    power[1 : (n + 1) // 2] *= 2  # these bins stand for ±f; the mean and, for even T, Nyquist are single
    bins = np.arange(len(power))
    # 2k > cutoff·T, with a margin for the rounding of a cutoff such as 0.1
    above = 2 * bins > cutoff * n * (1 + 1e-12)
    return float(power[above & (bins > 0)].sum() / power[1:].sum())
