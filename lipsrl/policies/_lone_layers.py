"""Constrained layers of a user's own features extractor: no network projects them when it acts, saves or loads."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from torch import nn

from lipsrl._context import own_precision
from lipsrl.layers import LipschitzLayer
from lipsrl.networks._state import WeightKeeper


def lone_layers(module: nn.Module) -> Iterator[LipschitzLayer]:
    """The constrained layers of ``module`` that are in no :class:`WeightKeeper`, which looks after its own."""
    if isinstance(module, LipschitzLayer):
        yield module
    elif not isinstance(module, WeightKeeper):
        for child in module.children():
            yield from lone_layers(child)


def project_lone_layers(module: nn.Module) -> bool:
    """Put them exactly into their sets. Returns whether any changed."""
    changed = False
    for layer in lone_layers(module):
        with own_precision(layer.bias):
            changed |= layer.project()
        layer.mark()
    return changed


class ProjectsLoneLayers(nn.Module):
    """Mixin before whatever of SB3's has ``set_training_mode`` and acts."""

    def set_training_mode(self, mode: bool) -> None:
        """SB3's; the step from training to evaluation projects exactly."""
        if not mode and self.training:
            project_lone_layers(self)
        super().set_training_mode(mode)  # type: ignore[misc]


def before_save(module: nn.Module, prefix: str, keep_vars: bool) -> None:
    """State dict hook: saved weights keep the bound, also in the middle of a training phase."""
    project_lone_layers(module)


def after_load(module: nn.Module, _: Any) -> None:
    """Hook: loaded weights that break their bound are projected, and that is said."""
    if project_lone_layers(module):
        warnings.warn(
            "Loaded weights of the features extractor were outside their set and were projected back.",
            stacklevel=2,
        )
