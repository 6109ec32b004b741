"""Weights that are loaded: all or none of them, and of which bound they are, where it was moved."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lipsrl._warnings import warn_user
from lipsrl.networks import LipschitzMLP

#: Entry of a policy's state dict. It is there only where K was moved.
KEY = "moved_lipschitz_bound"


def say_moved_bound(module: Any, state_dict: Any, prefix: str, _: Any) -> None:
    """State dict hook: SB3's zip takes K from ``model.policy_kwargs``, of which the policy knows nothing."""
    bound = module.options.lipschitz_bound
    if not prefix and bound != module.built_with_bound:
        state_dict[KEY] = torch.tensor(bound, dtype=torch.float64)


def saved_bound(state_dict: Any) -> tuple[Any, float | None]:
    """The state dict as it would be without the entry, and the K that it names.

    Raises:
        ValueError: the entry is no finite number > 0.
    """
    if KEY not in state_dict:
        return state_dict, None
    rest = type(state_dict)((name, value) for name, value in state_dict.items() if name != KEY)
    value = torch.as_tensor(state_dict[KEY])
    bound = float(value) if value.numel() == 1 else math.nan
    if not (math.isfinite(bound) and bound > 0):
        raise ValueError(f"{KEY} in the loaded weights must be one finite number > 0, received {value}.")
    return rest, bound


def adopt_bound(policy: Any, bound: float) -> None:
    """A smaller K than the policy's own; a larger one would break what was asked for.

    Warns:
        UserWarning: ``bound`` is larger.
    """
    own = policy.options.lipschitz_bound
    if bound < own:
        policy.set_lipschitz_bound(bound)
    elif bound > own:
        warn_user(
            f"These weights are of lipschitz_bound={bound:g}, to which it was moved before they were saved, and this "
            f"policy keeps {own:g}: with it they are another function. Load the model with "
            f"custom_objects=dict(policy_kwargs={{..., 'lipschitz_bound': {bound:g}}}), or set it in "
            "model.policy_kwargs before you save."
        )


@contextmanager
def all_or_nothing(policy: Any) -> Iterator[None]:
    """What is refused within changes nothing; networks may get the layers of an earlier release within."""
    networks = [module for module in policy.modules() if isinstance(module, LipschitzMLP)]
    held = [(tensor, tensor.detach().clone()) for tensor in (*policy.parameters(), *policy.buffers())]
    own = policy.options.lipschitz_bound
    for network in networks:
        network.may_change_layers = True
    try:
        yield
    except Exception:  # torch has copied what fits before it says what does not
        if policy.options.lipschitz_bound != own:
            policy.set_lipschitz_bound(own)
        with torch.no_grad():
            for tensor, before in held:
                tensor.copy_(before)
        raise
    finally:
        for network in networks:
            network.may_change_layers = False
