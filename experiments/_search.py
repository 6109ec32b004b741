"""A search over K by Optuna: the K whose agents keep the most return as noise grows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agents import get_agent
from experiments._plan import RunConfig, SweepFolder
from experiments.evaluate import evaluate_run, white_noise
from lipsrl._validation import positive_finite, positive_int
from lipsrl.tracking import RunFolder


@dataclass
class Search:
    """How K is searched."""

    search_k: tuple[float, float] | None = None
    """Smallest and largest K of a search by Optuna, instead of a grid. Do not pass --lipschitz-bound."""
    trials: int = 20
    """Number of values of K to try, each with all seeds."""
    search_episodes: int = 50
    """Episodes per run and noise level for the score of a K."""


def import_optuna() -> Any:
    """Optuna.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ValueError(
            "a search needs Optuna, which is not installed: pip install 'lipsrl[search]'."
        ) from error
    return optuna


def score(folders: list[Path], episodes: int) -> float:
    """Mean over the runs of the area under the return curve as white noise grows (normalised AUC)."""
    found = []
    for path in folders:
        evaluation = white_noise(evaluate_run(RunFolder.open(path), episodes=episodes, seed=10_000))
        found.append(float(evaluation.normalized_auc()["normalized_auc"].iloc[0]))
    return float(np.mean(found))


def _refuse(options: Search, configs: list[RunConfig]) -> tuple[float, float]:
    """Least and largest K; ``ValueError`` where there is no one K to search."""
    assert options.search_k is not None
    low, high = (positive_finite("search_k", value) for value in options.search_k)
    positive_int("trials", options.trials)
    if low >= high:
        raise ValueError(f"search_k must be the least and the largest K, received {low:g} {high:g}.")
    for key in ("agent", "task", "layer", "history"):
        values = {getattr(config, key) for config in configs}
        if len(values) > 1:
            raise ValueError(
                f"a search is of one K: there are {len(values)} of {key}. Search one after the other."
            )
    if any(config.lipschitz_bound is not None for config in configs):
        raise ValueError("search_k and lipschitz_bound exclude each other.")
    if get_agent(configs[0].agent).layer is None:
        raise ValueError(f"agent={configs[0].agent!r} has no K to search.")
    return low, high


def search(
    options: Search, configs: list[RunConfig], output: Path, train: Callable[[list[RunConfig]], list[Path]]
) -> list[Path]:
    """Trial after trial, each with its seeds side by side; returns the run folders of the best K.

    Optuna's journal is ``OUTPUT/.sweep/search.journal``. A search that was killed goes on with the trial it was in: its
    runs have ids like all others, so what is trained is kept.

    Args:
        configs: of one agent and task, one per seed.
        train: leaves their run folders behind.

    Raises:
        ValueError: no range of K, several agents or tasks, no Lipschitz agent, Optuna absent.
    """
    low, high = _refuse(options, configs)
    optuna = import_optuna()
    journal = SweepFolder(output).path / "search.journal"
    study = _study(optuna, journal, f"{configs[0].label}/{configs[0].task}", configs[0].seed)
    states = optuna.trial.TrialState
    for trial in study.get_trials(states=(states.RUNNING,)):  # of a search that was killed
        study.tell(trial.number, state=states.FAIL)
        study.enqueue_trial(trial.params)
    while len(study.get_trials(states=(states.COMPLETE,))) < options.trials:
        trial = study.ask()
        bound = _rounded(trial.suggest_float("lipschitz_bound", low, high, log=True))
        value = score(
            train([replace(one, lipschitz_bound=bound) for one in configs]), options.search_episodes
        )
        study.tell(trial, value)
        print(f"K={bound:g}: AUC {value:.3f} (best so far {study.best_value:.3f})", flush=True)
    best = _rounded(study.best_params["lipschitz_bound"])
    print(f"Best of {options.trials}: K={best:g}, AUC {study.best_value:.3f}, mean of {len(configs)} seeds.")
    return [output / replace(config, lipschitz_bound=best).name for config in configs]


def _rounded(bound: float) -> float:
    """To three digits, which an id can hold."""
    return float(f"{bound:.3g}")


def _study(optuna: Any, file: Path, name: str, seed: int) -> Any:
    file.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = optuna.storages.journal
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        backend = journal.JournalFileBackend(str(file), lock_obj=journal.JournalFileOpenLock(str(file)))
        return optuna.create_study(
            study_name=name,
            storage=optuna.storages.JournalStorage(backend),
            sampler=optuna.samplers.TPESampler(seed=seed),
            direction="maximize",
            load_if_exists=True,
        )
