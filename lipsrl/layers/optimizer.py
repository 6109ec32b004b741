"""Projection after every optimizer step, carried by the optimizer's class so that copies keep it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lipsrl._context import own_precision
from lipsrl.layers._base import LipschitzLayer
from lipsrl.layers.budget import Shares

#: The cheap updates of a layer are spaced such that it is found between these distances (relative) outside its set …
NEAR, FAR = 0.025, 0.1
#: … but never further apart than this many steps.
LONGEST_WAIT = 16


class _ProjectionMixin:
    """Optimizer that projects the layers in ``projected_layers`` after each step.

    A ``register_step_post_hook`` would be lost by ``deepcopy`` and pickling of the optimizer
    (``Optimizer.__getstate__`` keeps defaults, state and groups only), and a closure would go on pointing at
    the *old* module: the copy would train out of its bound. The layers travel in the state instead, so a
    joint deepcopy of module and optimizer projects the copy's own layers.

    The cheap update of a layer waits as many steps as the layer needs to drift noticeably out of its set: every step
    at large learning rates, every sixteenth at small ones. A Newton–Schulz step squares that distance.
    """

    projected_layers: list[LipschitzLayer]
    checked_modules: list[nn.Module]
    shares: list[Shares]
    exact: bool
    waits: list[int]
    steps_left: list[int]
    _base_class: type[torch.optim.Optimizer]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        layers = self.projected_layers
        own = partial(own_precision, layers[0].bias) if layers else nullcontext
        loss: float | None = None
        if closure is None:
            with own():
                self._prepare_gradients()
                super().step()  # type: ignore[misc]
                self._project()
        else:  # belongs to the caller's context, and may be called more than once

            def evaluate() -> float:
                value = closure()
                with own():
                    self._prepare_gradients()
                return value

            loss = super().step(evaluate)  # type: ignore[misc]
            with own():
                self._project()
        for layer in layers:
            layer.mark()
        return loss

    def _prepare_gradients(self) -> None:
        self._refuse_non_finite_gradients()
        for layer in self.projected_layers:
            layer.project_gradient()

    def _project(self) -> None:
        for shares in self.shares:
            shares.project()
        if self.exact:
            for layer in self.projected_layers:
                layer.keep_inside(roughly=True)
            return
        for i, layer in enumerate(self.projected_layers):
            self.steps_left[i] -= 1
            if self.steps_left[i] <= 0:
                distance = layer.project_cheaply()
                if distance > FAR:
                    self.waits[i] = max(1, self.waits[i] // 2)
                elif distance < NEAR:
                    self.waits[i] = min(LONGEST_WAIT, self.waits[i] * 2)
                self.steps_left[i] = self.waits[i]

    # Optimizer.__init__ and __setstate__ wrap `step` of the class unless it says it is wrapped: the base's is.
    step.hooked = True  # type: ignore[attr-defined]

    def _refuse_non_finite_gradients(self) -> None:
        gradients = [
            p.grad
            for m in self.checked_modules
            for p in m._parameters.values()
            if p is not None and p.grad is not None
        ]
        if not gradients or math.isfinite(_sum(gradients)):
            return
        for module in self.checked_modules:
            for name, parameter in module._parameters.items():
                if parameter is None or parameter.grad is None or bool(torch.isfinite(parameter.grad).all()):
                    continue  # finite entries whose sum overflows
                raise ValueError(
                    f"The gradient of {name} in a {type(module).__name__} of shape {tuple(parameter.shape)} holds "
                    "NaN or infinite values. The step was not taken and the weights are as before. Check the loss, "
                    "the rewards and the learning rate."
                )

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        names = ("projected_layers", "checked_modules", "shares", "exact", "waits", "steps_left")
        return {**state, **{name: getattr(self, name) for name in names}}

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _rebuild, (self._base_class,), self.__getstate__()


def _sum(gradients: list[Tensor]) -> Tensor:
    """Of all entries, in few operations: small tensors side by side, large ones without a copy."""
    large = [g.sum() for g in gradients if g.numel() > _LARGE]
    small = [g.reshape(-1) for g in gradients if g.numel() <= _LARGE]
    return torch.cat([*small, *(total.reshape(1) for total in large)]).sum()


#: Gradients of more entries than this are not copied.
_LARGE = 2**15

_CLASSES: dict[type[torch.optim.Optimizer], type[torch.optim.Optimizer]] = {}


def _projected_class(base: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    if base not in _CLASSES:
        _CLASSES[base] = type(f"Projected{base.__name__}", (_ProjectionMixin, base), {"_base_class": base})
    return _CLASSES[base]


def _rebuild(base: type[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    cls = _projected_class(base)
    return cls.__new__(cls)


def constrained_modules(module: nn.Module) -> list[LipschitzLayer | Shares]:
    """The constrained layers and shares of ``module``, each once; those too that it keeps in ``held_elsewhere``."""
    parts = list(module.modules())
    parts += [one for part in parts for one in getattr(part, "held_elsewhere", ())]
    return list(dict.fromkeys(part for part in parts if isinstance(part, (LipschitzLayer, Shares))))


def projected_layers(module: nn.Module) -> list[LipschitzLayer]:
    """The layers of ``module`` that are held by projection, each once."""
    return [m for m in constrained_modules(module) if isinstance(m, LipschitzLayer) and m.projected]


def _constrained_modules(module: nn.Module) -> list[nn.Module]:
    """The modules of ``module`` whose parameters the bound rests on, each once."""
    roots = constrained_modules(module)
    return list(dict.fromkeys(inner for root in roots for inner in root.modules() if inner._parameters))


def project_after_step(
    optimizer: torch.optim.Optimizer, module: nn.Module, *, exact: bool = False
) -> torch.optim.Optimizer:
    """Make ``optimizer.step()`` put the constrained layers of ``module`` back into their sets.

    A cheap update follows each step; ``module.eval()`` (or ``project()``) makes it exact. With ``exact=True``
    every step is exact, as a network needs whose weights are averaged into a target. The optimizer's class
    is replaced by a subclass of itself, in place; calling this again replaces the list of layers. Steps
    with NaN or infinite gradients in a constrained layer raise ``ValueError`` and change no weight.

    Returns:
        The same optimizer, for chaining.

    Raises:
        TypeError: no torch optimizer.
        ValueError: a learning rate scheduler was made for the optimizer before: it calls the old step.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, received {type(optimizer).__name__}.")
    if "step" in vars(optimizer):
        raise ValueError(
            f"The step of this {type(optimizer).__name__} is wrapped already (a learning rate scheduler does that), so "
            "the projection would never run. Call project_after_step first and make the scheduler afterwards."
        )
    layers = projected_layers(module)
    if not isinstance(optimizer, _ProjectionMixin):
        optimizer.__class__ = _projected_class(type(optimizer))
    optimizer.projected_layers = layers  # type: ignore[attr-defined]
    optimizer.checked_modules = _constrained_modules(module)  # type: ignore[attr-defined]
    optimizer.shares = [m for m in constrained_modules(module) if isinstance(m, Shares)]  # type: ignore[attr-defined]
    optimizer.exact = exact  # type: ignore[attr-defined]
    optimizer.waits = [1] * len(layers)  # type: ignore[attr-defined]
    optimizer.steps_left = [1] * len(layers)  # type: ignore[attr-defined]
    return optimizer
