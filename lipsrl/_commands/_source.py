"""The model that a command works on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lipsrl.actors.loading import load_model
from lipsrl.actors.normalization import load_vec_normalize
from lipsrl.tracking import RunFolder


@dataclass
class Source:
    """A model to work on, with what belongs to it."""

    name: str
    model: Any
    vec_normalize: Any
    seed: int | None = None
    env_id: str | None = None


def open_source(path: Path, vec_normalize: Path | None) -> Source:
    """A run folder or an SB3 zip.

    Raises:
        FileNotFoundError, ValueError: nothing to load there; says what was expected.

    Warns:
        UserWarning: the statistics of a VecNormalize lie beside a zip and are not used.
    """
    if path.is_dir():
        folder = RunFolder.open(path)
        model, statistics = folder.load()
        config = folder.read_config()
        if vec_normalize is not None:
            raise ValueError(
                f"vec_normalize={str(vec_normalize)!r} is for an SB3 zip; the run folder {str(path)!r} has its own."
            )
        return Source(config["agent"], model, statistics, config["seed"], config["env_id"])
    statistics = load_vec_normalize(vec_normalize)
    model = load_model(path)
    if statistics is None and (unused := _statistics_near(path)) is not None:
        warnings.warn(
            f"{str(unused)!r} is not used. If {str(path)!r} was trained with it, it acts as another controller "
            "without: pass it as --vec-normalize.",
            stacklevel=2,
        )
    return Source(path.stem, model, statistics)


def statistics_file(path: Path) -> Path:
    """Where ``lipsrl distill`` puts the VecNormalize of the zip at ``path``."""
    return path.with_suffix(".vecnormalize.pkl")


def _statistics_near(path: Path) -> Path | None:
    """A VecNormalize file where a run folder, ``lipsrl distill`` or RL Zoo puts that of the zip at ``path``."""
    places = (
        statistics_file(path),
        path.with_name("vecnormalize.pkl"),
        path.with_suffix("") / "vecnormalize.pkl",
    )
    return next((place for place in places if place.is_file()), None)


def unique_keys(sources: list[Source]) -> list[tuple[str, int | None]]:
    """(agent, seed) of each source; names are numbered where two would collide."""
    keys: list[tuple[str, int | None]] = []
    for source in sources:
        name, number = source.name, 2
        while (name, source.seed) in keys or (source.seed is None and any(k[0] == name for k in keys)):
            name, number = f"{source.name}-{number}", number + 1
        keys.append((name, source.seed))
    return keys
