"""Jobs that are not done yet, by the launcher that was asked for; what failed is reported with the end of its log."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from experiments._locks import is_busy
from experiments.launchers.board import Board
from experiments.launchers.job import Job, Options, Outcome
from experiments.launchers.local import run_local
from experiments.launchers.ray_cluster import import_ray, run_ray
from experiments.launchers.slurm import find_sbatch, submit
from lipsrl._validation import lookup, positive_int


class FailedError(RuntimeError):
    """Some jobs failed; the others were run."""


def check(options: Options) -> None:
    """Refuse what cannot be launched, before anything is written.

    Raises:
        ValueError: an unknown launcher, no worker, an option of another launcher, Ray or Slurm absent.
    """
    positive_int("workers", options.workers)
    needs = {"local": lambda: None, "ray": import_ray, "slurm": find_sbatch}
    need = lookup("launcher", options.launcher, needs)
    for name, launcher, value in (("address", "ray", options.address), ("slurm", "slurm", options.slurm)):
        if value and options.launcher != launcher:
            raise ValueError(
                f"{name}={value!r} is of launcher={launcher!r}, received launcher={options.launcher!r}. Pass "
                f"--launcher {launcher}, or leave --{name} out."
            )
    need()


def environment() -> dict[str, str]:
    """Of every command: one thread, output at once, and what the head was told by variables."""
    told = {
        key: value for key, value in os.environ.items() if key.startswith("WANDB_") or key == "PYTHONPATH"
    }
    secrets = [
        key for key in told if "KEY" in key
    ]  # Ray and Slurm would write it down; nodes log in by themselves
    return {
        **{key: value for key, value in told.items() if key not in secrets},
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def launch(jobs: Sequence[Job], options: Options, place: Path, name: str = "lipsrl") -> list[Outcome]:
    """Run those of ``jobs`` that are not done; returns how each of them ended.

    Args:
        place: folder for logs (``logs/NAME.log``) and scripts.
        name: of a Slurm array.

    Raises:
        FailedError: some failed; the end of each log is in it.
        KeyboardInterrupt: some were interrupted.
        ValueError: as :func:`check`; no Ray cluster at the address; sbatch refuses.
    """
    check(options)
    kept = {job.name for job in jobs if job.done()}
    for job in jobs:
        if job.name in kept:
            print(f"{job.folder}: finished, kept", flush=True)
    # those that another process is still at (left behind by a head that was killed) first: a worker waits for each
    left = sorted((job for job in jobs if job.name not in kept), key=lambda job: not is_busy(job.folder))
    if not left:
        return []
    log_of = {job.name: place / "logs" / f"{job.name}.log" for job in left}
    if options.launcher == "slurm":
        number = submit(place / "slurm", left, log_of, environment(), name, options.workers, options.slurm)
        print(
            f"Submitted {len(left)} runs as Slurm job {number}. Logs: {place / 'logs'}. The same command later shows "
            "what is finished, and submits what failed again."
        )
        return []
    for log in log_of.values():  # of an earlier try
        log.unlink(missing_ok=True)
    board = Board(jobs, kept, options.workers)
    if options.launcher == "ray":
        outcomes = run_ray(left, log_of, environment(), options.workers, board, options.address)
    else:
        outcomes = run_local(left, log_of, environment(), options.workers, board)
    failed = [outcome for outcome in outcomes if outcome.status not in (0, 130)]
    if failed:
        raise FailedError(
            "\n".join(f"{one.job.name} failed (status {one.status}):\n{_indent(one.said)}" for one in failed)
            + f"\n{len(failed)} of {len(jobs)} failed (logs: {place / 'logs'}). The same command tries them again."
        )
    if any(outcome.status == 130 for outcome in outcomes):
        raise KeyboardInterrupt
    return outcomes


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
