"""The return under the worst of several attacks, over their radius."""

from __future__ import annotations

import pandas as pd

from lipsrl.attacks import minimum_rows
from lipsrl.evaluation import Evaluation
from lipsrl.reporting.charts.figure import Axis, Level, Plot, Series
from lipsrl.reporting.figures.curves import RETURN, Styles
from lipsrl.reporting.numbers import interval, number

MINIMUM = "minimum"


def worst_case(attacks: Evaluation) -> pd.DataFrame:
    """`Evaluation.summary` of the returns under the attack that costs each model most, and without any at radius 0."""
    frame = attacks.frame
    names = list(map(str, frame["disturbance"].unique()))
    clean = frame[(frame["strength"] == 0.0) & (frame["disturbance"] == names[0])]
    rows = pd.concat([clean.assign(disturbance=MINIMUM), minimum_rows(frame, names, name=MINIMUM)])
    return Evaluation(rows.drop_duplicates(["agent", "seed", "strength", "episode"])).summary(["return"])


def worst_case_plot(attacks: Evaluation, styles: Styles, *, ball: str, floor: float | None = None) -> Plot:
    """Return against the radius of the ball that the attacks stay in, one line with a 95 % band per agent.

    Args:
        attacks: an evaluation whose disturbances are attacks of radius 1.
        styles: look per agent.
        ball: norm and units of the radius, for the axis.
        floor: drawn as a dotted line.
    """
    series = []
    for agent, rows in worst_case(attacks).groupby("agent", sort=False):
        curve = rows.sort_values("strength")
        x, y, low, high = (
            curve[c].to_numpy(dtype="float64") for c in ("strength", "return", "return_low", "return_high")
        )
        said = [f"{number(a)} {interval(b, c)}" for a, b, c in zip(y, low, high, strict=True)]
        series.append(Series(str(agent), styles[str(agent)], x, y, low, high, said=said))
    levels = [] if floor is None else [Level(float(floor), "floor: random actions")]
    return Plot(
        Axis(f"radius ε of the attack ({ball})", zero=True),
        Axis(f"{RETURN} under the worst attack"),
        series,
        levels,
    )
