"""Evaluate trained runs under sensor errors of increasing strength (white noise, AR(1) noise, bias), and certify them.

    python -m experiments.evaluate runs/ppo-sandwich-pendulum-0

Writes evaluation.parquet (+ .json) and certificate.json into each run folder and prints the table.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console

from agents import AGENTS
from envs import Task, get_task
from experiments._console import fail, open_runs, parse
from experiments._filters import shared_task, task_of
from experiments._parallel import module_command
from experiments._stored import holds, specification
from experiments._tracking import log_runs
from experiments.launchers import Job, Options, launch
from experiments.launchers.launch import FailedError, check
from lipsrl.certificates import Certificate, certify, weights_sha256
from lipsrl.disturbances import Disturbance, parse_disturbance
from lipsrl.evaluation import Evaluation, evaluate, model_fingerprint
from lipsrl.policies import actor_parts
from lipsrl.reporting import STANDARD_DISTURBANCES, comparison_table
from lipsrl.tracking import Mode, RunFolder
from lipsrl.tracking._start import project_of


@dataclass
class Args:
    """Evaluate trained runs under sensor errors of increasing strength, and certify them."""

    run: tyro.conf.Positional[list[Path]]
    """Run folders, as `experiments.train` leaves them."""
    episodes: int = 100
    """Episodes per disturbance and strength. All runs play the same episodes."""
    seed: int = 0
    """Random seed of the episodes and the noise (not of the training)."""
    force: bool = False
    """Evaluate again, even if there are results with the same settings."""
    track: Mode = "disabled"
    """Weights & Biases mode: online, offline (stored in ./wandb until you run `wandb sync`) or disabled."""
    project: str | None = None
    """W&B project. Default: the environment variable WANDB_PROJECT, or lipsrl."""
    launch: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=lambda: Options(workers=1))
    """Where runs are evaluated. Default: one after the other in this process."""
    only: bool = False
    """Evaluate, but do not print the table."""


def current(evaluation: Evaluation, task: Task, episodes: int, seed: int) -> Evaluation | None:
    """What would be measured now, if a stored evaluation holds it: the first episodes of more are the same ones."""
    standard = {disturbance.name: disturbance for disturbance in standard_disturbances()}
    if not holds(evaluation.metadata, task, standard, task.strengths, episodes, seed):
        return None
    frame, data = evaluation.frame, {**evaluation.metadata, "n_episodes": episodes, "floor": task.floor}
    return Evaluation(frame[frame["episode"] < episodes], data)


def standard_disturbances() -> list[Disturbance]:
    """White noise, AR(1) noise and bias, each of standard deviation 1, multiplied by a task's strengths."""
    return [parse_disturbance(text) for text in STANDARD_DISTURBANCES]


def white_noise(evaluation: Evaluation) -> Evaluation:
    """Its rows under white noise alone."""
    frame = evaluation.frame
    return Evaluation(frame[frame["disturbance"] == "gaussian"], evaluation.metadata)


def evaluate_run(folder: RunFolder, *, episodes: int, seed: int, force: bool = False) -> Evaluation:
    """The evaluation of one run under the standard disturbances at the task's strengths, stored in its folder."""
    config = folder.read_config()
    task = get_task(config["task"])
    key = (config["agent"], config["seed"])
    model, statistics = folder.load()
    if folder.evaluation_file.is_file() and not force:
        stored = Evaluation.load(folder.evaluation_file)
        same = stored.fingerprints.get(key) == model_fingerprint(model, statistics)
        found = current(stored, task, episodes, seed) if same else None
        if found is not None:
            return found
    evaluation = evaluate(
        {key: model},
        task_of(config).make,
        disturbances=standard_disturbances(),
        strengths=task.strengths,
        n_episodes=episodes,
        seed=seed,
        vec_normalize=statistics,
        floor=task.floor,
        progress=sys.stderr.isatty(),
    )
    if task_of(config).smoothing is not None:
        # a filter of the actions is a part of the agent, which plays the episodes of all agents of its task
        evaluation = Evaluation(evaluation.frame, {**evaluation.metadata, "env_spec": specification(task)})
    evaluation.save(folder.evaluation_file)
    return evaluation


