"""A W&B report of a project: the answer in words and intervals, the panels of the saved view, and the commands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lipsrl.tracking._answer import answer
from lipsrl.tracking._labels import cell, check_project, title
from lipsrl.tracking._sections import Section, sections
from lipsrl.tracking._wandb_workspaces import import_workspaces
from lipsrl.tracking.names import JOBS, NAMES, Job
from lipsrl.tracking.workspace import ATTACKS, COLUMNS, DISTURBANCES, agent_colors, contents_of, entity_of

if TYPE_CHECKING:
    from lipsrl.evaluation import Evaluation

_WIDTH = 24  # columns of a report's grid
_HEIGHT = 8

#: What makes the runs that the panels are of, and their dashboard, where nobody says how they were made.
COMMANDS = (
    "python -m experiments.sweep --agents ppo ppo-sandwich --seeds 10 --output runs/pendulum --track online",
    "python -m experiments.compare runs/pendulum/* --report report.html --track online",
    "python -m experiments.dashboard --project lipsrl --runs runs/pendulum/*",
)


def report(
    project: str,
    entity: str | None = None,
    *,
    disturbances: Iterable[str] = DISTURBANCES,
    attacks: Iterable[str] = ATTACKS,
    jobs: Iterable[Job] = JOBS,
    agents: Sequence[str] = (),
    evaluations: Iterable[Evaluation] = (),
    certificates: Iterable[Mapping[str, Any]] = (),
    commands: Sequence[str] = COMMANDS,
) -> Any:
    """A W&B report that compares agents by smoothness. Nothing is sent; ``save()`` of it makes a new report.

    Args:
        project, entity, disturbances, attacks, jobs, agents: as :func:`lipsrl.tracking.workspace`.
        evaluations: one per task; the answer of each and a table with intervals come first.
        certificates: ``Certificate.to_dict()`` of each run, with ``agent``, for that table; with ``env``, only
            for that environment's.
        commands: that made the runs.

    Returns:
        ``wandb_workspaces.reports.v2.Report``, not saved.

    Raises:
        ImportError: wandb-workspaces is not installed (``pip install 'lipsrl[dashboards]'``).
        ValueError: as :func:`lipsrl.tracking.workspace`.
    """
    _, wr = import_workspaces()
    contents = contents_of(disturbances, attacks, jobs)
    blocks: list[Any] = [
        wr.P(
            "How calmly these agents act, how much of their return survives a disturbed sensor, and what is proven of "
            "them. One colour is one agent; its runs are training seeds."
        ),
        wr.TableOfContents(),
    ]
    measured, certificates = list(evaluations), list(certificates)
    if measured:
        blocks.append(wr.H2("In numbers"))
    for evaluation in measured:
        env = evaluation.metadata.get("env")
        task = str(env or "one task")
        proven = [row for row in certificates if env is None or row.get("env") in (None, env)]
        blocks += [wr.H3(title(task)), wr.MarkdownBlock(answer(evaluation, proven))]
    for part in sections(contents):
        blocks += [wr.H2(part.name.capitalize()), wr.P(part.text), _grid(part, agents)]
    blocks += [
        wr.H2("How it was made"),
        wr.MarkdownBlock(_shell(commands)),
        wr.H2("What the keys mean"),
        wr.MarkdownBlock(_legend()),
    ]
    return wr.Report(
        project=check_project(project),
        entity=entity_of(entity),
        title=title(f"lipsrl: smoothness of {project}"),
        description="Return under noise, action fluctuation and certificates of agents trained with lipsrl.",
        blocks=blocks,
    )


def _grid(part: Section, agents: Sequence[str]) -> Any:
    """The panels of a section, three in a row; tables take the whole width."""
    _, wr = import_workspaces()
    x = y = 0
    for panel in part.panels:
        width = _WIDTH if type(panel).__name__ == "WeavePanelSummaryTable" else _WIDTH // 3
        if x + width > _WIDTH:
            x, y = 0, y + _HEIGHT
        panel.layout = wr.Layout(x=x, y=y, w=width, h=_HEIGHT)
        x += width
    # without entity and project they are those of the report
    runset = wr.Runset(
        name="all runs", groupby=["config.agent"], pinned_columns=["run:displayName", *COLUMNS]
    )
    runset._id = hashlib.sha256(part.name.encode()).hexdigest()[:12]
    colors = {
        wr.RunsetGroup(runset.name, (wr.RunsetGroupKey(wr.Config("agent"), agent),)): color
        for agent, color in agent_colors(agents).items()
        if ":" not in agent  # W&B joins name and value with one, and would read back another pair
    }
    return wr.PanelGrid(runsets=[runset], panels=part.panels, custom_run_colors=colors)


def _shell(commands: Sequence[str]) -> str:
    text = "\n".join(commands)
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}bash\n{text}\n{fence}"


def _legend() -> str:
    lines = ["| key | unit | what |", "| --- | --- | --- |"]
    lines += [f"| {cell(name.key)} | {cell(name.unit)} | {cell(name.what)} |" for name in NAMES]
    return "\n".join(lines)
