"""The whole distribution of returns: the share of runs above each return."""

from __future__ import annotations

import numpy as np

from lipsrl.evaluation import Evaluation
from lipsrl.reporting.charts.figure import Array, Axis, Plot, Series
from lipsrl.reporting.context import agents_of
from lipsrl.reporting.figures.curves import RETURN, Styles
from lipsrl.statistics import performance_profile

_THRESHOLDS = 80


def run_returns(evaluation: Evaluation, disturbance: str, strength: float) -> dict[str, Array]:
    """Agent → ``(runs,)``: the mean return of each training seed, or of one model its episodes; finite ones only."""
    frame = evaluation.frame
    here = frame[(frame["disturbance"] == disturbance) & (frame["strength"] == strength)]
    found = {}
    for agent in agents_of(evaluation):
        rows = here[here["agent"] == agent]
        seeds = rows.groupby("seed", dropna=False, sort=True)["return"].mean()
        values = (seeds if len(seeds) > 1 else rows["return"]).to_numpy(dtype=np.float64)
        if np.isfinite(values).all() and len(values):  # of what was not finite nothing is averaged away
            found[agent] = values
    return found


def return_profile(runs: dict[str, Array], styles: Styles, heading: str) -> Plot | None:
    """`performance_profile` of each agent with its 95 % band; None where nobody has two runs.

    Args:
        runs: as `run_returns` gives them.
        styles: look per agent.
        heading: under what they were measured.
    """
    several = {agent: values for agent, values in runs.items() if len(values) > 1}
    if not several:
        return None
    together = np.concatenate(list(several.values()))
    low, high = float(together.min()), float(together.max())
    room = 0.02 * (high - low) or 1.0
    grid = np.linspace(low - room, high + room, _THRESHOLDS)
    series = []
    for agent, values in several.items():
        profile = performance_profile(values, grid)
        series.append(
            Series(
                agent,
                styles[agent],
                grid,
                profile.share,
                profile.low,
                profile.high,
                join="held",
                markers=False,
            )
        )
    return Plot(
        Axis(RETURN), Axis("share of runs that earn more", limits=(0.0, 1.0)), series, heading=heading
    )
