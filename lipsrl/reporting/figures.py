"""The report's figures, each a pure function of the evaluation's table (or of recorded episodes)."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lipsrl._validation import lookup
from lipsrl.evaluation import Evaluation
from lipsrl.metrics import action_fluctuation
from lipsrl.reporting.numbers import number
from lipsrl.reporting.style import AgentStyle, agent_styles, axis, base_layout
from lipsrl.reporting.wording import ANY_STRENGTH

Styles = Mapping[str, AgentStyle]


def return_under_noise(
    frame: pd.DataFrame,
    *,
    disturbance: str | None = None,
    floor: float | None = None,
    strength_title: str = ANY_STRENGTH,
    styles: Styles | None = None,
) -> go.Figure:
    """Return against the strength of a disturbance, one line with a 95 % band per agent.

    Lines and bands are those of `Evaluation.summary` with its defaults: IQM over training seeds where there
    are several, else the mean over episodes.

    Args:
        frame: an evaluation's table.
        disturbance: which; may be left out where the table has only one.
        floor: a return to draw as a dotted line, such as the random policy's.
        strength_title: title of the horizontal axis, with its unit.
        styles: look per agent; None gives each its own in the order of the table.

    Returns:
        Per agent two traces, the band (upper edge, then back along the lower one) and the line.

    Raises:
        ValueError: a frame that is no evaluation's, or an unknown or ambiguous disturbance.

    Example:
        >>> from lipsrl.evaluation import evaluate
        >>> from lipsrl.reporting.figures import return_under_noise
        >>> rest = evaluate({"rest": lambda o: 0 * o[:, :1]}, "Pendulum-v1", n_episodes=2)
        >>> [trace.name for trace in return_under_noise(rest.frame).data]
        ['rest', 'rest']
    """
    figure = _curves(frame, "return", disturbance, styles)
    if floor is not None:
        reach = [0.0, max(float(x) for trace in figure.data for x in trace.x)]
        figure.add_scatter(
            name="floor",
            x=reach,
            y=[float(floor)] * 2,
            mode="lines+text",
            text=["", "floor"],
            textposition="top left",
            line={"color": "#868686", "width": 1.5, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
    figure.update_xaxes(axis(strength_title, rangemode="tozero"))
    figure.update_yaxes(axis("return (sum of rewards per episode)"))
    return figure


def fluctuation_under_noise(
    frame: pd.DataFrame,
    *,
    disturbance: str | None = None,
    strength_title: str = ANY_STRENGTH,
    styles: Styles | None = None,
) -> go.Figure:
    """Action fluctuation (chatter) against the strength of a disturbance; see `return_under_noise`."""
    figure = _curves(frame, "action_fluctuation", disturbance, styles)
    figure.update_xaxes(axis(strength_title, rangemode="tozero"))
    figure.update_yaxes(axis("mean |Δa| (action units per step)", rangemode="tozero"))
    return figure


def action_trace(
    traces: Mapping[str, Mapping[str, Any]], *, dimension: int = 0, styles: Styles | None = None
) -> go.Figure:
    """One action channel of each agent over an episode, one panel per agent, on shared axes.

    Args:
        traces: agent → what `lipsrl.evaluation.rollout_trace` returns; ``"actions"`` (T, act) or (T,) is
            needed; ``"time"`` (T,), ``"return"``, ``"rewards"``, ``"action_fluctuation"`` are used if given.
        dimension: the action channel, from 0.
        styles: look per agent.

    Returns:
        One trace per agent. The panel's title gives the episode's return and its mean |Δa| over all channels.

    Raises:
        ValueError: no traces, a trace without actions, or a channel that an agent does not have.
    """
    if not traces:
        raise ValueError("traces must hold at least one agent's episode, received none.")
    looks = styles or agent_styles(traces)
    figure = make_subplots(
        rows=len(traces),
        shared_xaxes=True,
        shared_yaxes="all",
        vertical_spacing=min(0.16, 0.5 / len(traces)),
        subplot_titles=[_trace_title(agent, trace) for agent, trace in traces.items()],
    )
    for row, (agent, trace) in enumerate(traces.items(), start=1):
        actions = _actions(agent, trace)
        if not 0 <= dimension < actions.shape[1]:
            raise ValueError(
                f"dimension must be in 0..{actions.shape[1] - 1}, the action channels of {agent!r}, "
                f"received {dimension!r}."
            )
        figure.add_trace(
            go.Scatter(
                x=_time(trace, len(actions)),
                y=actions[:, dimension],
                name=html.escape(agent),
                mode="lines",
                # the environment holds an action until the next step
                line={"color": looks[agent].color, "width": 1.4, "shape": "hv"},
                showlegend=False,
                hovertemplate="%{y:.3f}",
            ),
            row=row,
            col=1,
        )
        channel = f" {dimension + 1}" if actions.shape[1] > 1 else ""
        figure.update_yaxes(axis(f"action{channel} (env. units)"), row=row, col=1)
    figure.update_xaxes(axis(""))
    figure.update_xaxes(axis(_time_title(next(iter(traces.values())))), row=len(traces), col=1)
    figure.update_annotations(x=0, xanchor="left", font={"size": 13})
    figure.update_layout(base_layout(height=90 + 180 * len(traces)))
    return figure


def _curves(frame: pd.DataFrame, column: str, disturbance: str | None, styles: Styles | None) -> go.Figure:
    summary = Evaluation(frame).summary([column])
    chosen = _choose(disturbance, list(summary["disturbance"].unique()))
    looks = styles or agent_styles(map(str, summary["agent"].unique()))
    figure = go.Figure(layout=base_layout())
    here = summary[summary["disturbance"] == chosen]
    for agent, rows in here.groupby("agent", sort=False):
        name = str(agent)
        curve, look = rows.sort_values("strength"), looks[name]
        x, y = curve["strength"].to_numpy(), curve[column].to_numpy()
        low, high = curve[f"{column}_low"].to_numpy(), curve[f"{column}_high"].to_numpy()
        shared = {"name": html.escape(name), "legendgroup": html.escape(name)}
        figure.add_scatter(
            **shared,
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=look.band,
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            **shared,
            x=x,
            y=y,
            mode="lines+markers",
            line={"color": look.color, "dash": look.dash, "width": 2},
            marker={"symbol": look.marker, "size": 8, "color": look.color},
            cliponaxis=False,
            customdata=[[number(a), number(b), number(c)] for a, b, c in zip(y, low, high, strict=True)],
            hovertemplate="%{customdata[0]}  [%{customdata[1]}, %{customdata[2]}]",
        )
    return figure


def _choose(disturbance: str | None, present: list[str]) -> str:
    if disturbance is not None:
        return lookup("disturbance", disturbance, {name: name for name in present})
    if len(present) != 1:
        raise ValueError(
            f"the table holds {len(present)} disturbances: say which with disturbance=. "
            f"Accepted: {', '.join(map(repr, present))}."
        )
    return present[0]


def _actions(agent: str, trace: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    actions = np.asarray(trace.get("actions", ()), dtype=np.float64)
    if actions.size == 0:
        raise ValueError(f"the trace of {agent!r} must hold 'actions' (T, act) or (T,), received none.")
    return actions.reshape(len(actions), -1)


def _time(trace: Mapping[str, Any], steps: int) -> np.ndarray[Any, Any]:
    return np.asarray(trace["time"]) if "time" in trace else np.arange(steps)


def _time_title(trace: Mapping[str, Any]) -> str:
    # rollout_trace counts steps where the environment states no dt
    times = _time(trace, 2)
    return "time (steps)" if len(times) < 2 or times[1] - times[0] == 1 else "time (s)"


def _trace_title(agent: str, trace: Mapping[str, Any]) -> str:
    earned = trace.get("return", np.sum(trace["rewards"]) if "rewards" in trace else None)
    chatter = trace.get("action_fluctuation")
    if chatter is None:
        chatter = action_fluctuation(_actions(agent, trace))
    parts = [f"<b>{html.escape(agent)}</b>"]
    if earned is not None:
        parts.append(f"return {number(float(earned))}")
    parts.append(f"chatter, mean |Δa| = {number(float(chatter))} per step")
    return "   ".join(parts)
