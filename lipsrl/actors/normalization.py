"""Which VecNormalize belongs to a model, and what it does to an observation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnvWrapper, VecNormalize

from lipsrl._validation import positive_int
from lipsrl.actors._inside import inner_normalisation
from lipsrl.actors._wrappers import VEC_PASSING_ON
from lipsrl.actors.frames import attached_frames, check_frames
from lipsrl.actors.statistics import load_statistics

NormalizeLike: TypeAlias = VecNormalize | str | Path | None

#: ``vec_normalize=`` of who knows that there is none.
NONE = "none"


def load_vec_normalize(given: NormalizeLike) -> VecNormalize | None:
    """``given``, or what SB3's ``VecNormalize.save`` wrote there (:func:`~lipsrl.actors.statistics.load_statistics`).

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
    return load_statistics(given)


def normalization_of(model: Any, given: NormalizeLike) -> VecNormalize | None:
    """The given normalisation, else the one around the model's own environment, if any; ``"none"``: there is none.

    Raises:
        ValueError: the model's environment normalises twice, or changes observations after normalising them; or it
            normalises at all, and ``given`` is ``"none"`` or of rewards only; or a student of a normalised teacher has
            none.
    """
    if isinstance(given, str) and given == NONE:
        if isinstance(model, BaseAlgorithm) and _attached(model) is not None:
            raise ValueError("vec_normalize='none', but the model's own environment has a VecNormalize.")
        return None
    if given is not None or not isinstance(model, BaseAlgorithm):
        loaded = load_vec_normalize(given)
        if isinstance(model, BaseAlgorithm) and loaded and not loaded.norm_obs and _normalises(model):
            raise ValueError(
                "vec_normalize does not normalise observations (norm_obs=False), but the model's own environment does. "
                "Leave vec_normalize out, or pass the statistics of observations that the model acts behind."
            )
        return loaded
    found = _attached(model)
    if found is None and getattr(model, "needs_vec_normalize", False):
        raise ValueError(
            f"this {type(model).__name__} was made to act behind a VecNormalize, but its environment has none and none "
            'was given. Pass it as vec_normalize=, or vec_normalize="none" to judge the policy without it.'
        )
    return found


def settled(found: VecNormalize | None) -> VecNormalize | str:
    """What :func:`normalization_of` has found, to be handed on: that there is none is known, not left open."""
    return NONE if found is None else found


def _normalises(model: BaseAlgorithm) -> bool:
    layer = model.get_env()
    while isinstance(layer, VecEnvWrapper):
        if isinstance(layer, VecNormalize) and layer.norm_obs:
            return True
        layer = layer.venv
    return False


def _attached(model: BaseAlgorithm) -> VecNormalize | None:
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
        elif not isinstance(layer, VEC_PASSING_ON):
            above.append(type(layer).__name__)
        layer = layer.venv
    return model.get_vec_normalize_env() if found is None else found


