"""What an evaluation's metadata say of its environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym


def env_kwargs_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments that the environment of an evaluation was made with, its registered ones among them."""
    return dict((metadata.get("env_spec") or {}).get("kwargs") or {})


def environment_in_words(metadata: Mapping[str, Any]) -> str:
    """Id of the environment, with the arguments that are not its registered ones; empty where it is not known."""
    env_id = metadata.get("env")
    if not env_id:
        return ""
    registered = gym.registry.get(str(env_id))
    usual = {} if registered is None else registered.kwargs
    own = {
        name: value
        for name, value in env_kwargs_of(metadata).items()
        if name not in usual or usual[name] != value
    }
    return (
        f"{env_id} ({', '.join(f'{name}={value!r}' for name, value in own.items())})" if own else str(env_id)
    )
