"""A learned FIR filter over the last observations with a bound: LipsNet++'s filter in the form that is certified."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from lipsrl._validation import positive_finite
from lipsrl.layers._plain import plain_linear
from lipsrl.policies._frames import frame_size

#: Room for the rounding of the taps.
_INSIDE = 1 - 1e-6


class FIRFilter(BaseFeaturesExtractor):
    """Window w of frames → the filtered newest frame y, with ``‖y - y′‖₂ ≤ bound · ‖w - w′‖₂``.

    ``y_c = Σ_m h_{m,c} · o_{t-m,c}``: each sensor has taps of its own, so the filter's norm is ``max_c ‖h_c‖₂``, and
    every ``h_c`` that is longer than ``bound`` is scaled to it. In front of a constrained network the whole keeps
    ``lipschitz_bound`` per unit of the window; where the taps have become shorter (an average of 8 frames has
    ‖h‖ = 0.35) the certificate says so::

        PPO("LipschitzMlpPolicy", VecFrameStack(env, 8), policy_kwargs=dict(
            lipschitz_bound=5.0, features_extractor_class=FIRFilter, features_extractor_kwargs=dict(n_frames=8)))

    Args:
        observation_space: of a ``VecFrameStack`` over vectors.
        n_frames: N.
        bound: largest norm > 0.

    Raises:
        ValueError: the observation is no vector of N frames, or the bound is not > 0.
    """

    def __init__(self, observation_space: spaces.Space[Any], n_frames: int = 8, bound: float = 1.0) -> None:
        size = frame_size("FIRFilter", observation_space, n_frames)
        super().__init__(observation_space, size)
        self.n_frames, self.bound = int(n_frames), positive_finite("bound", bound)
        taps = torch.zeros(self.n_frames, size)
        taps[-1] = self.bound  # the newest frame passes
        self.raw_taps = nn.Parameter(taps)

    def taps(self) -> Tensor:
        """(N, d) h, the oldest frame first: no column is longer than ``bound``."""
        norms = torch.linalg.vector_norm(self.raw_taps, dim=0)
        scale: Tensor = self.bound * _INSIDE / norms.clamp(min=self.bound * _INSIDE)
        return self.raw_taps * scale

    def forward(self, observations: Tensor) -> Tensor:
        """(n, N·d) → (n, d)."""
        window = observations.reshape(len(observations), self.n_frames, -1)
        return (window * self.taps()).sum(dim=1)

    @torch.no_grad()
    def lipschitz_bound(self) -> float:
        """``max_c ‖h_c‖₂`` of the taps as they are now, in float64, with room for its rounding."""
        norms = torch.linalg.vector_norm(self.taps().double(), dim=0)
        return float(norms.max()) * (1 + 1e-14)

    @torch.no_grad()
    def merge(self) -> nn.Sequential:
        """The same as one linear layer."""
        blocks = [torch.diag(tap) for tap in self.taps()]
        return nn.Sequential(plain_linear(torch.cat(blocks, dim=1), None))
