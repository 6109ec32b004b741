"""A trained policy on NumPy alone: raw observations in, environment actions out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsrl._validation import lookup
from lipsrl.deployment._activations import activation, householder
from lipsrl.deployment._heads import HEADS
from lipsrl.deployment._safetensors import Tensors

Array: TypeAlias = NDArray[Any]
Activation: TypeAlias = Callable[[Array], Array]
#: weight (in, out), bias (out,), and what follows them
Layer: TypeAlias = tuple[Array, Array, tuple[Activation, ...]]


class NumpyPolicy:
    """The deterministic policy that an exported file holds; :func:`lipsrl.load_policy` makes it.

    It takes observations as the sensors give them: the normalisation of the training is inside, so do not
    put it behind a ``VecNormalize``. Calls share no state, so threads may share a policy. It works where an SB3
    model or a callable is expected: ``evaluate_policy(policy, env)``, ``lipsrl.evaluate(policy, env, …)``.

    Args:
        description: the file's JSON.
        tensors: its tensors, by name.

    Attributes:
        observation_shape, action_shape: of one observation and one action; ``()`` for a discrete action.
        certificate: what ``lipsrl.certify(model).to_dict()`` said of these very weights.
        description: the file's JSON: layers, algorithm, versions.

    Raises:
        ValueError: the parts do not fit together, or hold NaN or infinity.

    Example::

        policy = lipsrl.load_policy("policy.safetensors")
        action = policy(observation)
    """

    def __init__(self, description: dict[str, Any], tensors: Tensors) -> None:
        self.description = description
        self._tensors = tensors
        for name, tensor in tensors.items():
            if not np.isfinite(tensor).all() and name not in ("action.low", "action.high"):
                raise ValueError(
                    f"Tensor {name!r} holds NaN or infinite values. Export a healthy model again."
                )
        observation = description["observation"]
        self.observation_shape: tuple[int, ...] = tuple(observation["shape"])
        self.action_shape: tuple[int, ...] = tuple(description["action"]["shape"])
        self.certificate: dict[str, Any] = description["certificate"]

        width = math.prod(self.observation_shape)
        self._normalisation: tuple[Array, Array, Array, Array] | None = None
        if observation["normalised"]:
            mean, gain = (_vector(tensors, f"observation.{key}", width) for key in ("mean", "gain"))
            clip = np.full(width, math.inf if observation["clip"] is None else float(observation["clip"]))
            self._normalisation = mean, gain, -clip, clip
        self._layers, width = _chain(description["layers"], tensors, width)
        self._outputs = width
        self._head = lookup("action.kind", description["action"]["kind"], HEADS)(
            description["action"], tensors, width
        )
        self(np.zeros(self.observation_shape))  # parts that do not fit together fail now, not on the robot

    def __call__(self, observation: ArrayLike) -> Array:
        """The deterministic action.

        Args:
            observation: raw, ``observation_shape`` or ``(n, *observation_shape)``.

        Returns:
            ``action_shape`` or ``(n, *action_shape)``, a fresh array in the environment's units, inside the
            action space.

        Raises:
            ValueError: another shape, no numbers, or NaN or infinite values that would reach the action.
        """
        x = _numbers(observation)
        single = x.shape == self.observation_shape
        if not single and x.shape[1:] != self.observation_shape:
            raise self._wrong_shape(x)
        if len(self.observation_shape) != 1:
            x = x.reshape(-1) if single else x.reshape(len(x), math.prod(self.observation_shape))
        if self._normalisation is not None:
            mean, gain, low, high = self._normalisation
            x = np.minimum(np.maximum((x.astype(np.float64) - mean) * gain, low), high)
        x = x.astype(np.float32, copy=False)  # SB3 rounds here too
        x = _run(self._layers, x)
        if not (all(map(math.isfinite, x.tolist())) if single else np.isfinite(x).all()):
            raise self._not_finite(observation, x)
        action = self._head(x)
        return action.reshape(self.action_shape if single else (len(action), *self.action_shape))

    def predict(
        self,
        observation: ArrayLike,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Array, None]:
        """``(action, None)``, in the form of SB3's ``predict``; ``state`` and ``episode_start`` are not needed.

        Raises:
            ValueError: ``deterministic=False``, or see :meth:`__call__`.
        """
        if not deterministic:
            raise ValueError(
                "deterministic=False: an exported policy holds no action noise, received a request to sample. "
                "Expected deterministic=True; sample with the SB3 model."
            )
        return self(observation), None

    def __repr__(self) -> str:
        sizes = [str(len(weight)) for weight, _, _ in self._layers]
        chain = " → ".join([*sizes, str(self._outputs)])
        return (
            f"NumpyPolicy({self.description['algorithm']}, observation {self.observation_shape}, action "
            f"{self.action_shape}, {chain}, at most {self.certificate['upper_bound']:.4g}-Lipschitz)"
        )

    def __reduce__(self) -> tuple[type[NumpyPolicy], tuple[dict[str, Any], Tensors]]:
        return NumpyPolicy, (self.description, self._tensors)

    def _wrong_shape(self, x: Array) -> ValueError:
        hint = ""
        if x.size == math.prod(self.observation_shape):
            hint = f" Reshape it to {self.observation_shape}."
        return ValueError(
            f"observation must have shape {self.observation_shape} or (n, "
            f"{', '.join(map(str, self.observation_shape))}), received {x.shape}.{hint}"
        )

    def _not_finite(self, observation: ArrayLike, outputs: Array) -> ValueError:
        x = np.asarray(observation)
        bad = np.argwhere(~np.isfinite(x)).tolist()
        if bad:
            what = f"observation{bad[0]} is {x[tuple(bad[0])]}"
        else:
            row = x if outputs.ndim == 1 else x[~np.isfinite(outputs).all(axis=1)][0]
            what = f"observation {row.tolist()} overflows float32"
        return ValueError(
            f"{what}, so there is no action. Check the sensor and decide what to do without it."
        )


def _numbers(observation: ArrayLike) -> Array:
    why = ""
    try:
        x = np.asarray(observation)
        if x.dtype.kind in "fiub":
            return x
    except (ValueError, TypeError) as error:  # a ragged list
        why = f" ({error})"
    if isinstance(observation, tuple):
        why += " env.reset() returns (observation, info): give the first."
    raise ValueError(f"observation must be an array of real numbers, received {observation!r}.{why}")


def _run(layers: Iterable[Layer], x: Array) -> Array:
    for weight, bias, activations in layers:
        x = x.dot(weight) + bias
        for activate in activations:
            x = activate(x)
    return x


def _chain(described: Iterable[Mapping[str, Any]], tensors: Tensors, width: int) -> tuple[list[Layer], int]:
    """The file's layers, ready to run on ``width`` inputs, and the number of outputs."""
    layers: list[Layer] = []
    for layer in described:
        match layer["kind"]:
            case "Linear":
                weight = _matrix(tensors, layer["weight"], width)
                width = weight.shape[1]
                bias = (
                    _vector(tensors, layer["bias"], width) if layer["bias"] else np.zeros(width, np.float32)
                )
                layers.append((weight, bias, ()))
            case "Residual":
                branch, outputs = _chain(layer["branch"], tensors, width)
                skip = _matrix(tensors, layer["skip"], width)
                if skip.shape[1] != outputs:
                    raise ValueError(f"Tensor {layer['skip']!r} has {len(skip.T)} rows, expected {outputs}.")
                layers.append(_residual(branch, skip))
                width = outputs
            case kind:
                weight, bias, before = layers.pop()
                if kind == "Householder":
                    follows = householder(_vector(tensors, layer["angle"], width // 2))
                else:
                    follows = activation(kind, layer)
                layers.append((weight, bias, (*before, follows)))
    return layers, width


def _residual(branch: list[Layer], skip: Array) -> Layer:
    """``S x + branch(x)`` as one layer: the branch's first product and S x are taken together."""
    (weight, bias, activations), *rest = branch
    inner = len(bias)

    def finish(stacked: Array) -> Array:
        y = stacked[..., :inner]
        for activate in activations:
            y = activate(y)
        total: Array = _run(rest, y) + stacked[..., inner:]
        return total

    both = np.ascontiguousarray(np.concatenate([weight, skip], axis=1))
    return both, np.concatenate([bias, np.zeros(skip.shape[1], np.float32)]), (finish,)


def _matrix(tensors: Tensors, name: str, width: int) -> Array:
    """Transposed, (in, out) in memory: one product serves one observation and many, and is the fastest for one."""
    weight = tensors[name]
    if weight.ndim != 2 or weight.shape[1] != width:
        raise ValueError(f"Tensor {name!r} has shape {weight.shape}, expected (…, {width}).")
    return np.ascontiguousarray(weight.T)


def _vector(tensors: Tensors, name: str, size: int) -> Array:
    if tensors[name].shape != (size,):
        raise ValueError(f"Tensor {name!r} has shape {tensors[name].shape}, expected ({size},).")
    return tensors[name]
