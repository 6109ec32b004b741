"""Commands as processes on this machine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from experiments.launchers.board import Board
from experiments.launchers.command import run_command, tail
from experiments.launchers.job import Job, Outcome


def run_local(
    jobs: Sequence[Job], log_of: dict[str, Path], environment: dict[str, str], workers: int, board: Board
) -> list[Outcome]:
    """Run ``jobs``, ``workers`` at a time; on Ctrl-C those that run keep what they have, and no further one starts."""
    stop, fresh = threading.Event(), threading.Lock()
    started: list[Job] = []

    def run(job: Job) -> Outcome:
        if stop.is_set():
            return Outcome(job, 130)
        with fresh:
            started.append(job)
        log = log_of[job.name]
        status = run_command(job.command, str(log), str(Path.cwd()), environment, stop.is_set)
        return Outcome(job, status, tail(log) if status not in (0, 130) else "")

    outcomes = []
    with ThreadPoolExecutor(max_workers=workers) as pool, board.shown():
        pending = {pool.submit(run, job) for job in jobs}
        while pending:
            try:
                ended, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            except KeyboardInterrupt:
                stop.set()
                continue
            with fresh:
                begun, started[:] = list(started), []
            for job in begun:
                board.started(job)
            for future in ended:
                outcomes.append(future.result())
                board.ended(outcomes[-1])
            board.tick()
    return outcomes
