"""Running what is left of a sweep: here, one shard after the other, or in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import torch
from tqdm import tqdm

from lipsrl._episodes import EndlessEpisodeError
from lipsrl._validation import check_distinct
from lipsrl.evaluation._environments import Env, EnvironmentSource
from lipsrl.evaluation._rollout import NonFiniteError
from lipsrl.evaluation._sweep import Job, Outcome, Shard, Sweep

Collect = Callable[[Shard, Outcome], None]


def run_pending(
    sweep: Sweep,
    job: Job,
    source: EnvironmentSource,
    environments: list[Env],
    n_envs: int,
    n_workers: int,
    progress: bool,
) -> tuple[int, NonFiniteError | EndlessEpisodeError | None]:
    """Run what is left of the sweep.

    Args:
        environments: those that there are already; what is made is added, to be closed by the caller.

    Returns:
        How many episodes were known before, and the first error, if any.
    """
    shards = sweep.pending(n_envs, n_workers)
    resumed, errors = len(sweep), []

    def collect(shard: Shard, outcome: Outcome) -> None:
        sweep.collect(shard, outcome)
        if outcome.error is not None:
            errors.append(outcome.error)

    with tqdm(
        total=sweep.total, initial=resumed, unit="episode", disable=not progress, dynamic_ncols=True
    ) as bar:
        if n_workers > 1 and len(shards) > 1:
            run_in_workers(job, source, shards, n_workers, collect, bar.update)
        elif shards:
            slots = min(n_envs, max(len(shard.tasks) for shard in shards))
            environments += source.make(slots - 1) if source.given is None else []
            check_distinct(environments)  # the first was made apart
            run_here(job, environments, shards, collect, bar.update)
    return resumed, errors[0] if errors else None


def run_here(
    job: Job,
    environments: Sequence[Env],
    shards: Sequence[Shard],
    collect: Collect,
    after_episodes: Callable[[int], object],
) -> None:
    """Run shards in this process until one has an error; what has ended is collected, whatever happens."""
    for shard in shards:
        outcome = Outcome()
        try:
            job.run(environments, shard, outcome, lambda: after_episodes(1))
        finally:
            collect(shard, outcome)
        if outcome.error is not None:
            return


def run_in_workers(
    job: Job,
    source: EnvironmentSource,
    shards: Sequence[Shard],
    n_workers: int,
    collect: Collect,
    after_episodes: Callable[[int], object],
    method: str | None = None,
) -> None:
    """Run shards in worker processes, each with environments of its own, until one has an error.

    Workers are forked where that is possible: nothing is imported again, and nothing needs to be pickled. They are
    spawned on other systems and where CUDA is in use; scripts need ``if __name__ == "__main__":`` then.

    Raises:
        RuntimeError: a worker died.
    """
    method = method or start_method()
    sent: Any = (job, source)
    with warnings.catch_warnings():
        # newer Pythons warn of forking beside threads; a worker runs torch on one thread, so it waits for none
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        with ProcessPoolExecutor(
            min(n_workers, len(shards)),
            mp_context=multiprocessing.get_context(method),
            initializer=_begin,
            initargs=(sent if method == "fork" else _Pickled(sent),),
        ) as pool:
            futures = {pool.submit(_run, shard): shard for shard in shards}
            left = dict(futures)
            try:
                for future in as_completed(futures):
                    outcome = future.result()
                    collect(left.pop(future), outcome)
                    after_episodes(len(outcome.rows))
                    if outcome.error is not None:
                        return
            except BrokenProcessPool as error:
                raise RuntimeError(
                    "a worker process died without an error message: killed, out of memory, or a crash in the "
                    "simulator. "
                    "What had ended is kept if resume= was given. Fewer workers or a smaller n_envs need less "
                    "memory; n_workers=1 shows the crash."
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                # what was being run has been waited for, so it need not be run again
                for future, shard in left.items():
                    if not future.cancelled() and future.exception() is None:
                        collect(shard, future.result())


def start_method() -> str:
    """``"fork"`` on Linux, unless CUDA is in use, which does not survive it; else ``"spawn"``."""
    cuda: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return "fork" if sys.platform == "linux" and not cuda else "spawn"


class _Pickled:
    """Sent to a spawned process by cloudpickle, which takes lambdas and local classes."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return cloudpickle.loads, (cloudpickle.dumps(self.value),)


# of a worker process
_job: Job
_source: EnvironmentSource
_environments: list[Env] = []


def _begin(sent: Any) -> None:
    global _job, _source
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    torch.set_num_threads(1)
    _job, _source = sent


def _end_with_the_parent() -> None:
    """A parent that is killed cannot end its workers, and they would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(shard: Shard) -> Outcome:
    outcome = Outcome()
    missing = len(shard.tasks) - len(_environments)
    if missing > 0:
        _environments.extend(_source.make(missing))
        check_distinct(_environments)
    _job.run(_environments, shard, outcome)
    return outcome
