"""From episodes to one row per agent, disturbance and strength."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lipsrl.evaluation._units import check_column, interval_or_nan, per_unit, resampling, seeds_of
from lipsrl.statistics import Interval, bootstrap_ci

#: the columns that `Evaluation.summary` gives if not told otherwise
SUMMARIZED = ("return", "action_fluctuation", "action_sensitivity")


def spread(name: str, interval: Interval) -> dict[str, float]:
    """An interval as the three columns ``name, name_low, name_high``."""
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def summarize(
    frame: pd.DataFrame, columns: Sequence[str], *, confidence: float, n_resamples: int, seed: int
) -> pd.DataFrame:
    """See `Evaluation.summary`."""
    names = [check_column(c) for c in ([columns] if isinstance(columns, str) else columns)]
    summary: list[dict[str, Any]] = []
    for (agent, disturbance, strength), rows in frame.groupby(
        ["agent", "disturbance", "strength"], sort=False
    ):
        n_seeds = seeds_of(rows)
        what, statistic = resampling(n_seeds)
        line: dict[str, Any] = {
            "agent": agent,
            "disturbance": disturbance,
            "strength": strength,
            "n_seeds": n_seeds,
            "n_episodes": len(rows),
            "n_nonfinite": int((rows["nonfinite"] != "").sum()),
            "resampled": what,
        }
        for name in names:
            values = per_unit(rows, [name], what)[:, 0]
            interval = functools.partial(
                bootstrap_ci, values, statistic, confidence=confidence, n_resamples=n_resamples, seed=seed
            )
            line |= spread(name, interval_or_nan(values, interval))
        summary.append(line)
    return pd.DataFrame(summary)
