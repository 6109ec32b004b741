"""Episodes side by side: one policy forward per step for all of them, each started episode finished once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lipsrl import _episodes
from lipsrl.disturbances import Disturbance
from lipsrl.evaluation._applied import applied, filter_of
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import Env
from lipsrl.evaluation._history import tap_of
from lipsrl.evaluation._observations import (
    Observations,
    allocate,
    clear,
    copied,
    finite_rows,
    is_vector,
    put,
    take,
)
from lipsrl.evaluation._seeding import disturbance_seed, environment_seed
from lipsrl.evaluation._session import Session
from lipsrl.evaluation._tape import Tape

if TYPE_CHECKING:
    from lipsrl.evaluation._evaluation import Evaluation

#: what may turn out not to be finite: the value in the table, and its name in an error
QUANTITIES = {
    "observation": "an observation from the environment",
    "disturbed_observation": "a disturbed observation",
    "action": "an action",
    "reward": "a reward",
}


class NonFiniteError(RuntimeError):
    """An observation, action or reward was nan or infinite.

    Attributes:
        evaluation: the episodes that had ended before, or None where there are none.
    """

    evaluation: Evaluation | None = None


@dataclass(frozen=True)
class Task:
    """One episode to run; its seeds follow from its number."""

    strength: float
    episode: int


@dataclass(frozen=True)
class Episode:
    """What happened in one episode of T steps.

    ``observations`` are the environment's own, ``disturbed`` what the agent was shown (raw units), both
    ``(T, dim)``, or ``(T, 0)`` where observations are no vectors; ``proposed`` the actions before the clip and
    ``actions`` what the environment received, both ``(T, *action_shape)``, and behind an
    :class:`~lipsrl.wrappers.ActionSmoothing` or :class:`~lipsrl.wrappers.ActionDifference` what that made of them;
    ``rewards`` ``(T,)`` belong to the action of the same row.
    ``nonfinite`` names the quantity (a key of `QUANTITIES`) that ended the episode because
    it was not finite, and is empty otherwise.
    """

    task: Task
    observations: NDArray[Any]
    disturbed: NDArray[Any]
    proposed: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[np.float64]
    nonfinite: str = ""


def run_episodes(
    controller: Controller,
    environments: Sequence[Env],
    tasks: Iterable[Task],
    disturbance: Disturbance | None,
    seed: int,
    recorded: Collection[str] = (),
) -> Iterator[Episode]:
    """Run every task to its end, in ``len(environments)`` slots, and yield the episodes as they end.

    A slot whose episode ends takes the next task; none is cut short, so short episodes are not favoured. The
    environment is reseeded at every episode and the disturbance has streams of its own, so the environment's
    trajectory depends on the disturbance only through the actions.

    Args:
        disturbance: applied to raw observations, times each task's strength; None shows them as they are.
        seed: of the evaluation.
        recorded: quantities (keys of `QUANTITIES`) that end their episode where they are not finite; the others
            raise.

    Raises:
        NonFiniteError: naming the agent, the disturbance, its strength, the episode and the step.
        EndlessEpisodeError: an episode without a time limit is longer than `lipsrl._episodes.ENDLESS` steps.
    """
    rollout = _Rollout(controller, environments, tasks, disturbance, seed, recorded)
    try:
        while rollout.active.size:
            yield from rollout.step()
    finally:
        rollout.disconnect()


class _Rollout:
    def __init__(
        self,
        controller: Controller,
        environments: Sequence[Env],
        tasks: Iterable[Task],
        disturbance: Disturbance | None,
        seed: int,
        recorded: Collection[str],
    ) -> None:
        slots = len(environments)
        space = environments[0].observation_space
        self._controller = controller
        self._environments = environments
        self._steps = [env.step for env in environments]
        self._queue = iter(tasks)
        self._disturbance = disturbance
        self._streams = (
            None if disturbance is None else controller.disturbance_for_model(disturbance).batch(slots)
        )
        self._filters = [filter_of(env) for env in environments]
        self._taps = [tap_of(env) for env in environments]
        for slot, tap in enumerate(self._taps):
            if tap is not None:
                tap.connect(self._streams, slot)
        self._seed = seed
        self._recorded = recorded
        self._session = Session(controller, environments)
        self._running: list[Task | None] = [None] * slots
        self._lengths = np.zeros(slots, dtype=np.intp)
        self._bounded = all(_episodes.time_limit(env) is not None for env in environments)
        self._rewards = np.zeros(slots)
        self._observations: Observations = allocate(space, slots)
        # images of whole episodes would not fit into memory, and nothing is measured on them
        self._keeps_observations = is_vector(space)
        self._tapes: dict[str, Tape] = {}
        self.active = np.array([slot for slot in range(slots) if self._start(slot)], dtype=np.intp)

    def _start(self, slot: int) -> bool:
        task = self._running[slot] = next(self._queue, None)
        if task is None:
            return False
        if self._streams is not None and self._disturbance is not None:
            # before the environment's reset: one that remembers shows its first observation there
            seed = disturbance_seed(self._seed, self._disturbance.name, task.episode)
            self._streams.reset(slot, seed, task.strength)
        observation, _ = self._environments[slot].reset(seed=environment_seed(self._seed, task.episode))
        put(self._observations, slot, observation)
        self._lengths[slot] = 0
        self._session.begin(slot)
        return True

    def disconnect(self) -> None:
        """Leave environments that were given as they came."""
        for tap in filter(None, self._taps):
            tap.connect(None)

    def step(self) -> Iterator[Episode]:
        """One step of every active slot; yields the episodes that it ended."""
        ended: dict[int, str] = {}
        clean = copied(self._observations)
        active = self._screen("observation", clean, self.active, ended)
        disturbed = clean
        if self._streams is not None and self._taps[0] is None and active.size:
            disturbed = self._disturbed(clean, active)
            active = self._screen("disturbed_observation", disturbed, active, ended)
        if active.size:
            proposed = self._session.propose(disturbed, active)
            active = self._screen("action", proposed, active, ended)
            actions = self._controller.execute(proposed)
            # written before the step: an environment may change the action that it is given in place
            if self._keeps_observations:
                self._record("observations", clean, active)
                self._record("disturbed", disturbed, active)
            self._record("proposed", proposed, active)
            self._record("actions", actions, active)
            finished = self._advance(actions, active)
            if any(self._filters):  # known after the step
                self._record("actions", applied(self._filters, actions), active)
            self._record("rewards", self._rewards, active)
            self._lengths[active] += 1
            self._screen("reward", self._rewards, active, ended)
            for slot in finished:
                ended.setdefault(slot, "")
        for slot, nonfinite in ended.items():
            yield self._episode(slot, nonfinite)
            if not self._start(slot):
                clear(self._observations, np.array([slot]))
                self.active = self.active[self.active != slot]
        if not self._bounded:
            self._check_that_they_end()

    def _check_that_they_end(self) -> None:
        # nothing is lost by it: what ended in this step has been handed out
        endless = self.active[self._lengths[self.active] >= _episodes.ENDLESS]
        if endless.size:
            task = self._running[endless[0]]
            assert task is not None
            raise _episodes.EndlessEpisodeError.of(f"Of {self._controller.label}, {self._words(task)},")

    def _disturbed(self, clean: NDArray[Any], active: NDArray[np.intp]) -> NDArray[Any]:
        assert self._streams is not None
        if active.size == len(clean):
            return self._streams(clean)
        disturbed = clean.copy()
        disturbed[active] = self._streams(clean[active], active.tolist())
        return disturbed

    def _advance(self, actions: NDArray[Any], active: NDArray[np.intp]) -> list[int]:
        """Step the environments; returns the slots whose episode the environment ended."""
        finished = []
        steps, rewards, observations = self._steps, self._rewards, self._observations
        plain = not isinstance(observations, dict)
        for slot in active.tolist():
            observation, reward, terminated, truncated, _ = steps[slot](actions[slot])
            if plain:
                observations[slot] = observation
            else:
                put(observations, slot, observation)
            rewards[slot] = reward
            if terminated or truncated:
                finished.append(slot)
        return finished

    def _record(self, name: str, values: NDArray[Any], active: NDArray[np.intp]) -> None:
        if not active.size:
            return
        if name not in self._tapes:
            self._tapes[name] = Tape(len(self._environments), values.shape[1:], values.dtype)
        self._tapes[name].write(active, self._lengths[active], values[active])

    def _episode(self, slot: int, nonfinite: str) -> Episode:
        task, length = self._running[slot], int(self._lengths[slot])
        assert task is not None
        tapes = {name: tape.read(slot, length) for name, tape in self._tapes.items()}
        if not self._keeps_observations:
            tapes |= dict.fromkeys(("observations", "disturbed"), np.empty((length, 0)))
        for name in ("observations", "disturbed", "proposed", "actions", "rewards"):
            tapes.setdefault(name, np.empty((0, 0) if name != "rewards" else 0))  # nothing was ever recorded
        return Episode(task, **tapes, nonfinite=nonfinite)

    def _screen(
        self, quantity: str, values: Observations, active: NDArray[np.intp], ended: dict[int, str]
    ) -> NDArray[np.intp]:
        """The active slots whose values are finite; the others have ended, if that is to be recorded."""
        finite = finite_rows(values)
        if finite.all():
            return active
        broken = active[~finite[active]]
        if not broken.size:
            return active
        if quantity not in self._recorded:
            raise self._error(quantity, values, int(broken[0]))
        ended.update(dict.fromkeys(broken.tolist(), quantity))
        clear(values, broken)  # what comes next must not stumble over it a second time
        return active[finite[active]]

    def _error(self, quantity: str, values: Observations, slot: int) -> NonFiniteError:
        task = self._running[slot]
        assert task is not None
        # a reward belongs to the step that has just been counted
        step = int(self._lengths[slot]) - (quantity == "reward")
        return NonFiniteError(
            f"{QUANTITIES[quantity]} of {self._controller.label} is not finite: {take(values, slot)} at step "
            f"{step} of {self._words(task)}."
        )

    def _words(self, task: Task) -> str:
        disturbance = "no disturbance" if self._disturbance is None else repr(self._disturbance)
        return (
            f"episode {task.episode} (env seed {environment_seed(self._seed, task.episode)}), under {disturbance} at "
            f"strength {task.strength}"
        )
