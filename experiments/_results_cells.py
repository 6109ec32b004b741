"""The cells of the tables of docs/results.md: estimates with intervals, bounds, tightness."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from experiments._study import Run
from lipsrl.reporting.numbers import MISSING, decimals, interval, number
from lipsrl.statistics import Interval, bootstrap_ci, iqm


def values_cell(found: dict[int, float]) -> str:
    """:func:`cell` of one number per seed."""
    return cell(list(found.values()))


def cell(values: Sequence[float]) -> str:
    """IQM with its interval; in words, where some are not finite."""
    if not values:
        return MISSING
    broken = sum(not math.isfinite(value) for value in values)
    if broken:
        return f"not finite in {broken} of {len(values)} runs"
    if len(values) == 1:
        return number(values[0])
    return estimate_cell(bootstrap_ci(np.asarray(values), iqm))


def estimate_cell(found: Interval | None, places: int | None = None) -> str:
    """The same decimals for all three numbers."""
    if found is None:
        return MISSING
    if places is None:
        places = decimals(max(map(abs, found)))
    return f"{number(found.estimate, places)} {interval(found.low, found.high, places)}".rstrip()


def bounds_cell(runs: Sequence[Run]) -> str:
    """Certified bounds, and those of the newest frame where runs have a window."""
    return _median([run.upper_bound for run in runs]) + (
        f" (newest {_median([run.newest for run in runs])})" if any(run.newest for run in runs) else ""
    )


def _median(values: Sequence[float | None]) -> str:
    """Median and range of upper bounds, rounded up."""
    known = [value for value in values if value is not None]
    if not known:
        return MISSING
    # the upper of two middles: it is a bound of half of the runs
    middle, low, high = sorted(known)[len(known) // 2], min(known), max(known)
    said = [number(value, rounding="up") for value in (middle, low, high)]
    return said[0] if len(known) == 1 else f"{said[0]}, {said[1]} to {said[2]}"


def whole_tightness(run: Run) -> float | None:
    """The steepest pair that was found over the certified bound, raw units."""
    if run.upper_bound is None or run.lower_bound is None or run.upper_bound == 0:
        return None
    return run.lower_bound / run.upper_bound


def tightness_cell(runs: Sequence[Run], of: Callable[[Run], float | None]) -> str:
    """IQM, in percent."""
    known = [value for value in map(of, runs) if value is not None]
    return f"{float(iqm(known)):.0%}" if known else MISSING
