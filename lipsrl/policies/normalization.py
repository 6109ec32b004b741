"""Which VecNormalize belongs to a model, and what it does to an observation."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnvWrapper,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

NormalizeLike: TypeAlias = VecNormalize | str | Path | None

#: Wrappers that hand a vector observation on as it is (VecNormalize: one that normalises rewards only).
_PASSING_ON = (VecMonitor, VecCheckNan, VecVideoRecorder, VecTransposeImage, VecNormalize)


def load_vec_normalize(given: NormalizeLike) -> VecNormalize | None:
    """``given``, or what SB3's ``VecNormalize.save`` wrote there (a pickle: only open files that you trust).

    Raises:
        FileNotFoundError: no such file.
        TypeError: something else than a VecNormalize, a path or None.
        ValueError: the file holds something else.
    """
    if given is None or isinstance(given, VecNormalize):
        return given
    if not isinstance(given, (str, Path)):
        raise TypeError(
            f"vec_normalize must be a VecNormalize, the path of its file or None (or a dict of those by model "
            f"name), received {type(given).__name__}."
        )
    path = Path(given)
    if not path.is_file():
        raise FileNotFoundError(f"vec_normalize={str(given)!r} is not a file.")
    try:
        with path.open("rb") as file:
            loaded = pickle.load(file)
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError) as error:
        raise ValueError(f"vec_normalize={str(given)!r} is not a VecNormalize file: {error}") from error
    if not isinstance(loaded, VecNormalize):
        raise ValueError(
            f"vec_normalize={str(given)!r} holds a {type(loaded).__name__}, expected what VecNormalize.save wrote."
        )
    return loaded


def normalization_of(model: Any, given: NormalizeLike) -> VecNormalize | None:
    """The given normalisation, else the one around the model's own environment, if any.

    Raises:
        ValueError: the model's environment normalises twice, or changes observations after normalising them.
    """
    if given is not None or not isinstance(model, BaseAlgorithm):
        return load_vec_normalize(given)
    found: VecNormalize | None = None
    above: list[str] = []
    layer = model.get_env()
    while isinstance(layer, VecEnvWrapper):
        if isinstance(layer, VecNormalize) and layer.norm_obs:
            if found is not None or above:
                what = "a second VecNormalize" if found is not None else above[0]
                raise ValueError(
                    f"The model's environment has {what} around its VecNormalize, so the raw observation reaches the "
                    "policy through more than that one. Put VecNormalize outermost, or pass vec_normalize= to judge "
                    "the policy behind it alone."
                )
            found = layer
        elif not isinstance(layer, _PASSING_ON):
            above.append(type(layer).__name__)
        layer = layer.venv
    return model.get_vec_normalize_env() if found is None else found


def check_dimension(vec_normalize: VecNormalize, dim: int, owner: str) -> None:
    """``ValueError`` unless the statistics are those of observations ``(dim,)``."""
    statistics = vec_normalize.obs_rms if vec_normalize.norm_obs else None
    if isinstance(statistics, RunningMeanStd) and statistics.mean.size != dim:
        raise ValueError(
            f"vec_normalize of {owner} normalises observations of shape {statistics.mean.shape}, but the "
            f"environment's have {dim} values. It belongs to another task."
        )


def observation_gains(vec_normalize: VecNormalize | None, dim: int) -> tuple[np.ndarray, np.ndarray, float]:
    """``(mean, gain, clip)`` of the map ``raw ↦ clip((raw - mean)·gain, ±clip)``, float64.

    Identity (0, 1, ∞) without a VecNormalize, or with one that normalises rewards only.

    Raises:
        ValueError: statistics that are not finite.
    """
    if vec_normalize is None or not vec_normalize.norm_obs:
        return np.zeros(dim), np.ones(dim), float("inf")
    statistics = vec_normalize.obs_rms
    assert isinstance(statistics, RunningMeanStd)
    mean = np.asarray(statistics.mean, dtype=np.float64).reshape(-1)
    gain = 1.0 / np.sqrt(np.asarray(statistics.var, dtype=np.float64).reshape(-1) + vec_normalize.epsilon)
    if not (np.isfinite(mean).all() and np.isfinite(gain).all()):
        raise ValueError(
            "vec_normalize holds NaN or infinite statistics. Check the environment's observations."
        )
    return mean, gain, float(vec_normalize.clip_obs)
