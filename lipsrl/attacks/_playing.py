"""Whole episodes of a policy whose observations are displaced by constants, many side by side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from lipsrl import _episodes
from lipsrl.actors.acting import Acting
from lipsrl.actors.view import Shown, View
from lipsrl.attacks._norms import FloatArray


@dataclass(frozen=True)
class Player:
    """A policy, how it sees, and environments that are stepped side by side (reset here)."""

    acting: Acting
    view: View
    made: Sequence[gym.Env[Any, Any]]

    def returns(self, moves: FloatArray, seeds: Sequence[int]) -> FloatArray:
        """(len(moves), len(seeds)) returns of deterministic episodes; -∞ where something was not finite.

        Args:
            moves: (n, dim) displacements in the budget's unit, each held through an episode of each seed.
            seeds: of the environment.

        Raises:
            EndlessEpisodeError: an episode without a time limit does not end.
        """
        return self._play(moves, seeds)[0]

    def seen(self, seeds: Sequence[int]) -> FloatArray:
        """(steps, frames·dim) what the policy receives in episodes without displacement."""
        return self._play(np.zeros((1, self.view.dim)), seeds)[1]

    def _play(self, moves: FloatArray, seeds: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        waiting = itertools.product(range(len(moves)), range(len(seeds)))
        returns = np.zeros((len(moves), len(seeds)))
        recorded: list[FloatArray] = []
        shown = Shown(self.view, len(self.made))
        running: dict[int, tuple[int, int]] = {}
        observations: dict[int, Any] = {}
        steps = dict.fromkeys(range(len(self.made)), 0)

        def start(slot: int) -> None:
            task = next(waiting, None)
            if task is not None:
                running[slot] = task
                observations[slot], _ = self.made[slot].reset(seed=seeds[task[1]])
                shown.begin([slot])
                steps[slot] = 0

        for slot in range(len(self.made)):
            start(slot)
        bounded = _episodes.time_limit(self.made[0]) is not None
        while running:
            rows = np.array(list(running))
            raw = np.stack([observations[slot] for slot in running])
            raw = raw if raw.dtype.kind == "f" else raw.astype(np.float64)
            attacked = self.view.displaced(raw, moves[[move for move, _ in running.values()]])
            seen = shown.seen(attacked, rows)
            shown.show(attacked, rows)
            recorded.append(seen)
            for slot, action in zip(rows.tolist(), self._actions(seen), strict=True):
                observation, reward, terminated, truncated, _ = self.made[slot].step(action)
                observations[slot] = observation
                steps[slot] += 1
                task = running[slot]
                returns[task] += float(reward)
                finite = bool(np.isfinite(returns[task]) and np.isfinite(observation).all())
                if not finite:
                    returns[task] = -np.inf
                elif not bounded and steps[slot] >= _episodes.ENDLESS:
                    raise _episodes.EndlessEpisodeError.of("An episode in the search for the worst bias")
                if terminated or truncated or not finite:
                    del running[slot]
                    start(slot)
        return returns, np.concatenate(recorded)

    def _actions(self, seen: FloatArray) -> list[Any]:
        with torch.no_grad():
            out = self.acting.act(torch.from_numpy(seen)).numpy()
        space = self.made[0].action_space
        if self.acting.choices is None:
            assert isinstance(space, spaces.Box)
            actions: NDArray[Any] = np.clip(
                out.astype(space.dtype), space.low.reshape(-1), space.high.reshape(-1)
            )
            return list(actions.reshape(-1, *space.shape))
        ends = np.cumsum(self.acting.choices)[:-1]
        best = np.stack([part.argmax(axis=1) for part in np.split(out, ends, axis=1)], axis=1)
        return list(
            best[:, 0] if isinstance(space, spaces.Discrete) else best.reshape(-1, *(space.shape or ()))
        )
