"""The models that a command works on."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd

from lipsrl.actors.agent import Agent, load_agent

#: Episodes of training that say something.
_ENOUGH = 5


@dataclass
class Source:
    """A model with its environment, normalisation and name."""

    name: str
    model: Any
    vec_normalize: Any
    seed: int | None = None
    env_id: str | None = None
    frame_stack: int | None = None
    agent: Agent | None = None
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def env(self) -> Any:
        """What the rooms below take as the environment."""
        if not self.env_kwargs:
            return str(self.env_id)
        return partial(gym.make, str(self.env_id), **self.env_kwargs)

    @property
    def normalization(self) -> Any:
        """``vec_normalize=`` for what says in words whether there is one: ``"none"`` where that is known."""
        stated = self.agent is not None and self.agent.stated
        return "none" if self.vec_normalize is None and stated else self.vec_normalize


def open_source(
    path: Path, vec_normalize: str | Path = "auto", *, trust: bool = False, env: str | None = None
) -> Source:
    """What lies at ``path``, or at the part of it before a colon with its statistics after it.

    Raises:
        FileNotFoundError, ValueError: nothing to load there; says what was expected.
    """
    path, own = split(path)
    if own is not None and str(vec_normalize) != "auto":
        raise ValueError(
            f"vec_normalize={str(vec_normalize)!r} and {own!r} after the colon both name statistics for the same "
            "model. Pass only one of them."
        )
    given = str(vec_normalize) if own is None else own
    if given not in ("auto", "none") and (path / "config.json").is_file():
        raise ValueError(
            f"vec_normalize={given!r} is for an SB3 zip; the run folder {str(path)!r} has its own. Give its model.zip "
            "to open it with other statistics."
        )
    agent = load_agent(path, vec_normalize=given, env=env, trust=trust)
    if agent.found and not (agent.file.parent / "config.json").is_file():
        warnings.warn(f"the statistics beside the zip are used: {agent.described}", stacklevel=2)
    return Source(
        agent.name,
        agent.model,
        agent.vec_normalize,
        agent.seed,
        agent.env_id,
        agent.frame_stack,
        agent,
        agent.env_kwargs,
    )


def split(path: Path) -> tuple[Path, str | None]:
    """``MODEL:STATISTICS`` in its two parts; a path that is there as it stands has one."""
    if path.exists():
        return path, None
    model, colon, statistics = str(path).rpartition(":")
    if colon and any(Path(name).exists() for name in (model, f"{model}.zip")):
        return Path(model), statistics
    return path, None


def open_sources(
    paths: list[Path], vec_normalize: str | Path = "auto", *, trust: bool = False, env: str | None = None
) -> list[Source]:
    """:func:`open_source` of each; a folder of run folders stands for all of them.

    Raises:
        ValueError: nothing given, or one file of statistics for several models.
    """
    if not paths:
        raise ValueError("path is missing: give at least one run folder or SB3 zip.")
    paths = [one for path in paths for one in _runs_in(path)]
    if str(vec_normalize) not in ("auto", "none") and len(paths) > 1:
        raise ValueError(
            "vec_normalize belongs to one model, but several models were given. Write MODEL.zip:FILE for each model, "
            "or "
            "pass run folders, which contain their statistics."
        )
    return [open_source(path, vec_normalize, trust=trust, env=env) for path in paths]


def _runs_in(path: Path) -> list[Path]:
    if not path.is_dir() or (path / "config.json").is_file() or any(path.glob("*.zip")):
        return [path]
    runs = sorted(one.parent for one in path.glob("*/config.json"))
    return runs or [path]


def statistics_file(path: Path) -> Path:
    """Where ``lipsrl distill`` puts the VecNormalize of the zip at ``path``."""
    return path.with_suffix(".vecnormalize.pkl")


def unique_keys(sources: list[Source]) -> list[tuple[str, int | None]]:
    """(agent, seed) of each source.

    Names are numbered where two would collide. Runs of one name are the seeds of one agent while no seed comes twice;
    else those of each parent folder are: two studies of the same seeds are two agents, whole.
    """
    keys: list[tuple[str, int | None]] = []
    seeds = [(source.name, source.seed) for source in sources]
    doubled = {name for name, seed in seeds if seeds.count((name, seed)) > 1}
    studies: dict[str, list[Path | None]] = {}
    for source in sources:
        base = source.name
        if base in doubled:
            place = None if source.agent is None else source.agent.file.parent.parent
            known = studies.setdefault(base, [])
            known += [] if place in known else [place]
            base = base if place == known[0] else f"{base}-{known.index(place) + 1}"
        name, number = base, 2
        # a model without a seed is no training seed of another
        while (name, source.seed) in keys or any(k[0] == name and None in (source.seed, k[1]) for k in keys):
            name, number = f"{source.name}-{number}", number + 1
        keys.append((name, source.seed))
    return keys


def doubt_returns(sources: Iterable[Source], frame: pd.DataFrame) -> None:
    """Warn where clean returns are far below those of the last training episodes, which a zip remembers.

    Args:
        sources: in the order of :func:`unique_keys`.
        frame: of the evaluation.
    """
    sources = list(sources)
    for (name, seed), source in zip(unique_keys(sources), sources, strict=True):
        rows = (frame["agent"] == name) & (frame["strength"] == 0)
        if seed is not None:
            rows &= frame["seed"] == seed
        clean = frame.loc[rows, "return"].to_numpy(np.float64)
        if len(clean):
            doubt_return(source, name, float(clean.mean()))


def doubt_return(source: Source, name: str, clean: float) -> None:
    """:func:`doubt_returns` of one model, from the mean of its clean returns."""
    trained = np.empty(0) if source.agent is None else source.agent.training_returns
    if source.agent is None or len(trained) < _ENOUGH:
        return
    if clean < trained.min() and trained.mean() - clean > 0.5 * abs(trained.mean()):
        why = "it was trained with VecNormalize and its statistics are not here (--vec-normalize FILE)"
        if source.vec_normalize is not None:
            why = f"the statistics are not those it was trained with ({source.agent.described})"
        warnings.warn(
            f"{name} earns {clean:.4g} without disturbance, but its last {len(trained)} training episodes earned "
            f"{trained.mean():.4g}. Likely {why}, or it was trained behind a frame stack or in another environment or "
            "other wrappers.",
            stacklevel=2,
        )


def keyword_arguments(given: list[str]) -> dict[str, Any]:
    """``KEY:VALUE`` pairs as rl-baselines3-zoo takes them; values are Python literals, or words.

    Raises:
        ValueError: one without a colon.
    """
    found: dict[str, Any] = {}
    for pair in given:
        key, colon, value = pair.partition(":")
        if not colon or not key.isidentifier():
            raise ValueError(f"env_kwargs must be KEY:VALUE pairs such as g:9.81, received {pair!r}.")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found


def in_environment(
    sources: list[Source], env: str | None, env_kwargs: list[str] | None = None
) -> list[Source]:
    """``sources``, all with the one environment they are to be run in.

    Args:
        env: id that the user named.
        env_kwargs: ``KEY:VALUE`` that the user named; beside them hold those of a configuration that names the same id.

    Raises:
        ValueError: no environment is known, or several; or arguments that it does not take.
    """
    given = keyword_arguments(env_kwargs or [])
    ids = {env or source.env_id for source in sources}
    if None in ids:
        refused = [s.agent.refused_arguments for s in sources if s.env_id is None and s.agent is not None]
        why = next(
            filter(None, refused),
            "neither the zip nor settings beside it name one that can be made from them",
        )
        raise ValueError(f"env is missing: {why}. Pass --env ID, and --env-kwargs where it needs them.")
    if len(ids) > 1:
        raise ValueError(f"The runs are from different environments: {', '.join(sorted(map(str, ids)))}.")
    env_id = str(next(iter(ids)))
    made = [{**(source.env_kwargs if source.env_id == env_id else {}), **given} for source in sources]
    if any(other != made[0] for other in made):
        both = sorted({f"{s.name}: {kwargs or 'none said'}" for s, kwargs in zip(sources, made, strict=True)})
        raise ValueError(
            f"The runs are from environments made with different arguments ({'; '.join(both)}). Pass --env-kwargs for "
            "all of them."
        )
    kwargs = made[0] if made else {}
    if kwargs:
        try:
            gym.make(env_id, **kwargs).close()
        except Exception as error:  # whatever the environment's own code raises
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"env={env_id!r} with {kwargs} cannot be made: {said}") from error
    return [replace(source, env_id=env_id, env_kwargs=kwargs) for source in sources]
