"""Which runs belong into one table: of one task, each training once, and of one setting per agent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from envs import Task, get_task
from lipsrl.tracking import RunFolder

#: What all runs of an agent share but for the seed, as `experiments.train` notes it.
_SETTINGS = (
    "recipe", "algorithm", "env_kwargs", "env_wrapper", "lesson", "disturbance", "timesteps", "status", "history",
    "layer", "hyperparameters",
)  # fmt: skip


def one_task(configs: Sequence[dict[str, Any]]) -> Task:
    """The task that all runs share; ``ValueError`` if they do not."""
    names = sorted({config["task"] for config in configs})
    if len(names) != 1:
        raise ValueError(f"The runs are of different tasks ({', '.join(names)}); give runs of one task.")
    return get_task(names[0])


def refuse_pooling(folders: Sequence[RunFolder]) -> None:
    """Of every task: ``ValueError`` where `refuse_twins` or `refuse_mixtures` raises one."""
    configs = [folder.read_config() for folder in folders]
    for task in {config["task"] for config in configs}:
        own = [
            (folder, config)
            for folder, config in zip(folders, configs, strict=True)
            if config["task"] == task
        ]
        refuse_twins(*zip(*own, strict=True))
        refuse_mixtures(*zip(*own, strict=True))


def refuse_twins(folders: Sequence[RunFolder], configs: Sequence[dict[str, Any]]) -> None:
    """``ValueError`` if two runs have the same agent and training seed."""
    seen: dict[tuple[str, int], RunFolder] = {}
    for folder, config in zip(folders, configs, strict=True):
        key = (config["agent"], config["seed"])
        if key in seen:
            raise ValueError(
                f"{seen[key].path} and {folder.path} are both agent {key[0]!r} with training seed {key[1]}; "
                "give one of them."
            )
        seen[key] = folder


def refuse_mixtures(folders: Sequence[RunFolder], configs: Sequence[dict[str, Any]]) -> None:
    """``ValueError`` if the trainings of one agent differ in more than their seed: one line would be of both."""
    first: dict[str, tuple[RunFolder, dict[str, str]]] = {}
    for folder, config in zip(folders, configs, strict=True):
        own = _flat({name: config[name] for name in _SETTINGS if name in config})
        own["lipschitz_search"] = json.dumps("lipschitz_search" in config)  # not the K that it found
        known, theirs = first.setdefault(config["agent"], (folder, own))
        differing = [name for name in own if own[name] != theirs.get(name, own[name])]
        if differing:
            name = differing[0]
            raise ValueError(
                f"{known.path} and {folder.path} are both agent {config['agent']!r}, but were trained with "
                f"{name}={theirs[name]} and {own[name]}. Compare runs of the same settings, or train one of them with "
                "--label NAME."
            )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = json.dumps(value)
    return found
