"""Gaussian policies: how far the distribution of the sampled action moves when the sensors are off.

The formulas, with their assumptions, are in docs/stochastic-certificates.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from lipsrl._digits import rounded_up
from lipsrl._validation import positive_finite
from lipsrl.actors import ActorParts
from lipsrl.actors.acting import sampling_varies, std_of
from lipsrl.actors.normalization import NormalizeLike, ObservationChain
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates._entry import entry_chain
from lipsrl.certificates._saved import Saved
from lipsrl.certificates.bounds._folding import BoundFunction, output_bound, tightest_bound
from lipsrl.layers._linalg import EPS64


@dataclass(frozen=True)
class ActionDivergence(Saved):
    """How far the distribution of the sampled action moves when the observation moves by at most ``epsilon``.

    Holds for the Gaussian before the clip to the action space and for the clipped action: clipping is the same map
    for both distributions (data processing), and moves no two actions apart.

    Attributes:
        epsilon: largest ‖Δobservation‖, raw units.
        norm: of the observation, ``"l2"`` or ``"linf"``.
        whitened_bound: upper bound of the Lipschitz constant of ``Σ^(-1/2) μ``, per unit of the raw observation.
        mean_bound: of the mean action μ, l2 in the environment's units.
        sigma: (act,) the policy's standard deviations.
    """

    title: ClassVar[str] = "action divergence"
    schema_version: ClassVar[int] = 1

    epsilon: float
    norm: str
    whitened_bound: float
    mean_bound: float
    sigma: tuple[float, ...]

    @property
    def kl(self) -> float:
        """Upper bound of the Kullback–Leibler divergence, either way around, in nats: ‖Σ^(-1/2)Δμ‖²/2."""
        return (self.whitened_bound * self.epsilon) ** 2 / 2 * (1 + 4 * EPS64)

    @property
    def total_variation(self) -> float:
        """Upper bound of the total variation distance: 2Φ(‖Σ^(-1/2)Δμ‖/2) - 1."""
        shift = self.whitened_bound * self.epsilon
        return min(math.erf(shift / math.sqrt(8.0)) * (1 + 16 * EPS64), 1.0)

    @property
    def wasserstein(self) -> float:
        """Upper bound of the 2-Wasserstein distance, in the environment's action units: ‖Δμ‖₂."""
        return self.mean_bound * self.epsilon * (1 + 2 * EPS64)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "schema_version": self.schema_version,
            "epsilon": self.epsilon,
            "norm": self.norm,
            "whitened_bound": self.whitened_bound,
            "mean_bound": self.mean_bound,
            "sigma": list(self.sigma),
            "kl": self.kl,
            "total_variation": self.total_variation,
            "wasserstein": self.wasserstein,
        }

    @classmethod
    def _from_checked(cls, data: Mapping[str, Any]) -> Self:
        sigma = tuple(data["sigma"])
        return cls(data["epsilon"], data["norm"], data["whitened_bound"], data["mean_bound"], sigma)

    def __str__(self) -> str:
        return (
            f"Sampled actions when the raw observation moves by at most {self.epsilon:g} ({self.norm} norm)\n"
            f"  KL divergence    ≤ {rounded_up(self.kl)} nats\n"
            f"  total variation  ≤ {rounded_up(self.total_variation)}\n"
            f"  2-Wasserstein    ≤ {rounded_up(self.wasserstein)} action units\n"
            f"  because Σ^(-1/2)μ moves by at most {rounded_up(self.whitened_bound)}, μ by "
            f"{rounded_up(self.mean_bound)} per unit; "
            f"σ = {', '.join(f'{s:.4g}' for s in self.sigma)}"
        )


def action_divergence(
    model: BaseAlgorithm,
    epsilon: float,
    vec_normalize: NormalizeLike = None,
    *,
    norm: str = "l2",
    frame_stack: int | None = None,
    network_bound: BoundFunction = tightest_bound,
    _parts: ActorParts | None = None,
) -> ActionDivergence:
    """Bound KL, total variation and W₂ between the action distributions of two observations ``epsilon`` apart.

    For Gaussians of the same covariance Σ all three are functions of ``Δμ``. Both constants are bounded with the
    gains of VecNormalize in the network's first weights and 1/σ in its last.

    Args:
        model: PPO or A2C (any SB3 actor-critic) with continuous actions and one σ per action dimension.
        epsilon: largest distance of the observations, > 0, in raw units.
        vec_normalize: as in :func:`lipsrl.certify`.
        norm: of that distance, ``"l2"`` or ``"linf"``.
        frame_stack: as in :func:`lipsrl.certify`; ``epsilon`` is of each frame.
        network_bound: a sound bound of the l2 Lipschitz constant of a plain float64 network.

    Raises:
        TypeError: no SB3 model.
        ValueError: a policy whose σ depends on the state (gSDE, SAC, TQC), that does not sample from a Gaussian, or
            that cannot be bounded.
    """
    size = positive_finite("epsilon", epsilon)
    policy = GaussianPolicy.of(model, entry_chain(model, vec_normalize, frame_stack), _parts)
    mean = policy.mean_bound(norm, network_bound)
    whitened = policy.whitened_bound(norm, network_bound)
    return ActionDivergence(size, norm, whitened, mean, tuple(policy.sigma.tolist()))


@dataclass(frozen=True, eq=False)
class GaussianPolicy:
    """``a ~ N(μ(observation), diag σ²)`` with one σ (act,) for all observations."""

    pipeline: Pipeline
    sigma: Tensor

    @classmethod
    def of(
        cls, model: BaseAlgorithm, chain: ObservationChain, parts: ActorParts | None = None
    ) -> GaussianPolicy:
        """Read ``model``.

        Args:
            parts: of it, if they are at hand.

        Raises:
            TypeError, ValueError: as :func:`action_divergence`.
        """
        why = sampling_varies(model)
        if why:
            raise ValueError(
                f"{type(model).__name__} has no certificate for sampled actions: {why}. Supported: PPO and A2C with "
                "continuous actions and use_sde=False, whose σ is one parameter per action dimension."
            )
        sigma, _ = std_of(model)
        assert sigma is not None
        if not bool((torch.isfinite(sigma) & (sigma > 0)).all()):
            raise ValueError(f"σ of the policy must be finite and > 0, received {sigma.tolist()}.")
        return cls(Pipeline.of(model, chain, parts), sigma)

    def mean_bound(self, norm: str, network_bound: BoundFunction) -> float:
        """Upper bound of the Lipschitz constant of μ (l2) per unit of the raw observation (``norm``)."""
        return output_bound(self.pipeline, torch.diag(torch.ones_like(self.sigma)), norm, network_bound)

    def whitened_bound(self, norm: str, network_bound: BoundFunction) -> float:
        """The same for ``Σ^(-1/2) μ``."""
        return output_bound(self.pipeline, torch.diag(1.0 / self.sigma), norm, network_bound)
