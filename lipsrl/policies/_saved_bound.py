"""Saved weights say under which K they were saved: under another one they are another function."""

from __future__ import annotations

from typing import Any

from lipsrl._warnings import warn_user
from lipsrl.networks._state import WeightKeeper

#: In ``state_dict()._metadata``, where torch keeps the versions of modules: no key of its own, so older files load.
_NAME = "lipschitz_bound"


def say_bound(module: Any, state_dict: Any, prefix: str, local_metadata: dict[str, Any]) -> None:
    """State-dict hook of a constrained policy."""
    local_metadata[_NAME] = float(module.options.lipschitz_bound)


def note_bound(module: Any, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *_: Any) -> None:
    """Hook before loading: what :func:`compare_bound` needs. What does not say its K is taken as it is."""
    module.loaded_under = local_metadata.get(_NAME)


def compare_bound(module: Any, _: Any) -> None:
    """Hook after loading: warn where the weights are of another K. Weights that broke the bound were spoken of."""
    saved, own = module.__dict__.pop("loaded_under", None), float(module.options.lipschitz_bound)
    said = any(part.loaded_beyond_bound for part in module.modules() if isinstance(part, WeightKeeper))
    if isinstance(saved, float) and saved != own and not said:
        warn_user(
            f"The loaded weights were saved under lipschitz_bound={saved!r}, and this policy has {own!r}: they may be "
            "another function here than the one that was saved, within this policy's bound. For that one call "
            f"policy.set_lipschitz_bound({saved!r}) first, and load the weights again (model.set_parameters(path)). "
            "Whoever changes K by hand sets model.policy_kwargs['lipschitz_bound'], too, before model.save."
        )
