"""Episodes side by side: one policy forward per step for all of them, each started episode finished once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lipsrl.disturbances import Disturbance
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import Env
from lipsrl.evaluation._seeding import disturbance_seed, environment_seed

if TYPE_CHECKING:
    from lipsrl.evaluation._evaluation import Evaluation


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
    ``(T, dim)``; ``proposed`` the actions before the clip and ``actions`` what the environment received, both
    ``(T, *action_shape)``; ``rewards`` ``(T,)`` belong to the action of the same row.
    """

    task: Task
    observations: NDArray[Any]
    disturbed: NDArray[Any]
    proposed: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[np.float64]


class _Tape:
    """One growing array ``(slots, capacity, *shape)``; memory follows the longest episode, not their
    number."""

    def __init__(self, slots: int, shape: Sequence[int], dtype: Any) -> None:
        self._data = np.zeros((slots, 256, *shape), dtype=dtype)

    def write(self, slots: NDArray[np.intp], steps: NDArray[np.intp], values: NDArray[Any]) -> None:
        if steps.max() >= self._data.shape[1]:
            self._data = np.concatenate([self._data, np.zeros_like(self._data)], axis=1)
        self._data[slots, steps] = values

    def read(self, slot: int, length: int) -> NDArray[Any]:
        return self._data[slot, :length].copy()


def run_episodes(
    controller: Controller,
    environments: Sequence[Env],
    tasks: Iterable[Task],
    disturbance: Disturbance | None,
    seed: int,
) -> Iterator[Episode]:
    """Run every task to its end, in ``len(environments)`` slots, and yield the episodes as they end.

    A slot whose episode ends takes the next task; none is cut short, so short episodes are not favoured. The
    environment is reseeded at every episode and the disturbance has streams of its own, so the environment's
    trajectory depends on the disturbance only through the actions.

    Args:
        disturbance: applied to raw observations, times each task's strength; None shows them as they are.
        seed: of the evaluation.

    Raises:
        NonFiniteError: naming the agent, the disturbance, its strength, the episode and the step.
    """
    slots = len(environments)
    space = environments[0].observation_space
    steps = [env.step for env in environments]
    queue = iter(tasks)
    streams = None if disturbance is None else controller.faces(disturbance).batch(slots)
    running: list[Task | None] = [None] * slots
    lengths = np.zeros(slots, dtype=np.intp)
    rewards = np.zeros(slots)
    observations = np.zeros((slots, *space.shape), dtype=space.dtype)  # type: ignore[misc]

    def start(slot: int) -> bool:
        task = running[slot] = next(queue, None)
        if task is None:
            return False
        observations[slot] = environments[slot].reset(seed=environment_seed(seed, task.episode))[0]
        lengths[slot] = 0
        if streams is not None and disturbance is not None:
            streams.reset(slot, disturbance_seed(seed, disturbance.name, task.episode), task.strength)
        return True

    def check(quantity: str, values: NDArray[Any], rows: NDArray[np.intp]) -> None:
        finite = np.isfinite(values)
        if finite.all():
            return
        bad = int(np.argmin(finite.reshape(len(values), -1).all(axis=1)))
        task = running[rows[bad]]
        assert task is not None
        raise NonFiniteError(
            f"{quantity} of {controller.label} is not finite: {values[bad]} at step {lengths[rows[bad]]} of "
            f"episode {task.episode} (env seed {environment_seed(seed, task.episode)}), under "
            f"{'no disturbance' if disturbance is None else repr(disturbance)} at strength {task.strength}."
        )

    active = np.array([slot for slot in range(slots) if start(slot)], dtype=np.intp)
    tapes = {"rewards": _Tape(slots, (), np.float64)}
    while active.size:
        everyone = active.size == slots
        clean = observations.copy()
        check("an observation from the environment", clean[active], active)
        disturbed = clean
        if streams is not None:
            if everyone:
                disturbed = streams(clean)
            else:
                disturbed = clean.copy()
                disturbed[active] = streams(clean[active], active.tolist())
            check("a disturbed observation", disturbed[active], active)
        proposed = controller.propose(disturbed)
        check("an action", proposed[active], active)
        actions = controller.execute(proposed)

        # written before the step: an environment may change the action that it is given in place
        for name, values in {
            "observations": clean,
            "disturbed": disturbed,
            "proposed": proposed,
            "actions": actions,
        }.items():
            if name not in tapes:
                tapes[name] = _Tape(slots, values.shape[1:], values.dtype)
            tapes[name].write(active, lengths[active], values[active])

        finished = []
        for slot in active.tolist():
            observation, reward, terminated, truncated, _ = steps[slot](actions[slot])
            observations[slot] = observation
            rewards[slot] = reward
            if terminated or truncated:
                finished.append(slot)
        check("a reward", rewards[active], active)
        tapes["rewards"].write(active, lengths[active], rewards[active])
        lengths[active] += 1
        for slot in finished:
            task = running[slot]
            assert task is not None
            yield Episode(task, **{name: tape.read(slot, lengths[slot]) for name, tape in tapes.items()})
            if not start(slot):
                active = active[active != slot]
