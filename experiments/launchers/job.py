"""What is to be run, and where."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Launcher = Literal["local", "ray", "slurm"]


@dataclass(frozen=True)
class Job:
    """One command that leaves one folder.

    Attributes:
        name: stable, and different from all others'.
        command: what is run; called again it goes on, and where all is done it ends at once with status 0.
        folder: what it makes.
        kind: commands of a kind take about as long per step.
        steps: of the whole; 0 where there is nothing to count.
        done: whether nothing is left to do.
        seconds: that a job that is done took, where that is known.
        learns: where the steps are counted, if that is another folder.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    kind: str
    steps: int
    done: Callable[[], bool]
    seconds: Callable[[], float | None] = lambda: None
    learns: Path | None = None

    def progress(self) -> int:
        """Environment steps done, as progress.csv has them."""
        try:
            with ((self.learns or self.folder) / "progress.csv").open(newline="") as file:
                column = "time/total_timesteps"
                values = [row[column] for row in csv.DictReader(file) if row.get(column)]
            return int(float(values[-1]))
        except (OSError, ValueError, IndexError, csv.Error):
            return 0  # not begun, or just being written


@dataclass(frozen=True)
class Outcome:
    """How a job ended; ``said`` is the end of its log where it failed."""

    job: Job
    status: int
    said: str = ""


@dataclass
class Options:
    """How to launch."""

    launcher: Launcher = "local"
    """local: processes on this machine; ray: a Ray cluster; slurm: an sbatch array, submitted and left to it."""
    workers: Annotated[int, tyro.conf.arg(aliases=["--jobs"])] = 2
    """Commands at a time, one thread each (Slurm: tasks of the array at a time; a Ray cluster at --address: as its CPUs
    allow)."""
    address: str | None = None
    """Ray's head, HOST:PORT or auto; without it Ray is started on this machine."""
    slurm: str = ""
    """More options of sbatch, as one text: "--partition=cpu --time=08:00:00"."""
