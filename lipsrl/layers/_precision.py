"""What float32 arithmetic may be wrong by, where a proof counts on it."""

from __future__ import annotations

import os
from typing import Any

import torch

#: Unit roundoff: a float32 operation is off by at most this much (relative).
UNIT32 = 2.0**-24

#: oneDNN's own switches; unset and "STRICT" leave float32 alone.
_SWITCHES = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")


def gamma(n: int, unit: float = UNIT32) -> float:
    """Largest relative error of a sum of ``n`` products, in any order (Higham 2002, section 3.1)."""
    return n * unit / (1.0 - n * unit)


def multiplies_in_float32(device: torch.device) -> bool:
    """Whether float32 matrix products on ``device`` are known to be made in float32: not in TF32 or bfloat16."""
    if device.type != "cpu" or any(os.environ.get(name, "strict").lower() != "strict" for name in _SWITCHES):
        return False
    backend: Any = torch.backends.mkldnn.matmul if hasattr(torch.backends.mkldnn, "matmul") else None
    mode = getattr(backend, "fp32_precision", None)
    if mode is not None:
        return mode in ("none", "ieee")
    return torch.get_float32_matmul_precision() == "highest"
