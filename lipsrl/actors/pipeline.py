"""The whole map from raw observation to environment action, in float64, with its gains named."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from lipsrl.actors import ActorParts, actor_parts
from lipsrl.actors._front import Front
from lipsrl.actors._rounding import rounding_error
from lipsrl.actors.acting import Acting
from lipsrl.actors.normalization import ObservationChain
from lipsrl.policies._front import entries


@dataclass(frozen=True)
class Pipeline:
    """raw observation → normalisation → stack → network → squash → action, as certified.

    The raw observation is flattened, and stacked where frames are.

    Attributes:
        parts: the actor; its network is kept as it acts (float32).
        acting: the same in float64.
        front: what of it stands before the first linear layer.
        mean, gain, limit: (obs,) of the observation normalisation ``clip((raw - mean)·gain, ±limit)``.
        input_scale: (obs,) scale inside the policy that the promise is stated in; ones if there is none.
        low, high: (obs,) Box of raw observations; infinite where the space is.
        chain: the normalisation and the stack.
        sensors: (obs,) index of the raw sensor behind each coordinate.
        names: of the sensors.
        spaces: of the observation's entries.
    """

    parts: ActorParts
    acting: Acting
    front: Front
    mean: np.ndarray
    gain: np.ndarray
    limit: np.ndarray
    input_scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    chain: ObservationChain
    sensors: np.ndarray
    names: tuple[str, ...]
    spaces: tuple[spaces.Space[Any], ...]

    @classmethod
    def of(
        cls,
        model: BaseAlgorithm,
        chain: ObservationChain | VecNormalize | None,
        parts: ActorParts | None = None,
    ) -> Pipeline:
        """Read ``model``.

        Args:
            parts: of it, if they are at hand.

        Raises:
            ValueError: a part of the actor has no plain form, the weights are not finite, or the normalisation
                is of another size.
        """
        if not isinstance(chain, ObservationChain):
            chain = ObservationChain(chain)
        parts = actor_parts(model) if parts is None else parts
        acting = Acting.of(model, "nothing can be certified", parts)
        found = entries(model.observation_space)
        gains = [chain.gains(get_flattened_obs_dim(space), key) for key, space in found.items()]
        mean, gain, limit = (np.concatenate(arrays) for arrays in zip(*gains, strict=True))
        if chain.inner is not None:
            mean, gain = _compose(chain, mean, gain)
        scale = np.ones(len(gain)) if parts.constrained is None else parts.constrained.input_scale
        low, high = (np.concatenate(bounds) for bounds in zip(*map(_range, found.values()), strict=True))
        sensors, names = _sensors(found, chain.frames)
        return cls(
            parts, acting, Front.of(acting.network), mean, gain, limit, scale, low, high, chain, sensors, names,
            tuple(found.values()),
        )  # fmt: skip

    @property
    def network(self) -> nn.Sequential:
        """The actor's network in float64."""
        return self.acting.network

    @property
    def normalised(self) -> bool:
        """Whether there is a normalisation of observations."""
        return self.chain.normalised

    @property
    def frame_gain(self) -> dict[str, float]:
        """By norm, the largest norm of a stack of k frames each of which is off by one unit."""
        return {"l2": math.sqrt(self.chain.frames), "linf": 1.0, "l1": float(self.chain.frames)}

    def frame_sizes(self, change: np.ndarray, norm: str) -> float:
        """Norm of ``change`` (obs,) as a stack: the largest of a frame's, where each coordinate has its frame."""
        order = {"l2": 2, "linf": np.inf, "l1": 1}[norm]
        frame = np.zeros(len(change), dtype=int)
        for sensor in range(len(self.names)):
            at = np.flatnonzero(self.sensors == sensor)
            if len(at) != self.chain.frames:  # an image, or nothing stacked: all of it counts as one frame
                return float(np.linalg.norm(change, ord=order))
            frame[at] = np.arange(len(at))
        return max(float(np.linalg.norm(change[frame == i], ord=order)) for i in range(self.chain.frames))

    @property
    def action_gain(self) -> float:
        """Largest factor between the network's output and the action; 1 where the network speaks action units."""
        half = self.parts.half_range
        return 1.0 if half is None or half.max() == 0 else float(half.max())

    def normalise(self, raw: Tensor) -> Tensor:
        """(n, obs) raw observations → what the policy receives."""
        centred = (raw - torch.as_tensor(self.mean)) * torch.as_tensor(self.gain)
        limit = torch.as_tensor(self.limit)
        return torch.minimum(torch.maximum(centred, -limit), limit)

    def rounding(self, policy_input: Tensor, error: Tensor) -> Tensor:
        """(n,) bound of ‖float64 rounding error‖ of the action, for an input (n, obs) that has ``error`` (n, obs)."""
        eps = torch.finfo(torch.float64).eps
        _, error = rounding_error(self.network, policy_input, error, eps)
        if self.parts.squash:
            error = error.clamp(max=2.0) + 4 * eps
        if self.parts.half_range is not None and self.parts.centre is not None:
            half, centre = torch.as_tensor(self.parts.half_range), torch.as_tensor(self.parts.centre)
            error = error * half + 4 * eps * (half + centre.abs())
        size: Tensor = error.norm(dim=1)
        return size

    def raw_rounding(self, raw: Tensor) -> Tensor:
        """:meth:`rounding` of :meth:`act`. Both ends of a pair share the statistics, whose own rounding cancels."""
        mean, gain = torch.as_tensor(self.mean), torch.as_tensor(self.gain)
        eps = torch.finfo(torch.float64).eps
        seen = self.normalise(raw)
        error = 2 * eps * ((raw.abs() + mean.abs()) * gain) + 2 * eps * seen.abs()
        return self.rounding(seen, error)

    def act(self, raw: Tensor) -> Tensor:
        """(n, obs) raw observations → (n, act) actions that the environment receives (logits if discrete)."""
        return self.acting.act(self.normalise(raw))


def _compose(chain: ObservationChain, mean: np.ndarray, gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``((raw - m)·g - mean)·gain`` as one affine map, for every frame."""
    assert chain.inner is not None
    inner_mean, inner_gain = (np.tile(array, chain.frames) for array in chain.inner)
    if inner_mean.size != mean.size:
        raise ValueError(
            f"NormalizeObservation inside the environment normalises {inner_mean.size // chain.frames} values, but the "
            f"model receives {mean.size} of {chain.frames} frame(s). Use VecNormalize around the environment instead."
        )
    return inner_mean + mean / inner_gain, inner_gain * gain


def _range(space: spaces.Space[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of each coordinate of the flattened entry."""
    if isinstance(space, spaces.Box):
        return space.low.astype(np.float64).reshape(-1), space.high.astype(np.float64).reshape(-1)
    size = get_flattened_obs_dim(space)
    return np.zeros(size), np.ones(size)


def _sensors(found: dict[str, spaces.Space[Any]], frames: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which raw sensor stands behind each coordinate: an image counts as one, a stack of vectors as one vector."""
    index: list[np.ndarray] = []
    names: list[str] = []
    for key, space in found.items():
        size, title = get_flattened_obs_dim(space), key or "observation"
        if is_image_space(space):
            index.append(np.full(size, len(names)))
            names.append(f"{title} (image)")
            continue
        stacked = (
            frames > 1 and isinstance(space, spaces.Box) and len(space.shape) == 1 and size % frames == 0
        )
        single = size // frames if stacked else size
        index.append(len(names) + np.tile(np.arange(single), size // single))
        names += [f"{title}[{i}]" for i in range(single)]
    return np.concatenate(index), tuple(names)
