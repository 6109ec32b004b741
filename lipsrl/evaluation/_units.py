"""What is resampled: training seeds where there are several, else the episodes of the one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lipsrl._validation import unknown_name
from lipsrl.evaluation._schema import MEASURES
from lipsrl.statistics import Interval, Statistic, iqm

Resampled = Literal["seeds", "episodes"]


def check_column(column: str) -> str:
    """``column`` if it is measured; otherwise ``ValueError``."""
    if column not in MEASURES:
        raise unknown_name("column", column, MEASURES)
    return column


def seeds_of(rows: pd.DataFrame) -> int:
    """Number of training seeds; an unknown one counts as a seed."""
    return int(rows["seed"].nunique(dropna=False))


def resampling(n_seeds: int) -> tuple[Resampled, Statistic]:
    """What is resampled, and the statistic over it."""
    if n_seeds > 1:
        return "seeds", iqm
    return "episodes", _mean


def per_unit(rows: pd.DataFrame, columns: list[str], what: Resampled) -> NDArray[np.float64]:
    """``(units, columns)``: the mean of each seed over its episodes, or the episodes as they are.

    Units that lack a value in some column are left out. One row of ``nan`` where an episode was not finite.
    """
    if (rows["nonfinite"] != "").any():
        # reported, not averaged away: a mean over what is left would be of the episodes that went well
        return np.full((1, len(columns)), np.nan)
    values = (
        rows.groupby("seed", dropna=False, sort=True)[columns].mean() if what == "seeds" else rows[columns]
    )
    return values.dropna().to_numpy(dtype=np.float64)


def interval_or_nan(values: NDArray[np.float64], interval: Callable[[], Interval]) -> Interval:
    """``interval()``, or ``nan`` three times where there are no values, or values that are not finite."""
    if not values.size or not np.isfinite(values).all():
        return Interval(float("nan"), float("nan"), float("nan"))
    return interval()


def _mean(values: NDArray[np.float64], /, *, axis: int) -> NDArray[np.float64]:
    return np.asarray(np.mean(values, axis=axis))
