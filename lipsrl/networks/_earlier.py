"""Weights of earlier releases, which had another budget or layer and said nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lipsrl.layers import GROWTHS, LAYERS
from lipsrl.layers.activations import is_homogeneous, make_activation


def become_as_saved(network: Any, state_dict: Mapping[str, Any], prefix: str) -> bool:
    """Make a :class:`~lipsrl.networks.LipschitzMLP` what these weights were saved as; they are then to be loaded.

    Returns whether anything changed: the layers' bounds and units are then void.
    """
    changed = network.earlier_layer is not None and is_of_other_layers(network, state_dict, prefix)
    if changed:
        become_layer(network, network.earlier_layer)
    if network.budget != "growing":
        return changed
    growth = saved_growth(state_dict, prefix)
    if is_earlier(state_dict, prefix):
        become(network, "output", network.earlier_activation or network.activation_name)
    elif growth is None or growth == network.growth:
        return changed
    else:
        network.growth = growth
    return True


def is_earlier(state_dict: Mapping[str, Any], prefix: str) -> bool:
    """Whether these are weights from before ``budget="growing"`` was the policies' default."""
    return f"{prefix}growing" not in state_dict and f"{prefix}head.bias" in state_dict


def is_of_other_layers(network: Any, state_dict: Mapping[str, Any], prefix: str) -> bool:
    """Whether these are weights of hidden layers of a family whose parameters have other names than the network's."""
    if not network.layers:
        return False
    first = f"{prefix}layers.0."
    own = {first + name for name, _ in network.layers[0].named_parameters()}
    given = {key for key in state_dict if key.startswith(first)}
    return bool(own - given) and bool(given - own)


def become_layer(network: Any, layer: str) -> None:
    """Hidden layers of another family, whose weights are then to be loaded; all that held the old ones must be told.

    Args:
        network: a :class:`~lipsrl.networks.LipschitzMLP`.
        layer: a family that can shrink, as the network's own can: neither has gains beside it.
    """
    reference = network.head.bias
    network.layer_name = layer
    layout = network._layout(LAYERS[layer])
    with torch.random.fork_rng(devices=[]):
        made = [
            LAYERS[layer](
                old.in_features, old.out_features, network.activation_name,
                bound=part.bound, gain=part.gain, unit=part.unit,
            )
            for old, part in zip(network.layers, layout[:-1], strict=True)
        ]  # fmt: skip
    network.layers = nn.ModuleList(made).to(reference).train(network.training)


def growth_code(growth: str) -> float:
    """What stands for a growth in the state of a network: 1 for ``"random"``, the only one there was at first."""
    return 1.0 + list(GROWTHS).index(growth)


def saved_growth(state_dict: Mapping[str, Any], prefix: str) -> str | None:
    """Under which growth these weights were saved; ``None`` where they do not say so."""
    code = state_dict.get(f"{prefix}growing")
    names = list(GROWTHS)
    if not isinstance(code, Tensor) or code.numel() != 1 or not 0 <= float(code) - 1 < len(names):
        return None
    return names[int(code) - 1]


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
