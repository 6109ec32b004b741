"""Tasks: named environments with their normalisation, sensor scales and reference returns."""

from __future__ import annotations

from envs.pendulum import PENDULUM
from envs.task import Task
from lipsrl._validation import lookup

#: name → task.
TASKS: dict[str, Task] = {task.name: task for task in (PENDULUM,)}


def get_task(name: str) -> Task:
    """The task called ``name``; ``ValueError`` with the nearest name otherwise."""
    return lookup("task", name, TASKS)


__all__ = ["TASKS", "Task", "get_task"]
