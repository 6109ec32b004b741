"""All episodes of an evaluation: which there are, which are known already, and the table of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lipsrl._episodes import EndlessEpisodeError
from lipsrl.actors.fingerprint import digest
from lipsrl.attacks._aim import holds_attack
from lipsrl.disturbances import Disturbance
from lipsrl.evaluation._controller import ROWS, Controller
from lipsrl.evaluation._environments import Env
from lipsrl.evaluation._measure import measure
from lipsrl.evaluation._request import Contestant
from lipsrl.evaluation._resume import Row, Store
from lipsrl.evaluation._rollout import NonFiniteError, Task, run_episodes
from lipsrl.evaluation._schema import conform
from lipsrl.evaluation._seeding import environment_seed

# With worker processes, about this many shards per worker: the last ones to finish leave others idle.
_SHARDS_PER_WORKER, _SMALLEST_SHARD = 4, 8


@dataclass(frozen=True)
class Shard:
    """Episodes that are run together: of one agent under one disturbance (None: clean)."""

    agent: int
    disturbance: str | None
    tasks: tuple[Task, ...]
    key: str = ""


@dataclass
class Outcome:
    """The rows of a shard, and why there are no more of them."""

    rows: dict[Task, Row] = field(default_factory=dict)
    error: NonFiniteError | EndlessEpisodeError | None = None


@dataclass(frozen=True)
class Job:
    """What it takes to run any shard of an evaluation; can be sent to a worker process."""

    controllers: Sequence[Controller]
    disturbances: Sequence[Mapping[str, Disturbance | None]]  # per agent, the target of its attacks
    seed: int
    sensitivity_std: ArrayLike
    recorded: tuple[str, ...]

    def run(
        self,
        environments: Sequence[Env],
        shard: Shard,
        outcome: Outcome,
        after_episode: Callable[[], object] = lambda: None,
    ) -> None:
        """Run the episodes of a shard; each is in ``outcome`` as soon as it has ended."""
        controller = self.controllers[shard.agent]
        name = shard.disturbance
        disturbance = None if name is None else self.disturbances[shard.agent][name]
        slots = environments[: len(shard.tasks)]
        try:
            for episode in run_episodes(
                controller, slots, shard.tasks, disturbance, self.seed, self.recorded
            ):
                outcome.rows[episode.task] = measure(
                    episode, controller, seed=self.seed, sensitivity_std=self.sensitivity_std
                )
                after_episode()
        except (NonFiniteError, EndlessEpisodeError) as error:
            outcome.error = error.with_traceback(None)  # whose frames would hold the environments


class Sweep:
    """The grid disturbance × strength × episode of every agent, and what is known of it.

    Args:
        contestants: the agents.
        job: how their episodes are run.
        strengths: without repetition.
        n_episodes: per disturbance and strength.
        store: where finished episodes are kept, or None.
        identity: of each agent, what its results depend on besides job, disturbance and episode.
    """

    def __init__(
        self,
        contestants: Sequence[Contestant],
        job: Job,
        strengths: Sequence[float],
        n_episodes: int,
        store: Store | None = None,
        identity: Sequence[Any] = (),
    ) -> None:
        self._contestants = contestants
        self._job = job
        self._names = list(job.disturbances[0])
        self._strengths = list(strengths)
        self._n_episodes = n_episodes
        self._store = store
        self._identity = identity
        self._rows: dict[tuple[int, str | None], dict[Task, Row]] = {}

    @property
    def total(self) -> int:
        """How many episodes the evaluation has; clean ones are run once for all disturbances."""
        return sum(len(tasks) for _, _, tasks in self._groups())

    def _groups(self) -> Iterator[tuple[int, str | None, list[Task]]]:
        """(agent, disturbance, episodes). Strength 0 is the identity, so its episodes are run once."""
        clean = [Task(0.0, i) for i in range(self._n_episodes)] if 0.0 in self._strengths else []
        tasks = [Task(s, i) for s in self._strengths if s > 0 for i in range(self._n_episodes)]
        for agent in range(len(self._contestants)):
            yield agent, None, clean
            for name in self._names:
                yield agent, name, tasks

    def pending(self, n_envs: int, n_workers: int) -> list[Shard]:
        """What is left to run, after what the store knows.

        Attacks see all their rows at once and round differently for another number of them, so their shards depend
        on `n_envs` alone, and are kept and run as a whole.
        """
        shards: list[Shard] = []
        left: list[tuple[int, str | None, list[Task], str]] = []
        for agent, name, tasks in self._groups():
            disturbance = None if name is None else self._job.disturbances[agent][name]
            if holds_attack(disturbance):
                for some in _split(tasks, n_envs):
                    key = self._key(agent, disturbance, some, n_envs)
                    if self._known(agent, name, key, some) < len(some):
                        shards.append(Shard(agent, name, some, key))
            else:
                key = self._key(agent, disturbance)
                self._known(agent, name, key, tasks)
                known = self._rows.get((agent, name), {})
                left.append((agent, name, [task for task in tasks if task not in known], key))
        size = self._shard_size(sum(len(tasks) for _, _, tasks, _ in left), n_envs, n_workers)
        for agent, name, tasks, key in left:
            shards += [Shard(agent, name, some, key) for some in _split(tasks, size)]
        return sorted(shards, key=lambda shard: shard.agent)

    def _shard_size(self, total: int, n_envs: int, n_workers: int) -> int:
        if n_workers == 1:
            # refilled slots waste nothing; but what is to be kept must be written now and then
            return n_envs if self._store is not None else max(total, 1)
        share = math.ceil(total / (_SHARDS_PER_WORKER * n_workers))
        return min(max(share, _SMALLEST_SHARD), n_envs)

    def _key(
        self,
        agent: int,
        disturbance: Disturbance | None,
        tasks: Sequence[Task] = (),
        n_envs: int = 0,
    ) -> str:
        """What a row belongs to, besides its strength and the number of its episode."""
        if self._store is None:
            return ""
        return digest(
            {
                "identity": self._identity[agent],
                "disturbance": None if disturbance is None else disturbance.to_dict(),
                "seed": self._job.seed,
                "sensitivity_std": np.asarray(self._job.sensitivity_std).tolist(),
                "recorded": sorted(self._job.recorded),
                "rows": ROWS,
                "attack": [n_envs, [[task.strength, task.episode] for task in tasks]],
            }
        )

    def _known(self, agent: int, name: str | None, key: str, tasks: Sequence[Task]) -> int:
        if self._store is None:
            return 0
        rows = self._store.rows(key, tasks)
        self._rows.setdefault((agent, name), {}).update(rows)
        return len(rows)

    def collect(self, shard: Shard, outcome: Outcome) -> None:
        """Take over what has been run."""
        self._rows.setdefault((shard.agent, shard.disturbance), {}).update(outcome.rows)
        if self._store is None:
            return
        name = shard.disturbance
        attacked = name is not None and holds_attack(self._job.disturbances[shard.agent][name])
        if not attacked or len(outcome.rows) == len(shard.tasks):
            self._store.keep(shard.key, outcome.rows)

    @property
    def env_steps(self) -> int:
        """Steps of all episodes so far."""
        return sum(row["length"] for rows in self._rows.values() for row in rows.values())

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def frame(self) -> pd.DataFrame:
        """The rows so far: agents, disturbances and strengths in the order given, episodes by number."""
        parts = [
            self._table(number, name, rows)
            for number in range(len(self._contestants))
            for name in self._names
            for group in (None, name)
            if (rows := self._rows.get((number, group)))
        ]
        table = pd.concat(parts, ignore_index=True)
        place = table["strength"].map({s: i for i, s in enumerate(self._strengths)})
        table = table.iloc[np.lexsort((table["episode"], place, table["_part"]))]
        seeds = {i: environment_seed(self._job.seed, i) for i in range(self._n_episodes)}
        return conform(table.drop(columns="_part").assign(env_seed=table["episode"].map(seeds)))

    def _table(self, number: int, name: str, rows: dict[Task, Row]) -> pd.DataFrame:
        contestant = self._contestants[number]
        table = pd.DataFrame(list(rows.values()))
        table["agent"], table["disturbance"] = contestant.agent, name
        table["seed"] = pd.array([contestant.seed], dtype="Int64").repeat(len(rows))
        table["strength"] = [task.strength for task in rows]
        table["episode"] = [task.episode for task in rows]
        table["_part"] = number * len(self._names) + self._names.index(name)
        return table


def _split(tasks: Sequence[Task], size: int) -> list[tuple[Task, ...]]:
    """In as few parts of at most ``size`` as there can be, as even as there can be."""
    if not tasks:
        return []
    parts = math.ceil(len(tasks) / size)
    ends = [round(i * len(tasks) / parts) for i in range(parts + 1)]
    return [tuple(tasks[a:b]) for a, b in itertools.pairwise(ends)]
