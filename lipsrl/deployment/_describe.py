"""An SB3 actor in words (JSON) and arrays: what every exported file is made from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnvWrapper, VecFrameStack
from torch import Tensor, nn

from lipsrl.actors import ActorParts
from lipsrl.actors.normalization import normalizes_frames
from lipsrl.actors.pipeline import Pipeline
from lipsrl.deployment._activations import ACTIVATIONS
from lipsrl.deployment._window import AROUND, BOTH, INSIDE, LAYOUT, NONE
from lipsrl.layers import _activation_modules
from lipsrl.layers._activation_modules import Householder
from lipsrl.layers._plain import Parallel, Residual, Scale

Description: TypeAlias = dict[str, Any]
Arrays: TypeAlias = dict[str, NDArray[Any]]


def describe_network(network: Iterable[nn.Module], name: str = "network") -> tuple[list[Description], Arrays]:
    """The chain of layers, and the weights they refer to, which are called ``name.index.…``.

    Raises:
        ValueError: a layer that the file format does not know, or weights that are not float32.
    """
    layers: list[Description] = []
    tensors: Arrays = {}

    def store(key: str, value: Tensor) -> str:
        array = value.detach().cpu().numpy()
        if array.dtype != np.float32:
            raise ValueError(f"The actor's weights are {array.dtype}, expected float32. Call policy.float().")
        tensors[key] = array
        return key

    image = False
    for index, module in enumerate(network):
        place = f"{name}.{index}"
        if isinstance(module, nn.Linear | nn.Conv2d):
            stored = {key: store(f"{place}.{key}", value) for key, value in module.named_parameters()}
            extra = _describe_windows(module) if isinstance(module, nn.Conv2d) else {}
            layers.append({"kind": type(module).__name__, "weight": None, "bias": None, **stored, **extra})
        elif isinstance(module, Residual):
            branch, inner = describe_network(module.branch, f"{place}.branch")
            tensors |= inner
            skip = store(f"{place}.skip.weight", module.skip.weight)
            layers.append({"kind": "Residual", "skip": skip, "branch": branch})
        elif isinstance(module, Parallel):
            described = [
                describe_network(cast(nn.Sequential, branch), f"{place}.{i}")
                for i, branch in enumerate(module.branches)
            ]
            if any(branch for branch, _ in described):  # else it hands everything on as it is
                branches = [branch for branch, _ in described]
                layers.append(
                    {"kind": "Parallel", "sizes": [int(n) for n in module.sizes], "branches": branches}
                )
                tensors |= {key: value for _, inner in described for key, value in inner.items()}
        elif isinstance(module, Scale):
            layers.append({"kind": "Scale", "factor": module.factor})
        elif isinstance(module, Householder):
            layers.append({"kind": "Householder", "angle": store(f"{place}.angle", module.angle)})
        elif isinstance(module, nn.Unflatten):
            image = True
            layers.append(_describe_unflatten(module))
        elif isinstance(module, nn.Flatten):
            if image:  # vectors are flat
                layers.append(_describe_flatten(module))
            image = False
        elif not isinstance(module, nn.Identity):
            layers.append(_describe_activation(module))
    return layers, tensors


def _describe_windows(module: nn.Conv2d) -> Description:
    if (
        isinstance(module.padding, str)
        or module.padding_mode != "zeros"
        or module.groups != 1
        or set(module.dilation) != {1}
        or any(p >= k for p, k in zip(module.padding, module.kernel_size, strict=True))
    ):
        raise ValueError(
            f"{module} in the actor cannot be exported. Supported: Conv2d with zero padding in numbers, smaller "
            "than the kernel, without groups and dilation."
        )
    return {"stride": list(module.stride), "padding": list(module.padding)}


def _describe_unflatten(module: nn.Unflatten) -> Description:
    if module.dim not in (1, -1):
        raise ValueError(f"{module} in the actor cannot be exported: it must act on the features, dim=1.")
    return {"kind": "Unflatten", "shape": [int(n) for n in module.unflattened_size]}


def _describe_flatten(module: nn.Flatten) -> Description:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise ValueError(
            f"{module} in the actor cannot be exported: it must flatten all features, from dim 1 to -1."
        )
    return {"kind": "Flatten"}


def _describe_activation(module: nn.Module) -> Description:
    kind = type(module).__name__
    known = getattr(nn, kind, getattr(_activation_modules, kind, None))
    if kind not in ACTIVATIONS or type(module) is not known:
        raise ValueError(
            f"{kind} in the actor cannot be exported. Supported: Linear, Conv2d, Flatten, Unflatten, Residual, "
            f"Parallel, Scale, {', '.join([*ACTIVATIONS, 'Householder'])}."
        )
    return {"kind": kind, **{key: float(getattr(module, key)) for key in ACTIVATIONS[kind][1]}}


def describe_observation(space: spaces.Space[Any], pipeline: Pipeline | None) -> tuple[Description, Arrays]:
    """What the sensors give, and its normalisation as the certificate counts it."""
    described = {**_describe_entry(space), "frames": 1, "normalised": False, "folded": False}
    if pipeline is None:
        return described, {}
    described["frames"] = pipeline.chain.frames
    if not pipeline.normalised and pipeline.chain.inner is None:
        return described, {}
    return {**described, "normalised": True}, {
        "observation.mean": pipeline.mean,
        "observation.gain": pipeline.gain,
        "observation.clip": pipeline.limit,
    }


def describe_window(model: BaseAlgorithm, pipeline: Pipeline) -> Description:
    """``shape`` of one observation and ``window``, where the policy sees stacked vectors; nothing for anything else.

    What stands before an episode's first observation is zeros, in the units in which frames are stacked: raw ones are
    what a normalisation inside the stack makes zeros of, its mean.
    """
    chain, space = pipeline.chain, model.observation_space
    if (
        chain.frames == 1
        or not isinstance(space, spaces.Box)
        or len(space.shape) != 1
        or space.shape[0] % chain.frames
        or _stacks(model) > 1  # of stacks
    ):
        return {}
    dim = space.shape[0] // chain.frames
    inside = pipeline.normalised and normalizes_frames(chain.vec_normalize, (dim,))
    around = pipeline.normalised and not inside
    before = np.zeros(dim) if chain.inner is None else chain.inner[0]
    if inside:
        before = pipeline.mean[:dim]
    words = {(True, True): BOTH, (True, False): INSIDE, (False, True): AROUND, (False, False): NONE}
    return {
        "shape": [dim],
        "window": {
            "layout": LAYOUT,
            "normalisation": words[inside or chain.inner is not None, around],
            "before": before.tolist(),
        },
    }


def _stacks(model: BaseAlgorithm) -> int:
    """How many frame stacks there are around the model's own environment."""
    found, layer = 0, model.get_env()
    while isinstance(layer, VecEnvWrapper):
        found += isinstance(layer, VecFrameStack)
        layer = layer.venv
    return found


