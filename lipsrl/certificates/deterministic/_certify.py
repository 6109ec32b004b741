"""``certify``: bound, search, and say what was assumed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from torch import Tensor

from lipsrl._validation import positive_finite, unknown_name
from lipsrl.actors.fingerprint import weights_sha256
from lipsrl.actors.normalization import NormalizeLike, observation_chain
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates.bounds._lipsdp import lipsdp_bound
from lipsrl.certificates.bounds._local import local_bounds
from lipsrl.certificates.bounds._search import NORMS, steepest_pair
from lipsrl.certificates.bounds._upper import LARGEST_PROBLEM, SENSOR_GAP, Bound, promising, upper_bounds
from lipsrl.certificates.deterministic.certificate import Certificate, Factor, LocalBounds, NetworkBound
from lipsrl.networks import scale_vector
from lipsrl.policies._unwrapped import policy_of

#: A sensor with a larger normalisation gain than this share of the clip range is called out.
SUSPICIOUS_GAIN = 100.0

#: Each sensor alone gets a semidefinite program of its own where there are at most so many, of at most this size.
MOST_SENSORS, LARGEST_SENSOR_PROBLEM = 32, 300

METHODS = ("auto", "lipsdp", "eclipse-fast", "product", "construction")


def certify(
    model: BaseAlgorithm,
    *,
    norm: str = "l2",
    method: str = "auto",
    vec_normalize: NormalizeLike = None,
    states: Any = None,
    radius: float | None = None,
    sensor_scale: Any = None,
    frame_stack: int | None = None,
    seed: int = 0,
    n_starts: int = 8192,
) -> Certificate:
    """Bound how far the deterministic action of ``model`` moves per unit of its raw observation.

    Works on stock SB3 models (PPO, A2C, SAC, TD3, DDPG, DQN; TRPO, TQC, QRDQN, MaskablePPO, ARS of sb3-contrib) as on
    Lipschitz ones, on vectors, images (per grey level), discrete values (per unit of the one-hot vector) and Dicts of
    those. VecNormalize, gymnasium's NormalizeObservation and VecFrameStack around the model's environment are followed:
    with k stacked frames the bound is per unit that *each* of them may be off by. The policy is put in evaluation
    mode, as ``predict`` does.

    Args:
        model: an SB3 model.
        norm: ``"l2"``, ``"linf"`` or ``"l1"``, of observations and actions alike.
        method: ``"lipsdp"`` (l2, activations that act unit by unit: LipSDP-Neuron, verified in float64),
            ``"eclipse-fast"`` (the same in closed form, looser), ``"construction"`` (Lipschitz policies, in their own
            norm: the bound of the constrained layers), ``"product"`` (any: float64 operator norms), or ``"auto"``, the
            smallest that there is.
        vec_normalize: the ``VecNormalize`` the model was trained with, or its file. A model whose environment
            carries one is certified with it.
        states, radius: raw observations (n, obs) and the l2 radius of a ball around each: bounds that hold inside
            these balls, in :attr:`Certificate.local`.
        sensor_scale: (sensors,) or one number: the unit that a change of each sensor is measured in, such as the
            tolerance on its datasheet; the raw unit if not given. An image is one sensor, and so is a stacked one.
        frame_stack: number of stacked frames, for a model without its environment.
        seed, n_starts: of the search for the lower bound.

    Raises:
        ValueError: the actor has a part that cannot be bounded, weights that are not finite, a normalisation of
            another size, an unknown norm or method, or one that does not fit the model.
    """
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if not isinstance(model, BaseAlgorithm):
        raise TypeError(f"model must be a Stable-Baselines3 model, received {type(model).__name__}.")
    pipeline = Pipeline.of(model, observation_chain(model, vec_normalize, frame_stack))
    unit = _sensor_scale(sensor_scale, pipeline)
    balls = _balls(states, radius, pipeline)
    raw, own = upper_bounds(pipeline, method, norm, torch.as_tensor(unit))
    stacked = pipeline.frame_gain[norm]
    upper = raw.value * stacked * (1 + 1e-15 * (stacked != 1))

    starts, scale = _starts(pipeline, n_starts, seed)
    effort = _effort(len(scale))
    in_units = torch.as_tensor(unit)
    pair = steepest_pair(
        lambda x: pipeline.act(x * in_units), starts / in_units, scale / in_units, seed=seed, norm=norm, **effort,
        # twice: x * unit is rounded as well
        rounding=lambda x: 2 * pipeline.raw_rounding(x * in_units),
    )  # fmt: skip
    policy_scale = scale * torch.as_tensor(pipeline.gain)
    promised = torch.as_tensor(pipeline.input_scale)
    network_pair = steepest_pair(
        _in_promised_units(pipeline), pipeline.normalise(starts) / promised, policy_scale / promised,
        seed=seed, norm=norm, **effort,
        rounding=lambda x: pipeline.rounding(x * promised, 2e-16 * (x * promised).abs()),
    )  # fmt: skip
    network = NetworkBound(own.value, network_pair.ratio)
    lower = pair.ratio * _stack_share(pipeline, (pair.x - pair.x_prime).numpy(), norm)
    if lower > upper or network.lower_bound > own.value:
        raise AssertionError(
            f"lipsrl found a pair of slope {lower:.9g} (network {network.lower_bound:.9g}) above its own "
            f"bound {upper:.9g} (network {own.value:.9g}): a bug in lipsrl, please report it with the model."
        )
    constrained = promising(pipeline, norm)
    return Certificate(
        upper_bound=upper,
        lower_bound=lower,
        norm=norm,
        method=raw.method,
        factors=tuple(_factors(pipeline, raw, own, unit, stacked)),
        network=network,
        per_sensor=tuple(_per_sensor(pipeline, raw, own, unit, stacked)),
        sensors=pipeline.names,
        promise=None if constrained is None else constrained.bound,
        algorithm=type(model).__name__,
        policy=f"{type(policy_of(model)).__module__}.{type(policy_of(model)).__qualname__}",
        witness={
            "observation": (pair.x * in_units).tolist(),
            "observation_prime": (pair.x_prime * in_units).tolist(),
            "action": pair.y.tolist(),
            "action_prime": pair.y_prime.tolist(),
        },
        assumptions=_assumptions(pipeline),
        warnings=_warnings(pipeline) + _left_out(raw, method),
        weights_sha256=weights_sha256(pipeline.parts.network),
        versions=_versions(),
        sensor_scale=None if sensor_scale is None else _by_sensor(pipeline, unit),
        local=None if balls is None else _local(pipeline, *balls, raw, in_units, norm),
    )


def _sensor_scale(value: Any, pipeline: Pipeline) -> np.ndarray:
    """(obs,) unit of each coordinate, float64."""
    size = len(pipeline.names)
    checked = scale_vector("sensor_scale", value, size)
    if checked is None:
        return np.ones(len(pipeline.gain))
    units = np.broadcast_to(np.asarray(value, dtype=np.float64).reshape(-1), (size,))
    each: np.ndarray = units[pipeline.sensors]
    return each


def _by_sensor(pipeline: Pipeline, unit: np.ndarray) -> tuple[float, ...]:
    return tuple(float(unit[np.argmax(pipeline.sensors == i)]) for i in range(len(pipeline.names)))


def _stack_share(pipeline: Pipeline, change: np.ndarray, norm: str) -> float:
    """How much longer ``change`` is as one vector than as a stack of frames that are off side by side."""
    if pipeline.chain.frames == 1:
        return 1.0
    order = {"l2": 2, "linf": np.inf, "l1": 1}[norm]
    return float(np.linalg.norm(change, ord=order)) / pipeline.frame_sizes(change, norm) * (1 - 1e-12)


#: Coordinates times starts, and times ascended pairs, of one search.
STARTS, ASCENDED = 2_000_000, 20_000


def _effort(dim: int) -> dict[str, int]:
    """Smaller searches where each evaluation is that of an image."""
    if dim <= 1000:
        return {}
    return {"keep": max(4, ASCENDED // dim), "rounds": 6, "steps": 40}


def _balls(states: Any, radius: Any, pipeline: Pipeline) -> tuple[torch.Tensor, float] | None:
    """Checked centres and radius of the local bounds.

    Raises:
        ValueError: only one of the two was given, or they are out of range.
    """
    if (states is None) != (radius is None):
        raise ValueError(
            f"states and radius belong together: local bounds hold in a ball around each state. Received "
            f"states={'None' if states is None else 'an array'}, radius={radius!r}."
        )
    if states is None:
        return None
    centres = np.asarray(states, dtype=np.float64)
    size = len(pipeline.gain)
    if centres.ndim == 1:
        centres = centres.reshape(1, -1)
    centres = centres.reshape(len(centres), -1)
    if centres.shape[1] != size or not len(centres) or not np.isfinite(centres).all():
        raise ValueError(
            f"states must be finite raw observations of shape (n, {size}), received shape {np.shape(states)}."
        )
    return torch.as_tensor(centres), positive_finite("radius", radius)


def _local(
    pipeline: Pipeline, states: torch.Tensor, radius: float, raw: Bound, unit: torch.Tensor, norm: str
) -> LocalBounds:
    if norm != "l2":
        raise ValueError(f"local bounds are in l2 only, received norm={norm!r}.")
    values = local_bounds(pipeline, states, radius, raw.value, unit) * pipeline.frame_gain["l2"]
    return LocalBounds(radius, tuple(values.tolist()))


def _per_sensor(pipeline: Pipeline, raw: Bound, own: Bound, unit: np.ndarray, stacked: float) -> list[float]:
    """For each sensor alone (in all frames), the smallest bound at hand."""
    gain = pipeline.gain / pipeline.input_scale * unit
    n = len(pipeline.names)
    steepest = [float(gain[pipeline.sensors == i].max()) for i in range(n)]
    bounds = [min(raw.value, g * own.value * (1 + 1e-15)) for g in steepest]
    owners = pipeline.front.owners(torch.as_tensor(pipeline.sensors))
    columns = [torch.nonzero(owners == i).reshape(-1) for i in range(n)]
    # an image's pixels and a sensor's frames act together
    if raw.ellipsoid is not None and not bool((owners < 0).any()):
        each = torch.tensor(raw.ellipsoid.per_input, dtype=torch.float64)
        bounds = [min(b, float(each[c].norm()) * (1 + 1e-14)) for b, c in zip(bounds, columns, strict=True)]
    chain = raw.chain
    fits = chain is not None and n <= MOST_SENSORS and chain.size <= LARGEST_SENSOR_PROBLEM
    if chain is not None and fits and not bool((owners < 0).any()):
        for i, column in enumerate(columns):
            alone = lipsdp_bound(chain.of_inputs(column), gap=SENSOR_GAP)
            if alone is not None:
                bounds[i] = min(bounds[i], alone.lipschitz)
    return [bound * stacked for bound in bounds]


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


_WORDS = {
    "construction": "bound of the constrained layers, float64, with the rounding of the merged weights",
    "product": "product of float64 operator norms and activation slopes",
    "lipsdp": "LipSDP-Neuron, verified by a float64 Cholesky factorisation",
    "eclipse-fast": "ECLipsE-Fast, verified by a float64 Cholesky factorisation",
}


def _factors(pipeline: Pipeline, raw: Bound, own: Bound, unit: np.ndarray, stacked: float) -> list[Factor]:
    factors = []
    steepest = int((pipeline.gain / pipeline.input_scale * unit).argmax())
    sensor = pipeline.names[pipeline.sensors[steepest]]
    gain = float(pipeline.gain[steepest])
    if not (unit == 1).all():
        factors.append(Factor("sensor_scale", float(unit[steepest]), f"unit of {sensor}"))
    if pipeline.chain.inner is not None:
        inner = pipeline.chain.inner[1]
        inside = float(np.tile(inner, pipeline.chain.frames)[steepest])
        factors.append(
            Factor("normalize_observation", inside, f"1/sqrt(var + ε) of {sensor}, inside the environment")
        )
        gain /= inside
    if pipeline.normalised:
        clip = float(pipeline.limit[steepest])
        factors.append(
            Factor(
                "vec_normalize",
                gain,
                f"1/sqrt(var + ε) of {sensor}, the steepest; the clip at ±{clip:g} adds nothing",
            )
        )
    if pipeline.chain.frames > 1:
        frames = pipeline.chain.frames
        factors.append(
            Factor(
                "frame_stack", stacked,
                f"each of the {frames} stacked frames may be off by a unit at once; one frame alone: divide by this",
            )
        )  # fmt: skip
    if not (pipeline.input_scale == 1).all():
        factors.append(
            Factor(
                "observation_scale",
                float(1 / pipeline.input_scale[steepest]),
                f"1/observation_scale of {sensor}, inside the policy",
            )
        )
    action = pipeline.action_gain
    factors.append(Factor("network", own.value / action, _WORDS[own.method]))
    if pipeline.parts.discrete:
        factors.append(Factor("action", 1.0, "discrete: the bound is on the vector of logits or Q-values"))
    elif pipeline.parts.half_range is not None:
        squash = "tanh (slope ≤ 1) and " if pipeline.parts.squash else ""
        factors.append(Factor("action", action, f"{squash}rescaling by (high - low)/2"))
    else:
        factors.append(Factor("action", 1.0, "clip to the action space"))
    product = float(np.prod([factor.gain for factor in factors]))
    bound = raw.value * stacked
    if product > 0 and bound < product * (1 - 1e-12):
        factors.append(
            Factor(
                "folding",
                bound / product,
                f"the gains folded into the first and last weights ({_WORDS[raw.method]}): the steepest sensor is "
                "not the network's steepest direction",
            )
        )
    return factors


def _starts(pipeline: Pipeline, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """(n, obs) raw observations to search from, and the (obs,) scale of each coordinate.

    Half spread over the Box (where it is finite), half around the mean by the standard deviation that the
    normalisation knows; steep places of an agent lie where it was trained.
    """
    n = max(32, min(n, STARTS // len(pipeline.gain)))
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
    spaces_found = {type(space).__name__ for space in pipeline.spaces}
    if any(is_image_space(space) for space in pipeline.spaces):
        texts.append("images are measured in grey levels (0 to 255)")
    if spaces_found & {"Discrete", "MultiDiscrete"}:
        texts.append("discrete observations are one-hot vectors: two different values are √2 apart")
    if pipeline.chain.inner is not None:
        texts.append("the statistics of the NormalizeObservation inside the environment, frozen")
    if pipeline.normalised:
        texts.append("the observation statistics of the given VecNormalize, frozen")
    else:
        texts.append(
            "the model receives raw observations: no VecNormalize was given or found around its environment"
        )
    return tuple(texts)


def _warnings(pipeline: Pipeline) -> tuple[str, ...]:
    if not pipeline.normalised:
        return pipeline.chain.notes
    typical = float(np.median(pipeline.gain))
    suspicious: dict[str, float] = {}
    for i, gain in enumerate(pipeline.gain):
        if gain > SUSPICIOUS_GAIN and gain > 10 * typical:
            suspicious[pipeline.names[pipeline.sensors[i]]] = float(gain)
    return pipeline.chain.notes + tuple(
        f"{sensor} hardly varied in training: VecNormalize multiplies it by {gain:.4g}. It dominates the "
        "bound in raw units; drop the coordinate or fix its scale with observation_scale."
        for sensor, gain in suspicious.items()
    )


def _left_out(raw: Bound, method: str) -> tuple[str, ...]:
    """What "auto" did not try."""
    if method != "auto" or raw.chain is None or raw.chain.size <= LARGEST_PROBLEM:
        return ()
    return (
        f"LipSDP was left out: it is for at most {LARGEST_PROBLEM} inputs and units, this network has "
        f"{raw.chain.size}. ECLipsE-Fast, which is looser, was tried in its place.",
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
