"""What a sweep shows while it runs: a live table on a terminal, lines in a log."""

from __future__ import annotations

import contextlib
import datetime
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.launchers.job import Job, Outcome

#: Rows of the live table.
ROWS = 20
#: Seconds between two lines in a log, and between two looks at progress.csv.
PAUSE, LOOK = 30.0, 2.0


def seconds_left(
    left: Mapping[str, Sequence[tuple[int, float]]], rates: Mapping[str, float], workers: int
) -> float | None:
    """Of wall time: work over workers, and never less than the longest job; None while nothing has a pace.

    Args:
        left: kind → (steps left, share of a job left) of each job that has not ended.
        rates: kind → steps per second of one worker. Kinds that have none yet go at the mean pace of the others.
    """
    known = [rate for rate in rates.values() if rate > 0]
    if not known:
        return None
    mean = sum(known) / len(known)
    times = [steps / (rates.get(kind) or mean) for kind, jobs in left.items() for steps, _ in jobs]
    return max(sum(times) / workers, max(times, default=0.0))


def clock(seconds: float) -> str:
    """As 1:02:03."""
    return str(datetime.timedelta(seconds=round(seconds)))


class Board:
    """States of all jobs of one launch.

    Args:
        jobs: all of them.
        kept: names of those that were done before.
        workers: at a time.
    """

    def __init__(
        self, jobs: Sequence[Job], kept: set[str], workers: int, console: Console | None = None
    ) -> None:
        self.jobs, self.workers = list(jobs), workers
        self.states = {job.name: "kept" if job.name in kept else "waiting" for job in jobs}
        self._console = console or Console()
        self._first: dict[str, tuple[float, int]] = {}
        self._steps: dict[str, int] = {}
        self._paces: dict[str, list[float]] = defaultdict(list)
        self._begun = self._said = time.monotonic()
        self._looked = 0.0
        self._live: Live | None = None
        for job in jobs:
            took = job.seconds() if job.name in kept else None
            if took and job.steps:
                self._paces[job.kind].append(job.steps / took)

    @contextlib.contextmanager
    def shown(self) -> Iterator[Board]:
        """While jobs run."""
        if not self._console.is_terminal:
            yield self
            return
        with Live(self.table(), console=self._console, refresh_per_second=2) as self._live:
            yield self
            self._live.update(self.table())

    def started(self, job: Job) -> None:
        """One more is running."""
        self.states[job.name] = "running"
        self._first[job.name] = (time.monotonic(), job.progress())
        if self._live is None:
            print(
                f"$ {shlex.join(['python' if part == sys.executable else part for part in job.command])}",
                flush=True,
            )

    def ended(self, outcome: Outcome) -> None:
        """One has ended."""
        name = outcome.job.name
        self.states[name] = {0: "finished", 130: "interrupted"}.get(outcome.status, "failed")
        begun, before = self._first.get(name, (self._begun, 0))
        if outcome.status == 0 and outcome.job.steps > before:
            self._paces[outcome.job.kind].append(
                (outcome.job.steps - before) / max(time.monotonic() - begun, 1e-3)
            )
        if self._live is None:
            print(f"{name}: {self.states[name]} ({self.summary()})", flush=True)

    def tick(self) -> None:
        """Look how far they are; now and then say so."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        for job in self.jobs:
            if self.states[job.name] == "running":
                self._steps[job.name] = job.progress()
        if self._live is not None:
            self._live.update(self.table())
        elif now - self._said > PAUSE:
            self._said = now
            print(self.summary(), flush=True)

    def rates(self) -> dict[str, float]:
        """Steps per second of one worker, by kind: of those that have ended, else of those that run."""
        found = {kind: sum(paces) / len(paces) for kind, paces in self._paces.items()}
        now, running = time.monotonic(), defaultdict(list)
        for job in self.jobs:
            if self.states[job.name] == "running" and job.name in self._first:
                begun, before = self._first[job.name]
                done = self._steps.get(job.name, 0) - before
                if done > 0:
                    running[job.kind].append(done / (now - begun))
        return {kind: sum(paces) / len(paces) for kind, paces in running.items()} | found

    def remaining(self) -> float | None:
        """Seconds to the end of the last one."""
        left: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for job in self.jobs:
            if self.states[job.name] in ("waiting", "running"):
                steps = max(job.steps - self._steps.get(job.name, 0), 0)
                left[job.kind].append((steps, steps / max(job.steps, 1)))
        return seconds_left(left, self.rates(), self.workers)

    def summary(self) -> str:
        """In one line."""
        counts = defaultdict(int)
        for state in self.states.values():
            counts["done" if state in ("kept", "finished") else state] += 1
        parts = [f"{counts['done']} of {len(self.jobs)} done"]
        parts += [
            f"{counts[state]} {state}" for state in ("running", "failed", "interrupted") if counts[state]
        ]
        remaining = self.remaining() if counts["waiting"] or counts["running"] else None
        if remaining is not None:  # nothing has a pace at first
            # all steps are done, and what follows them (a certificate, a student's lesson) has no steps to count
            parts.append(f"{clock(remaining)} left" if remaining >= 1.0 else "finishing")
        return ", ".join(parts)

    def table(self) -> Group:
        """Those that run, then what failed, then those that wait."""
        table = Table(box=None)
        for title, side in (("run", "left"), ("state", "left"), ("steps", "right"), ("done", "right")):
            table.add_column(title, justify=side)  # type: ignore[arg-type]
        order = ("running", "failed", "interrupted", "waiting", "finished", "kept")
        chosen = sorted(self.jobs, key=lambda job: order.index(self.states[job.name]))
        for job in chosen[:ROWS]:
            state = self.states[job.name]
            done = job.steps if state in ("finished", "kept") else self._steps.get(job.name, 0)
            share = f"{done / job.steps:.0%}" if job.steps else ""
            table.add_row(job.name, state, f"{done:,}" if job.steps else "", share)
        if len(chosen) > ROWS:
            table.add_row(f"… and {len(chosen) - ROWS} more", "", "", "")
        return Group(Text(self.summary()), table)
