"""What was learned while training: return, chatter and slope over environment steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lipsrl.reporting.charts.figure import Array, Axis, Plot, Series
from lipsrl.reporting.figures.curves import Styles
from lipsrl.reporting.numbers import number

STEP = "time/total_timesteps"
#: key of SB3's log → title of its axis
CURVES = {
    "rollout/ep_rew_mean": "return in training, with exploration (mean of the last 100 episodes)",
    "smoothness/action_fluctuation": "chatter of the mean action, |Δμ| (action units per step)",
    "smoothness/max_sensitivity": "steepest slope found on visited states (action units per unit the policy receives)",
}
_POINTS = 120


def learning_plots(learning: Mapping[str, Sequence[pd.DataFrame]], styles: Styles) -> list[Plot]:
    """One panel per curve that somebody has: the mean over an agent's training runs, and their range as a band.

    Args:
        learning: agent → the table of each training run, with the columns of SB3's ``progress.csv``.
        styles: look per agent.
    """
    plots = []
    for key, title in CURVES.items():
        series = []
        for agent, runs in learning.items():
            curves = [curve for run in runs if (curve := _curve(run, key)) is not None]
            if curves:
                series.append(_series(agent, styles, curves))
        if series:
            plots.append(Plot(Axis("environment steps (thousands)", zero=True), Axis(title), series))
    return plots


def _curve(run: pd.DataFrame, key: str) -> tuple[Array, Array] | None:
    if STEP not in run.columns or key not in run.columns:
        return None
    both = run[[STEP, key]].apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan).dropna()
    both = both.drop_duplicates(STEP, keep="last").sort_values(STEP)
    if len(both) < 2:
        return None
    return both[STEP].to_numpy(dtype=np.float64), both[key].to_numpy(dtype=np.float64)


def _series(agent: str, styles: Styles, curves: list[tuple[Array, Array]]) -> Series:
    # only where all runs have been: a mean must not jump where one ends
    start, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.linspace(start, max(end, start), _POINTS)
    if len(curves) == 1 and len(curves[0][0]) <= _POINTS:
        grid = curves[0][0]
    values = np.stack([np.interp(grid, x, y) for x, y in curves])
    low, high = (values.min(axis=0), values.max(axis=0)) if len(curves) > 1 else (None, None)
    mean = values.mean(axis=0)
    return Series(
        agent, styles[agent], grid / 1e3, mean, low, high, markers=False, said=[number(v) for v in mean]
    )
