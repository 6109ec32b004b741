"""All that a training is made of at one moment, out of its objects and back into fresh ones.

Not in it: where the environments' bodies are (MuJoCo's and Box2D's state). A training that goes on begins new episodes,
drawn from the environments' own generators as they were.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from lipsrl.wrappers._vec import VecDisturbance, vec_layers

#: Attributes of an SB3 model that are made anew: what they hold is saved on its own, or begins with an episode.
FRESH = frozenset(
    {"env", "_vec_normalize_env", "replay_buffer", "rollout_buffer", "_logger", "_custom_logger"}
    | {"_last_obs", "_last_original_obs", "_last_episode_starts"}
)


def _cut(value: Any, size: int, filled: int) -> Any:
    """Arrays of a buffer with ``size`` rows, without those that were never written."""
    if isinstance(value, np.ndarray) and value.shape[:1] == (size,):
        return value[:filled]
    if isinstance(value, dict):
        return {key: _cut(one, size, filled) for key, one in value.items()}
    return value


def _fill(old: Any, value: Any) -> Any:
    """``value`` in the memory of ``old``."""
    if isinstance(old, np.ndarray) and isinstance(value, np.ndarray) and old.shape[1:] == value.shape[1:]:
        old[: len(value)] = value
        return old
    if isinstance(old, dict) and isinstance(value, dict):
        return {key: _fill(old[key], one) for key, one in value.items()}
    return value


def _buffer_state(buffer: Any) -> dict[str, Any]:
    filled = buffer.buffer_size if buffer.full else buffer.pos
    kept = {key: value for key, value in vars(buffer).items() if key not in ("env", "device")}
    return {key: _cut(value, buffer.buffer_size, filled) for key, value in kept.items()}


def _restore_buffer(buffer: Any, state: dict[str, Any]) -> None:
    for key, value in state.items():
        setattr(buffer, key, _fill(getattr(buffer, key, None), value))
    newest = (buffer.pos - 1) % buffer.buffer_size
    if (buffer.full or buffer.pos) and getattr(buffer, "handle_timeout_termination", False):
        # the newest transition is followed by another episode's first: cut short, not ended
        buffer.timeouts[newest] = np.where(buffer.dones[newest], buffer.timeouts[newest], 1.0)
        buffer.dones[newest] = 1.0


def _environments(venv: VecEnv) -> list[Any]:
    return [env.unwrapped for env in getattr(venv.unwrapped, "envs", [])]


def capture(model: BaseAlgorithm) -> dict[str, Any]:
    """The state of ``model``, its environments and all generators, sharing memory with them: write it at once."""
    venv, statistics = model.get_env(), model.get_vec_normalize_env()
    assert venv is not None
    buffer = getattr(model, "replay_buffer", None)
    return {
        "model": {key: value for key, value in vars(model).items() if key not in FRESH},
        "replay_buffer": None if buffer is None else _buffer_state(buffer),
        "normalization": statistics and {"obs_rms": statistics.obs_rms, "ret_rms": statistics.ret_rms},
        "disturbances": [one.streams for one in vec_layers(venv) if isinstance(one, VecDisturbance)],
        "environments": [env.np_random.bit_generator.state for env in _environments(venv)],
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - SB3's own generator
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
    }


def restore(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    """Put a captured state into a model that was built alike; the next thing to do is ``learn``."""
    venv, statistics = model.get_env(), model.get_vec_normalize_env()
    assert venv is not None
    vars(model).update(state["model"])
    if state["replay_buffer"] is not None:
        _restore_buffer(model.replay_buffer, state["replay_buffer"])  # type: ignore[attr-defined]
    if statistics is not None:
        vars(statistics).update(state["normalization"])
    disturbed = [one for one in vec_layers(venv) if isinstance(one, VecDisturbance)]
    for wrapper, streams in zip(disturbed, state["disturbances"], strict=True):
        wrapper.streams = streams
    for layer in vec_layers(venv):
        layer._reset_seeds()  # the first reset would start from the seed of the training again
    for env, generator in zip(_environments(venv), state["environments"], strict=True):
        env.np_random.bit_generator.state = generator
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
