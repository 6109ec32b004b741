"""What stands between an observation and the first constrained layer: SB3's preprocessing and the features extractor.

Everything here speaks of the *flattened observation*: a Box in its own units (images in grey levels), a discrete
value as its one-hot vector, a Dict as its entries side by side in SB3's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from torch import nn

from lipsrl.layers._plain import Parallel, Scale
from lipsrl.networks import scale_vector
from lipsrl.policies.combined_extractor import LipschitzCombinedExtractor
from lipsrl.policies.nature_cnn import LipschitzNatureCNN

#: Spaces that one entry of an observation may have.
_VECTORS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


@dataclass(frozen=True)
class Part:
    """One entry of the observation on its way to the features.

    Attributes:
        key: in a Dict observation; ``""`` otherwise.
        space: of the entry.
        factor: what SB3's preprocessing multiplies it by (1/255 for images).
        extractor: what follows; ``None`` where the entry is only flattened.
    """

    key: str
    space: spaces.Space[Any]
    factor: float
    extractor: nn.Module | None

    @property
    def size(self) -> int:
        """Of the flattened entry."""
        return get_flattened_obs_dim(self.space)

    @property
    def features(self) -> int:
        """Of what the entry becomes."""
        return self.size if self.extractor is None else int(self.extractor.features_dim)  # type: ignore[arg-type]

    @property
    def bound(self) -> float:
        """Promised Lipschitz constant from the flattened entry to its features."""
        own = 1.0 if self.extractor is None else float(self.extractor.bound)  # type: ignore[arg-type]
        return own * self.factor


def _factor(space: spaces.Space[Any], normalize_images: bool) -> float:
    return 1 / 255 if normalize_images and is_image_space(space) else 1.0


def entries(space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
    """The entries of an observation in SB3's order; one without name where it is no Dict.

    Raises:
        ValueError: an entry that cannot be flattened.
    """
    found = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    for key, entry in found.items():
        if not isinstance(entry, _VECTORS):
            where = f"observation[{key!r}]" if key else "The observation"
            raise ValueError(
                f"{where} is a {type(entry).__name__}. Expected Box, Discrete, MultiDiscrete, MultiBinary, or a Dict "
                "of those."
            )
    return found


def parts(extractor: nn.Module, space: spaces.Space[Any], normalize_images: bool) -> list[Part]:
    """How ``extractor`` treats each entry of the observation.

    Raises:
        ValueError: its Lipschitz constant is not known.
    """
    kind = type(extractor)
    if kind is FlattenExtractor and not isinstance(space, spaces.Dict):
        return [Part("", space, _factor(space, normalize_images), None)]
    if kind in (CombinedExtractor, LipschitzCombinedExtractor) and isinstance(space, spaces.Dict):
        inner: Any = extractor
        return [
            Part(
                key, entry, _factor(entry, normalize_images),
                None if type(inner.extractors[key]) is nn.Flatten else inner.extractors[key],
            )
            for key, entry in entries(space).items()
        ]  # fmt: skip
    factor = max(_factor(entry, normalize_images) for entry in entries(space).values())
    return [Part("", space, factor, extractor)]


def observation_size(space: spaces.Space[Any]) -> int:
    """Length of the flattened observation."""
    return sum(get_flattened_obs_dim(entry) for entry in entries(space).values())


def feature_scale(found: list[Part], observation_scale: Any, norm: str) -> np.ndarray | None:
    """The unit of each feature (features,) such that a change of ``observation_scale`` is one of at most one unit.

    With ``‖Δfeatures / unit‖ ≤ ‖Δobservation / observation_scale‖`` a network that is K-Lipschitz in these units
    keeps the promise. ``None`` where all units are one.

    Args:
        observation_scale: ``None``, one number, one per coordinate, or a dict of those by key for Dict observations. An
            entry that goes through a network (an image) has one number.

    Raises:
        ValueError: it does not fit the observation, or an extractor is constrained in another norm.
    """
    scales = _by_key(found, observation_scale)
    pieces = []
    for part, scale in zip(found, scales, strict=True):
        name = f"observation_scale[{part.key!r}]" if part.key else "observation_scale"
        if part.extractor is None:
            vector = scale_vector(name, scale, part.size)
            values = np.ones(part.size) if vector is None else vector.double().numpy()
        else:
            if getattr(part.extractor, "norm", "l2") != norm:
                raise ValueError(
                    f"{type(part.extractor).__name__} is constrained in l2, so norm={norm!r} is not supported with it. "
                    "Use norm='l2'."
                )
            if scale is not None and np.ndim(scale) != 0:
                raise ValueError(
                    f"{name} must be one number > 0 or None for what goes through {type(part.extractor).__name__}, "
                    f"received {np.size(scale)} values."
                )
            single = scale_vector(name, scale, 1)
            values = np.full(part.features, 1.0 if single is None else float(single))
        pieces.append(values * part.bound)
    unit = np.concatenate(pieces)
    return None if (unit == 1).all() else unit


def _by_key(found: list[Part], value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        unknown = set(value) - {part.key for part in found}
        if unknown:
            raise ValueError(
                f"observation_scale has the keys {sorted(map(str, unknown))}, but the observation has "
                f"{[part.key for part in found]}."
            )
        return [value.get(part.key) for part in found]
    if len(found) == 1 or value is None or np.ndim(value) == 0:
        return [value] * len(found)
    raise ValueError(
        "observation_scale of a Dict observation must be one number > 0 or a dict of scales by key, received "
        f"{type(value).__name__}."
    )


def observation_units(found: list[Part], unit: np.ndarray) -> np.ndarray:
    """Inverse of :func:`feature_scale`: the observation_scale (obs,) that the features' ``unit`` stands for."""
    pieces, start = [], 0
    for part in found:
        own = unit[start : start + part.features]
        start += part.features
        size = own if part.extractor is None else np.full(part.size, own.min())
        pieces.append(size / part.bound)
    return np.concatenate(pieces)


