"""What identifies a policy and an environment, so that stored results are only used for what they belong to."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import types
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from lipsrl.actors.frames import frames_of
from lipsrl.actors.normalization import NormalizeLike, normalization_of
from lipsrl.policies._unwrapped import policy_of

#: settings of a policy that no action depends on
_FOR_TRAINING = ("lr_schedule", "optimizer_class", "optimizer_kwargs")


def model_fingerprint(
    model: Any, vec_normalize: NormalizeLike = None, frame_stack: int | None = None
) -> str | None:
    """SHA-256 of everything that decides a policy's deterministic action: classes, settings, weights, normalisation.

    The same for a model and for what its zip loads as. `evaluate` records it for every agent
    (`Evaluation.fingerprints`), so a stored evaluation can be recognised as that of a model.

    Args:
        model: as `evaluate`. A callable has a fingerprint if it is a ``nn.Module``, or if it has an attribute
            ``fingerprint`` (a str).
        vec_normalize: as `evaluate`, for one model.
        frame_stack: as `evaluate`, for one model.

    Returns:
        64 hexadecimal digits; None for a callable that cannot be recognised.

    Example:
        >>> from stable_baselines3 import PPO
        >>> from lipsrl.evaluation import model_fingerprint
        >>> model = PPO("MlpPolicy", "Pendulum-v1", seed=0, device="cpu")
        >>> model_fingerprint(model) == model_fingerprint(PPO("MlpPolicy", "Pendulum-v1", seed=0, device="cpu"))
        True
        >>> model_fingerprint(lambda observations: observations) is None
        True
    """
    policy = policy_of(model) if isinstance(model, BaseAlgorithm) else model
    frames = frames_of(model, frame_stack)
    parts: dict[str, Any] = {"class": _name(type(policy)), "frames": frames}
    if isinstance(policy, BasePolicy):
        policy.set_training_mode(False)  # as predict does: the weights that act
        settings = policy._get_constructor_parameters()
        parts["settings"] = _plain({k: v for k, v in settings.items() if k not in _FOR_TRAINING})
        parts["weights"] = weights_sha256(policy)
    elif isinstance(getattr(policy, "fingerprint", None), str):
        parts["fingerprint"] = policy.fingerprint
    elif isinstance(policy, nn.Module):
        parts["modules"] = repr(policy)
        parts["weights"] = weights_sha256(policy)
    else:
        return None
    parts["normalization"] = _normalization(normalization_of(model, vec_normalize))
    return digest(parts)


@torch.no_grad()
def weights_sha256(network: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of a network's weights, in order."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name}:{array.dtype}:{array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def environment_identity(env: gym.Env[Any, Any]) -> dict[str, Any] | None:
    """The specification of an environment and its wrappers; None where it does not have a complete one."""
    spec = env.spec
    if spec is None:
        return None
    wrappers = [(w.entry_point, w.kwargs) for w in spec.additional_wrappers]
    entry = spec.entry_point
    identity = {
        "id": spec.id,
        "entry_point": entry if isinstance(entry, str) else _name(entry),
        "max_episode_steps": spec.max_episode_steps,
        "kwargs": spec.kwargs,
        "wrappers": wrappers,
    }
    try:
        if any(kwargs is None for _, kwargs in wrappers):
            return None
        plain: dict[str, Any] = _plain(identity, strict=True)
    except TypeError:
        return None
    return plain


def digest(parts: Any) -> str:
    """SHA-256 of JSON-ready ``parts``."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _normalization(vec_normalize: VecNormalize | None) -> Any:
    if vec_normalize is None or not vec_normalize.norm_obs:
        return None
    statistics = getattr(vec_normalize, "obs_rms", None)
    by_key = statistics if isinstance(statistics, dict) else {"": statistics}
    moments = {key: [part.mean, part.var] for key, part in by_key.items() if isinstance(part, RunningMeanStd)}
    return _plain([moments, vec_normalize.epsilon, vec_normalize.clip_obs])


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"


def _plain(value: Any, *, strict: bool = False, above: tuple[int, ...] = ()) -> Any:
    """``value`` as JSON that says the same wherever it is made.

    Args:
        value: anything.
        strict: raise a ``TypeError`` for what has no such form of its own (a schedule). Otherwise it is described by
            its class and what it holds.
        above: ids of the objects that hold it.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)  # JSON has no infinities
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return [str(value.dtype), list(value.shape), content]
    if isinstance(value, dict):
        return {str(key): _plain(part, strict=strict, above=above) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part, strict=strict, above=above) for part in value]
    if isinstance(value, type):
        return _name(value)
    if isinstance(value, spaces.Space):
        return repr(value)
    if strict:
        raise TypeError(f"{value!r} has no form that could be compared.")
    return _name(type(value)) if id(value) in above else _described(value, (*above, id(value)))


def _described(value: Any, above: tuple[int, ...]) -> Any:
    """An object by its class and what it holds: ``partial(LeakyReLU, 0.1)`` acts otherwise than with 0.9."""

    def plain(part: Any) -> Any:
        return _plain(part, above=above)

    name = _name(type(value))
    if isinstance(value, functools.partial):
        return [name, plain(value.func), plain(value.args), plain(value.keywords)]
    if isinstance(value, types.MethodType):
        return [name, plain(value.__func__), plain(value.__self__)]
    if isinstance(value, types.FunctionType):
        outer = inspect.getclosurevars(value).nonlocals
        return [
            _name(value),
            _code(value.__code__),
            *map(plain, (value.__defaults__, value.__kwdefaults__, outer)),
        ]
    if isinstance(value, types.BuiltinFunctionType):
        return _name(value)
    if isinstance(value, nn.Module):
        return [name, repr(value), weights_sha256(value)]
    if isinstance(value, torch.Tensor):
        return [name, plain(value.detach().cpu().numpy())]
    if isinstance(value, (torch.dtype, torch.device, bytes)):
        return [name, str(value)]
    if isinstance(value, (set, frozenset)):
        return [name, *sorted(json.dumps(plain(part), sort_keys=True) for part in value)]
    return [name, plain(vars(value))] if getattr(value, "__dict__", None) else name


def _code(code: types.CodeType) -> Any:
    """What a function computes, without where it was written."""
    constants = [_code(one) if isinstance(one, types.CodeType) else _plain(one) for one in code.co_consts]
    return [hashlib.sha256(code.co_code).hexdigest(), list(code.co_names), constants]
