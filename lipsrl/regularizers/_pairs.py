"""Successive observations, from the buffers that SB3 learns from: the same episode, or masked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import (
    DictReplayBuffer,
    DictRolloutBuffer,
    NStepReplayBuffer,
    ReplayBuffer,
    RolloutBuffer,
)
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer
from torch import Tensor

from lipsrl.regularizers._batch import Neighbour
from lipsrl.regularizers._observations import Observations

_ROLLOUT = (RolloutBuffer, DictRolloutBuffer)
_REPLAY = (ReplayBuffer, DictReplayBuffer, NStepReplayBuffer)

#: Draws again what a buffer has drawn; its own state is set before each use.
_REDRAW = np.random.RandomState(0)


def check_buffer(buffer: Any, needs: frozenset[str]) -> None:
    """Refuse a buffer whose rows have no known neighbours.

    Raises:
        ValueError: says which are known.
    """
    if not needs:
        return
    cls = type(buffer)
    if isinstance(buffer, HerReplayBuffer):
        if "previous" in needs:
            raise ValueError(
                "HerReplayBuffer relabels each transition by itself, so a row has no predecessor with the same goal. "
                "Use a loss over (o_t, o_{t+1}), CAPS or CATS, or a plain replay buffer."
            )
        return
    known = _ROLLOUT if isinstance(buffer, RolloutBuffer) else _REPLAY
    stock = {one._get_samples for one in known}
    if getattr(cls, "_get_samples", None) not in stock:
        raise ValueError(
            f"{cls.__module__}.{cls.__name__} samples its rows in its own way, so which rows follow each other is not "
            "known. Known: SB3's RolloutBuffer, ReplayBuffer, NStepReplayBuffer, HerReplayBuffer and their Dict forms."
        )


def _rows(observations: Any, index: Any) -> Any:
    if isinstance(observations, dict):
        return {key: values[index] for key, values in observations.items()}
    return observations[index]


def _tensors(buffer: Any, observations: Any) -> Observations:
    if isinstance(observations, dict):
        return {key: buffer.to_torch(values) for key, values in observations.items()}
    tensor: Tensor = buffer.to_torch(observations)
    return tensor


def _mask(buffer: Any, mask: Any) -> Tensor:
    return torch.as_tensor(np.asarray(mask, dtype=np.float32), device=buffer.device)


class RolloutNeighbours:
    """Of the rows of a rollout buffer, whose ``get`` has put them env by env: row = env · n_steps + step.

    Args:
        buffer: full.
        last_observations: (n_envs, …) that follow the last step, if they are known.
        last_dones: (n_envs,) whether the last step ended an episode.
    """

    def __init__(self, buffer: Any, last_observations: Any, last_dones: Any) -> None:
        self.buffer, self.last = buffer, last_observations
        starts = np.asarray(buffer.episode_starts, dtype=bool)  # (n_steps, n_envs): get() leaves it as it is
        ends = np.ones_like(starts[:1])
        if last_observations is not None and last_dones is not None:
            ends = np.asarray(last_dones, dtype=bool).reshape(1, -1)
        #: (n_steps · n_envs,) whether there is one
        self.has_next = ~np.concatenate([starts[1:], ends]).T.reshape(-1)
        before = np.concatenate([np.ones_like(starts[:1]), starts[1:]])
        self.has_previous = ~before.T.reshape(-1)

    def next(self, rows: np.ndarray) -> Neighbour:
        """o_{t+1} of each row."""
        n_steps = self.buffer.buffer_size
        last = rows % n_steps == n_steps - 1
        following = _rows(self.buffer.observations, np.where(last, rows, rows + 1))
        if last.any() and self.last is not None:
            at, env = np.flatnonzero(last), rows[last] // n_steps
            pairs = (
                [(following[key], self.last[key]) for key in following]
                if isinstance(following, dict)
                else [(following, self.last)]
            )
            for values, newest in pairs:
                values[at] = np.asarray(newest)[env].reshape(values[at].shape)
        return Neighbour(_tensors(self.buffer, following), _mask(self.buffer, self.has_next[rows]))

    def previous(self, rows: np.ndarray) -> Neighbour:
        """o_{t-1} of each row."""
        has = self.has_previous[rows]
        before = _rows(self.buffer.observations, np.where(has, rows - 1, rows))
        return Neighbour(_tensors(self.buffer, before), _mask(self.buffer, has))


class ReplayNeighbours:
    """Of the rows (slot, env) of a replay buffer, which holds each transition's own next observation."""

    def __init__(self, buffer: Any, slots: np.ndarray, envs: np.ndarray, vec_normalize: Any) -> None:
        self.buffer, self.slots, self.envs, self.vec_normalize = buffer, slots, envs, vec_normalize

    def _neighbour(self, observations: Any, mask: Any) -> Neighbour:
        normalised = self.buffer._normalize_obs(observations, self.vec_normalize)
        return Neighbour(_tensors(self.buffer, normalised), _mask(self.buffer, mask))

    def next(self) -> Neighbour:
        """o_{t+1}: at the end of an episode the terminal observation.

        With ``optimize_memory_usage`` SB3 keeps none: there stands the next episode's first one, and it is masked.
        """
        buffer, index = self.buffer, (self.slots, self.envs)
        if buffer.optimize_memory_usage:
            following = _rows(buffer.observations, ((self.slots + 1) % buffer.buffer_size, self.envs))
            return self._neighbour(following, 1.0 - buffer.dones[index])
        return self._neighbour(_rows(buffer.next_observations, index), np.ones(len(self.slots)))

    def previous(self) -> Neighbour:
        """o_{t-1}: of the slot before, if its transition led here."""
        buffer = self.buffer
        before = ((self.slots - 1) % buffer.buffer_size, self.envs)
        oldest = buffer.pos if buffer.full else 0
        if (
            buffer.full and buffer.optimize_memory_usage
        ):  # slot `pos` holds what follows the newest transition
            oldest = (buffer.pos + 1) % buffer.buffer_size
        led = (self.slots != oldest) & (buffer.dones[before] == 0)
        if not buffer.optimize_memory_usage:
            # an environment that was reset between two trainings leaves no mark in `dones`
            led &= _same(
                _rows(buffer.next_observations, before), _rows(buffer.observations, (self.slots, self.envs))
            )
        return self._neighbour(_rows(buffer.observations, before), led)


