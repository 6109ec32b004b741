"""What students are asked to be, where they are, and whether those that are there are these."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from envs import get_task
from experiments.launchers import Options
from lipsrl.evaluation import model_fingerprint
from lipsrl.tracking import RunFolder


@dataclass
class Args:
    """Distil trained runs and compare teacher, student, fine-tuned student and agents trained from scratch."""

    run: tyro.conf.Positional[list[Path]]
    """The teachers' run folders, as `experiments.train` leaves them."""
    share: float = 0.5
    """K as a share of the teacher's steepest slope found."""
    lipschitz_bound: float | None = None
    """Upper limit of K for all students. A student gets the smaller one of this value and its share."""
    noise_level: float | None = None
    """Standard deviation of the noise while students learn, raw units. Default: the noise level at which the task
    measures chatter."""
    layer: str = "sandwich"
    """Layer type of the students (key of lipsrl.layers.LAYERS)."""
    net_arch: list[int] = field(default_factory=list)
    """Widths of the students' hidden layers. Default: those of the teachers."""
    rounds: int = 12
    """Number of DAgger rounds."""
    steps: int = 7200
    """Gradient steps."""
    fine_tune: int = 0
    """Environment steps of fine-tuning under the bound. 0: no fine-tuning."""
    scratch: list[Path] = field(default_factory=list)
    """Run folders of agents that were trained under a bound from the start."""
    output: Path = Path("runs/students")
    """Folder for the students' run folders."""
    episodes: int = 100
    """Episodes per run and noise level. All runs play the same episodes."""
    seed: int = 0
    """Random seed of the evaluation's episodes and noise."""
    launch: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)
    """Where the students are trained."""
    only: bool = False
    """Make the students, but do not print the table."""


def student_folder(args: Args, teacher: RunFolder) -> RunFolder:
    """Where a teacher's student is, or will be."""
    return RunFolder(args.output / teacher.path.name)


def tuned_folder(args: Args, teacher: RunFolder) -> RunFolder:
    """Where the fine-tuned student is, or will be."""
    return RunFolder(args.output / f"{teacher.path.name}-tuned")


def share_of(share: float, slope: float, digits: int = 2) -> float:
    """K as a share of a teacher's steepest slope, rounded down to two decimals, of a small K to ``digits`` digits.

    Raises:
        ValueError: no slope, of which K could be a share.
    """
    if not slope > 0:
        raise ValueError(
            f"K is a share of the teacher's steepest slope, which must be > 0, received {slope:g}: its actions are "
            "the same everywhere, and there is nothing to distil."
        )
    places = max(2, digits - 1 - math.floor(math.log10(share * slope)))
    return math.floor(10.0**places * share * slope) / 10.0**places


def bound_of(args: Args, slope: float, digits: int = 2) -> float:
    """K for a teacher of this steepest slope: its share, or the upper limit where that is smaller."""
    share = share_of(args.share, slope, digits)
    return share if args.lipschitz_bound is None else min(share, args.lipschitz_bound)


def lesson(args: Args) -> dict[str, Any]:
    """How students are made, beside their K."""
    return {"rounds": args.rounds, "steps": args.steps, "net_arch": list(args.net_arch)}


def is_complete(args: Args, folder: RunFolder) -> bool:
    """Whether nothing is to be made for this teacher.

    Raises:
        ValueError: what is there was made with other settings.
    """
    student, tuned = student_folder(args, folder), tuned_folder(args, folder)
    if student.config_file.is_file():
        check_settings(args, student, folder)
    if args.fine_tune and tuned.config_file.is_file():
        check_settings(args, tuned, folder)
    return student.config_file.is_file() and (not args.fine_tune or tuned.config_file.is_file())


def check_settings(args: Args, folder: RunFolder, teacher: RunFolder) -> None:
    """Refuse a student that is there but is not the one that is asked for.

    Earlier versions did not write down rounds, steps, widths and whose student it is: those of theirs are kept.
    """
    config = folder.read_config()
    noise = get_task(config["task"]).chatter_strength if args.noise_level is None else args.noise_level
    earlier = "steps" not in config  # whose K has two decimals, however small
    asked: dict[str, Any] = {
        "lipschitz_bound": bound_of(args, config["teacher_slope"], digits=0 if earlier else 2),
        "layer": args.layer,
        "noise_level": noise,
        **{key: value for key, value in lesson(args).items() if key in config},
    }
    if "teacher_fingerprint" in config:
        asked["teacher_fingerprint"] = model_fingerprint(*teacher.load())
    if "fine_tuned_timesteps" in config:
        asked["fine_tuned_timesteps"] = args.fine_tune
    for name, value in asked.items():
        if config[name] != value:
            raise ValueError(
                f"{str(folder.path)!r} was made with {name}={config[name]!r}, and {value!r} is asked for. Give "
                "another --output, or remove it."
            )
