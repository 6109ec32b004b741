"""Students of the plain agents: their newest observations are a window, in which noise can be told from movement.

Trained as ``experiments.train`` trains any agent: first the teacher, then the student of it (docs/memory.md).
"""

from __future__ import annotations

from dataclasses import replace

from agents.ppo import PPO_AGENTS
from agents.recipe import Lesson, Recipe
from agents.sac import SAC_AGENTS
from agents.td3 import TD3_AGENTS
from agents.tqc import TQC_AGENTS
from envs import TASKS

#: Observations in a window.
WINDOW = 8

#: Task → K and noise of the tables in docs/memory.md. Elsewhere nothing was tried: half of the teacher's steepest
#: slope, and the strongest noise of the task's evaluation.
LESSONS = {name: Lesson(None, task.strengths[-1]) for name, task in TASKS.items()} | {
    "pendulum": Lesson(12.0, 0.3),
    "inverted-double-pendulum": Lesson(6.0, 0.1),
    "reacher": Lesson(0.6, 0.05),
    "hopper": Lesson(4.0, 0.1),
    "lunar-lander-continuous": Lesson(12.0, 0.1),
    "inverted-pendulum": Lesson(0.5, 0.1),
}


def window_student(teacher: Recipe) -> Recipe:
    """The agent ``NAME-window``: what ``teacher`` has learned, in a Sandwich network that sees a window."""
    return replace(
        teacher, name=f"{teacher.name}-window", policy="LipschitzMlpPolicy", layer="sandwich", frames=WINDOW,
        teacher=teacher.name, lessons=LESSONS,
    )  # fmt: skip


#: The plain agent of each algorithm.
PLAIN = tuple(agents[0] for agents in (PPO_AGENTS, SAC_AGENTS, TD3_AGENTS, TQC_AGENTS) if agents)

STUDENT_AGENTS = tuple(window_student(agent) for agent in PLAIN)
