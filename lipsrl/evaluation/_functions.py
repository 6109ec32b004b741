"""A policy that is not SB3's own, as a function of arrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from lipsrl.evaluation._observations import Observations


def as_function(model: Any, label: str) -> Callable[[Observations], Any]:
    """From a batch of observations to one of actions.

    Args:
        model: a torch module, a callable, or anything with SB3's ``predict``. What is both is asked by ``predict`` if
            that takes a state: called, it might remember across the rows of a batch.
        label: its name for errors.

    Raises:
        TypeError: none of these.
    """
    if isinstance(model, nn.Module):
        return Module(model)
    if _hands_out_states(model):
        return Predicting(model)
    if callable(model):
        function: Callable[[Observations], Any] = model
        return function
    if callable(getattr(model, "predict", None)):
        return Predicting(model)
    raise TypeError(
        f"{label} must be a Stable-Baselines3 model, or a callable from observations (n, dim) to "
        f"actions (n, act), received {type(model).__name__}."
    )


def _hands_out_states(model: Any) -> bool:
    try:
        return "state" in inspect.signature(model.predict).parameters
    except (AttributeError, TypeError, ValueError):  # no predict, or one that says nothing of itself
        return False


class Module:
    """A torch module as a callable of arrays: it is given tensors of the type of its weights."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module.eval()

    def __call__(self, observations: Observations) -> NDArray[Any]:
        like = next(self._module.parameters(), torch.empty(0))

        def tensor(values: NDArray[Any]) -> torch.Tensor:
            return torch.as_tensor(values, dtype=like.dtype, device=like.device)

        by_key = isinstance(observations, dict)
        seen = {k: tensor(v) for k, v in observations.items()} if by_key else tensor(observations)
        with torch.no_grad():
            actions: NDArray[Any] = self._module(seen).cpu().numpy()
        return actions


class Predicting:
    """SB3's ``predict`` as a callable."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, observations: Observations) -> Any:
        return self.model.predict(observations, deterministic=True)[0]


def overrides_predict(policy: BasePolicy) -> bool:
    """Whether it acts otherwise than by SB3's own ``predict``."""
    return type(policy).predict is not BasePolicy.predict
