"""The smoothness of an actor on some observations, in milliseconds, under the names of the scheme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

from lipsrl.actors import ActorParts, actor_parts
from lipsrl.actors.normalization import observation_chain
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates import jacobians, quick_bound
from lipsrl.layers import GrowingGains, LipschitzLayer
from lipsrl.layers._plain import Residual
from lipsrl.layers.product import product_bound
from lipsrl.metrics import saturation
from lipsrl.policies._front import entries, flatten
from lipsrl.policies._unwrapped import policy_of

#: Entries of all Jacobians together: memory and time ask for a limit where observations are images.
MOST_ENTRIES = 2**22


def read(model: BaseAlgorithm) -> Pipeline:
    """The actor as it is now. The policy stays in the mode that it is in.

    Raises:
        ValueError: a part of it has no plain form, or its weights are not finite.
    """
    training = policy_of(model).training
    try:
        env = model.get_env()
        near = env is not None and isinstance(
            env.unwrapped, DummyVecEnv
        )  # others are processes: leave them alone
        return Pipeline.of(model, observation_chain(model, inside=near), actor_parts(model))
    finally:
        policy_of(model).set_training_mode(training)


def bounds(pipeline: Pipeline) -> dict[str, float]:
    """What holds for all observations.

    Raises:
        ValueError: an activation whose slope is not known.
    """
    bound = quick_bound(pipeline).value
    found = {"lipschitz_bound": bound}
    if not pipeline.chain.notes:  # otherwise there is a gain that is not counted
        found["raw_lipschitz_bound"] = bound * float((pipeline.gain / pipeline.input_scale).max())
    constrained = pipeline.parts.constrained
    if constrained is not None and constrained.norm == "l2":
        found["promise"] = constrained.bound
    norms, shares = layer_norms(pipeline.parts, pipeline.front.tail)
    found |= {f"layer_norm/{i}": norm for i, norm in enumerate(norms)}
    return found | {f"layer_share/{i}": share for i, share in enumerate(shares)}


def layer_norms(parts: ActorParts, tail: nn.Sequential) -> tuple[list[float], list[float]]:
    """Each layer's own Lipschitz bound; and, of constrained ones, that over what the budget allows it at most.

    Args:
        tail: of a stock actor, from the first linear layer on.
    """
    if parts.constrained is None:
        return [product_bound([m]) for m in tail if isinstance(m, (nn.Linear, Residual))], []
    network = parts.constrained.network
    layers = [m for m in (*network.layers, network.head) if isinstance(m, LipschitzLayer)]
    factors = [1.0] * len(layers)
    if network.shares is not None:
        factors = network.shares.factors(torch.float64).tolist()
    norms = [layer.lipschitz_bound() * factor for layer, factor in zip(layers, factors, strict=True)]
    # growing gains are what a layer uses of its allowance, learned shares move the allowance itself
    moved = [1.0] * len(layers) if isinstance(network.shares, GrowingGains) else factors
    allowed = [layer.bound * factor for layer, factor in zip(layers, moved, strict=True)]
    return norms, [norm / most for norm, most in zip(norms, allowed, strict=True)]


def has_slopes(space: spaces.Space[Any]) -> bool:
    """Whether an observation can move a little: one-hot vectors of discrete values cannot."""
    return any(isinstance(entry, spaces.Box) for entry in entries(space).values())


def on_states(
    pipeline: Pipeline,
    space: spaces.Space[Any],
    observations: Sequence[Any],
    ends: Sequence[bool],
    bound: float,
) -> dict[str, float]:
    """What the actor does on observations that follow each other.

    Args:
        space: of what the policy receives.
        observations: at least two; the newest last.
        ends: for each, whether it is the first one of another episode than the one before.
        bound: sound, to set slopes and margins beside.
    """
    acting = pipeline.acting
    outputs = int(next(m for m in reversed(list(acting.network)) if isinstance(m, nn.Linear)).out_features)
    rows = max(8, MOST_ENTRIES // (len(pipeline.gain) * outputs))
    states = torch.as_tensor(flatten(space, _batch(list(observations)[-rows:])))
    same_episode = ~np.array(list(ends)[-rows:], dtype=np.bool_)[1:]
    scale = torch.as_tensor(pipeline.input_scale)
    half = 1.0 if acting.half_range is None else torch.as_tensor(acting.half_range)

    def mean_action(units: Tensor) -> Tensor:
        return acting.mean(units * scale) * half

    with torch.no_grad():
        actions: NDArray[Any] = mean_action(states / scale).numpy()
    moves = np.linalg.norm(np.diff(actions, axis=0), axis=1)[same_episode]
    found = {"action_fluctuation": _mean(moves)}
    if pipeline.parts.discrete:
        greedy, margin = _greedy(actions, acting.choices)
        found["action_changes"] = _mean((np.diff(greedy, axis=0) != 0).any(axis=1)[same_episode])
        if has_slopes(space):
            found["certified_radius"] = float(np.mean(margin)) / bound if bound > 0 else float("nan")
    elif acting.clip is not None:
        found["saturation"] = saturation(actions, *acting.clip)
    elif acting.half_range is not None:
        found["saturation"] = saturation(actions, -acting.half_range, acting.half_range)
    if has_slopes(space):
        slopes = _spectral_norms(jacobians(mean_action, states / scale))
        found |= {"sensitivity": float(slopes.mean()), "max_sensitivity": float(slopes.max())}
        found["tightness"] = found["max_sensitivity"] / bound if bound > 0 else float("nan")
    return found


def _batch(observations: list[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {key: np.stack([one[key] for one in observations]) for key in observations[0]}
    return np.stack(observations)


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _spectral_norms(matrices: Tensor) -> Tensor:
    """(n, out, in) → (n,), by the smaller Gram matrix: an image has many inputs."""
    if matrices.shape[1] > matrices.shape[2]:
        matrices = matrices.mT
    largest: Tensor = torch.linalg.eigvalsh(matrices @ matrices.mT)[:, -1]
    return largest.clamp_min(0).sqrt()


def _greedy(logits: NDArray[Any], choices: tuple[int, ...] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """The greedy choices (n, actions), and how far (n,) the vector of logits must move in l2 until one changes."""
    if choices is None:  # MultiBinary: each logit by its sign
        return logits > 0, np.abs(logits).min(axis=1)
    groups = np.split(logits, np.cumsum(choices)[:-1], axis=1)
    best = np.stack([group.argmax(axis=1) for group in groups], axis=1)
    gaps = []
    for group in groups:
        if group.shape[1] > 1:
            ordered = np.sort(group, axis=1)
            gaps.append((ordered[:, -1] - ordered[:, -2]) / np.sqrt(2.0))
    return best, np.min(gaps, axis=0) if gaps else np.full(len(logits), np.inf)
