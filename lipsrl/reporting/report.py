"""The report: one HTML file that needs nothing else, neither a network nor a server, to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from lipsrl._files import write_text
from lipsrl.evaluation import Evaluation
from lipsrl.reporting import context
from lipsrl.reporting.answer import answer
from lipsrl.reporting.certificate_table import certificate_rows
from lipsrl.reporting.charts.svg import figure_svgs, swatch
from lipsrl.reporting.consistency import contradictions
from lipsrl.reporting.findings import Findings, findings_of
from lipsrl.reporting.improvement import Condition, improvement_rows
from lipsrl.reporting.numbers import number, percent
from lipsrl.reporting.overview import disturbance_tables, overview, worst_rows
from lipsrl.reporting.paired import paired_tables
from lipsrl.reporting.portrait import Portrait
from lipsrl.reporting.rows import KINDS
from lipsrl.reporting.sections import figures_of, profile_strengths
from lipsrl.reporting.style import DARK_PAGE, LIGHT_PAGE
from lipsrl.reporting.wording import averaging, nonfinite_sentences


def write_report(
    path: str | Path,
    *,
    evaluation: Evaluation,
    certificates: Sequence[Mapping[str, Any]] = (),
    traces: Mapping[str, Mapping[str, Any]] | None = None,
    commands: str | Sequence[str] = (),
    title: str | None = None,
    floor: float | None = None,
    notes: str | Sequence[str] | None = None,
    reference: str | None = None,
    attacks: Evaluation | None = None,
    learning: Mapping[str, Sequence[pd.DataFrame]] | None = None,
    portraits: Mapping[str, Portrait] | None = None,
    sensitivities: Mapping[str, Sequence[float]] | None = None,
    sensors: Sequence[str] = (),
    reference_return: float | None = None,
    feasibility_floor: float | None = None,
    recommendations: Sequence[str] = (),
) -> Path:
    """Write the report of an evaluation as one self-contained HTML file (0.2 to 1 MB; docs/report.md).

    The same arguments give the same bytes. The file is written whole or not at all.

    Args:
        path: of the file, usually ``….html``; its folder is created.
        evaluation: the table and its metadata. Attacks among its disturbances go into the section of worst cases.
        certificates: ``{"agent": str, "seed": int | None, **Certificate.to_dict()}`` each; may be empty.
        traces: agent → `lipsrl.evaluation.rollout_trace`, all of the same episode under the same noise.
            ``"disturbance"`` and ``"strength"`` are named in the text where given.
        commands: the shell commands that made it, in order.
        title: heading; None: the agents and the environment.
        floor: the return that counts as nothing; None takes the evaluation's, if it has one.
        notes: paragraphs of plain text below the answer.
        reference: the agent that ratios and differences are against; None: the first without a promised constant.
        attacks: an evaluation whose disturbances are attacks.
        learning: agent → the table of each of its training runs (`lipsrl.reporting.read_progress`).
        portraits: agent → `lipsrl.reporting.phase_portrait`.
        sensitivities: agent → mean slope along each sensor (`lipsrl.reporting.sensitivities`).
        sensors: names of the sensors, with their units.
        reference_return: what a well-trained agent earns, for the warning about agents that have learned nothing.
        feasibility_floor: smallest constant under which the task can be done, in raw units.
        recommendations: sentences on which agent to take, for the section of K.

    Returns:
        ``path``.

    Raises:
        ValueError: an empty table or one that does not follow the evaluation's schema, certificates without
            an agent or twice for one agent and training seed, a trace without actions, or an unknown reference.
    """
    findings = findings_of(
        evaluation=evaluation,
        certificates=certificates,
        traces=traces,
        attacks=attacks,
        learning=learning,
        portraits=portraits,
        sensitivities=sensitivities,
        sensors=sensors,
        reference=reference,
        floor=floor,
        reference_return=reference_return,
        feasibility_floor=feasibility_floor,
        title=title,
        recommendations=recommendations,
    )
    return write_page(path, findings, commands=commands, notes=notes)


def write_page(
    path: str | Path,
    findings: Findings,
    *,
    commands: str | Sequence[str] = (),
    notes: str | Sequence[str] | None = None,
) -> Path:
    """`write_report` of what has been put together already."""
    evaluation, summary = findings.evaluation, findings.summary
    tables = disturbance_tables(findings)
    figures = figures_of(findings)
    drawn = {
        figure.name: [Markup(svg) for svg in figure_svgs(figure)]
        for some in figures.values()
        for figure in some
    }
    conditions = [
        Condition(name, strength)
        for i, name in enumerate(findings.disturbances)
        for strength in profile_strengths(findings, name, clean=i == 0)
    ]
    text = _template().render(
        findings=findings,
        title=findings.title,
        subtitle=context.subtitle(evaluation),
        answer=answer(findings),
        notes=context.paragraphs(notes),
        settings=context.settings(evaluation, findings.floor),
        averaging=averaging(summary),
        nonfinite=nonfinite_sentences(summary),
        contradictions=contradictions(findings.certificates, evaluation),
        swatches={agent: Markup(swatch(look)) for agent, look in findings.styles.items()},
        swatch=lambda look: Markup(swatch(look)),
        light=LIGHT_PAGE,
        dark=DARK_PAGE,
        overview=overview(findings, tables),
        tables=[(name, said, rows) for name, said, rows in tables],
        figures=figures,
        drawn=drawn,
        worst=worst_rows(findings),
        improvement=improvement_rows(findings, conditions),
        certificates=findings.certificates,
        certificate_rows=certificate_rows(findings.certificates, evaluation),
        certified_agents=list(dict.fromkeys([*findings.agents, *findings.certified])),
        several_seeds=any(len(same) > 1 for same in findings.certified.values()),
        assumptions=list(
            dict.fromkeys(str(a) for c in findings.certificates for a in c.get("assumptions") or [])
        ),
        paired=paired_tables(evaluation, findings.drawn),
        kinds=KINDS,
        commands=context.paragraphs(commands),
        versions=context.versions(evaluation.metadata, findings.certificates),
        number=number,
        percent=percent,
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
