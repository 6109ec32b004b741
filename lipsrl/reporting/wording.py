"""Words that more than one part of the report uses: what a strength is, and what was averaged over what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

#: below this number of training seeds a bootstrap interval is too narrow (see `lipsrl.statistics`)
FEW_SEEDS = 5

ANY_STRENGTH = "strength of the disturbance (multiple of its own amplitude)"


def is_unit_gaussian(definition: Mapping[str, Any] | None) -> bool:
    """Whether strength is a standard deviation in sensor units: ``GaussianNoise(1.0)``."""
    return bool(definition) and dict(definition or {}) == {"name": "gaussian", "std": 1.0}


def strength_title(definition: Mapping[str, Any] | None) -> str:
    """The axis title of the strength of a disturbance that ``to_dict`` described."""
    if is_unit_gaussian(definition):
        return "standard deviation σ of the sensor noise (raw sensor units)"
    return ANY_STRENGTH


def at_strength(strength: float, definition: Mapping[str, Any] | None) -> str:
    """``"σ = 0.05"`` or ``"strength 0.05"``; ``"no noise"`` at zero."""
    if strength == 0.0:
        return "no noise"
    return f"σ = {strength:g}" if is_unit_gaussian(definition) else f"strength {strength:g}"


def describe_disturbance(name: str, definition: Mapping[str, Any] | None) -> str:
    """The disturbance's name and parameters on one line."""
    parameters = {k: v for k, v in (definition or {}).items() if k != "name"}
    listed = ", ".join(f"{key} = {value}" for key, value in parameters.items())
    return f"{name} ({listed})" if listed else name


def averaging(summary: pd.DataFrame) -> list[str]:
    """What each estimate is an average of, and what its interval covers.

    Args:
        summary: as `Evaluation.summary` gives it.

    Returns:
        One or more sentences; one if the same holds for all agents.
    """
    sentences: dict[str, list[str]] = {}
    for agent, rows in summary.groupby("agent", sort=False):
        per_seed = (rows["n_episodes"] / rows["n_seeds"]).round().astype(int)
        text = _average(int(rows["n_seeds"].max()), _spread(sorted(set(per_seed))))
        sentences.setdefault(text, []).append(str(agent))
    if len(sentences) == 1:
        said = [f"Each estimate is {next(iter(sentences))}."]
    else:
        said = [f"For {', '.join(agents)}: each estimate is {text}." for text, agents in sentences.items()]
    if summary["n_seeds"].between(2, FEW_SEEDS - 1).any():
        said.append(
            f"With fewer than {FEW_SEEDS} training seeds such intervals are too narrow; with fewer than four "
            "the IQM is the plain mean."
        )
    return said


def _average(seeds: int, episodes: str) -> str:
    if seeds > 1:
        return (
            f"the interquartile mean (IQM) over {seeds} training seeds of each seed's mean over {episodes} "
            "episodes; brackets and bands are 95 % bootstrap intervals over training seeds"
        )
    return (
        f"the mean over {episodes} episodes of one trained model (one training seed); brackets and bands are "
        "95 % bootstrap intervals over episodes, and say nothing about another training run"
    )


def _spread(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
