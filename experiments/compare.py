"""Compare trained runs: return and chatter under noise, certificates, one HTML report.

    python -m experiments.compare runs/ppo-pendulum-* runs/ppo-sandwich-pendulum-* --report report.html

Runs of the same agent with different training seeds are pooled. Runs without an evaluation are evaluated first: under
white noise, AR(1) noise and bias. Results of `lipsrl attack --output RUN/attacks.parquet` are shown, too.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from envs import Task
from experiments._console import command_line, fail, open_runs, parse
from experiments._filters import shared_task, task_of
from experiments._pooling import one_task, refuse_mixtures, refuse_twins
from experiments._stored import of_model
from experiments._tracking import log_runs
from experiments.evaluate import certificate_of, evaluate_run, records
from lipsrl._validation import lookup
from lipsrl.evaluation import Evaluation, model_fingerprint
from lipsrl.reporting import (
    STANDARD_DISTURBANCES,
    Records,
    comparison_table,
    figures_of,
    findings_of,
    print_answer,
    reference_of,
    write_figures,
    write_page,
)
from lipsrl.reporting.destinations import check_folder, check_page
from lipsrl.tracking import Mode, RunFolder
from lipsrl.tracking._start import project_of


@dataclass
class Args:
    """Compare trained runs."""

    run: tyro.conf.Positional[list[Path]]
    """Run folders."""
    reference: str | None = None
    """Agent with which all others are compared. Default: the first agent without a bound K."""
    report: Path | None = None
    """File for the HTML report."""
    title: str | None = None
    """Heading of the report."""
    figures: Path | None = None
    """Folder for the report's figures as separate files, for papers (.svg, .pdf, .png)."""
    output: Path | None = None
    """File for the pooled table (.parquet). A .json file with the settings is written beside it."""
    episodes: int = 100
    """Episodes per run, disturbance and strength. All runs play the same episodes."""
    seed: int = 0
    """Random seed of the episodes and the noise (not of the training)."""
    track: Mode = "disabled"
    """Weights & Biases mode: online, offline (stored in ./wandb until you run `wandb sync`) or disabled."""
    project: str | None = None
    """W&B project. Default: the environment variable WANDB_PROJECT, or lipsrl."""


def paired_table(evaluation: Evaluation, baseline: str, other: str) -> Table:
    """Return of ``other`` minus ``baseline`` and ratio of their chatter, per disturbance and strength."""
    table = Table(title=f"{other} against {baseline}, paired, 95 % CI", title_justify="left")
    for name in ("disturbance", "strength", "return difference", "fluctuation ratio"):
        table.add_column(name, justify="left" if name == "disturbance" else "right")
    difference = evaluation.compare(other, baseline, "return")
    ratio = evaluation.compare(other, baseline, "action_fluctuation")
    for (_, d), (_, r) in zip(difference.iterrows(), ratio.iterrows(), strict=True):
        table.add_row(
            d["disturbance"],
            f"{d['strength']:g}",
            f"{d['difference']:+.1f} [{d['difference_low']:+.1f}, {d['difference_high']:+.1f}]",
            f"{r['ratio']:.2f} [{r['ratio_low']:.2f}, {r['ratio_high']:.2f}]",
        )
    return table


def records_of(
    folders: list[RunFolder], configs: list[dict[str, Any]], task: Task, seed: int
) -> dict[str, Any]:
    """What the report shows of the policies: an episode under the same small noise, sensors, portrait, training."""
    records = Records(STANDARD_DISTURBANCES[0], task.chatter_strength, seed=seed)
    for folder, config in zip(folders, configs, strict=True):
        model, statistics = folder.load()
        records.add(
            config["agent"], model, task_of(config).make, vec_normalize=statistics, folder=folder.path
        )
    return records.parts()


def attacks_of(folders: list[RunFolder]) -> Evaluation | None:
    """What was measured under attack, of the runs that have it; of a model of before it is left out."""
    found = []
    for folder in folders:
        file = folder.path / "attacks.parquet"
        if not file.is_file():
            continue
        attacked = Evaluation.load(file)
        if of_model(attacked, model_fingerprint(*folder.load())):
            found.append(attacked)
        else:
            print(f"note: {file} is of another model than the run has now, and is left out.", file=sys.stderr)
    return Evaluation.concat(found) if found else None


def floor_of(configs: list[dict[str, Any]]) -> float | None:
    """The feasibility floor that the trainings noted, in raw units; None where they differ."""
    floors = {config.get("feasibility_floor") for config in configs}
    return floors.pop() if len(floors) == 1 else None


def check_destinations(args: Args) -> None:
    """``ValueError`` for what could not be written, or logged, in the end."""
    if args.output is not None:
        Evaluation.check_path(args.output)
    if args.report is not None:
        check_page("report", args.report)
    if args.figures is not None:
        check_folder("figures", args.figures)
    if args.track != "disabled":
        project_of(args.project)


def compare(args: Args) -> Evaluation:
    """Evaluate, certify, print and report."""
    check_destinations(args)
    folders = open_runs(args.run)
    configs = [folder.read_config() for folder in folders]
    task = one_task(configs)
    refuse_twins(folders, configs)
    refuse_mixtures(folders, configs)
    if args.track != "disabled":
        shared_task(configs)
    if args.reference is not None:  # known before anything is measured
        lookup("reference", args.reference, {config["agent"]: config for config in configs})
    evaluations = [
        evaluate_run(folder, episodes=args.episodes, seed=args.seed)
        for folder in tqdm(folders, desc="evaluate", unit="run", disable=None)
    ]
    proofs = [certificate_of(folder) for folder in tqdm(folders, desc="certify", unit="run", disable=None)]
    certificates = records(configs, proofs)
    evaluation = Evaluation.concat(evaluations)
    if args.output is not None:
        evaluation.save(args.output)
    console = Console(width=None if Console().is_terminal else 140)
    agents = list(dict.fromkeys(config["agent"] for config in configs))
    reference = reference_of(agents, certificates, args.reference)
    console.print(comparison_table(evaluation, certificates, reference=reference, floor=task.floor))
    for other in agents:
        if other != reference:
            console.print(paired_table(evaluation, reference, other))
    wanted = args.report is not None or args.figures is not None
    findings = findings_of(
        evaluation=evaluation,
        certificates=certificates,
        reference=reference,
        **(records_of(folders, configs, task, args.seed) if wanted else {}),
        attacks=attacks_of(folders),
        sensors=task.sensors,
        title=args.title,
        floor=task.floor,
        reference_return=task.reference_return,
        feasibility_floor=floor_of(configs),
    )
    print_answer(console, findings)
    if args.figures is not None:
        drawn = [figure for some in figures_of(findings).values() for figure in some]
        files = write_figures(args.figures, drawn)
        console.print(f"Figures: {len(files)} files in {args.figures.resolve()}", soft_wrap=True)
    if args.report is not None:
        commands = list(
            dict.fromkeys([*(config["command"] for config in configs), command_line("experiments.compare")])
        )
        path = write_page(args.report, findings, commands=commands)
        console.print(f"Report: {path.resolve()}", soft_wrap=True)
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