def certify_run(folder: RunFolder, *, force: bool = False) -> Certificate:
    """The certificate of one run, stored in its folder; one of an older lipsrl or of other weights is made again."""
    model, statistics = folder.load()
    if folder.certificate_file.is_file() and not force:
        with contextlib.suppress(ValueError):
            stored = Certificate.load(folder.certificate_file)
            if stored.weights_sha256 == weights_sha256(actor_parts(model).network):
                return stored
    certificate = certify(model, vec_normalize=statistics)
    certificate.save(folder.certificate_file)
    return certificate


def certificate_of(folder: RunFolder, *, force: bool = False) -> Certificate | None:
    """:func:`certify_run`; None where the recipe's policy has no Lipschitz constant (LipsNet)."""
    recipe = AGENTS.get(folder.read_config().get("recipe", ""))
    return None if recipe is not None and not recipe.certifiable else certify_run(folder, force=force)


def records(configs: Sequence[dict[str, Any]], proofs: Sequence[Certificate | None]) -> list[dict[str, Any]]:
    """Certificates as the tables take them, of the runs that have one."""
    return [
        {"agent": config["agent"], "seed": config["seed"], **proof.to_dict()}
        for config, proof in zip(configs, proofs, strict=True)
        if proof is not None
    ]


def is_measured(folder: RunFolder, episodes: int, seed: int) -> bool:
    """Whether what would be measured is stored, and the model was not trained again since."""
    recipe = AGENTS.get(folder.read_config().get("recipe", ""))
    proven = [folder.certificate_file] if recipe is None or recipe.certifiable else []
    files = (folder.evaluation_file, *proven)
    if not all(
        file.is_file() and file.stat().st_mtime >= folder.model_file.stat().st_mtime for file in files
    ):
        return False
    stored = Evaluation.load(folder.evaluation_file)
    return current(stored, get_task(folder.read_config()["task"]), episodes, seed) is not None


def elsewhere(args: Args, folders: list[RunFolder]) -> None:
    """Measure the runs by the launcher, one command each."""
    given = ["--episodes", args.episodes, "--seed", args.seed, "--only", *(["--force"] if args.force else [])]
    jobs = [
        Job(
            f"evaluate-{folder.path.name}", tuple(module_command("experiments.evaluate", folder.path, *given)),
            folder.path, "evaluate", 0,
            lambda folder=folder: not args.force and is_measured(folder, args.episodes, args.seed),
        )
        for folder in folders
    ]  # fmt: skip
    names = {job.name for job in jobs}
    if len(names) < len(jobs):
        raise ValueError("run: two folders have the same name; launch them by two commands.")
    launch(jobs, args.launch, folders[0].path.parent / ".sweep", "evaluate")


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    with fail():
        if args.track != "disabled":
            project_of(args.project)
        check(args.launch)
        folders = open_runs(args.run)
        if args.launch.launcher != "local" or args.launch.workers > 1:
            try:
                elsewhere(args, folders)
            except FailedError as error:
                raise ValueError(str(error)) from error
            if args.launch.launcher == "slurm":
                return
            args.force = False  # it was done
        configs = [folder.read_config() for folder in folders]
        if args.track != "disabled":
            shared_task(configs)
        evaluations = [
            evaluate_run(folder, episodes=args.episodes, seed=args.seed, force=args.force)
            for folder in folders
        ]
        proofs = [certificate_of(folder, force=args.force) for folder in folders]
        if args.only:
            return
        task, certificates = get_task(configs[0]["task"]), records(configs, proofs)
        evaluation = Evaluation.concat(evaluations)
        Console().print(comparison_table(evaluation, certificates, floor=task.floor))
        log_runs(folders, evaluation, proofs, task, seed=args.seed, track=args.track, project=args.project)


if __name__ == "__main__":
    main()
