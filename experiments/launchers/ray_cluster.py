"""The same commands as tasks of a Ray cluster.

All nodes need the checkout, its Python and the run folders under the same paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.launchers import command as command_module
from experiments.launchers.board import Board
from experiments.launchers.job import Job, Outcome

#: Of a task whose worker or node is lost. A command that fails by itself is not tried again.
MAX_RETRIES = 3


def import_ray() -> Any:
    """Ray.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "launcher='ray' needs Ray, which is not installed: pip install 'lipsrl[ray]'."
        ) from error
    return ray


def run_ray(
    jobs: Sequence[Job],
    log_of: dict[str, Path],
    environment: dict[str, str],
    workers: int,
    board: Board,
    address: str | None,
) -> list[Outcome]:
    """Run ``jobs`` on the cluster at ``address``, or on one that is started here with ``workers`` CPUs.

    Raises:
        ValueError: no cluster there.
    """
    ray = import_ray()
    own = {} if address is not None else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"no Ray cluster at address={address!r}: {str(error).splitlines()[0]} Start one with `ray start --head`, "
            "or leave --address out."
        ) from error
    try:
        with board.shown():
            return _follow(ray, jobs, log_of, environment, board)
    finally:
        ray.shutdown()


def _follow(
    ray: Any, jobs: Sequence[Job], log_of: dict[str, Path], environment: dict[str, str], board: Board
) -> list[Outcome]:
    ray.cloudpickle.register_pickle_by_value(command_module)  # workers need not be able to import it
    task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(command_module.run_command)
    pending = {}
    for job in jobs:
        reference = task.options(name=job.name).remote(
            list(job.command), str(log_of[job.name].resolve()), str(Path.cwd()), environment
        )
        pending[reference] = job
    outcomes, waiting, stopped = [], {job.name: job for job in jobs}, False
    while pending:
        try:
            ended, _ = ray.wait(list(pending), num_returns=1, timeout=0.5)
            for name in [name for name in waiting if log_of[name].is_file()]:
                board.started(waiting.pop(name))
            for reference in ended:
                outcomes.append(_outcome(ray, reference, pending.pop(reference), log_of))
                board.ended(outcomes[-1])
            board.tick()
        except KeyboardInterrupt:
            if stopped:
                raise
            stopped = True
            for reference in pending:
                ray.cancel(
                    reference, force=False
                )  # a KeyboardInterrupt in the task, passed on to the command
    return outcomes


def _outcome(ray: Any, reference: Any, job: Job, log_of: dict[str, Path]) -> Outcome:
    try:
        status = ray.get(reference)
    except (ray.exceptions.TaskCancelledError, KeyboardInterrupt):
        return Outcome(job, 130)
    except ray.exceptions.RayError as error:
        if "KeyboardInterrupt" in str(error):
            return Outcome(job, 130)
        return Outcome(job, 1, f"{command_module.tail(log_of[job.name])}\n{str(error).splitlines()[0]}")
    return Outcome(job, status, command_module.tail(log_of[job.name]) if status not in (0, 130) else "")
