"""Recipes: a named agent is an SB3 algorithm, a policy and hyperparameters per task."""

from __future__ import annotations

from agents.baselines import BASELINE_AGENTS
from agents.ppo import PPO_AGENTS
from agents.recipe import Lesson, Recipe, Settings
from agents.regularized import REGULARIZED_AGENTS
from agents.sac import SAC_AGENTS
from agents.students import STUDENT_AGENTS
from agents.td3 import TD3_AGENTS
from agents.tqc import TQC_AGENTS
from lipsrl._validation import lookup

#: name → recipe.
AGENTS: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        *PPO_AGENTS, *SAC_AGENTS, *TD3_AGENTS, *TQC_AGENTS, *BASELINE_AGENTS, *REGULARIZED_AGENTS,
        *STUDENT_AGENTS,
    )
}  # fmt: skip


def get_agent(name: str) -> Recipe:
    """The agent called ``name``; ``ValueError`` with the nearest name otherwise."""
    return lookup("agent", name, AGENTS)


__all__ = ["AGENTS", "Lesson", "Recipe", "Settings", "get_agent"]
