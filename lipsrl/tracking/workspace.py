"""The saved view «lipsrl: smoothness» of a W&B project."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from lipsrl._validation import unknown_name
from lipsrl.tracking._labels import check_entity, check_project, title
from lipsrl.tracking._panels import MAX_RUNS, Contents
from lipsrl.tracking._sections import Section, sections
from lipsrl.tracking._tables import MINIMUM
from lipsrl.tracking._wandb_workspaces import import_workspaces
from lipsrl.tracking.names import JOBS, STEP, Job, key_parts

VIEW = "lipsrl: smoothness"
RUNSET = "lipsrlruns"

#: What a robustness section shows where nobody says what was measured: white, slow and constant noise.
DISTURBANCES = ("gaussian", "ar1", "bias")

#: The worst of all attacks on each episode, as `lipsrl attack` and `log_evaluation` call it.
ATTACKS = (MINIMUM,)

#: Columns beside the run's name, left to right.
COLUMNS = (
    "config:agent.value",
    "config:task.value",
    "config:seed.value",
    "config:layer.value",
    "config:lipschitz_bound.value",
    "run:jobType",
    "summary:robustness/clean_return",
    "summary:robustness/noisy_return",
    "summary:robustness/noisy_action_fluctuation",
    "summary:certificate/upper_bound",
    "summary:certificate/tightness",
)


def workspace(
    project: str,
    entity: str | None = None,
    *,
    disturbances: Iterable[str] = DISTURBANCES,
    attacks: Iterable[str] = ATTACKS,
    jobs: Iterable[Job] = JOBS,
    agents: Sequence[str] = (),
) -> Any:
    """A W&B workspace that compares agents by smoothness: answer, learning, robustness, certificates, actions.

    Nothing is sent. ``save()`` of what is returned needs an entity and a project that exists, and makes a *new* view
    for every workspace; ``python -m experiments.dashboard`` makes the project and updates the view that it made before.

    Args:
        project: W&B project.
        entity: W&B user or team; ``None`` takes ``WANDB_ENTITY``, or leaves it to W&B.
        disturbances: names of what was evaluated; the first one is in the answer. Their AUC needs a floor, as the
            tasks of ``envs`` have one and ``lipsrl evaluate`` takes one.
        attacks: names of attacks.
        jobs: job types that the project has runs of; panels of others are left out.
        agents: in the order of their colours, which are those of the HTML report.

    Returns:
        ``wandb_workspaces.workspaces.Workspace``, a view called «lipsrl: smoothness», not saved.

    Raises:
        ImportError: wandb-workspaces is not installed (``pip install 'lipsrl[dashboards]'``).
        ValueError: a project, entity or job that W&B or lipsrl does not know.
    """
    workspaces, _ = import_workspaces()
    contents = contents_of(disturbances, attacks, jobs)
    view = workspaces.Workspace(
        project=check_project(project),
        entity=entity_of(entity),
        name=title(VIEW),
        sections=[_section(part, first=i == 0) for i, part in enumerate(sections(contents))],
        settings=workspaces.WorkspaceSettings(x_axis=STEP, max_runs=MAX_RUNS, group_by_prefix="first"),
        runset_settings=workspaces.RunsetSettings(
            groupby=[workspaces.Config("agent")],
            pinned_columns=["run:displayName", *COLUMNS],
            group_colors=agent_colors(agents),
        ),
    )
    view._internal_runset_id = RUNSET  # W&B draws one at random; the same dashboard shall be the same file
    return view


def agent_colors(agents: Sequence[str]) -> dict[str, str]:
    """The colour of each agent in the HTML report."""
    from lipsrl.reporting.style import agent_styles  # brings pandas and Jinja

    return {agent: style.color for agent, style in agent_styles(agents).items()}


def contents_of(disturbances: Iterable[str], attacks: Iterable[str], jobs: Iterable[Job]) -> Contents:
    """What the panels are of.

    Raises:
        ValueError: an unknown job, or none.
    """
    known = list(jobs)
    for job in known:
        if job not in JOBS:
            raise unknown_name("jobs", job, JOBS)
    if not known:
        raise ValueError(
            f"jobs is empty: name the job types that the project has runs of, of {', '.join(JOBS)}."
        )
    faced, attacking = tuple(key_parts(disturbances).values()), list(attacks)
    attacked = tuple(key_parts(attacking, attacking).values())
    return Contents(faced, attacked, frozenset(known))


def entity_of(entity: str | None) -> str:
    """``entity``, or ``WANDB_ENTITY``, or nothing: W&B's own default, which only an account knows."""
    return check_entity(os.environ.get("WANDB_ENTITY", "") if entity is None else entity)


def _section(part: Section, *, first: bool) -> Any:
    workspaces, _ = import_workspaces()
    return workspaces.Section(
        name=part.name,
        panels=part.panels,
        is_open=True,
        pinned=first,
        layout_settings=workspaces.SectionLayoutSettings(columns=2 if first else 3, rows=2),
        # a section's x-axis wins over the workspace's, and is "Step" if not said
        panel_settings=workspaces.SectionPanelSettings(x_axis=STEP),
    )