def _same(one: Any, other: Any) -> np.ndarray:
    pairs = [(one[key], other[key]) for key in one] if isinstance(one, dict) else [(one, other)]
    equal = [(a == b).reshape(len(a), -1).all(axis=1) for a, b in pairs]
    together: np.ndarray = np.logical_and.reduce(equal)
    return together


def watched_get_samples(buffer: Any, seen: Callable[[ReplayNeighbours, Any], None]) -> Callable[..., Any]:
    """``buffer._get_samples`` that also tells ``seen`` which rows it took.

    SB3 draws the environments of the rows there as the first thing: the same draw is repeated from a copy of the state.
    """
    stock = buffer._get_samples

    def _get_samples(batch_inds: np.ndarray, env: Any = None) -> Any:
        _REDRAW.set_state(np.random.get_state())  # noqa: NPY002 - SB3's own generator
        samples = stock(batch_inds, env)
        envs = _REDRAW.randint(0, high=buffer.n_envs, size=(len(batch_inds),))
        slots = np.asarray(batch_inds)
        if not np.array_equal(buffer.actions[slots, envs], samples.actions.cpu().numpy()):
            raise RuntimeError(
                f"{type(buffer).__name__} draws its rows in another way than lipsrl knows (Stable-Baselines3 changed "
                "it?), so no successive observations can be given. Please report this with your SB3 version."
            )
        seen(ReplayNeighbours(buffer, slots, envs, env), samples)
        return samples

    return _get_samples
