"""What the environment received in one episode: over time, and over frequency."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from lipsrl.metrics import action_fluctuation
from lipsrl.reporting.charts.figure import Axis, Plot, Series
from lipsrl.reporting.figures.curves import Styles
from lipsrl.reporting.numbers import number
from lipsrl.reporting.style import agent_styles

Traces = Mapping[str, Mapping[str, Any]]
#: steps that are drawn: more cannot be told apart in a panel
STEPS = 500


def action_trace(traces: Traces, *, dimension: int = 0, styles: Styles | None = None) -> list[Plot]:
    """One action channel of each agent over an episode, one panel per agent, on shared axes.

    Args:
        traces: agent → what `lipsrl.evaluation.rollout_trace` returns; ``"actions"`` (T, act) or (T,) is
            needed; ``"time"`` (T,), ``"return"``, ``"rewards"``, ``"action_fluctuation"`` are used if given.
        dimension: the action channel, from 0.
        styles: look per agent.

    Returns:
        One panel per agent, its first 500 steps. The heading gives the episode's return and its mean |Δa| over all
        channels.

    Raises:
        ValueError: no traces, a trace without actions, or a channel that an agent does not have.
    """
    looks = styles or agent_styles(traces)
    channels = {agent: _channel(agent, trace, dimension) for agent, trace in _some(traces).items()}
    shown = np.concatenate([values[:STEPS] for values in channels.values()])
    finite = shown[np.isfinite(shown)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    room = 0.06 * (high - low) or 1.0
    several = any(_actions(agent, trace).shape[1] > 1 for agent, trace in traces.items())
    y = Axis(
        f"action {dimension + 1} (env. units)" if several else "action (env. units)",
        limits=(low - room, high + room),
    )
    plots = []
    for agent, values in channels.items():
        trace = traces[agent]
        drawn = Series(
            agent, looks[agent], _time(trace, len(values))[:STEPS], values[:STEPS], join="held", markers=False
        )
        plots.append(Plot(Axis(_time_title(trace)), y, [drawn], heading=_heading(agent, trace)))
    return plots


def action_spectrum(traces: Traces, *, dimension: int = 0, styles: Styles | None = None) -> Plot:
    """Power spectral density of one action channel of each agent (Welch, segments of 64 steps, mean removed).

    Args, Raises: as `action_trace`.
    """
    looks = styles or agent_styles(traces)
    step = _step(next(iter(_some(traces).values())))
    series, largest = [], 0.0
    for agent, trace in traces.items():
        values = _channel(agent, trace, dimension)
        values = values[np.isfinite(values)]
        if len(values) < 8:
            continue
        frequency, power = signal.welch(
            values, fs=1.0 / step, nperseg=min(64, len(values)), detrend="constant"
        )
        largest = max(largest, float(power.max()))
        series.append(Series(agent, looks[agent], frequency[1:], power[1:], markers=False))
    # rounding of float32 actions is no power
    least = largest * 1e-9 or 1.0
    clipped = [Series(s.label, s.look, s.x, np.maximum(s.y, least), markers=False) for s in series]
    hertz = _time_title(next(iter(traces.values()))) == "time (s)"
    return Plot(
        Axis("frequency (Hz)" if hertz else "frequency (cycles per step)", zero=True),
        Axis(f"power density of the action (env. units² per {'Hz' if hertz else 'cycle per step'})", "log"),
        clipped,
    )


def _some(traces: Traces) -> Traces:
    if not traces:
        raise ValueError("traces must hold at least one agent's episode, received none.")
    return traces


def _channel(agent: str, trace: Mapping[str, Any], dimension: int) -> NDArray[np.float64]:
    actions = _actions(agent, trace)
    if not 0 <= dimension < actions.shape[1]:
        raise ValueError(
            f"dimension must be in 0..{actions.shape[1] - 1}, the action channels of {agent!r}, received {dimension!r}."
        )
    return actions[:, dimension]


def _actions(agent: str, trace: Mapping[str, Any]) -> NDArray[np.float64]:
    actions = np.asarray(trace.get("actions", ()), dtype=np.float64)
    if actions.size == 0:
        raise ValueError(f"the trace of {agent!r} must hold 'actions' (T, act) or (T,), received none.")
    return actions.reshape(len(actions), -1)


def _time(trace: Mapping[str, Any], steps: int) -> NDArray[np.float64]:
    return (
        np.asarray(trace["time"], dtype=np.float64) if "time" in trace else np.arange(steps, dtype=np.float64)
    )


def _step(trace: Mapping[str, Any]) -> float:
    times = _time(trace, 2)
    return float(times[1] - times[0]) if len(times) > 1 else 1.0


def _time_title(trace: Mapping[str, Any]) -> str:
    # rollout_trace counts steps where the environment states no dt
    return "time (steps)" if math.isclose(_step(trace), 1.0) else "time (s)"


def _heading(agent: str, trace: Mapping[str, Any]) -> str:
    earned = trace.get("return", np.sum(trace["rewards"]) if "rewards" in trace else None)
    chatter = trace.get("action_fluctuation")
    if chatter is None:
        chatter = action_fluctuation(_actions(agent, trace))
    parts = [agent]
    if earned is not None:
        parts.append(f"return {number(float(earned))}")
    parts.append(f"mean |Δa| {number(float(chatter))} per step")
    return ", ".join(parts)
