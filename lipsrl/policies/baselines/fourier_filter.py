"""LipsNet++: a learned Fourier filter over the last observations, and a penalty on the Jacobian. No certificate."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from lipsrl._validation import non_negative
from lipsrl.layers._plain import plain_linear
from lipsrl.policies._frames import frame_size
from lipsrl.regularizers import GradientPenalty
from lipsrl.regularizers._ride import ride


class FourierFilter(BaseFeaturesExtractor):
    """Window of frames → the filtered newest frame: FFT over time, times a learned complex kernel, and back.

    Song et al. 2025, "LipsNet++: unifying filter and controller into a policy network" (ICML; public code
    ``xjsong99/LipsNet_v2``), one FFT per sensor. ``weight · Σ|H|²`` draws the kernel to zero; it is added to the
    gradient of the output. The filter is linear in the window, so that it is a FIR filter with the taps that
    :meth:`merge` shows; :class:`lipsrl.policies.fir_filter.FIRFilter` is that filter with a bound.

    Args:
        observation_space: of a ``VecFrameStack`` over vectors.
        n_frames: N.
        weight: of Σ|H|².

    Raises:
        ValueError: the observation is no vector of N frames, or the weight is negative.
    """

    def __init__(self, observation_space: spaces.Space[Any], n_frames: int = 8, weight: float = 1e-4) -> None:
        size = frame_size("FourierFilter", observation_space, n_frames)
        super().__init__(observation_space, size)
        self.n_frames, self.weight = int(n_frames), non_negative("weight", weight)
        with torch.random.fork_rng(devices=[]):  # SB3's own draws stay as they are
            imaginary = 0.02 * torch.randn(self.n_frames // 2 + 1, size)
        self.real = nn.Parameter(torch.ones(self.n_frames // 2 + 1, size))
        self.imaginary = nn.Parameter(imaginary)

    def forward(self, observations: Tensor) -> Tensor:
        """(n, N·d) → (n, d)."""
        filtered = self._filtered(observations)
        if self.training and self.weight and self.real.requires_grad and torch.is_grad_enabled():
            size = self.real.square().sum() + self.imaginary.square().sum()
            filtered = ride(filtered, self.weight * size)
        return filtered

    def _filtered(self, observations: Tensor) -> Tensor:
        window = observations.reshape(len(observations), self.n_frames, -1)
        spectrum = torch.fft.rfft(window, dim=1) * torch.complex(self.real, self.imaginary)
        newest: Tensor = torch.fft.irfft(spectrum, n=self.n_frames, dim=1)[:, -1]
        return newest

    @torch.no_grad()
    def merge(self) -> nn.Sequential:
        """The same as one linear layer."""
        size = self.n_frames * self.features_dim
        eye = torch.eye(size, dtype=self.real.dtype, device=self.real.device)
        return nn.Sequential(plain_linear(self._filtered(eye).T.contiguous(), None))


def lipsnet_plus(
    n_frames: int = 8, *, filter_weight: float = 1e-4, jacobian_weight: float = 0.01
) -> dict[str, Any]:
    """``policy_kwargs`` of LipsNet++ for ``"LipschitzMlpPolicy"`` behind ``VecFrameStack(env, n_frames)``.

    SB3's own networks (``lipschitz_bound=inf``) behind a :class:`FourierFilter`, and E‖∂μ/∂o‖_F² as the penalty on the
    Jacobian: the public code's is on E‖∂μ/∂(filtered o)‖_F. **No certificate**: ``lipsrl.certify`` measures what came
    out.
    """
    return {
        "lipschitz_bound": math.inf,
        "features_extractor_class": FourierFilter,
        "features_extractor_kwargs": {"n_frames": n_frames, "weight": filter_weight},
        "regularizers": [GradientPenalty(jacobian_weight, kind="mean")],
    }
