"""Episodes to learn from and episodes to choose by, with seeds of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl.actors.frames import stacked_episode
from lipsrl.distillation._losses import loss_of
from lipsrl.disturbances import Disturbance
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import Env
from lipsrl.evaluation._rollout import Episode, Task, run_episodes
from lipsrl.policies._unwrapped import policy_of

#: Episodes that the teacher shows, that the student adds per round, and by which students are compared.
SHOWN, PER_ROUND, HELD_OUT = 20, 15, 30

# the kinds of draws of a distillation; 64-bit seeds, so that no evaluation meets the same episodes
_COLLECTION, _HELD_OUT, WEIGHTS, BATCHES, EXPLORATION = range(5)


def derived_seed(seed: int, kind: int) -> int:
    """A seed in [0, 2⁶³) for one kind of draw of the distillation ``seed``."""
    sequence = np.random.SeedSequence(seed, spawn_key=(kind,))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


class Rollouts:
    """Batched episodes of the teacher and the student, under the disturbance if there is one.

    Args:
        frame_stack: of teacher and students; None: as in the teacher's own environment.

    Raises:
        ValueError: the teacher's spaces, normalisation or frame stack do not fit the environments.
    """

    def __init__(
        self,
        teacher: BaseAlgorithm,
        environments: list[Env],
        vec_normalize: VecNormalize | None,
        disturbance: Disturbance | None,
        seed: int,
        frame_stack: int | None = None,
    ) -> None:
        self._environments = environments
        self._vec_normalize = vec_normalize
        self._disturbance = disturbance
        self._seed = seed
        self._collected = 0
        self._frame_stack = frame_stack
        self.teacher = self.controller(teacher, "the teacher")
        self._loss = loss_of(policy_of(teacher))

    def controller(self, model: BaseAlgorithm, label: str) -> Controller:
        """``model`` as these environments meet it."""
        return Controller(model, self._environments[0], self._vec_normalize, label, self._frame_stack)

    def collect(self, actor: Controller, episodes: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """New states of ``actor``: what the policy received ``(n, dim)``, and what the loss asks the teacher there.

        The policy is shown disturbed observations, the teacher is asked on the clean ones.
        """
        numbers = range(self._collected, self._collected + episodes)
        self._collected += episodes
        results = list(self._run(actor, numbers, _COLLECTION))
        shown, clean = (
            np.concatenate([self._received(getattr(episode, name)) for episode in results])
            for name in ("disturbed", "observations")
        )
        return shown, self._loss.targets(self.teacher, clean)

    def _received(self, observations: NDArray[Any]) -> NDArray[Any]:
        """What the policies receive in an episode of these raw observations (T, dim): (T, frames·dim)."""
        teacher = self.teacher
        if teacher.normalizes_frames:
            return stacked_episode(np.asarray(teacher.normalized(observations)), teacher.frames)
        return np.asarray(teacher.normalized(stacked_episode(observations, teacher.frames)))

    def returns(self, actor: Controller) -> NDArray[np.float64]:
        """``(HELD_OUT,)``: the same episodes for every actor, none of them learned from."""
        by_episode = {e.task.episode: e.rewards.sum() for e in self._run(actor, range(HELD_OUT), _HELD_OUT)}
        return np.array([by_episode[number] for number in range(HELD_OUT)])

    def _run(self, actor: Controller, numbers: range, kind: int) -> Iterator[Episode]:
        tasks = [Task(1.0, number) for number in numbers]
        seed = derived_seed(self._seed, kind)
        return run_episodes(actor, self._environments, tasks, self._disturbance, seed)
