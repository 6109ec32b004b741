"""Tasks: named environments with their normalisation, sensor scales and reference returns."""

from __future__ import annotations

from envs.ant import ANT
from envs.bipedal_walker import BIPEDAL_WALKER
from envs.cart_pole import CART_POLE
from envs.half_cheetah import HALF_CHEETAH
from envs.hopper import HOPPER
from envs.inverted_double_pendulum import INVERTED_DOUBLE_PENDULUM
from envs.inverted_pendulum import INVERTED_PENDULUM
from envs.linear_quadratic import LINEAR_QUADRATIC
from envs.lunar_lander import LUNAR_LANDER
from envs.lunar_lander_continuous import LUNAR_LANDER_CONTINUOUS
from envs.mountain_car_continuous import MOUNTAIN_CAR_CONTINUOUS
from envs.pendulum import PENDULUM
from envs.pendulum_without_velocity import PENDULUM_WITHOUT_VELOCITY
from envs.reacher import REACHER
from envs.swimmer import SWIMMER
from envs.task import Task
from envs.walker2d import WALKER2D
from lipsrl._validation import lookup

#: name → task.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        LINEAR_QUADRATIC, PENDULUM, PENDULUM_WITHOUT_VELOCITY, INVERTED_PENDULUM, INVERTED_DOUBLE_PENDULUM,
        MOUNTAIN_CAR_CONTINUOUS, REACHER, LUNAR_LANDER_CONTINUOUS, BIPEDAL_WALKER, HOPPER, WALKER2D, HALF_CHEETAH,
        SWIMMER, ANT, CART_POLE, LUNAR_LANDER,
    )
}  # fmt: skip


def get_task(name: str) -> Task:
    """The task called ``name``; ``ValueError`` with the nearest name otherwise."""
    return lookup("task", name, TASKS)


__all__ = ["TASKS", "Task", "get_task"]
