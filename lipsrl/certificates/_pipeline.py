"""The whole map from raw observation to environment action, in float64, with its gains named."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from lipsrl.policies import ActorParts, actor_parts
from lipsrl.policies._rounding import rounding_error
from lipsrl.policies.normalization import check_dimension, observation_gains


@dataclass(frozen=True)
class Pipeline:
    """raw observation → VecNormalize → network → squash → action, as certified.

    Attributes:
        parts: the actor; its network is kept as it acts (float32).
        network: the same network in float64.
        mean, gain, clip_obs: of the observation normalisation; gain is (obs,), in 1/raw unit.
        input_scale: (obs,) scale inside the policy that the promise is stated in; ones if there is none.
        low, high: (obs,) Box of raw observations; infinite where the space is.
    """

    parts: ActorParts
    network: nn.Sequential
    mean: np.ndarray
    gain: np.ndarray
    clip_obs: float
    input_scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    normalised: bool

    @classmethod
    def of(cls, model: BaseAlgorithm, vec_normalize: VecNormalize | None) -> Pipeline:
        """Read ``model``.

        Raises:
            ValueError: a part of the actor has no plain form, the weights are not finite, or the normalisation
                is of another size.
        """
        parts = actor_parts(model)
        space = model.observation_space
        assert isinstance(space, spaces.Box)  # actor_parts refuses all others
        dim = int(np.prod(space.shape))
        if vec_normalize is not None:
            check_dimension(vec_normalize, dim, "the model")
        mean, gain, clip = observation_gains(vec_normalize, dim)
        for name, parameter in parts.network.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise ValueError(
                    f"The actor's weights {name} hold NaN or infinite values, so nothing can be certified. "
                    "Load a checkpoint from before the training diverged."
                )
        constrained = parts.constrained
        scale = np.ones(dim)
        if constrained is not None and constrained.input_scale is not None:
            scale = constrained.input_scale.double().cpu().numpy()
        network = nn.Sequential(*[_double(module) for module in parts.network])
        low, high = (np.asarray(b, dtype=np.float64).reshape(-1) for b in (space.low, space.high))
        normalised = vec_normalize is not None and vec_normalize.norm_obs
        return cls(parts, network, mean, gain, clip, scale, low, high, normalised)

    @property
    def action_gain(self) -> float:
        """Largest factor between the network's output and the action; 1 where the network speaks action units."""
        half = self.parts.half_range
        return 1.0 if half is None or half.max() == 0 else float(half.max())

    def normalise(self, raw: Tensor) -> Tensor:
        """(n, obs) raw observations → what the policy receives."""
        centred = (raw - torch.as_tensor(self.mean)) * torch.as_tensor(self.gain)
        return centred.clamp(-self.clip_obs, self.clip_obs)

    def rounding(self, policy_input: Tensor, error: Tensor) -> Tensor:
        """(n,) bound of ‖float64 rounding error‖ of the action, for an input (n, obs) that has ``error`` (n, obs)."""
        eps = torch.finfo(torch.float64).eps
        _, error = rounding_error(self.network, policy_input, error, eps)
        if self.parts.squash:
            error = error.clamp(max=2.0) + 4 * eps
        if self.parts.half_range is not None and self.parts.centre is not None:
            half, centre = torch.as_tensor(self.parts.half_range), torch.as_tensor(self.parts.centre)
            error = error * half + 4 * eps * (half + centre.abs())
        size: Tensor = error.norm(dim=1)
        return size

    def raw_rounding(self, raw: Tensor) -> Tensor:
        """:meth:`rounding` of :meth:`act`. Both ends of a pair share the statistics, whose own rounding cancels."""
        mean, gain = torch.as_tensor(self.mean), torch.as_tensor(self.gain)
        eps = torch.finfo(torch.float64).eps
        seen = self.normalise(raw)
        error = 2 * eps * ((raw.abs() + mean.abs()) * gain) + 2 * eps * seen.abs()
        return self.rounding(seen, error)

    def act(self, raw: Tensor) -> Tensor:
        """(n, obs) raw observations → (n, act) actions that the environment receives (logits if discrete)."""
        out: Tensor = self.network(self.normalise(raw))
        if self.parts.squash:
            out = torch.tanh(out)
        if self.parts.half_range is not None and self.parts.centre is not None:
            out = out * torch.as_tensor(self.parts.half_range) + torch.as_tensor(self.parts.centre)
        if self.parts.clip is not None:
            low, high = self.parts.clip
            out = out.clamp(torch.as_tensor(low), torch.as_tensor(high))
        return out


def _double(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).double().requires_grad_(False)
