"""Layers whose weights are a map of free parameters."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lipsrl.layers._base import LipschitzLayer


class ParametrisedLayer(LipschitzLayer):
    """A layer whose weights are a map of free parameters: nothing to project.

    The map stays :attr:`margin` (relative) below ``bound``, more than it can be wrong by while no parameter is larger
    than :data:`LARGEST_PARAMETER`; larger ones are scaled down inside the map.
    """

    projected: ClassVar[bool] = False

    @property
    def margin(self) -> float:
        """The same in training and evaluation and in every dtype, so that all compute the same function: PPO compares
        the probabilities of its rollout with those of its first training forward.
        """
        return PARAMETRISED_MARGIN

    def project(self) -> bool:
        for name, parameter in self.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise ValueError(
                    f"{name} of shape {tuple(parameter.shape)} in a {type(self).__name__} layer holds NaN or infinite "
                    "values. Check the loss and the learning rate; reload the last good checkpoint."
                )
        return False


#: Maps aim this far (relative) inside their set. Training forwards compute them in float32, which is off by 1e-6, and
#: by up to 1e-5 where parameters are of size 1e3; orthogonal families stay within 1e-5 of orthogonality.
PARAMETRISED_MARGIN = 8e-6

#: Free parameters act as if they were no larger than this.
LARGEST_PARAMETER = 1e3


def limited(parameter: Tensor, limit: float = LARGEST_PARAMETER) -> Tensor:
    """``parameter``, scaled down such that no entry is larger than ``limit``; itself where none is.

    Raises:
        ValueError: NaN or infinite entries.
    """
    largest = float(parameter.detach().abs().max()) if parameter.numel() else 0.0
    if largest <= limit:
        return parameter
    if not largest < float("inf"):
        raise ValueError(
            f"Weights of shape {tuple(parameter.shape)} hold NaN or infinite values, so they have no Lipschitz bound. "
            "Check the loss and the learning rate; reload the last good checkpoint."
        )
    return parameter * (limit / largest)
