"""The optimizers of Lipschitz policies: what they step, in which order, and what they project afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from lipsrl.layers import project_after_step
from lipsrl.layers.optimizer import constrained_modules


def hold(
    optimizer: torch.optim.Optimizer, module: nn.Module, *, exact: bool = False
) -> torch.optim.Optimizer:
    """:func:`project_after_step` for what is constrained in ``module`` and stepped by ``optimizer``.

    Nothing else: SAC's critic may share a features extractor that only the actor's optimizer steps, and whose weights
    the actor's graph still needs when the critic's has stepped. Without anything constrained the optimizer stays SB3's.
    """
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    constrained = [m for m in constrained_modules(module) if any(id(p) in stepped for p in m.parameters())]
    if not optimizer.state:
        _sort(optimizer, module)
    _fuse(optimizer)
    return (
        project_after_step(optimizer, nn.ModuleList(constrained), exact=exact) if constrained else optimizer
    )


def step_these(
    optimizer: torch.optim.Optimizer,
    module: nn.Module,
    make: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer],
) -> None:
    """All parameters of ``module``, which has other ones now; what the optimizer knew of the old ones is void.

    Args:
        make: an optimizer as the policy makes it, which says how a class of the user's groups parameters.
    """
    if len(optimizer.param_groups) == 1:
        optimizer.param_groups[0]["params"] = list(module.parameters())
    else:
        fresh = make(module.parameters()).param_groups
        for group, again in zip(optimizer.param_groups, fresh, strict=True):
            group["params"] = again["params"]
    optimizer.state.clear()
    hold(optimizer, module)


def _fuse(optimizer: torch.optim.Optimizer) -> None:
    """Torch's Adam in one kernel per step where the user chose no other form: on the CPU at a third of the price.

    The same equations, rounded in another order. SB3's own policies do not; ``optimizer_kwargs=dict(fused=True)`` does
    it for them, and ``fused=False`` undoes it here.
    """
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
        return
    for group in optimizer.param_groups:
        on_cpu = all(p.device.type == "cpu" and p.is_floating_point() for p in group["params"])
        if on_cpu and not any(group[name] for name in ("foreach", "capturable", "differentiable")):
            group["fused"] = True if group["fused"] is None else group["fused"]


def _sort(optimizer: torch.optim.Optimizer, module: nn.Module) -> None:
    """Parameters in the order of the modules that hold them, each network in one piece, as in all zips' optimizers."""
    order: dict[int, int] = {}

    def walk(part: nn.Module) -> None:
        for parameter in part._parameters.values():
            order.setdefault(id(parameter), len(order))
        for child in part.children():
            walk(child)

    walk(module)
    for group in optimizer.param_groups:
        group["params"].sort(key=lambda parameter: order.get(id(parameter), len(order)))