def measured_share(found: list[Part]) -> float:
    """Largest ratio of an extractor's Lipschitz constant, as it is now, to the one it promises."""
    shares = [1.0]
    for part in found:
        if part.extractor is not None:
            extractor: Any = part.extractor
            shares.append(extractor.lipschitz_bound() / extractor.bound * (1 + 1e-15))
    return max(shares)


def front_modules(found: list[Part]) -> list[nn.Module] | None:
    """Flattened observation → features as plain modules; ``None`` where an extractor has no plain form."""
    branches = [_branch(part) for part in found]
    if any(branch is None for branch in branches):
        return None
    if len(found) == 1 and not found[0].key:
        return list(branches[0] or ())
    plain = [nn.Sequential(*(branch or ())) for branch in branches]
    return [Parallel(plain, [part.size for part in found])]


def _branch(part: Part) -> list[nn.Module] | None:
    scale: list[nn.Module] = [] if part.factor == 1 else [Scale(part.factor)]
    if part.extractor is None:
        return scale
    if not isinstance(part.space, spaces.Box):
        return None
    shape = [nn.Unflatten(1, part.space.shape)]
    extractor: Any = part.extractor
    if type(extractor) is NatureCNN:
        return [*shape, *scale, *extractor.cnn, *extractor.linear]
    if type(extractor) is LipschitzNatureCNN or callable(getattr(extractor, "merge", None)):
        return [*shape, *scale, *extractor.merge()]
    return None


def is_constrained(extractor_class: Any) -> bool:
    """Whether a features extractor class says how steep it is: ``bound``, and ``lipschitz_bound()`` measured."""
    return callable(getattr(extractor_class, "lipschitz_bound", None))


def flatten(space: spaces.Space[Any], observation: Any) -> np.ndarray:
    """A batch of observations as SB3 gets it → (n, obs) float64."""
    if isinstance(space, spaces.Dict):
        return np.concatenate(
            [flatten(entry, observation[key]) for key, entry in space.spaces.items()], axis=1
        )
    array = np.asarray(observation)
    if isinstance(space, spaces.Discrete):
        hot: np.ndarray = np.eye(int(space.n))[
            array.reshape(-1)
        ]  # SB3 counts from 0, whatever space.start says
        return hot
    if isinstance(space, spaces.MultiDiscrete):
        rows = array.reshape(len(array), -1)
        sizes = np.asarray(space.nvec).reshape(-1)
        return np.concatenate([np.eye(int(n))[rows[:, i]] for i, n in enumerate(sizes)], axis=1)
    return array.reshape(len(array), -1).astype(np.float64)
