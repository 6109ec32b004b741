"""Lipschitz features extractor for images."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from lipsrl._validation import positive_finite, positive_int
from lipsrl.layers._linalg import EPS64
from lipsrl.layers._plain import plain_linear
from lipsrl.layers.activations import activation_name
from lipsrl.layers.convolution import SpectralConv2d
from lipsrl.layers.spectral import Spectral

#: (channels, kernel, stride) of Mnih et al. 2015, "Human-level control through deep reinforcement learning".
ARCHITECTURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))


class LipschitzNatureCNN(BaseFeaturesExtractor):
    """SB3's ``NatureCNN`` with ``‖f(x) - f(x')‖₂ ≤ lipschitz_bound·‖x - x'‖₂``.

    x is the image as the extractor receives it: SB3 divides uint8 images by 255 before. Three convolutions in the
    spectral ball of radius 1 and a linear layer in that of radius ``lipschitz_bound``; each followed by the
    activation::

        PPO("CnnPolicy", env, policy_kwargs=dict(
            features_extractor_class=LipschitzNatureCNN, features_extractor_kwargs=dict(lipschitz_bound=2.0)))
        project_after_step(model.policy.optimizer, model.policy)

    The train→eval transition projects exactly, and so do saving and loading. A write to the weights in eval mode is
    not noticed: follow it by :meth:`project`. :meth:`lipschitz_bound` is always that of the weights as they are.

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
        self.register_load_state_dict_post_hook(_after_load)  # type: ignore[no-untyped-call]
        self.register_state_dict_pre_hook(_before_save)  # type: ignore[no-untyped-call]

    @property
    def layers(self) -> list[SpectralConv2d | Spectral]:
        """The constrained layers, first to last."""
        return [*self.convolutions, self.linear]

    def forward(self, observations: Tensor) -> Tensor:
        """Map ``observations`` (n, channels, height, width) to (n, features_dim)."""
        for conv in self.convolutions:
            observations = conv(observations)
        features: Tensor = self.linear(observations.flatten(1))
        return features

    def lipschitz_bound(self) -> float:
        """Sound upper bound of the Lipschitz constant of the weights as they are now, computed in float64."""
        return math.prod(layer.lipschitz_bound() for layer in self.layers) * (1.0 + 8 * EPS64)

    def project(self) -> bool:
        """Put every layer exactly back into its set (feasible ones keep every bit). Returns whether any changed."""
        changed = [layer.project() for layer in self.layers]
        return any(changed)

    def merge(self) -> nn.Sequential:
        """The same function as fresh ``nn.Conv2d``, ``nn.Flatten``, ``nn.Linear`` and activations."""
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
        if not mode:
            self.project()
        super().train(mode)
        return self


def _before_save(module: LipschitzNatureCNN, prefix: str, keep_vars: bool) -> None:
    """Saved weights keep the bound, also in the middle of a training phase (cheap updates may overstep it)."""
    module.project()


def _after_load(module: LipschitzNatureCNN, _: Any) -> None:
    """Loaded weights that break the bound are projected, and that is said."""
    before = module.lipschitz_bound()
    if module.project():
        warnings.warn(
            f"The loaded weights had Lipschitz bound {before:.4g} (allowed: {module.bound:g}, none of the convolutions "
            "above 1) and were projected back. Load weights of a LipschitzNatureCNN with the same lipschitz_bound.",
            stacklevel=2,
        )
