"""The modules below one, found once: torch walks them anew at every change of mode, which SB3 makes at every step."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from torch import nn


def changes_mode_itself(module: nn.Module) -> bool:
    """Whether ``module.training = …`` at it and all below is not the same as ``module.train(…)``."""
    kind = type(module)
    return (
        kind.train is not nn.Module.train
        or kind.__setattr__ is not nn.Module.__setattr__
        or hasattr(kind, "training")
    )


class Tree:
    """What lies below a module, for as long as no module there gets or loses a child. Does not hold the module itself.

    Attributes:
        modules: those that change mode as every torch module does.
        roots: those that look after their mode themselves, and after what is below them.
    """

    def __init__(self, root: nn.Module) -> None:
        self.modules: list[nn.Module] = []
        self.roots: list[nn.Module] = []
        self._children: list[tuple[dict[str, Any], list[Any]]] = []
        self._walk(root, {id(root)})

    def _walk(self, module: nn.Module, seen: set[int]) -> None:
        children = module._modules
        self._children.append((children, list(children.values())))
        for child in children.values():
            if child is None or id(child) in seen:
                continue
            seen.add(id(child))
            if not changes_mode_itself(child):
                self.modules.append(child)
                self._walk(child, seen)
            else:
                self.roots.append(child)

    def stands(self) -> bool:
        """Whether every module still has the children that it had."""
        return all(list(now.values()) == then for now, then in self._children)


_TREES: WeakKeyDictionary[nn.Module, Tree] = WeakKeyDictionary()


def tree_of(root: nn.Module) -> Tree:
    """The tree below ``root``, remembered; the same object for as long as it stands."""
    tree = _TREES.get(root)
    if tree is None or not tree.stands():
        tree = _TREES[root] = Tree(root)
    return tree


def set_mode(root: nn.Module, mode: bool) -> None:
    """What ``nn.Module.train(root, mode)`` does, children first: where one of them refuses, ``root`` stays as it is."""
    if not isinstance(mode, bool):
        raise ValueError(f"the training mode must be True or False, received {mode!r}.")
    tree = tree_of(root)
    for module in tree.roots:
        module.train(mode)
    for module in tree.modules:
        module.__dict__["training"] = mode
    root.__dict__["training"] = mode
