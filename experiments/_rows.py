"""The rows of a table of agents: one CSV file that grows run by run and outlives the run folders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from envs import Task
from experiments._conditions import MEASURED, Episodes, filtered, of_run
from lipsrl._files import write_text
from lipsrl.certificates import Certificate
from lipsrl.tracking import RunFolder

#: ``timesteps`` of the training, 0 for students; ``K`` per raw unit; both and ``train_seconds`` in each row of a run.
COLUMNS = [
    "agent",
    "seed",
    "timesteps",
    "episodes",
    "disturbance",
    "strength",
    *MEASURED,
    "K",
    "train_seconds",
]


def rows_of(
    folder: RunFolder, task: Task, episodes: Episodes, smoothing: float | None = None
) -> pd.DataFrame:
    """:data:`COLUMNS` of a run, measured if it was not.

    Args:
        folder: of the run.
        task: that it was trained on.
        episodes: that all runs of the table play.
        smoothing: weight of the newest action in a filter, behind which the run is shown too.
    """
    frames = [of_run(folder, task, episodes).assign(**described(folder))]
    if smoothing is not None:  # a filter has no certificate, and no training
        behind = filtered(folder, task, episodes, smoothing)
        frames.append(behind.assign(**described(folder) | {"K": math.nan, "train_seconds": math.nan}))
    return pd.concat(frames, ignore_index=True).assign(episodes=episodes.number)[COLUMNS]


def described(folder: RunFolder) -> dict[str, Any]:
    """What is known without playing: the length of the training, its time, and the constant per raw unit."""
    config, bound = folder.read_config(), math.nan
    if folder.certificate_file.is_file():
        bound = Certificate.load(folder.certificate_file).upper_bound
    return {
        "K": bound,
        "train_seconds": float(config.get("train_seconds", math.nan)),
        "timesteps": int(config.get("timesteps", 0)),
    }


@dataclass(frozen=True)
class Rows:
    """The file."""

    file: Path

    def read(self) -> pd.DataFrame:
        """All rows; none where there is no file yet.

        Raises:
            ValueError: a file of something else.
        """
        if not self.file.is_file():
            return pd.DataFrame(columns=COLUMNS)
        try:
            found = pd.read_csv(self.file)
        except (ValueError, OSError) as error:  # pandas' ParserError and EmptyDataError are ValueErrors
            raise ValueError(
                f"{self.file} cannot be read as CSV ({error}). Move it away, or repair it."
            ) from error
        if list(found.columns) != COLUMNS:
            raise ValueError(
                f"{self.file} has the columns {', '.join(found.columns)}; expected {', '.join(COLUMNS)}. It is of "
                "something else: give another --results."
            )
        numbers = found.drop(columns=["agent", "disturbance"]).apply(pd.to_numeric, errors="coerce")
        broken = numbers[["seed", "timesteps", "episodes", "strength"]].isna().any(axis=1)
        if broken.any():
            raise ValueError(
                f"{self.file} is broken in line {int(broken.idxmax()) + 2}: a seed, a length, a number of episodes "
                "or a strength is missing or no number. Repair it, or put an earlier version back."
            )
        return found

    def runs(self) -> set[tuple[str, int]]:
        """(agent, training seed) of all rows."""
        found = self.read()
        return set(zip(found["agent"], found["seed"].astype(int), strict=True))

    def check(self, episodes: int, timesteps: Mapping[str, int]) -> None:
        """That the rows were measured like this, of agents that were trained like this.

        Raises:
            ValueError: they were not.
        """
        found = self.read()
        wanted = found.assign(
            episodes=episodes, timesteps=found["agent"].map(timesteps).fillna(found["timesteps"])
        )
        for column in ("episodes", "timesteps"):
            other = found[found[column] != wanted[column]]
            if len(other):
                one, expected = other.iloc[0], wanted.loc[other.index[0], column]
                raise ValueError(
                    f"{self.file} has {one['agent']}, seed {one['seed']}, with {column}={one[column]}, not "
                    f"{expected:g}: they do not belong in one table. Give another --results, or the same settings."
                )

    def add(self, rows: pd.DataFrame) -> None:
        """Append rows of runs that are not there. The file is replaced as a whole: cut off, it stays as it was.

        Whoever adds holds the file (:func:`experiments._locks.exclusive`).
        """
        known, have = self.read(), self.runs()
        new = rows[[run not in have for run in zip(rows["agent"], rows["seed"].astype(int), strict=True)]]
        write_text(self.file, (new if known.empty else pd.concat([known, new])).to_csv(index=False))
