"""One row per agent of trained runs, as a Markdown table for the docs.

    python -m experiments.table runs/families/*

Runs of the same agent, K (or search for one) and budget with different training seeds are pooled. Runs without an
evaluation are evaluated first.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from tqdm import tqdm

from envs import Task
from experiments._console import fail, open_runs, parse
from experiments._pooling import one_task, refuse_mixtures, refuse_twins
from experiments.evaluate import certificate_of, evaluate_run, white_noise
from lipsrl.certificates import Certificate
from lipsrl.evaluation import Evaluation
from lipsrl.tracking import RunFolder


@dataclass
class Args:
    """One row per agent of trained runs, as a Markdown table."""

    run: tyro.conf.Positional[list[Path]]
    """Run folders."""
    episodes: int = 100
    """Episodes per run and noise level. All runs play the same episodes."""
    seed: int = 0
    """Random seed of the episodes and the noise (not of the training)."""
    threshold: float | None = None
    """A run with a clean return below this value counts as failed. Default: -300 on Pendulum; elsewhere none does."""


@dataclass(frozen=True)
class Run:
    """A trained run and what was measured of it."""

    config: dict[str, Any]
    evaluation: Evaluation
    certificate: Certificate | None


def key_of(config: dict[str, Any]) -> tuple[str, str, str]:
    """Agent, K and budget."""
    options = config["hyperparameters"]["policy_kwargs"]
    bound = config["lipschitz_bound"]
    known = (
        "auto" if "lipschitz_search" in config else "–" if bound is None else f"{bound:g}"
    )  # found: one per seed
    lesson = config.get("lesson", {})  # of a student
    return config["agent"], known, lesson.get("budget", options.get("budget", "output"))


def read(folder: RunFolder, args: Args) -> Run:
    """Measure a run where it has not been measured."""
    evaluation = white_noise(evaluate_run(folder, episodes=args.episodes, seed=args.seed))
    return Run(folder.read_config(), evaluation, certificate_of(folder))


def number(row: Any, column: str, digits: int) -> str:
    """Estimate and interval."""
    estimate, low, high = (row[column], row[f"{column}_low"], row[f"{column}_high"])
    return f"{estimate:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]".replace("-", "−")


def line(key: tuple[str, str, str], runs: list[Run], task: Task, threshold: float) -> str:
    """One agent's row."""
    summary = Evaluation.concat([run.evaluation for run in runs]).summary().set_index("strength")
    clean = [run.evaluation.summary(["return"]).set_index("strength")["return"][0.0] for run in runs]
    failed = sum(value < threshold for value in clean)
    tightness = [run.certificate.network.tightness for run in runs if run.certificate is not None]
    seconds = [run.config["train_seconds"] for run in runs]
    shown = [s for s in task.strengths if s > 0]
    cells = [
        *key,
        str(len(runs)),
        number(summary.loc[0.0], "return", 0) + (f", {failed} failed" if failed else ""),
        number(summary.loc[task.chatter_strength], "action_fluctuation", 2),
        *(number(summary.loc[s], "return", 0) for s in shown if s != task.chatter_strength),
        f"{statistics.median(tightness):.0%} ({min(tightness):.0%}–{max(tightness):.0%})"
        if tightness
        else "–",
        f"{statistics.median(seconds):.0f} s",
    ]
    return "| " + " | ".join(cells) + " |"


def table(args: Args) -> str:
    """The Markdown table.

    Raises:
        ValueError: no runs, runs of different tasks, or runs of one line that differ in more than their seed.
    """
    groups: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    folders = open_runs(args.run)
    task = one_task([folder.read_config() for folder in folders])
    of_one: dict[tuple[str, str, str], list[RunFolder]] = defaultdict(list)
    for folder in folders:
        of_one[key_of(folder.read_config())].append(folder)
    for alike in of_one.values():
        configs = [folder.read_config() for folder in alike]
        refuse_twins(alike, configs)
        refuse_mixtures(alike, configs)
    for folder in tqdm(folders, desc="evaluate", unit="run", disable=None):
        run = read(folder, args)
        groups[key_of(run.config)].append(run)
    noisy = [f"return σ={s:g}" for s in task.strengths if s not in (0.0, task.chatter_strength)]
    titles = [
        "agent", "K", "budget", "seeds", "return clean", f"mean \\|Δa\\| σ={task.chatter_strength:g}", *noisy,
        "tightness", "training",
    ]  # fmt: skip
    threshold = {"pendulum": -300.0}.get(task.name, -math.inf) if args.threshold is None else args.threshold
    rows = [line(key, runs, task, threshold) for key, runs in groups.items()]
    return "\n".join(["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles), *rows])


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    with fail():
        print(table(args))


if __name__ == "__main__":
    sys.exit(main())
