"""Which figures a report has, in the order of its sections."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from lipsrl.evaluation._words import env_kwargs_of
from lipsrl.reporting.charts.figure import Figure, Plot
from lipsrl.reporting.charts.scales import shortened
from lipsrl.reporting.context import definition_of, trace_sentence
from lipsrl.reporting.figures.actions import STEPS, action_spectrum, action_trace
from lipsrl.reporting.figures.curves import fluctuation_under_noise, return_under_noise
from lipsrl.reporting.figures.frontier import frontier_plots, settings_of
from lipsrl.reporting.figures.learning import learning_plots
from lipsrl.reporting.figures.policy import portrait_plots, sensor_plot
from lipsrl.reporting.figures.profile import return_profile, run_returns
from lipsrl.reporting.figures.worst import worst_case_plot
from lipsrl.reporting.findings import DRAWN, Findings
from lipsrl.reporting.numbers import number
from lipsrl.reporting.wording import at_strength, describe_disturbance, spoken, strength_title

#: action channels drawn of one episode
CHANNELS_SHOWN = 3
#: agents whose episode and portrait are drawn; the reference is the first
EPISODES, PORTRAITS = 6, 4


def figures_of(findings: Findings) -> dict[str, list[Figure]]:
    """Section → its figures; sections without any are there, empty."""
    return {
        "learning": _learning(findings),
        "disturbances": _disturbances(findings),
        "worst": _worst(findings),
        "sensors": _sensors(findings),
        "actions": _actions(findings),
        "portrait": _portraits(findings),
        "frontier": _frontier(findings),
        "statistics": _profiles(findings),
    }


def slug(text: str) -> str:
    """``text`` as part of an id or a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "x"


def drawn_sentence(findings: Findings) -> str:
    """Who is drawn where not everybody is; else empty."""
    if len(findings.drawn) == len(findings.agents):
        return ""
    return (
        f"Drawn are the reference and the {DRAWN - 1} agents that keep most of their return; the tables have all "
        f"{len(findings.agents)}."
    )


def _learning(findings: Findings) -> list[Figure]:
    chosen = {agent: runs for agent, runs in findings.learning.items() if agent in findings.drawn}
    plots = learning_plots(chosen, findings.styles)
    if not plots:
        return []
    runs = max(len(r) for r in chosen.values())
    said = (
        "The mean over training seeds, and as a band the range of them."
        if runs > 1
        else "One training run each."
    )
    return [Figure("learning", "Learning curves", f"{said} {drawn_sentence(findings)}".strip(), plots)]


def _disturbances(findings: Findings) -> list[Figure]:
    """A figure of two panels per disturbance that was measured at more than one strength."""
    figures = []
    frame = findings.drawn_frame
    names: set[str] = set()
    for disturbance in findings.disturbances:
        if frame.loc[frame["disturbance"] == disturbance, "strength"].nunique() < 2:
            continue
        definition = definition_of(findings.evaluation, disturbance)
        title = strength_title(definition)
        panels = [
            return_under_noise(
                frame,
                disturbance=disturbance,
                floor=findings.floor,
                strength_title=title,
                styles=findings.styles,
            ),
            fluctuation_under_noise(
                frame, disturbance=disturbance, strength_title=title, styles=findings.styles
            ),
        ]
        floor = (
            "" if findings.floor is None else f" Dotted: what random actions earn, {number(findings.floor)}."
        )
        caption = f"{describe_disturbance(disturbance, definition)}, times the strength; bands: 95 % intervals.{floor}"
        name = _unique(f"disturbance-{slug(disturbance)}", names)
        head = f"Under {spoken(disturbance, definition)}"
        figures.append(Figure(name, head, f"{caption} {drawn_sentence(findings)}".strip(), panels))
    return figures


def ball_of(findings: Findings) -> str:
    """Norm and units of the attacks' ball, as far as the metadata says them."""
    assert findings.attacks is not None
    first = str(findings.attacks.frame["disturbance"].iloc[0])
    definition = definition_of(findings.attacks, first) or {}
    units = {"normalized": "units that the policy receives", "raw": "raw sensor units"}
    counted = definition.get("units")
    counted = "tolerances of each sensor" if isinstance(counted, list) else units.get(str(counted), "")
    words = [str(definition.get("norm", "")), counted]
    return ", ".join(word for word in words if word) or "multiple of its own"


def _worst(findings: Findings) -> list[Figure]:
    if findings.attacks is None:
        return []
    frame = findings.attacks.frame
    names = ", ".join(map(str, frame["disturbance"].unique()))
    chosen = frame[frame["agent"].isin([*findings.drawn])] if len(findings.agents) > DRAWN else frame
    if chosen.empty or not (chosen["strength"] > 0).any():
        return []
    plot = worst_case_plot(
        type(findings.attacks)(chosen, findings.attacks.metadata),
        findings.styles,
        ball=ball_of(findings),
        floor=findings.floor,
    )
    caption = f"Of {names} the one that costs a model most; bands: 95 % intervals. {drawn_sentence(findings)}"
    return [Figure("worst-case", "Return under the worst attack", caption.strip(), [plot])]


