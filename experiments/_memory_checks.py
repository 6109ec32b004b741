"""Whether an agent that lies in a run folder is the one that `experiments.memory` would make now.

Agents of one study have learned alike: one that has not would be counted in silence.
"""

from __future__ import annotations

from typing import Any

import tyro

from agents import get_agent
from experiments import train
from lipsrl.tracking import RunFolder


def check_training(folder: RunFolder, options: list[object]) -> None:
    """Refuse a training of another length or other settings, or one that was ended before.

    Args:
        options: of `experiments.train`, that it was to have.

    Raises:
        ValueError: it is one.
    """
    args = tyro.cli(train.Args, args=[str(option) for option in options])
    asked = args.timesteps or get_agent(args.agent).for_task(args.task).timesteps
    config = folder.read_config()
    if config.get("status", "finished") != "finished" or config.get("timesteps", asked) != asked:
        raise ValueError(
            f"{folder.path} holds a training that was to have {config.get('timesteps')} steps and is "
            f"{config.get('status', 'finished')}; those of this study on {args.task!r} have {asked}. Give another "
            "--output (students there were made of it)."
        )
    train.check(args)


def check_lesson(folder: RunFolder, asked: dict[str, Any]) -> None:
    """Refuse an agent that learned with other settings than the study's.

    Raises:
        ValueError: it did. Folders of before 2026-12 do not say, and pass.
    """
    found = folder.read_config().get("lesson", {})
    other = {key: found[key] for key in found if found[key] != asked.get(key)}
    if other:
        raise ValueError(
            f"{folder.path} was made with {other}; the study has { {key: asked.get(key) for key in other} }. Remove "
            "it, or give another --output."
        )
