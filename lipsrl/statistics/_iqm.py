from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lipsrl.statistics._types import Array


def iqm(values: ArrayLike, axis: int | None = None) -> Array:
    """Interquartile mean: the mean of what is left when a quarter is cut off at each end.

    ``floor(n/4)`` values are cut at each end, as by ``scipy.stats.trim_mean(values, 0.25)``; with n < 4 it is
    the mean. Robust like the median, but it uses half of the data instead of one or two points.

    Args:
        values: any shape, at least one entry along ``axis``.
        axis: the axis to reduce; None flattens.

    Returns:
        ``values`` without that axis (a NumPy scalar for None). ``nan`` in, ``nan`` out.

    Raises:
        ValueError: if there is nothing along the axis.

    Source:
        Agarwal et al. (NeurIPS 2021), section 4.3.

    Example:
        >>> from lipsrl.statistics import iqm
        >>> float(iqm([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1000.0]))
        3.5
    """
    array = np.asarray(values, dtype=np.float64)
    if axis is None:
        array, axis = array.reshape(-1), 0
    n = array.shape[axis]
    if n == 0:
        raise ValueError(
            f"values must hold at least one value along axis {axis}, received shape {np.shape(values)}."
        )
    cut = n // 4
    # sorting puts nan last, where it would be cut off unseen
    middle = np.moveaxis(np.sort(array, axis=axis), axis, -1)
    result = np.asarray(middle[..., cut : n - cut].mean(axis=-1))
    return np.where(np.isnan(middle[..., -1]), np.nan, result)[()]
