"""``certify``: bound, search, and say what was assumed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.wrappers import NormalizeObservation
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from lipsrl._validation import unknown_name
from lipsrl.certificates._bounds import product_bound, weights_sha256
from lipsrl.certificates._pipeline import Pipeline
from lipsrl.certificates._search import steepest_pair
from lipsrl.certificates.certificate import Certificate, Factor, NetworkBound
from lipsrl.networks import LipschitzMLP
from lipsrl.policies.normalization import NormalizeLike, normalization_of

#: A sensor with a larger normalisation gain than this share of the clip range is called out.
SUSPICIOUS_GAIN = 100.0


def certify(
    model: BaseAlgorithm,
    *,
    norm: str = "l2",
    method: str = "auto",
    vec_normalize: NormalizeLike = None,
    seed: int = 0,
    n_starts: int = 8192,
) -> Certificate:
    """Bound how far the deterministic action of ``model`` moves per unit of its raw observation.

    Works on stock SB3 models (PPO, A2C, SAC, TD3, DDPG, DQN with MLP policies on vector observations) as on
    Lipschitz ones. The policy is put in evaluation mode, as ``predict`` does.

    Args:
        model: an SB3 model.
        norm: ``"l2"``.
        method: ``"construction"`` (Lipschitz policies: the bound of the constrained layers), ``"product"`` (any:
            float64 spectral norms), or ``"auto"``, the smaller of the two.
        vec_normalize: the ``VecNormalize`` the model was trained with, or its file. A model whose environment
            carries one is certified with it.
        seed, n_starts: of the search for the lower bound.

    Raises:
        ValueError: the actor has a part that cannot be bounded, weights that are not finite, a normalisation of
            another size, an unknown norm or method.
    """
    if norm != "l2":
        raise unknown_name("norm", norm, ["l2"])
    if not isinstance(model, BaseAlgorithm):
        raise TypeError(f"model must be a Stable-Baselines3 model, received {type(model).__name__}.")
    statistics = normalization_of(model, vec_normalize)
    pipeline = Pipeline.of(model, statistics)
    bounds = _network_bounds(pipeline, method)
    chosen = min(bounds, key=lambda name: bounds[name])
    upper_network = bounds[chosen]

    sensor_gain = pipeline.gain / pipeline.input_scale
    factors = _factors(pipeline, upper_network, chosen)
    upper = float(np.prod([factor.gain for factor in factors])) * (1 + 1e-15 * len(factors))

    starts, scale = _starts(pipeline, n_starts, seed)
    pair = steepest_pair(pipeline.act, starts, scale, seed=seed, rounding=pipeline.raw_rounding)
    policy_scale = scale * torch.as_tensor(pipeline.gain)
    unit = torch.as_tensor(pipeline.input_scale)
    network_pair = steepest_pair(
        _in_promised_units(pipeline), pipeline.normalise(starts) / unit, policy_scale / unit, seed=seed,
        rounding=lambda x: pipeline.rounding(x * unit, 2e-16 * (x * unit).abs()),
    )  # fmt: skip
    network = NetworkBound(upper_network, network_pair.ratio)
    if pair.ratio > upper or network.lower_bound > upper_network:
        raise AssertionError(
            f"lipsrl found a pair of slope {pair.ratio:.9g} (network {network.lower_bound:.9g}) above its own "
            f"bound {upper:.9g} (network {upper_network:.9g}): a bug in lipsrl, please report it with the model."
        )
    constrained = _promising(pipeline, norm)
    return Certificate(
        upper_bound=upper,
        lower_bound=pair.ratio,
        norm=norm,
        method=chosen,
        factors=tuple(factors),
        network=network,
        per_sensor=tuple(float(g) * upper_network for g in sensor_gain),
        promise=None if constrained is None else constrained.bound,
        algorithm=type(model).__name__,
        policy=f"{type(model.policy).__module__}.{type(model.policy).__qualname__}",
        witness={
            "observation": pair.x.tolist(),
            "observation_prime": pair.x_prime.tolist(),
            "action": pair.y.tolist(),
            "action_prime": pair.y_prime.tolist(),
        },
        assumptions=_assumptions(pipeline),
        warnings=_warnings(pipeline, model),
        weights_sha256=weights_sha256(pipeline.parts.network),
        versions=_versions(),
    )


def _promising(pipeline: Pipeline, norm: str) -> LipschitzMLP | None:
    """The constrained network, if its promise is in ``norm``."""
    constrained = pipeline.parts.constrained
    return constrained if constrained is not None and constrained.norm == norm else None


def _network_bounds(pipeline: Pipeline, method: str) -> dict[str, float]:
    """method → bound of ``observation / input_scale ↦ action`` (before the clip)."""
    constrained = _promising(pipeline, "l2")
    half = pipeline.parts.half_range
    accepted = ["auto", "product", "construction"]
    if method not in accepted:
        raise unknown_name("method", method, accepted)
    bounds: dict[str, float] = {}
    if constrained is not None and method != "product":
        bounds["construction"] = constrained.lipschitz_bound() * _scale_rounding(constrained, half)
    if method == "construction" and constrained is None:
        raise ValueError(
            "method='construction' needs a Lipschitz policy in the same norm; for others use 'product'."
        )
    if method != "construction":
        fold = None if half is None else torch.as_tensor(half)
        scale = float(pipeline.input_scale.max())  # ‖W·diag(s)‖ ≤ ‖W‖·max s
        bounds["product"] = product_bound(pipeline.parts.network, fold) * scale
    return bounds


def _scale_rounding(constrained: LipschitzMLP, half: Any) -> float:
    """What the float32 copy of the action's half range, which the network divides by, is too small by."""
    if half is None or constrained.output_scale is None:
        return 1.0
    return float((half / constrained.output_scale.double().cpu().numpy()).max()) * (1 + 1e-15)