@dataclass(frozen=True)
class ObservationChain:
    """What happens to a raw observation before the policy receives it.

    Attributes:
        vec_normalize: or ``None``.
        frames: observations stacked in what the policy receives; 1 without a stack.
        inner: (mean, gain) of all gymnasium's NormalizeObservation inside the environment, or ``None``.
        notes: what could not be followed, in words.
        stated: it was said that there is no VecNormalize.
    """

    vec_normalize: VecNormalize | None
    frames: int = 1
    inner: tuple[np.ndarray, np.ndarray] | None = None
    notes: tuple[str, ...] = ()
    stated: bool = False

    @property
    def normalised(self) -> bool:
        """Whether observations are normalised; a VecNormalize may do so with rewards only."""
        return self.vec_normalize is not None and self.vec_normalize.norm_obs

    def gains(self, dim: int, key: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """:func:`entry_gains` of what the policy receives, (dim,) in all its frames."""
        return entry_gains(self.vec_normalize, key, dim, self.frames)

    def one_by_one(self, shape: tuple[int, ...] | None, owner: str | None = None) -> bool:
        """Whether frames of this shape are normalised before they are stacked; otherwise their stack is.

        Args:
            owner: of the normalisation, in words: refuse statistics that fit neither frames nor stack.

        Raises:
            ValueError: those of another task.
        """
        statistics = getattr(self.vec_normalize, "obs_rms", None) if self.normalised else None
        before = normalizes_frames(self.vec_normalize, shape)
        if owner is not None and shape and len(shape) == 1 and isinstance(statistics, RunningMeanStd):
            expected = shape[0] * (1 if before else self.frames)
            if statistics.mean.size != expected:
                raise ValueError(
                    f"vec_normalize of {owner} normalises observations of shape {statistics.mean.shape}, but the "
                    f"environment's have {expected} values. It belongs to another task."
                )
        return before


def observation_chain(
    model: BaseAlgorithm,
    given: NormalizeLike = None,
    frame_stack: int | None = None,
    *,
    inside: bool = True,
) -> ObservationChain:
    """Follow the model's own environment from the policy down; ``given`` and ``frame_stack`` speak for a zip without.

    Args:
        inside: read gymnasium's NormalizeObservation inside the environments, too; not needed where raw observations
            are what the environments return.

    Raises:
        ValueError: the environment normalises twice, changes observations in a way that is not known, or contradicts
            ``frame_stack``, or its observation is no such stack.
    """
    frames = attached_frames(model)
    if frame_stack is not None:
        positive_int("frame_stack", frame_stack)
        if frames not in (1, frame_stack):
            raise ValueError(
                f"frame_stack={frame_stack}, but the model was made for, or stands behind, {frames} stacked frames."
            )
        frames = frame_stack
        space = model.observation_space
        if isinstance(space, spaces.Box):
            check_frames(frames, int(np.prod(space.shape)))
        elif frames > 1:
            raise ValueError(
                f"frame_stack={frames}, but only a Box can be a stack, and the model's observation is {space}. Leave "
                "frame_stack out."
            )
    inner, notes = inner_normalisation(model) if inside else (None, ())
    stated = isinstance(given, str) and given == NONE
    return ObservationChain(normalization_of(model, given), frames, inner, notes, stated)


def normalizes_frames(vec_normalize: VecNormalize | None, shape: tuple[int, ...] | None) -> bool:
    """Whether its statistics are of single observations of this shape, so that frames are normalised, then stacked."""
    statistics = getattr(vec_normalize, "obs_rms", None)
    return isinstance(statistics, RunningMeanStd) and statistics.mean.shape == shape


def observation_gains(vec_normalize: VecNormalize | None, dim: int) -> tuple[np.ndarray, np.ndarray, float]:
    """``(mean, gain, clip)`` of the map ``raw ↦ clip((raw - mean)·gain, ±clip)``, float64.

    Identity (0, 1, ∞) without a VecNormalize, or with one that normalises rewards only.

    Raises:
        ValueError: statistics that are not finite, or those of a Dict observation.
    """
    if vec_normalize is None or not vec_normalize.norm_obs:
        return np.zeros(dim), np.ones(dim), float("inf")
    statistics = vec_normalize.obs_rms
    if not isinstance(statistics, RunningMeanStd):
        raise ValueError(
            f"vec_normalize normalises the Dict entries {sorted(statistics)}, but a vector is expected here."
        )
    return *_mean_and_gain(statistics, vec_normalize.epsilon), float(vec_normalize.clip_obs)


def _mean_and_gain(statistics: RunningMeanStd, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    mean = np.asarray(statistics.mean, dtype=np.float64).reshape(-1)
    variance = np.asarray(statistics.var, dtype=np.float64).reshape(-1)
    gain = 1.0 / np.sqrt(variance + epsilon)
    # an infinite variance has a finite gain, 0
    if not all(np.isfinite(part).all() for part in (mean, variance, gain)):
        raise ValueError(
            "vec_normalize holds NaN or infinite statistics. Check the environment's observations."
        )
    return mean, gain


def entry_gains(
    vec_normalize: VecNormalize | None, key: str, dim: int, frames: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:func:`observation_gains` of one entry of an observation, the clip as (dim,).

    ``key`` is ``""`` where the observation is no Dict.

    Statistics of ``dim / frames`` values belong to single vectors, which were stacked afterwards.

    Raises:
        ValueError: statistics of another size.
    """
    if vec_normalize is None or not vec_normalize.norm_obs:
        return np.zeros(dim), np.ones(dim), np.full(dim, np.inf)
    found: Any = vec_normalize.obs_rms
    if isinstance(found, RunningMeanStd) != (key == ""):
        raise ValueError(
            f"vec_normalize normalises {'one vector' if key else 'Dict entries'}, but the model's observation is "
            f"{'a Dict' if key else 'a vector'}. It belongs to another task."
        )
    if isinstance(found, dict) and key not in found:  # not among norm_obs_keys
        return np.zeros(dim), np.ones(dim), np.full(dim, np.inf)
    statistics = found if isinstance(found, RunningMeanStd) else found[key]
    mean, gain = _mean_and_gain(statistics, vec_normalize.epsilon)
    if mean.size * frames == dim and frames > 1 and statistics.mean.ndim == 1:
        mean, gain = np.tile(mean, frames), np.tile(gain, frames)
    if mean.size != dim:
        hint = ""
        if frames == 1 and dim % mean.size == 0:
            hint = f" If {dim // mean.size} frames are stacked after it, pass frame_stack={dim // mean.size}."
        where = f"entry {key!r}" if key else "observations"
        raise ValueError(
            f"vec_normalize of the model normalises {where} of shape {statistics.mean.shape}, but the environment's "
            f"have {dim} values. It belongs to another task.{hint}"
        )
    return mean, gain, np.full(dim, float(vec_normalize.clip_obs))
