"""How probable a return stays when an adversary moves what the policy sees.

The derivation, with its assumptions, is docs/stochastic-certificates.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl._validation import positive_finite, positive_int
from lipsrl.actors import ActorParts
from lipsrl.actors.fingerprint import weights_sha256
from lipsrl.actors.normalization import NormalizeLike, normalization_of
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates._clean_episodes import SLOTS, EnvLike, environments, sampled_returns, step_limit
from lipsrl.certificates._entry import entry_chain, entry_in_words
from lipsrl.certificates._saved import Saved
from lipsrl.certificates.bounds._folding import BoundFunction, tightest_bound
from lipsrl.certificates.stochastic._probability import (
    attacked_probability,
    clopper_pearson_lower,
    dkw_margin,
)
from lipsrl.certificates.stochastic.divergence import GaussianPolicy
from lipsrl.layers._linalg import EPS64

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ReturnQuantileCertificate(Saved):
    """How probable a return stays under any adversary at the sensors, as a function of the return.

    With probability ``confidence`` over the clean episodes, :meth:`probability` holds for all r at once, for every
    adversary that chooses ``‖δ_t‖ ≤ epsilon`` from all that has happened before the action is sampled.

    Attributes:
        epsilon, norm: the adversary's budget at each step, raw units.
        horizon: T, the most steps that an episode can have.
        whitened_bound: K, upper bound of the Lipschitz constant of ``Σ^(-1/2) μ``.
        sigma: (act,).
        confidence: 1 - α.
        returns: (n,) of clean episodes with sampled actions, ascending.
        algorithm, weights_sha256: whose actions these are.
        assumptions: in words.
    """

    title: ClassVar[str] = "return quantile certificate"
    schema_version: ClassVar[int] = 1

    epsilon: float
    norm: str
    horizon: int
    whitened_bound: float
    sigma: tuple[float, ...]
    confidence: float
    returns: Array
    algorithm: str
    weights_sha256: str
    assumptions: tuple[str, ...]

    @property
    def mu(self) -> float:
        """``√T·K·ε``: how far, in standard deviations of the best test, an episode under attack can be told apart."""
        return math.sqrt(self.horizon) * self.whitened_bound * self.epsilon * (1 + 8 * EPS64)

    def clean_frequency(self, r: ArrayLike) -> Array:
        """Share of the clean episodes with return ≥ r."""
        return np.asarray(1.0 - np.searchsorted(self.returns, r, side="left") / len(self.returns))

    def probability(self, r: ArrayLike) -> Array:
        """Lower bound of P(R ≥ r) under attack, for all r at once: r may be chosen after looking (DKW)."""
        clean = np.maximum(self.clean_frequency(r) - dkw_margin(len(self.returns), self.confidence), 0.0)
        return attacked_probability(clean, self.mu)

    def probability_at(self, r: float) -> float:
        """Lower bound of P(R ≥ r) under attack for one r that was fixed before the episodes (Clopper–Pearson).

        Never below :meth:`probability`, and far above it where nearly all episodes reach r.
        """
        n = len(self.returns)
        reached = n - int(np.searchsorted(self.returns, r, side="left"))
        return float(attacked_probability(clopper_pearson_lower(reached, n, self.confidence), self.mu))

    def quantile(self, probability: float) -> float:
        """The largest return r seen for which :meth:`probability` says at least this; -∞ if there is none.

        Raises:
            ValueError: not in (0, 1).
        """
        level = _open_unit("probability", probability)
        certified = self.returns[self.probability(self.returns) >= level]
        return float(certified[-1]) if certified.size else -math.inf

    def largest_epsilon(self, r: float, probability: float) -> float:
        """The largest budget under which :meth:`probability` of r stays at least this; 0 if no budget does.

        Raises:
            ValueError: not in (0, 1).
        """
        level = _open_unit("probability", probability)
        clean = self.clean_frequency(r) - dkw_margin(len(self.returns), self.confidence)
        if clean <= level:
            return 0.0
        slack = float(ndtri(clean) - ndtri(level))
        return slack * self.epsilon / self.mu if self.mu > 0 else math.inf

    def curve(self) -> tuple[Array, Array]:
        """The returns seen, ascending without repetition, and the certified probability to reach each."""
        seen = np.unique(self.returns)
        return seen, self.probability(seen)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        seen, certified = self.curve()
        return {
            "schema_version": self.schema_version,
            "epsilon": self.epsilon,
            "norm": self.norm,
            "horizon": self.horizon,
            "whitened_bound": self.whitened_bound,
            "sigma": list(self.sigma),
            "mu": self.mu,
            "confidence": self.confidence,
            "returns": self.returns.tolist(),
            "curve": {
                "return": seen.tolist(),
                "clean": self.clean_frequency(seen).tolist(),
                "certified": certified.tolist(),
            },
            "algorithm": self.algorithm,
            "weights_sha256": self.weights_sha256,
            "assumptions": list(self.assumptions),
        }

    @classmethod
    def _from_checked(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            epsilon=data["epsilon"],
            norm=data["norm"],
            horizon=data["horizon"],
            whitened_bound=data["whitened_bound"],
            sigma=tuple(data["sigma"]),
            confidence=data["confidence"],
            returns=np.array(data["returns"], dtype=np.float64),
            algorithm=data["algorithm"],
            weights_sha256=data["weights_sha256"],
            assumptions=tuple(data["assumptions"]),
        )

    def __str__(self) -> str:
        lines = [
            f"Return under attack, {self.algorithm} with sampled actions: any adversary that moves the raw observation "
            f"by at most {self.epsilon:g} ({self.norm}) at each of {self.horizon} steps",
            f"  μ = √T·K·ε = {self.mu:.4g}   (K = {self.whitened_bound:.4g} of Σ^(-1/2)μ), "
            f"{len(self.returns)} clean episodes, confidence {self.confidence:g}",
            "  return ≥ r       clean   certified",
        ]
        for r in np.unique(np.quantile(self.returns, [0.0, 0.05, 0.1, 0.25, 0.5], method="lower")):
            lines.append(
                f"  {r:<14.6g} {float(self.clean_frequency(r)):7.1%} {float(self.probability(r)):11.2%}"
            )
        return "\n".join(lines + [f"  assumes      {text}" for text in self.assumptions])


def return_quantile_certificate(
    model: BaseAlgorithm,
    env: EnvLike | None = None,
    *,
    epsilon: float,
    returns: ArrayLike | None = None,
    n_episodes: int = 200,
    horizon: int | None = None,
    confidence: float = 0.95,
    vec_normalize: NormalizeLike = None,
    frame_stack: int | None = None,
    norm: str = "l2",
    network_bound: BoundFunction = tightest_bound,
    seed: int = 0,
    _parts: ActorParts | None = None,
) -> ReturnQuantileCertificate:
    """Certify ``P_attack(R ≥ r) ≥ Φ(Φ⁻¹(P_clean(R ≥ r)) - √T·K·ε)`` for the *sampled* actions of ``model``.

    The policy's own noise hides what the adversary does: an episode of at most T steps is a composition of T
    Gaussian mechanisms, whatever the adversary makes its choices depend on (docs/stochastic-certificates.md).
    Deterministic execution has no such certificate.

    Args:
        model: PPO or A2C (any SB3 actor-critic) with continuous actions and one σ per action dimension.
        env: an id, a zero-argument factory or a ``gymnasium.Env`` without VecNormalize. Clean episodes are run in it
            with sampled actions, and the reward is the environment's own. Not needed with ``returns`` and ``horizon``.
        epsilon: the adversary's budget ‖δ_t‖ at every step, > 0, raw units.
        returns: (n,) of independent clean episodes with sampled actions and this very normalisation, frozen;
            instead of running ``n_episodes``.
        horizon: T. By default the environment's ``TimeLimit``; if smaller, R is the reward of the first T steps.
        confidence: 1 - α of the finite sample, in [0.5, 1).
        vec_normalize: as in :func:`lipsrl.certify`; no longer training.
        frame_stack: as in :func:`lipsrl.certify`; ``epsilon`` is of each frame, and ``returns`` must be given.
        norm: of δ_t, ``"l2"`` or ``"linf"``.
        network_bound: a sound bound of the l2 Lipschitz constant of a plain float64 network.
        seed: of the episodes.

    Raises:
        TypeError: no SB3 model, or an ``env`` of another kind.
        ValueError: as :func:`action_divergence`; an episode length that is not bounded; statistics that are still
            being updated; spaces that do not fit; returns that are no finite vector.
    """
    budget = positive_finite("epsilon", epsilon)
    level = _open_unit("confidence", confidence)
    if level < 0.5:
        raise ValueError(f"confidence must be in [0.5, 1), received {confidence!r}.")
    episodes = positive_int("n_episodes", n_episodes)
    statistics = _frozen(normalization_of(model, vec_normalize), vec_normalize)
    policy = GaussianPolicy.of(model, entry_chain(model, vec_normalize, frame_stack), _parts)
    if env is None:
        if returns is None:
            raise ValueError(
                "Give env, to run clean episodes in, or the returns of clean episodes with sampled actions."
            )
        limit = step_limit([], horizon)
    else:
        with environments(env, SLOTS if returns is None else 1, model) as made:
            limit = step_limit(made, horizon)
            if returns is None:
                returns = sampled_returns(model, made, statistics, limit, episodes, seed)
    sample = np.asarray(returns, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(
            f"returns must be finite and of shape (n,) with n > 0, received shape {sample.shape}."
        )
    return ReturnQuantileCertificate(
        epsilon=budget,
        norm=norm,
        horizon=limit,
        whitened_bound=policy.whitened_bound(norm, network_bound),
        sigma=tuple(policy.sigma.tolist()),
        confidence=level,
        returns=np.sort(sample),
        algorithm=type(model).__name__,
        weights_sha256=weights_sha256(policy.pipeline.parts.network),
        assumptions=_assumptions(policy.pipeline, limit),
    )


def _open_unit(argument: str, value: float) -> float:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{argument} must be in (0, 1), received {value!r}.")
    return float(value)


def _frozen(statistics: VecNormalize | None, given: NormalizeLike) -> VecNormalize | None:
    """``statistics`` if nothing updates them any more; those of a file nobody does."""
    if (
        statistics is None
        or isinstance(given, (str, Path))
        or not (statistics.norm_obs and statistics.training)
    ):
        return statistics
    raise ValueError(
        "VecNormalize is still updating its statistics (training=True), so the policy would change with what the "
        "adversary shows it. Set vec_normalize.training = False (model.get_vec_normalize_env().training = False)."
    )


def _assumptions(pipeline: Pipeline, horizon: int) -> tuple[str, ...]:
    return (
        "actions are sampled (predict(..., deterministic=False)); deterministic execution is not covered",
        f"the adversary adds δ_t to the observation as it enters {entry_in_words(pipeline)}; it knows everything up "
        "to that step and the environment's future, but not the policy's coming noise, and changes neither the state "
        "nor the action",
        f"an episode has at most {horizon} steps, under attack too",
        "the clean episodes are independent, and of the environment that is attacked",
        "real arithmetic over the weights that act; the sampled noise is Gaussian",
    )
