"""Weights of earlier releases, which had another budget and said nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lipsrl.layers.activations import is_homogeneous, make_activation


def is_earlier(state_dict: Mapping[str, Any], prefix: str) -> bool:
    """Whether these are weights from before ``budget="growing"`` was the policies' default."""
    return f"{prefix}growing" not in state_dict and f"{prefix}head.bias" in state_dict


def become(network: Any, budget: str, activation: str) -> None:
    """Another budget without gains, and another activation of the hidden layers; the weights are then to be loaded.

    Args:
        network: a :class:`~lipsrl.networks.LipschitzMLP` of ``budget="growing"``.
        budget: what its weights were saved under.
        activation: likewise.
    """
    network.budget, network.activation_name, network.shares = budget, activation, None
    del network.growing
    for layer in network.layers:
        if layer.activation_name != activation:  # in place: an optimizer holds the parameters
            layer.activation_name = activation
            layer.activation = make_activation(activation, layer.out_features)
            if is_homogeneous(activation) and hasattr(layer, "log_psi"):
                layer.log_psi = None
