"""A trained policy on NumPy alone: raw observations in, environment actions out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsrl._validation import lookup
from lipsrl.deployment._heads import HEADS
from lipsrl.deployment._network import chain, run, vector
from lipsrl.deployment._observations import flattener, shape_of, width_of, zeros_of
from lipsrl.deployment._safetensors import Tensors
from lipsrl.deployment._window import stacked

Array: TypeAlias = NDArray[Any]

#: Tensors that may be infinite.
_LIMITS = ("action.low", "action.high", "observation.low", "observation.high", "observation.clip")

#: Up to so many, Python's floats are looked at faster than an array.
_FEW = 32


class NumpyPolicy:
    """The deterministic policy that an exported file holds; :func:`lipsrl.load_policy` makes it.

    It takes observations as the sensors give them: the normalisation of the training is inside, so do not put it
    behind a ``VecNormalize`` or ``NormalizeObservation``. Calls share no state, so threads may share a policy. It
    works where an SB3 model or a callable is expected: ``evaluate_policy(policy, env)``,
    ``lipsrl.evaluate(policy, env, …)``.

    Args:
        description: the file's JSON.
        tensors: its tensors, by name.

    Attributes:
        observation_shape, action_shape: of one observation and one action; ``()`` for a discrete one, a dict of shapes
            for a Dict observation.
        frames: 1; how many observations a :class:`WindowPolicy` sees.
        certificate: what ``lipsrl.certify(model).to_dict()`` said of these very weights.
        description: the file's JSON: layers, algorithm, versions.

    Raises:
        ValueError: the parts do not fit together, or hold NaN or infinity.

    Example::

        policy = lipsrl.load_policy("policy.safetensors")
        action = policy(observation)
    """

    frames: int = 1

    def __init__(self, description: dict[str, Any], tensors: Tensors) -> None:
        self.description = description
        self._tensors = tensors
        for name, tensor in tensors.items():
            bad = np.isnan(tensor) if name in _LIMITS else ~np.isfinite(tensor)
            if bad.any():
                raise ValueError(
                    f"Tensor {name!r} holds NaN or infinite values. Export a healthy model again."
                )
        observation = description["observation"]
        self.observation_shape: Any = shape_of(observation)
        self.action_shape: tuple[int, ...] = tuple(description["action"]["shape"])
        self.certificate: dict[str, Any] = description["certificate"]

        width = width_of(stacked(observation))
        self._flatten = flattener(observation)
        self._normalise = _normalisation(observation, tensors, width)
        self._layers, (width,) = chain(description["layers"], tensors, (width,))
        self._outputs = width
        self._head = lookup("action.kind", description["action"]["kind"], HEADS)(
            description["action"], tensors, width
        )
        self(zeros_of(observation))  # parts that do not fit together fail now, not on the robot

    def __call__(self, observation: ArrayLike | Mapping[str, ArrayLike]) -> Array:
        """The deterministic action.

        Args:
            observation: raw, ``observation_shape`` or ``(n, *observation_shape)``; a dict of those for a Dict.
                Images may have their channels last, as SB3's ``predict`` takes them.

        Returns:
            ``action_shape`` or ``(n, *action_shape)``, a fresh array in the environment's units, inside the
            action space.

        Raises:
            ValueError: another shape, no numbers, or NaN or infinite values that would reach the action.
        """
        raw, single = self._flatten(observation)
        seen = self._normalise(raw)
        if not finite(seen):  # an activation may hide it from what is checked below: tanh(inf) is 1
            raise not_finite(raw, seen)
        return self._act(seen, single, raw)

    def _act(self, seen: Array, single: bool, raw: Array, name: str = "observation") -> Array:
        """The action for what the first layer takes; errors speak of ``raw`` as ``name``."""
        x = run(self._layers, seen)
        if not finite(x):
            raise not_finite(raw, x, name)
        action = self._head(x)
        return action.reshape(self.action_shape if single else (len(action), *self.action_shape))

    def reset(self) -> None:
        """Nothing to forget; :class:`WindowPolicy` starts an episode."""

    def stateless(self, window: Any) -> Array:
        """As a call: without memory, the observation is all there is."""
        return self(window)

    def predict(
        self,
        observation: ArrayLike | Mapping[str, ArrayLike],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Array, Any]:
        """``(action, None)``, in the form of SB3's ``predict``; ``state`` and ``episode_start`` are not needed.

        Raises:
            ValueError: ``deterministic=False``, or see :meth:`__call__`.
        """
        refuse_sampling(deterministic)
        return self(observation), None

    def __repr__(self) -> str:
        sizes = [str(len(weight)) for weight, _, _ in self._layers if weight is not None]
        widths = " → ".join([*sizes, str(self._outputs)])
        frames = f" × {self.frames} frames" if self.frames > 1 else ""
        return (
            f"{type(self).__name__}({self.description['algorithm']}, observation {self.observation_shape}{frames}, "
            f"action {self.action_shape}, {widths}, at most {self.certificate['upper_bound']:.4g}-Lipschitz)"
        )

    def __reduce__(self) -> tuple[type[NumpyPolicy], tuple[dict[str, Any], Tensors]]:
        return type(self), (self.description, self._tensors)


def refuse_sampling(deterministic: bool) -> None:
    """``ValueError`` where an action is to be sampled."""
    if not deterministic:
        raise ValueError(
            "deterministic=False: an exported policy holds no action noise, received a request to sample. "
            "Expected deterministic=True; sample with the SB3 model."
        )


def finite(x: Array) -> bool:
    """Whether all numbers of a vector or of a batch are finite."""
    if x.ndim == 1 and len(x) <= _FEW:
        return all(map(math.isfinite, x.tolist()))
    return bool(np.isfinite(x).all())


def not_finite(raw: Array, outputs: Array, name: str = "observation") -> ValueError:
    """What to say of ``raw``, one or a batch, that became ``outputs``, a vector or a batch of them."""
    bad = np.argwhere(~np.isfinite(raw)).tolist()
    if bad:
        what = f"{name}{bad[0]} is {raw[tuple(bad[0])]}"
    else:
        row = raw if outputs.ndim == 1 else raw[~np.isfinite(outputs).all(axis=1)][0]
        what = f"{name} {row.tolist()} overflows float32"
    return ValueError(f"{what}, so there is no action. Check the sensor and decide what to do without it.")


def _normalisation(observation: Mapping[str, Any], tensors: Tensors, width: int) -> Callable[[Array], Array]:
    """From flattened raw observations to what the first layer takes, in its dtype."""
    if not observation["normalised"]:
        return lambda x: x.astype(np.float32, copy=False)
    if observation["folded"]:
        floor, ceiling = (vector(tensors, f"observation.{key}", width) for key in ("low", "high"))
        return lambda x: np.minimum(np.maximum(x, floor), ceiling)
    mean, gain, high = (vector(tensors, f"observation.{key}", width) for key in ("mean", "gain", "clip"))
    low = -high

    def normalise(x: Array) -> Array:
        inside: Array = np.minimum(np.maximum((x.astype(np.float64) - mean) * gain, low), high)
        return inside.astype(np.float32)  # SB3 rounds here too

    return normalise
