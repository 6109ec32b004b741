"""The policy of a model, whatever has been put around it."""

from __future__ import annotations

from typing import Any


def policy_of(model: Any) -> Any:
    """``model.policy`` itself where it was replaced by ``torch.compile(model.policy)``."""
    policy = model.policy
    return getattr(policy, "_orig_mod", policy)
