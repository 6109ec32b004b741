"""Write any SB3 model's deterministic policy as one safe file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

import lipsrl
from lipsrl.certificates import certify
from lipsrl.deployment._activations import ACTIVATIONS
from lipsrl.deployment._schema import write_policy_file
from lipsrl.layers import _activation_modules
from lipsrl.layers._activation_modules import Householder
from lipsrl.layers._plain import Residual
from lipsrl.policies import ActorParts, actor_parts
from lipsrl.policies.normalization import NormalizeLike, normalization_of, observation_gains

Description = dict[str, Any]
Tensors = dict[str, NDArray[Any]]

#: suffix → writer
WRITERS: Mapping[str, Callable[[Path, Description, Tensors], None]] = {".safetensors": write_policy_file}


def export(model: BaseAlgorithm, path: str | Path, *, vec_normalize: NormalizeLike = None) -> Path:
    """Write the deterministic policy of ``model`` with its normalisation and certificate; no pickle, no code.

    The policy is put in evaluation mode, as ``predict`` does, and certified, which takes about a second.
    :func:`lipsrl.load_policy` runs the file on NumPy alone.

    Args:
        model: an SB3 model with an MLP actor on vector observations; Lipschitz or stock.
        path: the file to write, ``….safetensors``.
        vec_normalize: the ``VecNormalize`` the model was trained with, or its file. A model whose environment
            carries one is exported with it.

    Returns:
        ``path``. The file is written whole or not at all.

    Raises:
        TypeError: ``model`` is no SB3 model.
        ValueError: another suffix, an actor that has no plain form or cannot be certified, weights that are not
            finite float32, a normalisation of another size.

    Example::

        lipsrl.export(model, "policy.safetensors")
    """
    target = Path(path)
    if target.suffix not in WRITERS:
        raise ValueError(
            f"path={str(path)!r} ends in {target.suffix!r}, expected {' or '.join(map(repr, WRITERS))}."
        )
    if not isinstance(model, BaseAlgorithm):
        raise TypeError(f"model must be a Stable-Baselines3 model, received {type(model).__name__}.")
    statistics = normalization_of(model, vec_normalize)
    certificate = certify(model, vec_normalize=statistics)
    parts = actor_parts(model)
    layers, tensors = _describe_network(parts.network)
    observation = _describe_observation(model, statistics, tensors)
    description = {
        "algorithm": certificate.algorithm,
        "policy": certificate.policy,
        "observation": observation,
        "layers": layers,
        "action": _describe_action(model.action_space, parts, tensors),
        "certificate": json.loads(json.dumps(certificate.to_dict())),
        "versions": {**certificate.versions, "lipsrl": lipsrl.__version__},
    }
    WRITERS[target.suffix](target, description, tensors)
    return target


def _describe_network(
    network: Iterable[nn.Module], name: str = "network"
) -> tuple[list[Description], Tensors]:
    """The chain of layers, and the weights they refer to, which are called ``name.index.…``."""
    layers: list[Description] = []
    tensors: Tensors = {}

    def store(key: str, value: Tensor) -> str:
        array = value.detach().cpu().numpy()
        if array.dtype != np.float32:
            raise ValueError(f"The actor's weights are {array.dtype}, expected float32. Call policy.float().")
        tensors[key] = array
        return key

    for index, module in enumerate(network):
        place = f"{name}.{index}"
        if isinstance(module, nn.Linear):
            stored = {key: store(f"{place}.{key}", value) for key, value in module.named_parameters()}
            layers.append({"kind": "Linear", "weight": None, "bias": None, **stored})
        elif isinstance(module, Residual):
            branch, inner = _describe_network(module.branch, f"{place}.branch")
            tensors |= inner
            skip = store(f"{place}.skip.weight", module.skip.weight)
            layers.append({"kind": "Residual", "skip": skip, "branch": branch})
        elif isinstance(module, Householder):
            layers.append({"kind": "Householder", "angle": store(f"{place}.angle", module.angle)})
        elif not isinstance(module, (nn.Flatten, nn.Identity)):
            layers.append(_describe_activation(module))
    return layers, tensors


def _describe_activation(module: nn.Module) -> Description:
    kind = type(module).__name__
    known = getattr(nn, kind, getattr(_activation_modules, kind, None))
    if kind not in ACTIVATIONS or type(module) is not known:
        raise ValueError(
            f"{kind} in the actor cannot be exported. Supported: {', '.join([*ACTIVATIONS, 'Householder'])}."
        )
    return {"kind": kind, **{key: float(getattr(module, key)) for key in ACTIVATIONS[kind][1]}}


def _describe_observation(
    model: BaseAlgorithm, statistics: VecNormalize | None, tensors: Tensors
) -> Description:
    space = model.observation_space
    shape = list(space.shape or ())
    normalised = statistics is not None and statistics.norm_obs
    described: Description = {
        "shape": shape,
        "dtype": str(space.dtype),
        "normalised": normalised,
        "clip": None,
    }
    if normalised:
        mean, gain, clip = observation_gains(statistics, int(np.prod(shape)))
        tensors["observation.mean"], tensors["observation.gain"] = mean, gain
        described["clip"] = clip if np.isfinite(clip) else None
    return described


def _describe_action(space: spaces.Space[Any], parts: ActorParts, tensors: Tensors) -> Description:
    described: Description = {"shape": list(space.shape or ()), "dtype": str(space.dtype)}
    match space:
        case spaces.Discrete():
            return {"kind": "discrete", **described}
        case spaces.MultiDiscrete():
            return {"kind": "multi_discrete", **described, "sizes": space.nvec.reshape(-1).tolist()}
        case spaces.MultiBinary():
            return {"kind": "multi_binary", **described}
    assert isinstance(space, spaces.Box)
    vectors = {"low": space.low, "high": space.high}
    if parts.half_range is not None and parts.centre is not None:
        vectors |= {"half_range": parts.half_range, "centre": parts.centre}
    for key, value in vectors.items():
        tensors[f"action.{key}"] = np.asarray(value, dtype=np.float64).reshape(-1)
    described["dtype"] = str(np.result_type(space.dtype, np.float32))  # as SB3's clip and rescaling give
    return {"kind": "box", **described, "squash": parts.squash, "rescale": parts.half_range is not None}
