"""The report: one HTML file that needs nothing else, neither a network nor a server, to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import plotly.graph_objects as go

from lipsrl._files import write_text
from lipsrl.evaluation import Evaluation
from lipsrl.reporting import context
from lipsrl.reporting.certificate_table import certificate_rows
from lipsrl.reporting.consistency import by_agent, contradictions
from lipsrl.reporting.context import agents_of, definition_of, disturbances_of
from lipsrl.reporting.embedding import figures_json, plotly_script
from lipsrl.reporting.figures import Styles, action_trace, fluctuation_under_noise, return_under_noise
from lipsrl.reporting.headline import headline_rows
from lipsrl.reporting.numbers import number, percent
from lipsrl.reporting.paired import paired_tables
from lipsrl.reporting.rows import KINDS
from lipsrl.reporting.style import DARK_PAGE, LIGHT_PAGE, agent_styles
from lipsrl.reporting.wording import averaging, describe_disturbance, nonfinite_sentences, strength_title

#: agents side by side in one table; more go into a further table below, so that nothing scrolls sideways
AGENTS_ACROSS = 4
#: action channels drawn of one episode
CHANNELS_SHOWN = 3


@dataclass(frozen=True)
class Panel:
    """A figure in the page: the id of its element, the words below it, and Plotly's figure."""

    id: str
    caption: str
    figure: go.Figure


def write_report(
    path: str | Path,
    *,
    evaluation: Evaluation,
    certificates: Sequence[Mapping[str, Any]],
    traces: Mapping[str, Mapping[str, Any]],
    commands: str | Sequence[str],
    title: str = "Lipschitz agents under sensor noise",
    floor: float | None = None,
    notes: str | Sequence[str] | None = None,
) -> Path:
    """Write the report of an evaluation as one self-contained HTML file (about 5 MB: plotly.js is inside).

    The same arguments give the same bytes. The file is written whole or not at all.

    Args:
        path: of the file, usually ``….html``; its folder is created.
        evaluation: the table and its metadata. The first agent is the reference of ratios and differences.
        certificates: ``{"agent": str, "seed": int | None, **Certificate.to_dict()}`` each; may be empty.
        traces: agent → `lipsrl.evaluation.rollout_trace`, all of the same episode under the same noise; may
            be empty. ``"disturbance"`` and ``"strength"`` are named in the text where given.
        commands: the shell commands that made it, in order.
        title: heading.
        floor: the return that counts as nothing; None takes the evaluation's, if it has one.
        notes: paragraphs of plain text below the heading.

    Returns:
        ``path``.

    Raises:
        ValueError: an empty table or one that does not follow the evaluation's schema, certificates without
            an agent or twice for one agent and training seed, or a trace without actions.
    """
    checked = Evaluation(evaluation.frame, evaluation.metadata)
    if checked.frame.empty:
        raise ValueError("evaluation must hold at least one episode, received an empty table.")
    floor = checked.metadata.get("floor") if floor is None else floor
    grouped = by_agent(certificates)
    evaluated = agents_of(checked)
    styles = agent_styles([*evaluated, *grouped, *traces])
    noise_panels = _noise_panels(checked, floor, styles)
    trace_panels = _trace_panels(traces, styles)
    summary = checked.summary(["return"])
    text = _template().render(
        title=title,
        notes=context.paragraphs(notes),
        settings=context.settings(checked, floor),
        averaging=averaging(summary),
        nonfinite=nonfinite_sentences(summary),
        styles=styles,
        light=LIGHT_PAGE,
        dark=DARK_PAGE,
        headlines=[
            (describe_disturbance(name, definition_of(checked, name)), headline_rows(checked, name, floor))
            for name in disturbances_of(checked)
        ],
        evaluated=_across(evaluated),
        noise_panels=noise_panels,
        trace_panels=trace_panels,
        trace_sentence=context.trace_sentence(traces),
        certificates=certificates,
        certificate_rows=certificate_rows(certificates, checked),
        certified=_across(list(dict.fromkeys([*evaluated, *grouped]))),
        several_seeds=any(len(same) > 1 for same in grouped.values()),
        assumptions=list(dict.fromkeys(str(a) for c in certificates for a in c.get("assumptions") or [])),
        contradictions=contradictions(certificates, checked),
        paired=paired_tables(checked),
        kinds=KINDS,
        commands=context.paragraphs(commands),
        versions=context.versions(checked.metadata, certificates),
        number=number,
        percent=percent,
        figures_json=figures_json({p.id: p.figure for p in (*noise_panels, *trace_panels)}),
        plotly_script=plotly_script(),
    )
    return write_text(path, text)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lipsrl", "reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _noise_panels(evaluation: Evaluation, floor: float | None, styles: Styles) -> list[Panel]:
    """Two figures per disturbance that was measured at more than one strength."""
    panels = []
    for i, name in enumerate(disturbances_of(evaluation)):
        if evaluation.frame.loc[evaluation.frame["disturbance"] == name, "strength"].nunique() < 2:
            continue
        definition = definition_of(evaluation, name)
        shared: dict[str, Any] = {
            "disturbance": name,
            "strength_title": strength_title(definition),
            "styles": styles,
        }
        under = f"Disturbance: {describe_disturbance(name, definition)}, times the strength."
        dotted = "" if floor is None else f" Dotted: the floor, a return of {number(floor)}."
        panels += [
            Panel(
                f"return-{i}",
                f"Return and its 95 % band. {under}{dotted}",
                return_under_noise(evaluation.frame, floor=floor, **shared),
            ),
            Panel(
                f"fluctuation-{i}",
                f"Action fluctuation and its 95 % band. {under}",
                fluctuation_under_noise(evaluation.frame, **shared),
            ),
        ]
    return panels


def _trace_panels(traces: Mapping[str, Mapping[str, Any]], styles: Styles) -> list[Panel]:
    """One figure per action channel that all agents have, at most `CHANNELS_SHOWN`."""
    if not traces:
        return []
    channels = min(np.atleast_2d(np.asarray(t.get("actions", [])).T).shape[0] for t in traces.values())
    return [
        Panel(
            f"trace-{channel}",
            f"Action channel {channel + 1} of {channels}, as the environment received it.",
            action_trace(traces, dimension=channel, styles=styles),
        )
        for channel in range(min(channels, CHANNELS_SHOWN))
    ]


def _across(agents: Sequence[str]) -> list[Sequence[str]]:
    return [agents[i : i + AGENTS_ACROSS] for i in range(0, len(agents), AGENTS_ACROSS)]
