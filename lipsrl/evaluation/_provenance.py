"""What an evaluation says of itself: who was measured, in what, with which versions; and what stored episodes depend
on."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl.actors.fingerprint import environment_identity, model_fingerprint
from lipsrl.actors.normalization import settled
from lipsrl.attacks._aim import searches_in_a_factory
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import Env
from lipsrl.evaluation._request import Request
from lipsrl.evaluation._schema import SCHEMA_VERSION
from lipsrl.policies._unwrapped import policy_of


def describe(request: Request, controllers: Sequence[Controller]) -> list[dict[str, Any]]:
    """One entry per model, as in the metadata, with what it can be recognised by."""
    return [
        {
            "agent": contestant.agent,
            "seed": contestant.seed,
            "model": type(contestant.model).__name__,
            "policy": type(policy_of(contestant.model)).__name__
            if isinstance(contestant.model, BaseAlgorithm)
            else None,
            "vec_normalize": normalization is not None,
            "frame_stack": controller.frames,
            "fingerprint": model_fingerprint(contestant.model, settled(normalization), controller.frames),
        }
        for contestant, normalization, controller in zip(
            request.contestants, request.normalizations, controllers, strict=True
        )
    ]


def identity(agents: Sequence[dict[str, Any]], request: Request, env: Env) -> list[Any]:
    """What stored episodes of each agent depend on.

    Raises:
        ValueError: an agent or an environment that could not be recognised.
    """
    specification = environment_identity(env)
    if specification is None:
        raise ValueError(
            f"resume= needs an environment that can be recognised, but {env} has no complete specification. Register "
            "it (gymnasium.register) and give its id, with wrappers that record their arguments "
            "(gymnasium.utils.RecordConstructorArgs)."
        )
    for agent, contestant in zip(agents, request.contestants, strict=True):
        if agent["fingerprint"] is None:
            raise ValueError(
                f"resume= needs to recognise {contestant.label}, but a {agent['model']} has no weights that could be "
                "compared. Give it an attribute fingerprint: a text that changes whenever its actions do."
            )
    for disturbance in request.disturbances.values():
        nameless = None if disturbance is None else searches_in_a_factory(disturbance)
        if nameless is not None:
            raise ValueError(
                f"resume= needs to recognise where {nameless!r} searches, but its env= is a factory. Give the id of a "
                "registered environment."
            )
    # a specification does not tell a limit around other wrappers from one inside of them
    limit = [] if request.max_episode_steps is None else [{"max_episode_steps": request.max_episode_steps}]
    return [[SCHEMA_VERSION, versions(), specification, agent["fingerprint"], *limit] for agent in agents]


def settings(request: Request, agents: Sequence[dict[str, Any]], env: Env) -> dict[str, Any]:
    """The part of the metadata that is known before an episode is run."""
    return {
        "env_spec": environment_identity(env),
        "agents": list(agents),
        "disturbances": {n: None if d is None else d.to_dict() for n, d in request.disturbances.items()},
        "strengths": request.strengths,
        "n_episodes": request.n_episodes,
        "seed": request.seed,
        "floor": request.floor,
        "sensitivity_std": np.asarray(request.sensitivity_std).tolist(),
        "n_envs": request.n_envs,
        "n_workers": request.n_workers,
    }


def versions() -> dict[str, str]:
    """Of the libraries that a row may depend on."""
    return {
        # by name: an import statement would tie this room to every room that the package's front door names
        "lipsrl": importlib.import_module("lipsrl").__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "stable_baselines3": stable_baselines3.__version__,
        "gymnasium": gymnasium.__version__,
    }
