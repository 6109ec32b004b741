"""What a policy is told besides the observation of the moment: past frames, a hidden state, action masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lipsrl.actors.frames import FrameStack
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import Env
from lipsrl.evaluation._memory import Memory
from lipsrl.evaluation._observations import Observations, padded, take


class Session:
    """One agent in several slots, each with a memory of its own episode.

    Args:
        controller: the agent.
        environments: one per slot; asked for ``action_masks()`` where the policy takes them (sb3-contrib).
    """

    def __init__(self, controller: Controller, environments: Sequence[Env]) -> None:
        self._controller = controller
        self._environments = environments
        slots = len(environments)
        self._size = slots + -slots % controller.rows
        self._starting = np.ones(self._size, dtype=np.bool_)
        self._frames: FrameStack | None = None
        self._states: tuple[torch.Tensor, torch.Tensor] | None = None
        self._masks: NDArray[np.bool_] | None = None
        self._asks = controller.masked and environments[0].has_wrapper_attr("action_masks")
        if controller.recurrent:
            policy: Any = controller.policy
            layers, _, hidden = policy.lstm_hidden_state_shape
            zeros = torch.zeros(layers, self._size, hidden, device=policy.device)
            self._states = (zeros, zeros.clone())
        self._memories: list[Memory | None] = [None] * slots
        self._plain = not (controller.remembers or self._asks)

    def begin(self, slot: int) -> None:
        """The next observation in this slot is the first one of an episode."""
        self._starting[slot] = True

    def propose(self, observations: Observations, active: NDArray[np.intp]) -> NDArray[Any]:
        """As `Controller.propose`, with the memory of each slot."""
        controller = self._controller
        if self._plain:
            return controller.propose(observations, active)
        seen = observations
        if controller.frames > 1 and controller.normalizes_frames:
            seen = self._stacked(controller.normalized(seen))
        else:
            if controller.frames > 1:
                seen = self._stacked(seen)
            seen = controller.normalized(seen)
        if controller.keeps_state:
            return self._one_by_one(seen, active)
        if self._asks:
            self._read_masks(active)
        actions = controller.blockwise(padded(seen, controller.rows), active, self._predict)
        self._starting[active] = False
        return actions[: len(self._environments)]

    def _one_by_one(self, seen: Observations, active: NDArray[np.intp]) -> NDArray[Any]:
        actions: NDArray[Any] | None = None
        for slot in active.tolist():
            if self._starting[slot]:
                self._memories[slot] = self._controller.memory()
                self._starting[slot] = False
            memory = self._memories[slot]
            assert memory is not None
            row = take(seen, slice(slot, slot + 1))
            action = self._controller.checked(memory(row), row)
            if actions is None:
                actions = np.zeros((len(self._environments), *action.shape[1:]), dtype=action.dtype)
            actions[slot] = action[0]
        assert actions is not None
        return actions

    def _stacked(self, observations: NDArray[Any]) -> NDArray[Any]:
        """The last frames of each slot, the newest last, zeros before the first, as SB3's VecFrameStack."""
        if self._frames is None:
            n, *shape = observations.shape
            frames, axis = self._controller.frames, self._controller.axis
            self._frames = FrameStack(n, shape, frames, observations.dtype, axis)
        self._frames.begin(self._starting[: len(observations)])
        return self._frames.push(observations)

    def _read_masks(self, active: NDArray[np.intp]) -> None:
        for slot in active.tolist():
            mask = np.asarray(self._environments[slot].get_wrapper_attr("action_masks")(), dtype=np.bool_)
            if self._masks is None:
                self._masks = np.ones((self._size, mask.size), dtype=np.bool_)
            self._masks[slot] = mask.reshape(-1)

    def _predict(self, tensor: Any, rows: Any) -> torch.Tensor:
        policy: Any = self._controller.policy
        if self._states is not None:
            hidden, cell = (state[:, rows].contiguous() for state in self._states)
            starts = torch.as_tensor(self._starting[rows], dtype=torch.float32, device=policy.device)
            actions, states = policy._predict(
                tensor, lstm_states=(hidden, cell), episode_starts=starts, deterministic=True
            )
            for state, new in zip(self._states, states, strict=True):
                state[:, rows] = new
            answer: torch.Tensor = actions
            return answer
        if self._masks is not None:
            masked: torch.Tensor = policy._predict(tensor, deterministic=True, action_masks=self._masks[rows])
            return masked
        plain: torch.Tensor = policy._predict(tensor, deterministic=True)
        return plain
