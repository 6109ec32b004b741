"""The file that SB3's ``VecNormalize.save`` writes: read without running what it may name."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl.actors._allowed import is_plain
from lipsrl.actors._refused import Refused, RefusedError, needed, refused_in
from lipsrl.actors._unpickle import loads
from lipsrl.actors.algorithms import is_address

#: Without these nothing is normalised.
_NEEDED = ("obs_rms", "norm_obs", "clip_obs", "epsilon")


def load_statistics(
    path: str | Path, *, trust: bool = False, argument: str = "vec_normalize"
) -> VecNormalize:
    """The VecNormalize of the file at ``path``, through the allow-list of :mod:`lipsrl.actors._unpickle`.

    Args:
        path: what ``VecNormalize.save`` wrote.
        trust: unpickle whatever it names. That runs code of the file.
        argument: what the caller calls it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds something else; or a part that is needed is not opened unseen.
    """
    where = f"{argument}={str(path)!r}"
    if is_address(path):
        raise ValueError(f"{where} is an address. Statistics are loaded from files only: download it first.")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{where} is not a file. Expected what VecNormalize.save wrote.")
    data = Path(path).read_bytes()
    try:
        value = pickle.loads(data) if trust else loads(data)
    except Exception as error:  # any bytes may be in there
        raise ValueError(
            f"{where} holds no VecNormalize: it is damaged or another kind of file. Expected what VecNormalize.save "
            "wrote (often vecnormalize.pkl)."
        ) from error
    if isinstance(value, Refused):
        raise RefusedError(where, [value.what])
    if not isinstance(value, VecNormalize):
        raise ValueError(f"{where} holds a {type(value).__name__}, expected what VecNormalize.save wrote.")
    return value if trust else _clean(value, where)


def _clean(value: VecNormalize, where: str) -> VecNormalize:
    """A VecNormalize with those attributes of ``value`` that are numbers, text or spaces, of the kinds they have."""
    state: dict[str, Any] = {}
    for name, part in vars(value).items():
        if name in _NEEDED:
            needed(part, f"{name} of {where}")
        cleaned = _data(part)
        if (part is None or cleaned is not None) and not callable(getattr(VecNormalize, name, None)):
            state[name] = cleaned
    wanted = _NEEDED if state.get("norm_obs") else _NEEDED[1:]  # one of rewards only has no statistics
    missing = [name for name in wanted if name not in state]
    statistics = state.get("obs_rms", {})
    by_key = statistics.values() if isinstance(statistics, dict) else [statistics]
    numbers = [state.get(name) for name in ("norm_obs", "clip_obs", "epsilon")]
    fit = all(isinstance(one, RunningMeanStd) for one in by_key) and all(
        isinstance(one, (bool, int, float, np.number, np.bool_)) for one in numbers
    )
    if missing or not fit:
        raise ValueError(
            f"{where} holds a VecNormalize without {', '.join(missing) or 'statistics'}. Save it again."
        )
    state.setdefault("norm_obs_keys", None)
    clean = VecNormalize.__new__(VecNormalize)
    clean.__dict__.update(state)
    clean.venv = None  # type: ignore[assignment]
    return clean


def _data(part: Any) -> Any:
    """``part`` if it is data that a VecNormalize has, else ``None``."""
    if isinstance(part, RunningMeanStd):
        numbers = {name: vars(part).get(name) for name in ("mean", "var", "count")}
        if not all(isinstance(one, (int, float, np.number, np.ndarray)) for one in numbers.values()):
            return None
        if not all(np.asarray(one).dtype.kind in "biuf" for one in numbers.values()):
            return None
        clean = RunningMeanStd.__new__(RunningMeanStd)
        clean.__dict__.update(numbers)
        return clean
    if isinstance(part, spaces.Space):
        return None if refused_in(part) else part
    if type(part) in (dict, OrderedDict) and not is_plain(part):
        by_key = {key: _data(one) for key, one in part.items() if isinstance(key, str)}
        return (
            by_key if len(by_key) == len(part) and all(one is not None for one in by_key.values()) else None
        )
    return part if is_plain(part) else None


def freeze(statistics: VecNormalize) -> None:
    """Let ``statistics`` learn nothing more, and leave rewards as they are; what the critic learned from is noted."""
    statistics.rewards_were_normalised = rewards_normalised(statistics)  # type: ignore[attr-defined]
    statistics.training = False
    statistics.norm_reward = False


def rewards_normalised(statistics: VecNormalize) -> bool:
    """Whether the critic behind ``statistics`` learned from normalised rewards."""
    # not by getattr, which a wrapper hands on to the environment that it has not got
    return bool(vars(statistics).get("rewards_were_normalised", statistics.norm_reward))
