"""Reading the arrays that the metrics are given."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def as_rows(argument: str, values: ArrayLike) -> NDArray[np.float64]:
    """``values`` as finite float64 ``(T, channels)``; ``(T,)`` becomes one channel.

    Raises:
        ValueError: for another number of axes, no rows, no channels, or an entry that is not finite.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim == 1:
        rows = rows[:, np.newaxis]
    if rows.ndim != 2 or rows.size == 0:
        raise ValueError(
            f"{argument} must have shape (T,) or (T, channels) with at least one row and one channel, "
            f"received shape {np.shape(values)}."
        )
    if not np.isfinite(rows).all():
        row, channel = np.argwhere(~np.isfinite(rows))[0]
        raise ValueError(
            f"{argument} must be finite, received {rows[row, channel]} in row {row}, channel {channel}."
        )
    return rows


def as_curve(
    strengths: ArrayLike, returns: ArrayLike, floor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A return curve: strengths ``(S,)`` rising from 0, and returns ``(..., S)`` measured from ``floor``.

    Raises:
        ValueError: for fewer than two strengths, strengths that do not start at 0 or do not rise, another
            length of ``returns``, or a floor that is not finite.
    """
    grid = np.asarray(strengths, dtype=np.float64)
    above = np.asarray(returns, dtype=np.float64)
    if grid.ndim != 1 or grid.size < 2 or grid[0] != 0 or not (np.diff(grid) > 0).all():
        raise ValueError(
            "strengths must be a one-dimensional array of at least two values that starts at 0 and rises "
            f"strictly, received {np.array2string(grid, threshold=10)}. "
            "Sort them, and measure strength 0 too."
        )
    if above.ndim == 0 or above.shape[-1] != grid.size:
        raise ValueError(
            f"returns must have one value per strength on its last axis ({grid.size}), "
            f"received shape {above.shape}."
        )
    if not np.isfinite(floor):
        raise ValueError(
            f"floor must be a finite return, such as that of a random policy on the task, received {floor!r}."
        )
    return grid, above - floor
