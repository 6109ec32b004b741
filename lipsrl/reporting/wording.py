"""Words that more than one part of the report uses: what a strength is, and what was averaged over what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

#: what reports measure if not told otherwise: white noise alone flatters a low bound, which errors that last can hurt
STANDARD_DISTURBANCES = ("gaussian", "ar1:1:0.9", "bias")

#: below this number of training seeds a bootstrap interval is too narrow (see `lipsrl.statistics`)
FEW_SEEDS = 5

ANY_STRENGTH = "strength of the disturbance (multiple of its own amplitude)"


def is_unit_noise(definition: Mapping[str, Any] | None) -> bool:
    """Whether strength is a standard deviation in sensor units: white noise, AR(1) noise or a bias of std 1."""
    known = definition or {}
    return known.get("name") in ("gaussian", "ar1", "bias") and known.get("std") == 1.0


def strength_title(definition: Mapping[str, Any] | None) -> str:
    """The axis title of the strength of a disturbance that ``to_dict`` described."""
    if is_unit_noise(definition):
        return "standard deviation σ of the sensor error (raw sensor units)"
    return ANY_STRENGTH


def at_strength(strength: float, definition: Mapping[str, Any] | None) -> str:
    """``"σ = 0.05"`` or ``"strength 0.05"``; ``"no noise"`` at zero."""
    if strength == 0.0:
        return "no noise"
    return f"σ = {strength:g}" if is_unit_noise(definition) else f"strength {strength:g}"


def spoken(name: str, definition: Mapping[str, Any] | None) -> str:
    """What the disturbance is called in a sentence; a name of its own choice stays."""
    family = str((definition or {}).get("name", name))
    known = {
        "gaussian": "white noise",
        "ar1": "AR(1) noise",
        "bias": "constant bias",
        "uniform": "uniform noise",
    }
    return known.get(family, name) if name in (family, "white") else name


def describe_disturbance(name: str, definition: Mapping[str, Any] | None) -> str:
    """The disturbance's name, family and parameters on one line; the parts of a chain in their order.

    Args:
        name: under which it was evaluated.
        definition: its ``to_dict``.
    """
    known = definition or {}
    family = str(known.get("name", name))
    if "disturbances" in known:
        parts = [describe_disturbance(str(part.get("name", "")), part) for part in known["disturbances"]]
        return f"{name}: {', then '.join(parts)}"
    # a name of its own choice does not say the family
    listed = [] if name.startswith(family) else [family]
    listed += [
        f"{key} = {_value(value)}" for key, value in known.items() if key != "name" and value is not None
    ]
    return f"{name} ({', '.join(listed)})" if listed else name


def _value(value: Any) -> str:
    if isinstance(value, Mapping):  # the model that an attack was made for
        return f"{value.get('algorithm', 'model')} {str(value.get('weights_sha256', ''))[:8]}".rstrip()
    return f"{value:g}" if isinstance(value, float) else str(value)


def nonfinite_sentences(summary: pd.DataFrame) -> list[str]:
    """How many episodes of which agent ended at a value that was not finite; empty where all were finite.

    Args:
        summary: as `Evaluation.summary` gives it.
    """
    return [
        f"{agent}: {count:,} of {rows['n_episodes'].sum():,} episodes ended at an observation, action or reward that "
        f"was not finite ({_where(rows)}). Nothing is averaged over them: the numbers of those rows are missing."
        for agent, rows in summary.groupby("agent", sort=False)
        if (count := int(rows["n_nonfinite"].sum()))
    ]


def _where(rows: pd.DataFrame) -> str:
    broken = rows[rows["n_nonfinite"] > 0]
    listed = zip(broken["disturbance"], broken["strength"], broken["n_nonfinite"], strict=True)
    return ", ".join(f"{number} under {name} at strength {strength:g}" for name, strength, number in listed)


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
