"""Observations as policies get them: a tensor, or a dict of tensors; their units, and how they are displaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from torch import Tensor

#: (n, …) or by key.
Observations: TypeAlias = Tensor | dict[str, Tensor]

UNITS = ("normalised", "raw")


def map_observations(function: Callable[..., Tensor], *observations: Observations) -> Observations:
    """``function`` of the tensors at each key."""
    first = observations[0]
    if isinstance(first, Tensor):
        return function(*observations)
    return {key: function(*(one[key] for one in observations)) for key in first}  # type: ignore[index]


def concatenate(observations: Sequence[Observations]) -> Observations:
    """Batches one after another."""
    return map_observations(lambda *parts: torch.cat(parts), *observations)


def size(observations: Observations) -> int:
    """Rows of the batch."""
    one = observations if isinstance(observations, Tensor) else next(iter(observations.values()))
    return len(one)


@dataclass(frozen=True)
class ObservationUnits:
    """What one unit of each observed quantity is, where a loss displaces observations.

    Attributes:
        by_key: () or (…) of one observation, by key (``""`` where the observation is no Dict); ``None`` where an entry
            is discrete and cannot be displaced a little.
    """

    by_key: dict[str, Tensor | None]

    def __post_init__(self) -> None:
        if all(unit is None for unit in self.by_key.values()):
            raise ValueError(
                "all entries of the observation are discrete: none can be displaced a little, which this loss needs. "
                "Use one over successive observations: CATS, GradCAPS, ActionRate."
            )

    def displace(self, observations: Observations, draw: Callable[[Tensor], Tensor]) -> Observations:
        """``observations + unit · draw(observations)``, discrete entries as they are."""

        def one(key: str, values: Tensor) -> Tensor:
            unit = self.by_key[key]
            if unit is None:
                return values
            real = values.float()
            return real + unit.to(real.device) * draw(real)

        if isinstance(observations, Tensor):
            return one("", observations)
        return {key: one(key, values) for key, values in observations.items()}

    def leaves(self, observations: Observations) -> tuple[Observations, list[Tensor], list[Tensor]]:
        """A copy to differentiate by: itself, its real entries (each requires a gradient), and their units."""
        found: list[Tensor] = []
        units: list[Tensor] = []

        def one(key: str, values: Tensor) -> Tensor:
            unit = self.by_key[key]
            if unit is None:
                return values
            leaf = values.detach().float().clone().requires_grad_(True)
            found.append(leaf)
            units.append(unit.to(leaf.device))
            return leaf

        if isinstance(observations, Tensor):
            return one("", observations), found, units
        return {key: one(key, values) for key, values in observations.items()}, found, units


def observation_units(
    space: spaces.Space[Any], units: str, *, observation_scale: Any = None, vec_normalize: Any = None
) -> ObservationUnits:
    """The unit of each entry of ``space``.

    Args:
        space: as the policy sees it.
        units: ``"normalised"``: the observation that the policy receives, divided by its ``observation_scale``; the
            brightness 0 to 1 of images. ``"raw"``: the sensor's own, before a VecNormalize; grey levels.
        observation_scale: of a Lipschitz policy.
        vec_normalize: of the model.
    """
    entries = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    return ObservationUnits(
        {
            key: _unit(key, entry, units, _entry_of(observation_scale, key), vec_normalize)
            for key, entry in entries.items()
        }
    )


def _entry_of(scale: Any, key: str) -> Any:
    return scale.get(key) if isinstance(scale, Mapping) else scale


def _unit(key: str, space: spaces.Space[Any], units: str, scale: Any, vec_normalize: Any) -> Tensor | None:
    if not isinstance(space, spaces.Box):
        return None
    image = is_image_space(space)
    if units == "raw":
        gain = None if vec_normalize is None else _gain(vec_normalize, key)
        return torch.ones(()) if gain is None else torch.as_tensor(gain, dtype=torch.float32)
    unit = np.asarray(1.0 if scale is None else scale, dtype=np.float64)
    if image and scale is None:
        unit = np.asarray(255.0)
    if unit.ndim and unit.shape != space.shape:
        unit = unit.reshape(space.shape)
    return torch.as_tensor(unit, dtype=torch.float32)


def _gain(vec_normalize: Any, key: str) -> np.ndarray | None:
    """(…,) what VecNormalize multiplies with; ``None`` where it leaves the entry alone."""
    if not vec_normalize.norm_obs:
        return None
    statistics = vec_normalize.obs_rms
    if isinstance(statistics, dict):
        if key not in statistics:
            return None
        statistics = statistics[key]
    return np.asarray(1.0 / np.sqrt(statistics.var + vec_normalize.epsilon))
