"""Distil trained runs, compare students with their teachers, and print the tables of docs/distillation.md.

    python -m experiments.distill runs/pendulum/ppo-pendulum-* runs/teachers/sac-pendulum-*

Each student gets its own run folder. K is a share of the steepest slope that was found in its teacher (the largest
Jacobian norm, in units of the policy's input). While it learns, its observations have the noise at which the task
measures chatter. Training and selection of a student never use the evaluation's episodes. Existing students are not
made again. ``--fine-tune`` continues the training of the students under their bound. ``--scratch`` adds agents to the
table that were trained under such a bound from the start.

An interrupted student is not kept. An existing student that was made with other settings (K, layer, noise, rounds,
steps, widths) or by another teacher is an error. With ``--launcher ray`` or ``slurm`` the students are made on other
machines (docs/experiments.md).
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule

import lipsrl
from experiments._console import command_line, fail, open_runs, parse
from experiments._distill_settings import Args, bound_of, is_complete, lesson, student_folder, tuned_folder
from experiments._distill_tables import Measured, side_by_side
from experiments._filters import task_of
from experiments._locks import exclusive
from experiments._parallel import module_command
from experiments._pooling import refuse_pooling
from experiments.evaluate import certify_run
from experiments.launchers import Job, launch
from experiments.launchers.launch import FailedError, check
from lipsrl._validation import positive_finite
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import model_fingerprint
from lipsrl.tracking import RunFolder
from lipsrl.tracking.config import versions

#: Step size of fine-tuning, which falls linearly to 0.
FINE_TUNING_RATE = 1e-4
#: What the config of a student says of its teacher.
OF_THE_TEACHER = ("teacher", "teacher_fingerprint", "teacher_slope")


def make_student(args: Args, folder: RunFolder) -> None:
    """Distil one teacher; its student's run folder is left behind."""
    model, statistics_ = folder.load()
    config = folder.read_config()
    task = task_of(config)
    slope = certify_run(folder).network.lower_bound
    noise = task.chatter_strength if args.noise_level is None else args.noise_level
    begun = time.perf_counter()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        student = lipsrl.distill(
            model, task.make, lipschitz_bound=bound_of(args, slope), layer=args.layer, net_arch=args.net_arch or None,
            disturbance=GaussianNoise(noise) if noise > 0 else None, vec_normalize=statistics_, rounds=args.rounds,
            steps=args.steps, seed=config["seed"], progress=sys.stderr.isatty(),
        )  # fmt: skip
    if any(issubclass(warning.category, lipsrl.distillation.InterruptedWarning) for warning in said):
        raise KeyboardInterrupt  # half a lesson is no student to compare
    save(
        student_folder(args, folder),
        student,
        config,
        f"{config['agent']}-distilled",
        **lesson(args),
        teacher=str(folder.path),
        teacher_fingerprint=model_fingerprint(model, statistics_),
        teacher_slope=slope,
        noise_level=noise,
        seconds=round(time.perf_counter() - begun, 1),
        warnings=[str(warning.message) for warning in said],
    )


def make_tuned(args: Args, folder: RunFolder) -> None:
    """Train a student on under its bound, with its normalisation as it is."""
    own = student_folder(args, folder)
    student, statistics_ = own.load()
    config = own.read_config()
    task = task_of(config)
    venv = lipsrl.distillation.student_environments(task.make, student.n_envs, statistics_)
    student.set_env(venv)
    student.learning_rate = LinearSchedule(FINE_TUNING_RATE, 0.0, 1.0)
    student._setup_lr_schedule()
    student.set_random_seed(config["seed"])
    begun = time.perf_counter()
    student.learn(args.fine_tune)
    seconds = round(time.perf_counter() - begun, 1)
    made = {key: config[key] for key in (*lesson(args), *OF_THE_TEACHER, "noise_level") if key in config}
    save(
        tuned_folder(args, folder), student, config, f"{config['agent']}-tuned", **made, seconds=seconds,
        fine_tuned_timesteps=args.fine_tune,
    )  # fmt: skip


