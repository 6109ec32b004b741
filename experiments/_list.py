"""What can be trained, as two tables."""

from __future__ import annotations

from collections import defaultdict

from rich.console import Group
from rich.table import Table

from agents import AGENTS
from envs import TASKS


def tables() -> Group:
    """Tasks with what they are judged by, and agents with the tasks that they have hyperparameters for."""
    tasks = Table(title="tasks", title_justify="left", box=None)
    columns = (
        "task",
        "environment",
        "sensors",
        "actions",
        "random",
        "reference",
        "noise levels",
        "reference is of",
    )
    for column in columns:
        side = "right" if column in ("sensors", "random", "reference") else "left"
        tasks.add_column(column, justify=side, no_wrap=column != columns[-1])  # type: ignore[arg-type]
    for task in TASKS.values():
        levels = " ".join(f"{level:g}" for level in task.strengths)
        tasks.add_row(
            task.name, task.env_id, str(len(task.sensors)), task.actions, f"{task.floor:g}",
            f"{task.reference_return:g}", levels, task.reference_source,
        )  # fmt: skip
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for agent in AGENTS.values():
        groups[agent.algorithm.__name__, tuple(agent.settings)].append(agent.name)
    agents = Table(title="agents", title_justify="left", box=None)
    for column in ("algorithm", "agents", "tasks"):
        agents.add_column(column)
    for (algorithm, names), members in groups.items():
        agents.add_row(algorithm, " ".join(members), " ".join(names))
    return Group(tasks, "", agents)
