"""Lipschitz features extractor for Dict observations."""

from __future__ import annotations

import math

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from lipsrl._validation import positive_int
from lipsrl.policies.nature_cnn import LipschitzNatureCNN


class LipschitzCombinedExtractor(BaseFeaturesExtractor):
    """SB3's ``CombinedExtractor`` with a 1-Lipschitz CNN for each image: jointly 1-Lipschitz in l2.

    ``‖f(x) - f(x')‖² = Σ_key ‖f_key(x_key) - f_key(x'_key)‖² ≤ Σ_key ‖x_key - x'_key‖²``, with x as the extractor
    receives it: SB3 divides uint8 images by 255 and one-hot encodes discrete values before.

    Args:
        observation_space: Dict of images and of anything that can be flattened.
        cnn_output_dim: length of the features of each image.
        normalized_image: as in SB3.
        activation: of the CNNs; see :class:`~lipsrl.policies.LipschitzNatureCNN`.
    """

    #: ‖f(x) - f(x')‖ ≤ bound·‖x - x'‖.
    bound = 1.0
    norm = "l2"

    def __init__(
        self,
        observation_space: spaces.Dict,
        cnn_output_dim: int = 256,
        normalized_image: bool = False,
        activation: str | type[nn.Module] = "relu",
    ) -> None:
        super().__init__(observation_space, 1)
        positive_int("cnn_output_dim", cnn_output_dim)
        extractors: dict[str, nn.Module] = {}
        size = 0
        for key, space in observation_space.spaces.items():
            if is_image_space(space, normalized_image=normalized_image):
                extractors[key] = LipschitzNatureCNN(space, cnn_output_dim, normalized_image, 1.0, activation)
                size += cnn_output_dim
            else:
                extractors[key] = nn.Flatten()
                size += get_flattened_obs_dim(space)
        self.extractors = nn.ModuleDict(extractors)
        self._features_dim = size

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Dict of tensors (n, …) → (n, features_dim)."""
        return torch.cat([e(observations[key]) for key, e in self.extractors.items()], dim=1)

    def lipschitz_bound(self) -> float:
        """Sound upper bound of the Lipschitz constant of the weights as they are now, computed in float64."""
        cnns = [e.lipschitz_bound() for e in self.extractors.values() if isinstance(e, LipschitzNatureCNN)]
        flat = 1.0 if len(cnns) < len(self.extractors) else -math.inf
        return max([flat, *cnns])
