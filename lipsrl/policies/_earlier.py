"""Policies whose loaded weights are of an earlier release."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from lipsrl.policies._lone_layers import after_load


def adopt_loaded(module: Any, incompatible: Any) -> None:
    """Load hook: as :func:`after_load`; and what weights of an earlier release do without, no optimizer holds."""
    after_load(module, incompatible)
    network = module.lipschitz_network
    own = module.options
    if network is None or (network.budget, network.layer_name) == (own.budget, own.layer):
        return
    options = dataclasses.replace(
        own, budget=network.budget, layer=network.layer_name, activation=network.activation_name
    )
    if network.layer_name != own.layer:
        module.hold_again()
    for part in module.modules():
        if getattr(part, "options", None) is not None:
            part.options = options
    if options.activation_class is not module.activation_fn:  # the critic's went with the actor's
        module.activation_fn = options.activation_class
        value_net = getattr(getattr(module, "mlp_extractor", None), "value_net", None)
        if isinstance(value_net, nn.Sequential):
            for i, part in enumerate(value_net):
                if not isinstance(part, nn.Linear):
                    value_net[i] = options.activation_class()
    present = {id(parameter) for parameter in module.parameters()}
    owners = [module, *(getattr(module, name, None) for name in ("actor", "critic"))]
    for optimizer in (getattr(owner, "optimizer", None) for owner in owners):
        for group in getattr(optimizer, "param_groups", ()):
            group["params"] = [p for p in group["params"] if id(p) in present]
