"""Whether weights are to the bit those that they were."""

from __future__ import annotations

import torch
from torch import Tensor


def waits(device: torch.device) -> bool:
    """Whether each answer from there waits for all that was asked before, so that few questions are best."""
    return device.type != "cpu"


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    """Shape, dtype, device and every number; NaN is no number."""
    if len(some) != len(others):
        return False
    pairs = list(zip(some, others, strict=True))
    if any(a.device != b.device or a.dtype != b.dtype or a.shape != b.shape for a, b in pairs):
        return False
    if pairs and waits(some[0].device):
        return bool(torch.stack([(a == b).all() for a, b in pairs]).all())
    return all(torch.equal(a, b) for a, b in pairs)
