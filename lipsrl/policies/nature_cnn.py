"""Lipschitz features extractor for images."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from lipsrl._context import own_precision
from lipsrl._validation import positive_finite, positive_int
from lipsrl.layers import LipschitzLayer
from lipsrl.layers._linalg import EPS64
from lipsrl.layers._plain import plain_linear
from lipsrl.layers.activations import activation_name
from lipsrl.layers.convolution import SpectralConv2d
from lipsrl.layers.spectral import Spectral
from lipsrl.networks._state import WeightKeeper

#: (channels, kernel, stride) of Mnih et al. 2015, "Human-level control through deep reinforcement learning".
ARCHITECTURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))

#: How far inside its set (relative) a layer is put that was outside: room for a few optimizer steps.
SLACK = 0.01


class LipschitzNatureCNN(WeightKeeper, BaseFeaturesExtractor):
    """SB3's ``NatureCNN`` with ``‖f(x) - f(x')‖₂ ≤ lipschitz_bound·‖x - x'‖₂``.

    x is the image as the extractor receives it: SB3 divides uint8 images by 255 before. Three convolutions in the
    spectral ball of radius 1 and a linear layer in that of radius ``lipschitz_bound``; each followed by the
    activation::

        PPO("CnnPolicy", env, policy_kwargs=dict(
            features_extractor_class=LipschitzNatureCNN, features_extractor_kwargs=dict(lipschitz_bound=2.0)))
        project_after_step(model.policy.optimizer, model.policy)

    The train→eval transition projects exactly, and so do saving and loading, and the first forward in eval mode after
    a copy or after a write that torch can tell (``load_from_vector``, ``optimizer.step``, in-place operations). A write
    through ``.data`` in eval mode leaves no trace: follow it by :meth:`project`. :meth:`lipschitz_bound` is always that
    of the weights as they are. Layers that were outside their set are put :data:`SLACK` inside it, so that not every
    transition has to move them.

    Args:
        observation_space: image, channels first, at least 36×36.
        features_dim: length of f(x).
        normalized_image: as in SB3: the image need not be uint8 in [0, 255].
        lipschitz_bound: K > 0.
        activation: key of :data:`lipsrl.layers.ACTIVATIONS` (one that acts on each unit alone), or a torch class.

    Raises:
        ValueError: an argument is out of range, or the observation is no image.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        features_dim: int = 512,
        normalized_image: bool = False,
        lipschitz_bound: float = 1.0,
        activation: str | type[nn.Module] = "relu",
    ) -> None:
        super().__init__(observation_space, positive_int("features_dim", features_dim))
        if not isinstance(observation_space, spaces.Box) or not is_image_space(
            observation_space, check_channels=False, normalized_image=normalized_image
        ):
            raise ValueError(
                f"LipschitzNatureCNN needs an image (uint8 in [0, 255], or any 3-D Box with normalized_image=True), "
                f"received {observation_space}."
            )
        channels, *size = observation_space.shape
        if min(size) < 36:
            raise ValueError(
                f"LipschitzNatureCNN needs images, channels first, of at least 36×36 pixels, received the shape "
                f"{observation_space.shape}. Resize them, for example with gymnasium.wrappers.ResizeObservation."
            )
        height, width = size
        self.bound = positive_finite("lipschitz_bound", lipschitz_bound)
        name = activation_name(activation)
        self.convolutions = nn.ModuleList()
        for out, kernel, stride in ARCHITECTURE:
            conv = SpectralConv2d(channels, out, kernel, stride, activation=name, image_size=(height, width))
            self.convolutions.append(conv)
            assert conv.output_size is not None
            channels, (height, width) = out, conv.output_size
        self.linear = Spectral(channels * height * width, features_dim, name, bound=self.bound)
        for layer in self.layers:
            layer.slack = SLACK
        self._keep_state()

    @property
    def layers(self) -> list[SpectralConv2d | Spectral]:
        """The constrained layers, first to last."""
        return [*self.convolutions, self.linear]

    def _held(self) -> list[SpectralConv2d | Spectral]:
        return self.layers

    def forward(self, observations: Tensor) -> Tensor:
        """Map ``observations`` (n, channels, height, width) to (n, features_dim)."""
        self._project_stale()
        for conv in self.convolutions:
            observations = conv(observations)
        features: Tensor = self.linear(observations.flatten(1))
        return features

    def lipschitz_bound(self) -> float:
        """Sound upper bound of the Lipschitz constant of the weights as they are now, computed in float64."""
        return math.prod(layer.lipschitz_bound() for layer in self.layers) * (1.0 + 8 * EPS64)

    def project(self) -> bool:
        """Put every layer exactly back into its set (feasible ones keep every bit). Returns whether any changed."""
        return self._project(lambda layer: layer.project())

    def _project(self, how: Callable[[LipschitzLayer], bool]) -> bool:
        with own_precision(self.linear.bias):
            changed = [how(layer) for layer in self.layers]
        self._refresh_cache()
        return any(changed)

    def _project_stale(self) -> None:
        if not self.training and not torch.compiler.is_compiling():
            stamp = self._current_stamp()
            if stamp is not None and stamp != self._stamp:  # None: functional_call put others in their place
                self.project()

    def merge(self) -> nn.Sequential:
        """The same function as fresh ``nn.Conv2d``, ``nn.Flatten``, ``nn.Linear`` and activations."""
        self._project_stale()
        modules: list[nn.Module] = []
        for layer in self.layers:
            if isinstance(layer, SpectralConv2d):
                modules.append(layer.merge())
            else:
                modules += [nn.Flatten(), plain_linear(layer.weight, layer.bias)]
            assert layer.activation is not None
            modules.append(copy.deepcopy(layer.activation))
        return nn.Sequential(*modules).train(self.training)

    def train(self, mode: bool = True) -> LipschitzNatureCNN:
        """Switch mode. Acts on transitions only: SB3 calls this at every ``predict``."""
        if mode == self.training:
            return self
        if not mode:  # first: weights that cannot be projected must not leave the module in eval mode
            self._project(lambda layer: layer.keep_inside(roughly=True))
        super().train(mode)
        self._refresh_cache()
        return self
