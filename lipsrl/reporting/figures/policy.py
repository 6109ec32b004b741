"""The policy itself: which sensor moves the action, and what it does over a plane of observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lipsrl.reporting.charts.figure import Array, Axis, Heat, Plot, Series
from lipsrl.reporting.charts.heat import spread
from lipsrl.reporting.figures.curves import Styles
from lipsrl.reporting.numbers import number
from lipsrl.reporting.portrait import Portrait, trajectory
from lipsrl.reporting.style import AgentStyle


def sensor_plot(
    measured: Mapping[str, Sequence[float]],
    bounds: Mapping[str, Sequence[float]],
    sensors: Sequence[str],
    styles: Styles,
) -> Plot | None:
    """Per sensor and agent the measured sensitivity (filled) and the proven bound (hollow); None without any.

    Args:
        measured: agent → ``(sensors,)`` mean slope along each sensor, action units per raw unit of the sensor.
        bounds: agent → ``(sensors,)`` proven bound of the same.
        sensors: their names and units; numbered where they do not fit.
        styles: look per agent.
    """
    agents = list(dict.fromkeys([*measured, *bounds]))
    rows = max((len(v) for v in [*measured.values(), *bounds.values()]), default=0)
    if not rows or rows > 40:
        return None
    names = list(sensors) if len(sensors) == rows else [f"sensor {i + 1}" for i in range(rows)]
    # the first sensor on top, and in its row the first agent
    step = 0.7 / max(len(agents), 1)
    series = []
    for i, agent in enumerate(agents):
        shift = 0.35 - step * (i + 0.5)
        at = np.arange(rows - 1, -1, -1, dtype=np.float64) + shift
        for values, hollow, word in (
            (bounds.get(agent), True, "proven ≤"),
            (measured.get(agent), False, "measured"),
        ):
            if values is not None and len(values) == rows:
                x = np.asarray(values, dtype=np.float64)
                way = "up" if hollow else "nearest"
                said = [f"{n}, {word} {number(v, rounding=way)}" for n, v in zip(names, x, strict=True)]  # type: ignore[arg-type]
                series.append(Series(agent, styles[agent], x, at, join="none", hollow=hollow, said=said))
    ticks = {float(rows - 1 - i): name for i, name in enumerate(names)}
    return Plot(
        Axis("action units per raw unit of the sensor", zero=True),
        Axis("sensor", ticks=ticks, limits=(-0.6, rows - 0.4)),
        series,
    )


def portrait_plots(
    portraits: Mapping[str, Portrait],
    traces: Mapping[str, Mapping[str, Any]],
    env_id: str | None,
    env_kwargs: Mapping[str, Any] | None = None,
) -> list[Plot]:
    """Two panels per agent, its action and its slope, on shared colours; the recorded episode as a line over them."""
    if not portraits:
        return []
    actions, slopes = ([getattr(p, what) for p in portraits.values()] for what in ("action", "slope"))
    reach = max(abs(v) for v in spread(np.concatenate([a.ravel() for a in actions])))
    steep = spread(np.concatenate([s.ravel() for s in slopes]))[1]
    plots = []
    for agent, portrait in portraits.items():
        path = _path(agent, traces.get(agent), env_id, env_kwargs)
        largest = spread(portrait.slope)[1]
        for values, word, limits, diverging in (
            (portrait.action, "action (env. units)", (-reach, reach), True),
            (
                portrait.slope,
                f"slope, up to {number(largest)} (action units per raw unit)",
                (0.0, steep or 1.0),
                False,
            ),
        ):
            heat = Heat(values, portrait.x, portrait.y, word, limits, diverging)
            x, y = Axis(portrait.x_title), Axis(portrait.y_title)
            plots.append(Plot(x, y, path, heat=heat, heading=f"{agent}: {word}"))
    return plots


def _path(
    agent: str, trace: Mapping[str, Any] | None, env_id: str | None, env_kwargs: Mapping[str, Any] | None
) -> list[Series]:
    if trace is None or env_id is None or "observations" not in trace:
        return []
    found = trajectory(trace["observations"], env_id, env_kwargs)
    if found is None:
        return []
    x, y = found
    # an angle that goes round leaves at one side and comes in at the other: no line across
    jumps = np.flatnonzero(np.abs(np.diff(x)) > np.pi) + 1
    x, y = (_cut(values, jumps) for values in (x, y))
    return [Series(agent, AgentStyle("#3a3a3a", "solid", "circle"), x, y, markers=False)]


def _cut(values: Array, at: Any) -> Array:
    return np.insert(np.asarray(values, dtype=np.float64), at, np.nan)
