"""All episodes of an evaluation, agent by agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike

from lipsrl.disturbances import Disturbance
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import Env
from lipsrl.evaluation._measure import measure
from lipsrl.evaluation._request import Contestant
from lipsrl.evaluation._rollout import Task, run_episodes
from lipsrl.evaluation._schema import conform
from lipsrl.evaluation._seeding import environment_seed


class Sweep:
    """Runs the grid disturbance × strength × episode for one agent after the other and collects the rows.

    Args:
        environments: one per slot.
        disturbances: by the name they have in the table; None for none.
        strengths: without repetition.
        n_episodes: per disturbance and strength.
        seed: of the evaluation.
        sensitivity_std: as in `evaluate`.
    """

    def __init__(
        self,
        environments: Sequence[Env],
        disturbances: Mapping[str, Disturbance | None],
        strengths: Sequence[float],
        n_episodes: int,
        seed: int,
        sensitivity_std: ArrayLike,
    ) -> None:
        self._environments = environments
        self._disturbances = disturbances
        self._strengths = strengths
        self._n_episodes = n_episodes
        self._seed = seed
        self._sensitivity_std = sensitivity_std
        self._agents = 0
        self._rows: dict[tuple[int, int, int, int], dict[str, Any]] = {}

    def groups(self) -> list[tuple[Disturbance | None, list[str], list[Task]]]:
        """What is run for each agent: a disturbance, the names under which it is tabulated, its episodes.

        Strength 0 is the identity, so its episodes are run once and tabulated under every name.
        """
        everyone = list(self._disturbances)
        groups: list[tuple[Disturbance | None, list[str], list[Task]]] = []
        if 0.0 in self._strengths:
            groups.append((None, everyone, [Task(0.0, i) for i in range(self._n_episodes)]))
        tasks = [Task(s, i) for s in self._strengths if s > 0 for i in range(self._n_episodes)]
        if tasks:
            groups += [(disturbance, [name], tasks) for name, disturbance in self._disturbances.items()]
        return groups

    def run(self, contestant: Contestant, controller: Controller) -> Iterator[int]:
        """Run one agent's episodes, yielding the length of each as it ends."""
        agent = self._agents
        self._agents += 1
        names = list(self._disturbances)
        for disturbance, listed, tasks in self.groups():
            for episode in run_episodes(controller, self._environments, tasks, disturbance, self._seed):
                task = episode.task
                numbers = measure(episode, controller, seed=self._seed, sensitivity_std=self._sensitivity_std)
                for name in listed:
                    place = (agent, names.index(name), self._strengths.index(task.strength), task.episode)
                    self._rows[place] = {
                        "agent": contestant.agent,
                        "seed": contestant.seed,
                        "disturbance": name,
                        "strength": task.strength,
                        "episode": task.episode,
                        "env_seed": environment_seed(self._seed, task.episode),
                        **numbers,
                    }
                yield len(episode.rewards)

    def frame(self) -> pd.DataFrame:
        """The rows so far: agents, disturbances and strengths in the order given, episodes by number."""
        rows = [self._rows[place] for place in sorted(self._rows)]
        frame = pd.DataFrame(rows)
        frame["seed"] = pd.array([row["seed"] for row in rows], dtype="Int64")
        return conform(frame)

    def __len__(self) -> int:
        return len(self._rows)
