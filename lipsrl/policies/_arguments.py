"""Arguments of SB3's own that a constrained policy is particular about, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.torch_layers import FlattenExtractor

from lipsrl._validation import positive_finite
from lipsrl._warnings import warn_user
from lipsrl.policies._front import Part, is_constrained


def check_features_extractor(features_extractor_class: Any) -> None:
    """Refuse a features extractor whose Lipschitz constant is unknown: it is inside the promise."""
    if features_extractor_class is not FlattenExtractor and not is_constrained(features_extractor_class):
        raise ValueError(
            f"features_extractor_class={getattr(features_extractor_class, '__name__', features_extractor_class)} "
            "is inside the Lipschitz promise and its own constant is unknown. Accepted: FlattenExtractor, "
            "LipschitzNatureCNN, LipschitzCombinedExtractor, or a class with an attribute `bound` and a method "
            "`lipschitz_bound()`."
        )


def check_measured(found: list[Part]) -> None:
    """Refuse an extractor that is steeper than it says before it has learned anything."""
    for part in found:
        extractor: Any = part.extractor
        if extractor is not None and extractor.lipschitz_bound() > positive_finite("bound", extractor.bound):
            raise ValueError(
                f"{type(extractor).__name__} states bound={extractor.bound!r}, but its lipschitz_bound() is "
                f"{extractor.lipschitz_bound()!r}. It must keep its bound at all times: build it of lipsrl.layers."
            )


def check_net_arch(net_arch: Any, critic: str) -> None:
    """Check SB3's ``net_arch``: a list of widths, or ``dict(pi=[…], vf|qf=[…])``, or None.

    Raises:
        ValueError: names the part that is wrong.
    """
    accepted = f"net_arch must be a list of integers > 0 or dict(pi=[…], {critic}=[…])"
    if net_arch is None:
        return
    if (
        critic == "vf"
        and isinstance(net_arch, list)
        and len(net_arch) == 1
        and isinstance(net_arch[0], Mapping)
    ):
        net_arch = net_arch[0]  # as before SB3 1.8, which unwraps it with a warning
    parts = net_arch if isinstance(net_arch, Mapping) else {"": net_arch}
    for key, widths in parts.items():
        if key not in ("", "pi", critic):
            raise ValueError(f"{accepted}; received the key {key!r}.")
        if isinstance(widths, str) or not isinstance(widths, Sequence):
            raise ValueError(f"{accepted}; received {net_arch!r}.")
        for width in widths:
            if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or width <= 0:
                raise ValueError(f"{accepted}; received the width {width!r} in {net_arch!r}.")


def warn_ortho_init() -> None:
    """Say what becomes of an ``ortho_init`` that was passed explicitly."""
    warn_user(
        "ortho_init applies to the value network only: the Lipschitz actor is always initialised on its bound, "
        "with a small last layer."
    )
