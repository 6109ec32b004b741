"""An agent opened from whatever SB3, rl-baselines3-zoo or lipsrl left on a disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl.actors._layouts import Found, find
from lipsrl.actors._surroundings import environment_of, refused_arguments
from lipsrl.actors.algorithms import is_address
from lipsrl.actors.frames import kept_frames
from lipsrl.actors.loading import load_model
from lipsrl.actors.normalization import NONE, entry_gains
from lipsrl.actors.statistics import freeze, load_statistics
from lipsrl.policies._front import entries


@dataclass(frozen=True)
class Agent:
    """A model with what belongs to it.

    Attributes:
        model: acts, and is not meant to train on: optimizer states, schedules and buffers were left in the file.
        vec_normalize: frozen statistics, or ``None``.
        frame_stack: how many observations the policy sees at once, where a configuration says it; else ``None``.
        env_id: where a configuration says it.
        described: what was opened and with which statistics, one sentence.
        name: for tables.
        file: the zip.
        seed: of the training, where a configuration says it.
        statistics: file of ``vec_normalize``.
        found: the statistics were looked for and found beside the zip.
        stated: the user, or a configuration, says that there is no VecNormalize.
        env_kwargs: of ``gymnasium.make``, where a configuration says them and no other environment was given.
        unmade: what a configuration says of the environment that is not made here: wrappers, and arguments that are not
            taken from a file.
    """

    model: BaseAlgorithm
    vec_normalize: VecNormalize | None
    frame_stack: int | None
    env_id: str | None
    described: str
    name: str
    file: Path
    seed: int | None = None
    statistics: Path | None = None
    found: bool = False
    stated: bool = False
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    unmade: dict[str, Any] = field(default_factory=dict)

    @property
    def refused_arguments(self) -> str:
        """Why a configuration's ``env_kwargs`` are not used, in words; empty where it has none that are refused."""
        return refused_arguments(self.unmade)

    @property
    def training_returns(self) -> np.ndarray:
        """(n,) returns of the last training episodes, from the zip itself; empty where it has none."""
        episodes = getattr(self.model, "ep_info_buffer", None)
        episodes = episodes if isinstance(episodes, (list, deque)) else []
        returns = [episode.get("r") for episode in episodes if isinstance(episode, dict)]
        return np.array([value for value in returns if isinstance(value, (int, float))], dtype=np.float64)


def load_agent(
    path: str | Path,
    *,
    vec_normalize: VecNormalize | str | Path | None = "auto",
    env: str | Callable[[], Any] | gym.Env[Any, Any] | None = None,
    trust: bool = False,
) -> Agent:
    """Open the agent at ``path``.

    A zip of ``model.save``; a run folder; ``logs/ALGO/ENV_1/`` of rl-baselines3-zoo, its ``best_model.zip`` or a
    checkpoint; a checkpoint of ``CheckpointCallback`` with the statistics of the same step beside it.

    What acting needs is read, through an allow-list, and nothing else: schedules, optimizers and buffers that cannot be
    restored here are no hindrance, and no code in the file runs.

    Args:
        path: file or folder.
        vec_normalize: ``"auto"``: the statistics that belong to the file, if there are any. A VecNormalize or its
            file. ``None`` or ``"none"``: there were none.
        env: id, factory or environment: what the spaces are taken from where those in the file cannot be read. An id
            is the agent's environment; its ``env_kwargs`` hold if the configuration names the same one.
        trust: restore what acting needs whatever it names. That runs code of the file: for your own only.

    Raises:
        FileNotFoundError: nothing there; or statistics that a configuration, or a student of :func:`lipsrl.distill`,
            speaks of are missing.
        ValueError: which statistics belong to it is not clear, they do not fit, or the file cannot be restored.
        lipsrl.actors.RefusedError: the file names classes that are not opened unseen.
    """
    if is_address(path):
        raise ValueError(f"{str(path)!r} is an address. Agents are opened from files: download it first.")
    auto = isinstance(vec_normalize, str) and vec_normalize == "auto"
    found = find(Path(path), statistics=auto)
    if auto:
        file = found.statistics
        statistics = None if file is None else load_statistics(file, trust=trust)
        stated = found.normalised is False
    elif vec_normalize is None or str(vec_normalize) == NONE:
        file, statistics, stated = None, None, True
    elif isinstance(vec_normalize, VecNormalize):
        file, statistics, stated = None, vec_normalize, False
    elif isinstance(vec_normalize, (str, Path)):
        file, stated = Path(vec_normalize), False
        statistics = load_statistics(file, trust=trust)
    else:
        raise TypeError(
            'vec_normalize must be "auto", a VecNormalize, the path of its file, or None for an agent that had none; '
            f"received {type(vec_normalize).__name__}."
        )
    model = load_model(found.zip, env_spaces=None if env is None else partial(_spaces_of, env), trust=trust)
    found = replace(found, frame_stack=found.frame_stack or kept_frames(model))
    if statistics is not None:
        _check_fit(statistics, file, model, found)
        freeze(statistics)
    elif auto and getattr(model, "needs_vec_normalize", False):
        raise FileNotFoundError(
            f"{str(found.zip)!r} was made to act behind a VecNormalize, whose file is not beside it "
            f"({found.zip.stem}.vecnormalize.pkl). Give it (--vec-normalize FILE, vec_normalize=), or say "
            "--vec-normalize none."
        )
    env_id, env_kwargs = environment_of(found, env)
    return Agent(
        model,
        statistics,
        found.frame_stack,
        env_id,
        _described(found, model, file, statistics, stated),
        found.name,
        found.zip,
        found.seed,
        file,
        auto and file is not None,
        stated,
        env_kwargs,
        found.unmade,
    )


def _spaces_of(env: Any) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    try:
        made = gym.make(env) if isinstance(env, str) else env if isinstance(env, gym.Env) else env()
    except gym.error.Error as error:
        raise ValueError(f"env={env!r} cannot be made: {error}") from error
    try:
        return made.observation_space, made.action_space
    finally:
        if made is not env:
            made.close()


def _check_fit(statistics: VecNormalize, file: Path | None, model: BaseAlgorithm, found: Found) -> None:
    """``ValueError`` unless the statistics are of the model's observations."""
    try:
        for key, space in entries(model.observation_space).items():
            entry_gains(statistics, key, get_flattened_obs_dim(space), found.frame_stack or 1)
    except ValueError as error:
        if file is None or (found.frame_stack is None and "frames are stacked" in str(error)):
            return  # whoever knows the depth of the stack checks again
        raise ValueError(f"{str(file)!r} does not fit {str(found.zip)!r}: {error}") from error


def _described(
    found: Found, model: BaseAlgorithm, file: Path | None, statistics: VecNormalize | None, stated: bool
) -> str:
    where = "" if found.env_id is None else f" on {found.env_id}"
    seed = "" if found.seed is None else f", seed {found.seed}"
    if statistics is not None:
        how = f"observations normalised by {'the VecNormalize given' if file is None else str(file)!r}"
    elif stated:
        how = "trained without VecNormalize"
    else:
        how = "no VecNormalize beside it"
    stack = "" if found.frame_stack in (None, 1) else f", behind {found.frame_stack} stacked frames"
    return f"{type(model).__name__}{where}{seed} from {str(found.zip)!r} ({found.layout}); {how}{stack}."
