"""Return and chatter against the strength of a disturbance."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lipsrl._validation import lookup
from lipsrl.evaluation import Evaluation
from lipsrl.reporting.charts.figure import Axis, Level, Plot, Series
from lipsrl.reporting.numbers import interval, number
from lipsrl.reporting.style import AgentStyle, agent_styles
from lipsrl.reporting.wording import ANY_STRENGTH

Styles = Mapping[str, AgentStyle]
RETURN = "return (sum of rewards per episode)"
FLUCTUATION = "chatter, mean |Δa| (action units per step)"


def return_under_noise(
    frame: pd.DataFrame,
    *,
    disturbance: str | None = None,
    floor: float | None = None,
    strength_title: str = ANY_STRENGTH,
    styles: Styles | None = None,
) -> Plot:
    """Return against the strength of a disturbance, one line with a 95 % band per agent.

    Lines and bands are those of `Evaluation.summary` with its defaults: IQM over training seeds where there
    are several, else the mean over episodes.

    Args:
        frame: an evaluation's table.
        disturbance: which; may be left out where the table has only one.
        floor: a return to draw as a dotted line, such as the random policy's.
        strength_title: title of the horizontal axis, with its unit.
        styles: look per agent; None gives each its own in the order of the table.

    Raises:
        ValueError: a frame that is no evaluation's, or an unknown or ambiguous disturbance.

    Example:
        >>> from lipsrl.evaluation import evaluate
        >>> from lipsrl.reporting.figures import return_under_noise
        >>> rest = evaluate({"rest": lambda o: 0 * o[:, :1]}, "Pendulum-v1", n_episodes=2)
        >>> [series.label for series in return_under_noise(rest.frame).series]
        ['rest']
    """
    levels = [] if floor is None else [Level(float(floor), "floor: random actions")]
    series = _curves(frame, "return", disturbance, styles)
    return Plot(Axis(strength_title, zero=True), Axis(RETURN), series, levels)


def fluctuation_under_noise(
    frame: pd.DataFrame,
    *,
    disturbance: str | None = None,
    strength_title: str = ANY_STRENGTH,
    styles: Styles | None = None,
) -> Plot:
    """Action fluctuation (chatter) against the strength of a disturbance; see `return_under_noise`."""
    series = _curves(frame, "action_fluctuation", disturbance, styles)
    return Plot(Axis(strength_title, zero=True), Axis(FLUCTUATION, zero=True), series)


def _curves(frame: pd.DataFrame, column: str, disturbance: str | None, styles: Styles | None) -> list[Series]:
    chosen = _choose(disturbance, list(map(str, frame["disturbance"].unique())))
    summary = Evaluation(frame[frame["disturbance"] == chosen]).summary([column])
    looks = styles or agent_styles(map(str, frame["agent"].unique()))
    found = []
    for agent, rows in summary.groupby("agent", sort=False):
        curve = rows.sort_values("strength")
        x, y, low, high = (
            curve[c].to_numpy(dtype="float64")
            for c in ("strength", column, f"{column}_low", f"{column}_high")
        )
        said = [f"{number(a)} {interval(b, c)}" for a, b, c in zip(y, low, high, strict=True)]
        found.append(Series(str(agent), looks[str(agent)], x, y, low, high, said=said))
    return found


def _choose(disturbance: str | None, present: list[str]) -> str:
    if disturbance is not None:
        return lookup("disturbance", disturbance, {name: name for name in present})
    if len(present) != 1:
        raise ValueError(
            f"the table holds {len(present)} disturbances: say which with disturbance=. "
            f"Accepted: {', '.join(map(repr, present))}."
        )
    return present[0]
