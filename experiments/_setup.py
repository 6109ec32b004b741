"""What a training is made of before it begins: environments, what is watched, what its config says."""

from __future__ import annotations

import datetime
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from agents import Recipe
from envs import Task
from experiments._console import command_line
from experiments._filters import around
from lipsrl.actors.frames import attached_frames
from lipsrl.certificates import FeasibilityFloor, feasibility_floor, policy_units
from lipsrl.disturbances import GaussianNoise, parse_disturbance
from lipsrl.policies import AutoLipschitz
from lipsrl.tracking import SmoothnessCallback
from lipsrl.tracking.config import git_revision, versions
from lipsrl.wrappers import VecObservationDisturbance

#: K that a search for K starts with, as a multiple of the recipe's own.
LOOSE = 2.0


#: Of each evaluation in a search for K.
SEARCH_EPISODES = 20


def make_training_env(recipe: Recipe, task: Task, n_envs: int | None = None) -> VecEnv:
    """Environments side by side, monitored, disturbed as the recipe and normalised as the task says.

    Args:
        n_envs: None: as many as the recipe trains in.
    """
    settings = recipe.for_task(task.name)

    def make() -> gym.Env[Any, Any]:
        limit = settings.max_episode_steps
        return Monitor(task.make() if limit is None else TimeLimit(task.make(), limit))

    venv: VecEnv = DummyVecEnv([make] * (n_envs or settings.n_envs))
    if task.name in recipe.disturbance:
        venv = VecObservationDisturbance(venv, parse_disturbance(recipe.disturbance[task.name]))
    if task.normalize_observation or task.normalize_reward:
        venv = VecNormalize(
            venv,
            gamma=settings.algorithm.get("gamma", 0.99),
            norm_obs=task.normalize_observation,
            norm_reward=task.normalize_reward,
        )
    return venv if recipe.frames == 1 else VecFrameStack(venv, recipe.frames)


def floor_of(task: Task) -> FeasibilityFloor | None:
    """What a policy needs to hold the task's equilibrium, in raw units; ``None`` if the task names none.

    None of policies behind a filter, too: with a memory between it and the actuator there may be another one.
    """
    if task.equilibrium is None or task.smoothing is not None:
        return None
    env = task.make()
    env.reset(seed=0)
    try:
        return feasibility_floor(env, *task.equilibrium)
    finally:
        env.close()


def live_smoothness(recipe: Recipe, task: Task, floor: FeasibilityFloor | None) -> SmoothnessCallback:
    """What is watched while an agent learns: its slope, and a few clean and noisy episodes."""
    return SmoothnessCallback(
        feasibility=floor,
        eval_env=task.make,
        disturbance=GaussianNoise(task.chatter_strength),
        max_episode_steps=recipe.for_task(task.name).max_episode_steps,
    )


def refuse_fixed_end(recipe: Recipe, task: str, bound: float | str | None) -> None:
    """Refuse a K for an agent whose K moves to one of its own while it learns: that one would be the agent's.

    Raises:
        ValueError: it is one.
    """
    if bound is not None and task in recipe.final_bound:
        raise ValueError(
            f"lipschitz_bound={bound} would be where {recipe.name!r} starts from; on {task} it ends at "
            f"{recipe.final_bound[task]:g} whatever that is. Leave it out, or choose an agent whose K stays."
        )


def policy_options(
    recipe: Recipe, task: Task, bound: float | str | None, budget: str | None, scale: float
) -> dict[str, Any]:
    """What replaces the recipe's own options of the policy. A search for K needs layers that can grow, and room."""
    refuse_fixed_end(recipe, task.name, bound)
    if bound == "auto":
        bound, budget = LOOSE * recipe.lipschitz_bound.get(task.name, 1.0), budget or "growing"
    return {"lipschitz_bound": bound, "budget": budget, "regularizer_scale": scale}


def search_for_bound(
    model: BaseAlgorithm, recipe: Recipe, task: Task, floor: FeasibilityFloor | None
) -> AutoLipschitz:
    """The search of ``--lipschitz-bound auto``, above the task's floor, in the policy's units as they are then."""
    return AutoLipschitz(
        floor=0.0 if floor is None else lambda model: float(floor.floor_for(policy_units(model))),
        eval_env=make_training_env(recipe, task, SEARCH_EPISODES),
        n_eval_episodes=SEARCH_EPISODES,
    )


def hyperparameters(recipe: Recipe, task: Task, options: dict[str, Any]) -> dict[str, Any]:
    """What config.json says of how an agent learns.

    Args:
        options: that replaced the recipe's.
    """
    settings = recipe.for_task(task.name)
    return {
        "n_envs": settings.n_envs,
        "max_episode_steps": settings.max_episode_steps,
        **{key: repr(value) if callable(value) else value for key, value in settings.algorithm.items()},
        "policy_kwargs": {
            key: getattr(value, "__name__", value)
            for key, value in recipe.policy_kwargs(task, **options).items()
        },
    }


def describe(
    model: BaseAlgorithm,
    recipe: Recipe,
    task: Task,
    floor: FeasibilityFloor | None,
    timesteps: int,
    label: str | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    """What config.json says of a training before it begins.

    Args:
        options: that replaced the recipe's.
    """
    return {
        "agent": label or recipe.name,
        "recipe": recipe.name,
        "task": task.name,
        "env_id": task.env_id,
        **({"env_kwargs": dict(task.env_kwargs)} if task.env_kwargs else {}),
        **around(task),
        "seed": model.seed,
        "timesteps": timesteps,
        "algorithm": type(model).__name__,
        "policy": recipe.policy if isinstance(recipe.policy, str) else recipe.policy.__name__,
        "feasibility_floor": None if floor is None else floor.floor,
        "lipschitz_bound": getattr(getattr(model.policy, "options", None), "lipschitz_bound", None),
        **(
            {"lipschitz_schedule": {"end": recipe.final_bound[task.name]}}
            if task.name in recipe.final_bound
            else {}
        ),
        "layer": recipe.layer,
        "history": attached_frames(model),
        "disturbance": recipe.disturbance.get(task.name),
        "live_disturbance": f"gaussian:{task.chatter_strength:g}",
        "vec_normalize": model.get_vec_normalize_env() is not None,
        "hyperparameters": hyperparameters(recipe, task, options),
        "command": command_line("experiments.train"),
        "versions": versions(),
        "git_revision": git_revision(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