def save(folder: RunFolder, model: BaseAlgorithm, config: dict[str, Any], agent: str, **more: Any) -> None:
    """Write a run folder of a student."""
    policy: Any = model.policy
    kept = {
        key: config[key] for key in ("task", "env_id", "env_wrapper", "seed", "algorithm") if key in config
    }
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.save_model(model)
    folder.write_config(
        {
            **kept,
            **more,
            "agent": agent,
            "vec_normalize": model.get_vec_normalize_env() is not None,
            "lipschitz_bound": policy.options.lipschitz_bound,
            "layer": policy.options.layer,
            "command": command_line("experiments.distill"),
            "versions": versions(),
        }
    )


def tables(args: Args) -> str:
    """Both Markdown tables, of runs that are all evaluated on the same episodes."""

    def measured(folder: RunFolder) -> Measured:
        return Measured.of(folder, args.episodes, args.seed)

    groups: dict[tuple[str, str], dict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for folder in open_runs(args.run):
        config = folder.read_config()
        group = groups[config["agent"], config["task"]]
        group["teacher"].append(measured(folder))
        group["student"].append(measured(student_folder(args, folder)))
        if args.fine_tune:
            group["student, fine-tuned"].append(measured(tuned_folder(args, folder)))
    for path in args.scratch:
        run = measured(RunFolder.open(path))
        for (_, task), group in groups.items():
            if task == run.config["task"]:
                group[f"{run.config['agent']} from scratch"].append(run)
    return side_by_side(groups)


def make_missing(args: Args, folder: RunFolder) -> None:
    """What this teacher lacks."""
    with exclusive(student_folder(args, folder).path):
        if not student_folder(args, folder).config_file.is_file():
            make_student(args, folder)
        if args.fine_tune and not tuned_folder(args, folder).config_file.is_file():
            make_tuned(args, folder)


def _job(args: Args, folder: RunFolder, given: list[str]) -> Job:
    """The command that makes what one teacher lacks, here or anywhere."""
    elsewhere = ["--launcher", "local", "--workers", "1", "--only"]  # the last of a flag's values counts
    elsewhere += ["--address", "None"] if args.launch.address is not None else []
    elsewhere += ["--slurm", ""] if args.launch.slurm else []
    command = module_command("experiments.distill", folder.path, *given, *elsewhere)
    student = student_folder(args, folder).path
    return Job(student.name, tuple(command), student, "distill", 0, lambda: is_complete(args, folder))


def distil(args: Args) -> None:
    """Make what is missing, several at a time; then print the tables."""
    folders = open_runs(args.run)
    check(args.launch)
    positive_finite("share", args.share)
    names = [folder.path.name for folder in folders]
    if len(set(names)) < len(names):
        raise ValueError(
            f"run: students are named like their teachers' folders, and these are not all different: {names}."
        )
    refuse_pooling(folders)
    refuse_pooling(open_runs(args.scratch) if args.scratch else [])
    missing = [folder for folder in folders if not is_complete(args, folder)]
    here = args.launch.launcher == "local" and (args.launch.workers == 1 or len(missing) == 1)
    if args.only or here:
        for folder in missing:
            make_missing(args, folder)
    elif missing:
        # as paths, or a trailing slash would hand every run to each of the commands
        given = [part for part in sys.argv[1:] if Path(part) not in args.run]
        if len(given) + len(args.run) != len(sys.argv[1:]):
            raise ValueError(
                "a run is called like the value of another option; give the absolute paths of the runs, or their "
                "commands could not be told apart."
            )
        launch(
            [_job(args, folder, given) for folder in missing], args.launch, args.output / ".sweep", "distill"
        )
        if args.launch.launcher == "slurm":
            return
    if not args.only:
        print(tables(args))


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    with fail():
        try:
            distil(args)
        except FailedError as error:
            raise ValueError(str(error)) from error


if __name__ == "__main__":
    main()
