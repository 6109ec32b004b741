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
    made = _layers_as_saved(network, state_dict, prefix) if network.may_change_layers else None
    if made is not None:
        network.layer_name, network.layers = network.earlier_layer, made
    changed = made is not None
    if network.budget != "growing":
        return changed
    growth = saved_growth(state_dict, prefix)
    if is_earlier(network, state_dict, prefix):
        become(network, "output", network.earlier_activation or network.activation_name)
    elif growth is None or growth == network.growth:
        return changed
    else:
        network.growth = growth
    return True


def is_earlier(network: Any, state_dict: Mapping[str, Any], prefix: str) -> bool:
    """Whether these are weights from before ``budget="growing"`` was the policies' default."""
    # of the head alone (strict=False) nothing can be said
    whole = any(key.startswith(f"{prefix}layers.") for key in state_dict) or not network.layers
    return whole and f"{prefix}growing" not in state_dict and f"{prefix}head.bias" in state_dict


def _layers_as_saved(network: Any, state_dict: Mapping[str, Any], prefix: str) -> nn.ModuleList | None:
    """Hidden layers of the earlier family, if these weights are of such layers, and of this size; else ``None``.

    That family can shrink, as the network's own can: neither has gains beside it.
    """
    layer, first = network.earlier_layer, f"{prefix}layers."
    if layer in (None, network.layer_name) or not network.layers:
        return None
    given = {
        key.removeprefix(first): value.shape for key, value in state_dict.items() if key.startswith(first)
    }
    head = state_dict.get(f"{prefix}head.weight")
    if given.keys() == dict(network.layers.named_parameters()).keys() or head is None:
        return None
    activation = network.activation_name
    if is_earlier(network, state_dict, prefix):
        activation = network.earlier_activation or activation
    with torch.random.fork_rng(devices=[]):
        made = nn.ModuleList(
            LAYERS[layer](
                old.in_features,
                old.out_features,
                activation,
                bound=part.bound,
                gain=part.gain,
                unit=part.unit,
            )
            for old, part in zip(network.layers, network._layout(LAYERS[layer])[:-1], strict=True)
        )
    fits = given == {name: parameter.shape for name, parameter in made.named_parameters()}
    if not fits or head.shape != network.head.weight.shape:
        return None  # of something else: torch says what does not fit, and nothing has changed
    return made.to(network.head.bias).train(network.training)


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
