"""A search over K by Optuna: the K whose agents keep the most return as noise grows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agents import get_agent
from experiments._plan import RunConfig
from experiments._setup import refuse_fixed_end
from experiments._sweep_folder import SweepFolder
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
    """Mean over the runs of the area under the return curve as white noise grows (normalised AUC).

    A run whose clean return is below the task's floor has no area; there is nothing to keep, so it counts as 0.
    """
    found = []
    for path in folders:
        evaluation = white_noise(evaluate_run(RunFolder.open(path), episodes=episodes, seed=10_000))
        area = float(evaluation.normalized_auc()["normalized_auc"].iloc[0])
        found.append(0.0 if np.isnan(area) else area)
    return float(np.mean(found))


def check_search(options: Search, configs: list[RunConfig]) -> tuple[float, float]:
    """Least and largest K; ``ValueError`` where there is no one K to search."""
    assert options.search_k is not None
    low, high = (positive_finite("search_k", value) for value in options.search_k)
    positive_int("trials", options.trials)
    positive_int("search_episodes", options.search_episodes)
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
    refuse_fixed_end(get_agent(configs[0].agent), configs[0].task, low)
    return low, high


def search(
    options: Search, configs: list[RunConfig], output: Path, train: Callable[[list[RunConfig]], list[Path]]
) -> list[Path]:
    """Trial after trial, each with its seeds side by side; returns the run folders of the best K.

    Optuna's journal is ``OUTPUT/.sweep/search.journal``. A search that was killed goes on with the trial it was in: its
    runs have ids like all others, so what is trained is kept. Which K comes next follows from the first seed and the
    trials that are finished, so a search that goes on, or gets more trials, tries those of one that ran through.

    Args:
        configs: of one agent and task, one per seed.
        train: leaves their run folders behind.

    Raises:
        ValueError: no range of K, several agents or tasks, no Lipschitz agent, Optuna absent, a search of other
            settings in the journal.
    """
    low, high = check_search(options, configs)
    optuna = import_optuna()
    journal = SweepFolder(output).path / "search.journal"
    study = _study(optuna, journal, f"{configs[0].label}/{configs[0].task}")
    _same_search(study, journal, _settings(options, configs))
    states = optuna.trial.TrialState
    for trial in study.get_trials(states=(states.RUNNING,)):  # of a search that was killed
        study.tell(trial.number, state=states.FAIL)
        study.enqueue_trial(trial.params)
    while (done := len(study.get_trials(states=(states.COMPLETE,)))) < options.trials:
        study.sampler = _sampler(optuna, configs[0].seed, done)
        trial = study.ask()
        bound = _rounded(trial.suggest_float("lipschitz_bound", low, high, log=True))
        value = score(
            train([replace(one, lipschitz_bound=bound) for one in configs]), options.search_episodes
        )
        study.tell(trial, value)
        print(f"K={bound:g}: AUC {value:.3f} (best so far {study.best_value:.3f})", flush=True)
    best = _rounded(study.best_params["lipschitz_bound"])
    print(f"Best of {done}: K={best:g}, AUC {study.best_value:.3f}, mean of {len(configs)} seeds.")
    return [output / replace(config, lipschitz_bound=best).name for config in configs]


def _rounded(bound: float) -> float:
    """To three digits, which an id can hold."""
    return float(f"{bound:.3g}")


def _sampler(optuna: Any, seed: int, done: int) -> Any:
    """Of one trial. One sampler for all would begin its random numbers again, and with them its K, at every restart."""
    return optuna.samplers.TPESampler(seed=int(np.random.SeedSequence((seed, done)).generate_state(1)[0]))


def _settings(options: Search, configs: list[RunConfig]) -> dict[str, Any]:
    """What the AUC of a K depends on; more trials are the same search."""
    one = asdict(configs[0])
    kept = {key: one[key] for key in ("timesteps", "layer", "budget", "history", "regularizer_scale")}
    assert options.search_k is not None
    return {
        "search_k": [float(bound) for bound in options.search_k],
        "seeds": [config.seed for config in configs],
        "search_episodes": options.search_episodes,
        **kept,
    }


def _same_search(study: Any, journal: Path, asked: dict[str, Any]) -> None:
    """Write the settings into the study; ``ValueError`` where it has other ones."""
    found = study.user_attrs.get("settings")
    if found is None:  # a new one, or one of an earlier version, whose trials know the range alone
        ranges = [trial.distributions.get("lipschitz_bound") for trial in study.get_trials(deepcopy=False)]
        known = [{"search_k": [one.low, one.high]} for one in ranges if one is not None]
        found = known[0] if known else {}
    different = [key for key in asked if key in found and found[key] != asked[key]]
    if different:
        there, here = (", ".join(f"{key}={one[key]}" for key in different) for one in (found, asked))
        raise ValueError(
            f"{journal} has a search for K of {study.study_name} with {there}, not {here}: its best K would answer "
            "another question. Give another --output, or the settings of that search (only --trials may grow)."
        )
    study.set_user_attr("settings", asked)


def _study(optuna: Any, file: Path, name: str) -> Any:
    file.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = optuna.storages.journal
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        backend = journal.JournalFileBackend(str(file), lock_obj=journal.JournalFileOpenLock(str(file)))
        return optuna.create_study(
            study_name=name,
            storage=optuna.storages.JournalStorage(backend),
            direction="maximize",
            load_if_exists=True,
        )
