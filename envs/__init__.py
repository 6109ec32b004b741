"""Tasks: named environments with their normalisation, sensor scales and reference returns."""

from __future__ import annotations

from envs.hopper import HOPPER
from envs.inverted_double_pendulum import INVERTED_DOUBLE_PENDULUM
from envs.lunar_lander_continuous import LUNAR_LANDER_CONTINUOUS
from envs.pendulum import PENDULUM
from envs.reacher import REACHER
from envs.task import Task
from lipsrl._validation import lookup

#: name → task.
TASKS: dict[str, Task] = {
    task.name: task for task in (PENDULUM, INVERTED_DOUBLE_PENDULUM, REACHER, HOPPER, LUNAR_LANDER_CONTINUOUS)
}


def get_task(name: str) -> Task:
    """The task called ``name``; ``ValueError`` with the nearest name otherwise."""
    return lookup("task", name, TASKS)


__all__ = ["TASKS", "Task", "get_task"]
