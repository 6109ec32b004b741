"""Numbers of a whole return curve: what survives, and where it breaks down."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lipsrl.evaluation._summary import spread
from lipsrl.evaluation._units import interval_or_nan, resampling, seeds_of
from lipsrl.metrics import breakdown_strength, normalized_auc
from lipsrl.statistics import Statistic, bootstrap_rows_ci


def curve_numbers(
    frame: pd.DataFrame, floor: float, *, confidence: float, n_resamples: int, seed: int
) -> pd.DataFrame:
    """See `Evaluation.normalized_auc`."""
    lines: list[dict[str, Any]] = []
    for (agent, disturbance), rows in frame.groupby(["agent", "disturbance"], sort=False):
        n_seeds = seeds_of(rows)
        what, statistic = resampling(n_seeds)
        broken = (rows["nonfinite"] != "").any()
        curves = rows.pivot_table(
            index="seed" if what == "seeds" else "episode",
            columns="strength",
            values="return",
            aggfunc="mean",
            dropna=False,
        ).sort_index(axis=1)
        if not broken and curves.isna().any(axis=None):
            raise ValueError(
                f"{agent!r} under {disturbance!r} does not have every strength for each of its {what}: "
                "evaluate what is missing, or leave those rows out."
            )
        strengths = curves.columns.to_numpy(dtype=np.float64)
        line: dict[str, Any] = {
            "agent": agent,
            "disturbance": disturbance,
            "n_seeds": n_seeds,
            "resampled": what,
            "floor": floor,
        }
        for number in (normalized_auc, breakdown_strength):
            of_curves = functools.partial(_of_curves, number, strengths, statistic, floor)
            values = np.full((1, 1), np.nan) if broken else curves.to_numpy(dtype=np.float64)
            interval = functools.partial(
                bootstrap_rows_ci,
                values,
                of_curves,
                confidence=confidence,
                n_resamples=n_resamples,
                seed=seed,
            )
            line |= spread(number.__name__, interval_or_nan(values, interval))
        lines.append(line)
    return pd.DataFrame(lines)


def _of_curves(
    number: Callable[..., NDArray[np.float64]],
    strengths: NDArray[np.float64],
    statistic: Statistic,
    floor: float,
    samples: NDArray[np.float64],
) -> NDArray[np.float64]:
    """``(resamples, units, strengths)`` to the number of each resample's curve."""
    return number(strengths, statistic(samples, axis=1), floor=floor)
