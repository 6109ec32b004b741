"""The file that SB3's ``VecNormalize.save`` writes: read without running what it may name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl.actors._unpickle import Refused, RefusedError, loads, needed, refused_in
from lipsrl.actors.loading import is_address

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
    """A VecNormalize with those attributes of ``value`` that are data: none stands in the place of a method."""
    state: dict[str, Any] = {}
    for name, part in vars(value).items():
        if name in _NEEDED:
            needed(part, f"{name} of {where}")
        if not (refused_in(part) or callable(part) or callable(getattr(VecNormalize, name, None))):
            state[name] = part
    wanted = _NEEDED if state.get("norm_obs") else _NEEDED[1:]  # one of rewards only has no statistics
    missing = [name for name in wanted if name not in state]
    statistics = state.get("obs_rms", {})
    by_key = statistics.values() if isinstance(statistics, dict) else [statistics]
    if missing or not all(isinstance(one, RunningMeanStd) for one in by_key):
        raise ValueError(
            f"{where} holds a VecNormalize without {', '.join(missing) or 'statistics'}. Save it again."
        )
    clean = VecNormalize.__new__(VecNormalize)
    clean.__dict__.update(state)
    clean.venv = None  # type: ignore[assignment]
    return clean