def _in_promised_units(pipeline: Pipeline) -> Any:
    """The network as the promise speaks of it: observation / input_scale ↦ action, before the clip."""
    scale = torch.as_tensor(pipeline.input_scale)
    half = None if pipeline.parts.half_range is None else torch.as_tensor(pipeline.parts.half_range)

    def function(x: Tensor) -> Tensor:
        out: Tensor = pipeline.network(x * scale)
        if pipeline.parts.squash:
            out = torch.tanh(out)
        return out if half is None else out * half

    return function


def _factors(pipeline: Pipeline, network: float, method: str) -> list[Factor]:
    factors = []
    steepest = int((pipeline.gain / pipeline.input_scale).argmax())
    if pipeline.normalised:
        factors.append(
            Factor(
                "vec_normalize",
                float(pipeline.gain[steepest]),
                f"1/sqrt(var + ε) of observation[{steepest}], the steepest sensor; the clip at "
                f"±{pipeline.clip_obs:g} adds nothing",
            )
        )
    if not (pipeline.input_scale == 1).all():
        factors.append(
            Factor(
                "observation_scale",
                float(1 / pipeline.input_scale[steepest]),
                f"1/observation_scale[{steepest}], inside the policy",
            )
        )
    action = pipeline.action_gain
    words = {
        "construction": "bound of the constrained layers, float64, with the rounding of the merged weights",
        "product": "product of float64 spectral norms and activation slopes",
    }
    factors.append(Factor("network", network / action, words[method]))
    if pipeline.parts.discrete:
        factors.append(Factor("action", 1.0, "discrete: the bound is on the vector of logits or Q-values"))
    elif pipeline.parts.half_range is not None:
        squash = "tanh (slope ≤ 1) and " if pipeline.parts.squash else ""
        factors.append(Factor("action", action, f"{squash}rescaling by (high - low)/2"))
    else:
        factors.append(Factor("action", 1.0, "clip to the action space"))
    return factors


def _starts(pipeline: Pipeline, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """(n, obs) raw observations to search from, and the (obs,) scale of each coordinate.

    Half spread over the Box (where it is finite), half around the mean by the standard deviation that the
    normalisation knows; steep places of an agent lie where it was trained.
    """
    rng = np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(1,)))
    deviation = 1.0 / pipeline.gain if pipeline.normalised else pipeline.input_scale
    # gymnasium marks "unbounded" by infinity or by the largest float
    finite = (pipeline.high - pipeline.low) < 1e6
    low = np.where(finite, pipeline.low, pipeline.mean - 3 * deviation)
    high = np.where(finite, pipeline.high, pipeline.mean + 3 * deviation)
    dim = len(low)
    uniform = rng.uniform(low, high, (n // 2, dim))
    normal = pipeline.mean + deviation * rng.standard_normal((n - n // 2, dim)) * rng.uniform(
        0.0, 2.0, (n - n // 2, 1)
    )
    scale = np.minimum((high - low) / 2, 3 * deviation) if pipeline.normalised else (high - low) / 2
    return torch.as_tensor(np.concatenate([uniform, normal])), torch.as_tensor(np.maximum(scale, 1e-6))


def _assumptions(pipeline: Pipeline) -> tuple[str, ...]:
    texts = [
        "deterministic actions (predict(..., deterministic=True)); sampled actions add the policy's own noise",
        "raw observation and action are those at the environment's outermost wrapper inside VecNormalize",
        "real arithmetic over the weights that act (float32 rounding of the forward pass is not counted)",
    ]
    if pipeline.normalised:
        texts.append("the observation statistics of the given VecNormalize, frozen")
    else:
        texts.append(
            "the model receives raw observations: no VecNormalize was given or found around its environment"
        )
    return tuple(texts)


def _inner_normalisation(model: BaseAlgorithm) -> tuple[str, ...]:
    env = model.get_env()
    if env is None or not any(env.env_is_wrapped(NormalizeObservation)):
        return ()
    return (
        "gymnasium's NormalizeObservation is inside the environment: 'raw' means what comes out of it, and its "
        "gain is not counted. Use VecNormalize instead to have raw sensor units certified.",
    )


def _warnings(pipeline: Pipeline, model: BaseAlgorithm) -> tuple[str, ...]:
    inner = _inner_normalisation(model)
    if not pipeline.normalised:
        return inner
    typical = float(np.median(pipeline.gain))
    return inner + tuple(
        f"observation[{i}] hardly varied in training: VecNormalize multiplies it by {gain:.4g}. It dominates the "
        "bound in raw units; drop the coordinate or fix its scale with observation_scale."
        for i, gain in enumerate(pipeline.gain)
        if gain > SUSPICIOUS_GAIN and gain > 10 * typical
    )


def _versions() -> dict[str, str]:
    from importlib import metadata

    names = ("lipsrl", "torch", "stable-baselines3", "gymnasium", "numpy")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # running from a checkout that is not installed
            continue
    return found
