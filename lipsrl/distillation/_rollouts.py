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
from lipsrl.wrappers._strength import Level, draw

#: Episodes that the teacher shows, that the student adds per round, and by which students are compared.
SHOWN, PER_ROUND, HELD_OUT = 20, 15, 30
#: A window has more to tell apart: with 40 chatter and return under much noise were better than with 15.
PER_ROUND_OF_WINDOWS = 40

# the kinds of draws of a distillation; 64-bit seeds, so that no evaluation meets the same episodes
_COLLECTION, _HELD_OUT, WEIGHTS, BATCHES, EXPLORATION, _STRENGTHS, FINE_TUNING = range(7)


def derived_seed(seed: int, kind: int) -> int:
    """A seed in [0, 2⁶³) for one kind of draw of the distillation ``seed``."""
    sequence = np.random.SeedSequence(seed, spawn_key=(kind,))
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1  # NumPy 1 has no uint64 >> int


class Rollouts:
    """Batched episodes of the teacher and the student, under the disturbance if there is one.

    Args:
        strength: of the disturbance: a number, or a range (low, high) to draw from in every episode.
        frame_stack: what the teacher sees at once; None: as in its own environment.
        history: what students see at once; None: as the teacher.

    Attributes:
        teacher: as these environments meet it.
        history: what students see at once.

    Raises:
        ValueError: the teacher's spaces, normalisation or frame stack do not fit the environments, or its students
            cannot have this history.
    """

    def __init__(
        self,
        teacher: BaseAlgorithm,
        environments: list[Env],
        vec_normalize: VecNormalize | None,
        disturbance: Disturbance | None,
        seed: int,
        frame_stack: int | None = None,
        *,
        strength: Level = 1.0,
        history: int | None = None,
    ) -> None:
        self._environments = environments
        self._vec_normalize = vec_normalize
        self._disturbance = disturbance
        self._strength = strength
        self._seed = seed
        self._collected = 0
        self.teacher = self._controller(teacher, "the teacher", frame_stack)
        self.history = self.teacher.frames if history is None else history
        self._check_history()
        self._loss = loss_of(policy_of(teacher))

    @property
    def per_round(self) -> int:
        """Episodes that a student adds in every round."""
        return PER_ROUND if self.history == self.teacher.frames else PER_ROUND_OF_WINDOWS

    def student(self, model: BaseAlgorithm) -> Controller:
        """``model`` with its current weights; they are the target of an attack among the disturbances."""
        return self._controller(model, "the student", self.history)

    def _controller(self, model: BaseAlgorithm, label: str, frames: int | None) -> Controller:
        return Controller(model, self._environments[0], self._vec_normalize, label, frames)

    def _check_history(self) -> None:
        frames, history = self.teacher.frames, self.history
        if history < frames:
            raise ValueError(
                f"history={history} is shorter than what the teacher sees, {frames} observations at once. Give "
                "at least as many, or None."
            )
        if history > frames > 1 and self._vec_normalize is not None and not self.teacher.normalizes_frames:
            raise ValueError(
                f"history={history}: the teacher's VecNormalize is of its stacks of {frames} observations, and a "
                "longer window needs statistics of single ones. Distil a teacher whose frames are normalised before "
                "they are stacked (VecFrameStack around VecNormalize), or leave history out."
            )

    def collect(self, actor: Controller, episodes: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """New states of ``actor``: what a student receives ``(n, history·dim)``, and what the loss asks the teacher.

        The policy is shown disturbed observations, the teacher is asked on the clean ones.
        """
        first = self._collected
        self._collected += episodes
        tasks = [Task(self._drawn(number), number) for number in range(first, self._collected)]
        results = list(self._run(actor, tasks, _COLLECTION))
        shown = [self._received(episode.disturbed, self.history) for episode in results]
        clean = [self._received(episode.observations, self.teacher.frames) for episode in results]
        return np.concatenate(shown), self._loss.targets(self.teacher, np.concatenate(clean))

    def _drawn(self, number: int) -> float:
        """The strength of an episode to learn from."""
        generator = np.random.default_rng([derived_seed(self._seed, _STRENGTHS), number])
        return draw(self._strength, 1.0, generator)

    def _received(self, observations: NDArray[Any], frames: int) -> NDArray[Any]:
        """What a policy receives in an episode of these raw observations (T, dim): (T, frames·dim)."""
        teacher = self.teacher
        if frames > 1 and teacher.frames == frames and not teacher.normalizes_frames:
            return np.asarray(teacher.normalized(stacked_episode(observations, frames)))
        return stacked_episode(np.asarray(teacher.normalized(observations)), frames)

    def returns(self, actor: Controller) -> NDArray[np.float64]:
        """The same episodes for every actor, none of them learned from.

        Returns:
            ``(HELD_OUT,)`` without a disturbance; with one ``(2·HELD_OUT,)``: clean episodes, then disturbed ones,
            whose strengths are spread evenly over the range.
        """
        if self._disturbance is None:
            strengths = np.zeros(HELD_OUT)
        else:
            low, high = self._strength if isinstance(self._strength, tuple) else (self._strength,) * 2
            spread = low + (high - low) * (np.arange(HELD_OUT) + 0.5) / HELD_OUT
            strengths = np.concatenate([np.zeros(HELD_OUT), spread])
        tasks = [Task(float(strength), number) for number, strength in enumerate(strengths)]
        by_episode = {e.task.episode: e.rewards.sum() for e in self._run(actor, tasks, _HELD_OUT)}
        return np.array([by_episode[task.episode] for task in tasks])

    def _run(self, actor: Controller, tasks: list[Task], kind: int) -> Iterator[Episode]:
        seed = derived_seed(self._seed, kind)
        return run_episodes(actor, self._environments, tasks, self._disturbance, seed)