def _describe_entry(space: spaces.Space[Any]) -> Description:
    """A space in words.

    Raises:
        ValueError: one that cannot be flattened.
    """
    described = {"shape": list(space.shape or ()), "dtype": str(space.dtype)}
    match space:
        case spaces.Box():
            return {"kind": "box", **described, "image": is_image_space(space)}
        case spaces.Discrete():
            return {"kind": "discrete", **described, "sizes": [int(space.n)]}
        case spaces.MultiDiscrete():
            return {"kind": "multi_discrete", **described, "sizes": space.nvec.reshape(-1).tolist()}
        case spaces.MultiBinary():
            return {"kind": "multi_binary", **described, "image": False}
        case spaces.Dict():
            return {"kind": "dict", "entries": {key: _describe_entry(entry) for key, entry in space.items()}}
    raise ValueError(
        f"Observations of {space} cannot be exported. Supported: Box, Discrete, MultiDiscrete, MultiBinary, and a Dict "
        "of those."
    )


def describe_action(space: spaces.Space[Any], parts: ActorParts) -> tuple[Description, Arrays]:
    """What becomes of the network's output."""
    described: Description = {"shape": list(space.shape or ()), "dtype": str(space.dtype)}
    match space:
        case spaces.Discrete():
            return {"kind": "discrete", **described}, {}
        case spaces.MultiDiscrete():
            return {"kind": "multi_discrete", **described, "sizes": space.nvec.reshape(-1).tolist()}, {}
        case spaces.MultiBinary():
            bits = int(np.prod(space.shape))
            last = next(m for m in reversed(parts.network) if isinstance(m, nn.Linear))
            if last.out_features == 2 * bits:  # MaskablePPO: a choice of two for every bit
                return {"kind": "multi_discrete", **described, "sizes": [2] * bits}, {}
            return {"kind": "multi_binary", **described}, {}
    assert isinstance(space, spaces.Box)
    vectors = {"low": space.low, "high": space.high}
    if parts.half_range is not None and parts.centre is not None:
        vectors |= {"half_range": parts.half_range, "centre": parts.centre}
    described["dtype"] = str(np.result_type(space.dtype, np.float32))  # as SB3's clip and rescaling give
    return (
        {"kind": "box", **described, "squash": parts.squash, "rescale": parts.half_range is not None},
        {f"action.{key}": np.asarray(value, dtype=np.float64).reshape(-1) for key, value in vectors.items()},
    )
