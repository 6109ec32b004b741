"""Set trained runs side by side: return and chatter under noise, certificates, one HTML report.

    python -m experiments.compare runs/ppo-pendulum-* runs/ppo-sandwich-pendulum-* --report report.html

Runs of the same agent with different training seeds are pooled; the first agent named is the baseline of
every ratio and paired difference. What has not been evaluated yet is evaluated first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from envs import Task, get_task
from experiments._console import command_line, fail, open_runs, parse
from experiments._tracking import log_runs
from experiments.evaluate import certify_run, evaluate_run
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import Evaluation, rollout_trace
from lipsrl.reporting import comparison_table, write_report
from lipsrl.tracking import Mode, RunFolder


@dataclass
class Args:
    """Set trained runs side by side."""

    run: tyro.conf.Positional[list[Path]]
    """Run folders; the agent of the first one is the baseline."""
    report: Path | None = None
    """Write the HTML report there."""
    output: Path | None = None
    """Write the pooled table there (.parquet, with a .json beside it)."""
    episodes: int = 100
    """Episodes per run and noise level; the same ones for every run."""
    seed: int = 0
    """Of the episodes and the noise (not of the training)."""
    track: Mode = "disabled"
    """Weights & Biases: online, offline (kept in ./wandb until `wandb sync`) or disabled."""
    project: str | None = None
    """W&B project; WANDB_PROJECT if not given, else lipsrl."""


def one_task(configs: list[dict[str, Any]]) -> Task:
    """The task that all runs share; ``ValueError`` if they do not."""
    names = sorted({config["task"] for config in configs})
    if len(names) != 1:
        raise ValueError(f"The runs are of different tasks ({', '.join(names)}); compare runs of one task.")
    return get_task(names[0])


def refuse_twins(folders: list[RunFolder], configs: list[dict[str, Any]]) -> None:
    """``ValueError`` if two runs have the same agent and training seed."""
    seen: dict[tuple[str, int], RunFolder] = {}
    for folder, config in zip(folders, configs, strict=True):
        key = (config["agent"], config["seed"])
        if key in seen:
            raise ValueError(
                f"{seen[key].path} and {folder.path} are both agent {key[0]!r} with training seed {key[1]}; "
                "give one of them."
            )
        seen[key] = folder


def paired_table(evaluation: Evaluation, baseline: str, other: str) -> Table:
    """Return of ``other`` minus ``baseline`` and ratio of their chatter, per noise level."""
    table = Table(title=f"{other} against {baseline}, paired, 95 % CI", title_justify="left")
    for name in ("noise std", "return difference", "fluctuation ratio"):
        table.add_column(name, justify="right")
    difference = evaluation.compare(other, baseline, "return")
    ratio = evaluation.compare(other, baseline, "action_fluctuation")
    for (_, d), (_, r) in zip(difference.iterrows(), ratio.iterrows(), strict=True):
        table.add_row(
            f"{d['strength']:g}",
            f"{d['difference']:+.1f} [{d['difference_low']:+.1f}, {d['difference_high']:+.1f}]",
            f"{r['ratio']:.2f} [{r['ratio_low']:.2f}, {r['ratio_high']:.2f}]",
        )
    return table


def traces_of(
    folders: list[RunFolder], configs: list[dict[str, Any]], task: Task, seed: int
) -> dict[str, Any]:
    """One episode of each agent (its first run) under the same small noise."""
    traces: dict[str, Any] = {}
    for folder, config in zip(folders, configs, strict=True):
        if config["agent"] not in traces:
            model, statistics = folder.load()
            traces[config["agent"]] = rollout_trace(
                model,
                task.make,
                disturbance=GaussianNoise(1.0),
                strength=task.chatter_strength,
                seed=seed,
                vec_normalize=statistics,
            ) | {"disturbance": "gaussian", "strength": task.chatter_strength}
    return traces


def compare(args: Args) -> Evaluation:
    """Evaluate, certify, print and report."""
    folders = open_runs(args.run)
    if args.output is not None:
        Evaluation.check_path(args.output)
    configs = [folder.read_config() for folder in folders]
    task = one_task(configs)
    refuse_twins(folders, configs)
    evaluations = [
        evaluate_run(folder, episodes=args.episodes, seed=args.seed)
        for folder in tqdm(folders, desc="evaluate", unit="run", disable=None)
    ]
    proofs = [certify_run(folder) for folder in tqdm(folders, desc="certify", unit="run", disable=None)]
    certificates = [
        {"agent": config["agent"], "seed": config["seed"], **proof.to_dict()}
        for config, proof in zip(configs, proofs, strict=True)
    ]
    evaluation = Evaluation.concat(evaluations)
    if args.output is not None:
        evaluation.save(args.output)
    console = Console(width=None if Console().is_terminal else 140)
    console.print(comparison_table(evaluation, certificates, floor=task.floor))
    agents = list(dict.fromkeys(config["agent"] for config in configs))
    for other in agents[1:]:
        console.print(paired_table(evaluation, agents[0], other))
    if args.report is not None:
        commands = list(
            dict.fromkeys([*(config["command"] for config in configs), command_line("experiments.compare")])
        )
        path = write_report(
            args.report,
            evaluation=evaluation,
            certificates=certificates,
            traces=traces_of(folders, configs, task, args.seed),
            commands=commands,
            title=f"{' against '.join(agents)} on {task.env_id}",
            floor=task.floor,
        )
        console.print(f"Report: {path.resolve()}")
    log_runs(folders, evaluation, proofs, task, seed=args.seed, track=args.track, project=args.project)
    return evaluation


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    with fail():
        compare(args)


if __name__ == "__main__":
    main()
