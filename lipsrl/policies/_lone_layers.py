"""Constrained layers of a user's own features extractor: no network projects them when it acts, saves or loads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from lipsrl._context import own_precision
from lipsrl._warnings import warn_user
from lipsrl.layers import LipschitzLayer
from lipsrl.networks._state import WeightKeeper
from lipsrl.networks._tree import Tree, changes_mode_itself, set_mode, tree_of


def lone_layers(module: nn.Module) -> list[LipschitzLayer]:
    """The constrained layers of ``module`` that are in no :class:`WeightKeeper`, which looks after its own."""
    tree, known = tree_of(module), _FOUND.get(module)
    if known is None or known[0] is not tree:
        known = _FOUND[module] = tree, list(_layers_of(module))
    # what changes its mode itself may have got other children since
    below = [root for root in tree.roots if not isinstance(root, (WeightKeeper, LipschitzLayer))]
    return [*known[1], *(layer for root in below for layer in lone_layers(root))]


#: What :func:`_layers_of` has found, for as long as the tree below the module stands.
_FOUND: WeakKeyDictionary[nn.Module, tuple[Tree, list[LipschitzLayer]]] = WeakKeyDictionary()


def _layers_of(module: nn.Module) -> Iterator[LipschitzLayer]:
    for child in module.children():
        if isinstance(child, LipschitzLayer):
            yield child
        elif not isinstance(child, WeightKeeper) and not changes_mode_itself(child):
            yield from _layers_of(child)


def project_lone_layers(module: nn.Module) -> bool:
    """Put them exactly into their sets. Returns whether any changed."""
    changed = False
    for layer in lone_layers(module):
        with own_precision(layer.bias):
            changed |= layer.keep_inside()
        layer.mark()
    return changed


class ProjectsLoneLayers(nn.Module):
    """Mixin before whatever of SB3's has ``set_training_mode`` and acts."""

    def train(self, mode: bool = True) -> Any:
        """Torch's, without its walk."""
        set_mode(self, mode)
        return self

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
        warn_user("Loaded weights of the features extractor were outside their set and were projected back.")
