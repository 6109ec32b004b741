"""The same numbers as the report's tables, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lipsrl._validation import lookup
from lipsrl.evaluation import Evaluation
from lipsrl.evaluation._words import environment_in_words
from lipsrl.reporting.answer import answer
from lipsrl.reporting.certificate_table import certificate_rows
from lipsrl.reporting.charts.scales import shortened
from lipsrl.reporting.consistency import contradictions
from lipsrl.reporting.context import agents_of, definition_of, disturbances_of
from lipsrl.reporting.findings import Findings, with_first
from lipsrl.reporting.headline import headline_rows
from lipsrl.reporting.overview import disturbance_tables, overview
from lipsrl.reporting.rows import Row
from lipsrl.reporting.wording import averaging, describe_disturbance, nonfinite_sentences

_KINDS = (
    "Gains and upper bounds are proven, lower bounds and tightness were found by search; all else, with its "
    "interval in brackets, is an estimate of this evaluation."
)
#: agents that stand side by side in 80 columns with their intervals; more are rows, without
_ACROSS = 3


def print_answer(console: Console, findings: Findings) -> None:
    """The answer, what casts doubt on it, and `compact_table`."""
    found = answer(findings)
    console.print(Text(" ".join(found.sentences)))
    doubts = contradictions(findings.certificates, findings.evaluation)
    for sentence in [*doubts, *nonfinite_sentences(findings.summary), *found.untrained.values()]:
        console.print(Text(f"WARNING {sentence}", style="yellow"))
    console.print(compact_table(findings))


def compact_table(findings: Findings) -> Table:
    """What the first table of the page holds: clean return, what is kept, chatter, what is proven."""
    agents, rows = findings.agents, overview(findings, disturbance_tables(findings))
    table = Table(
        title=Text(findings.title),
        caption=Text("\n".join(averaging(findings.summary))),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("")
    if len(agents) <= _ACROSS:
        for agent in agents:
            table.add_column(Text(agent), justify="right")
        _add(table, rows, agents)
        return table
    for row in rows:
        table.add_column(Text(row.label), justify="right")
    for agent in agents:
        table.add_row(Text(shortened(agent, 40)), *(Text(row.cell(agent).text) for row in rows))
    return table


def comparison_table(
    evaluation: Evaluation,
    certificates: Sequence[Mapping[str, Any]] = (),
    *,
    reference: str | None = None,
    floor: float | None = None,
) -> Table:
    """Return and fluctuation under noise, certificate and sensitivity, one column per agent.

    Args:
        evaluation: the table and its metadata.
        certificates: as `lipsrl.reporting.write_report`.
        reference: agent to which the others are related; None: the first of the table.
        floor: as there.

    Returns:
        A table to print with `rich.console.Console`; the caption says what is averaged over what.
    """
    checked = Evaluation(evaluation.frame, evaluation.metadata)
    if reference is not None:
        checked = with_first(checked, lookup("reference", reference, {a: a for a in agents_of(checked)}))
    floor = checked.metadata.get("floor") if floor is None else floor
    agents = agents_of(checked)
    summary = checked.summary(["return"])
    said = averaging(summary) + nonfinite_sentences(summary)
    if certificates:
        said.append(_KINDS)
    table = Table(
        title=Text(
            f"{environment_in_words(checked.metadata) or 'Evaluation'}: {len(checked.frame):,} episodes in all"
        ),
        caption=Text("\n".join(said)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("")
    for agent in agents:
        # Text, because a name may hold what rich takes for markup
        table.add_column(Text(agent), justify="right")
    disturbances = disturbances_of(checked)
    for name in disturbances:
        if len(disturbances) > 1:
            table.add_row(Text(describe_disturbance(name, definition_of(checked, name)), style="bold"))
        _add(table, headline_rows(checked, name, floor), agents)
        table.add_section()
    _add(table, certificate_rows(certificates, checked), agents)
    return table


def _add(table: Table, rows: Sequence[Row], agents: Sequence[str]) -> None:
    # two agents fit into 80 columns with the interval beside the number, more have it below
    gap = " " if len(agents) <= 2 else "\n"
    for row in rows:
        cells = [row.cell(agent) for agent in agents]
        details = [f"{gap}{cell.detail}" if cell.detail else "" for cell in cells]
        texts = [Text.assemble(c.text, (detail, "dim")) for c, detail in zip(cells, details, strict=True)]
        table.add_row(Text(row.label), *texts)