def _sensors(findings: Findings) -> list[Figure]:
    drawn = findings.drawn[:DRAWN]
    measured = {a: v for a, v in findings.sensitivities.items() if a in drawn and len(v)}
    bounds = {}
    for agent in drawn:
        given = [c.get("per_sensor") for c in findings.certified.get(agent, [])]
        rows = [np.asarray(g, dtype=np.float64) for g in given if g]
        if rows and len({len(r) for r in rows}) == 1:
            bounds[agent] = np.median(np.stack(rows), axis=0).tolist()
    sizes = {len(v) for v in measured.values()} or {len(v) for v in bounds.values()}
    bounds = {a: v for a, v in bounds.items() if {len(v)} == sizes}
    if len(sizes) != 1:
        return []
    plot = sensor_plot(measured, bounds, findings.sensors, findings.styles)
    if plot is None:
        return []
    caption = (
        "Filled: mean slope along each sensor around the recorded episode, measured. Hollow: the proven bound for "
        "errors of that sensor alone (median over training seeds)."
    )
    return [Figure("sensors", "Sensitivity to each sensor", caption, [plot])]


def _actions(findings: Findings) -> list[Figure]:
    """One figure per action channel that all agents have, and the spectra; at most `CHANNELS_SHOWN`."""
    traces = {agent: findings.traces[agent] for agent in list(findings.traces)[:EPISODES]}
    if not traces:
        return []
    channels = min(np.atleast_2d(np.asarray(t.get("actions", [])).T).shape[0] for t in traces.values())
    longest = max(len(np.asarray(t.get("actions", []))) for t in traces.values())
    shown = f" The first {STEPS} steps." if longest > STEPS else ""
    left = len(findings.traces) - len(traces)
    more = f" {left} further agents are not drawn." if left else ""
    styles = findings.styles
    figures = [
        Figure(
            f"actions-{channel + 1}",
            "Actions" if channels == 1 else f"Actions, channel {channel + 1} of {channels}",
            f"{trace_sentence(traces)}{shown}{more}",
            action_trace(traces, dimension=channel, styles=styles),
            open=2,
            legend=False,
        )
        for channel in range(min(channels, CHANNELS_SHOWN))
    ]
    spectra = [
        action_spectrum(traces, dimension=c, styles=styles) for c in range(min(channels, CHANNELS_SHOWN))
    ]
    if channels > 1:
        spectra = [_headed(plot, f"channel {i + 1} of {channels}") for i, plot in enumerate(spectra)]
    caption = "Power of the actions above over frequency (Welch, segments of 64 steps): chatter is power at the right."
    if any(len(s.x) for plot in spectra for s in plot.series):
        figures.append(Figure("spectrum", "Spectrum of the actions", caption, spectra))
    return figures


def _portraits(findings: Findings) -> list[Figure]:
    chosen = {agent: findings.portraits[agent] for agent in list(findings.portraits)[:PORTRAITS]}
    plots = portrait_plots(
        chosen,
        findings.traces,
        findings.evaluation.metadata.get("env"),
        env_kwargs_of(findings.evaluation.metadata),
    )
    if not plots:
        return []
    said = " ".join(dict.fromkeys(p.said for p in chosen.values() if p.said))
    caption = (
        "The action over the plane of two sensors, and its slope: how much it moves per raw unit of sensor error. "
        f"Line: the recorded episode. {said}"
    )
    return [
        Figure("portrait", "The policy over its observations", caption.strip(), plots, open=4, legend=False)
    ]


def _frontier(findings: Findings) -> list[Figure]:
    settings = {a: s for a, s in settings_of(findings.certified).items() if a in findings.agents}
    disturbance = findings.disturbances[0]
    plots = frontier_plots(findings.summary, settings, disturbance, findings.reference)
    if not plots:
        return []
    described = describe_disturbance(disturbance, definition_of(findings.evaluation, disturbance))
    dotted = f"Dotted: {shortened(findings.reference, 40)}, clean."
    caption = f"Strengths multiply {described}. Bands: 95 % intervals. {dotted}"
    return [Figure("frontier", "What K costs and buys", caption, plots)]


def _profiles(findings: Findings) -> list[Figure]:
    plots: list[Plot] = []
    drawn = set(findings.drawn)
    for disturbance in findings.disturbances:
        definition = definition_of(findings.evaluation, disturbance)
        for strength in profile_strengths(findings, disturbance, clean=not plots):
            runs = run_returns(findings.evaluation, disturbance, strength)
            under = (
                f"{spoken(disturbance, definition)}, {at_strength(strength, definition)}"
                if strength
                else "no disturbance"
            )
            plot = return_profile({a: v for a, v in runs.items() if a in drawn}, findings.styles, under)
            if plot is not None:
                plots.append(plot)
    if not plots:
        return []
    caption = "Share of runs (training seeds, or episodes of a single model) that earn more than a return; 95 % bands."
    return [Figure("profiles", "Performance profiles", caption, plots[:4], open=2)]


def profile_strengths(findings: Findings, disturbance: str, *, clean: bool) -> Sequence[float]:
    """Without disturbance, where asked for, and the middle one of the strengths."""
    frame = findings.evaluation.frame
    strengths = sorted(frame.loc[frame["disturbance"] == disturbance, "strength"].unique())
    noisy = [float(s) for s in strengths if s > 0]
    return [*([0.0] if clean and 0.0 in strengths else []), *noisy[(len(noisy) - 1) // 2 :][:1]]


def _headed(plot: Plot, heading: str) -> Plot:
    return Plot(plot.x, plot.y, plot.series, plot.levels, plot.heat, heading)


def _unique(name: str, taken: set[str]) -> str:
    found, n = name, 2
    while found in taken:
        found, n = f"{name}-{n}", n + 1
    taken.add(found)
    return found
