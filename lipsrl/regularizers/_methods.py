"""All methods by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, TypeVar

from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers.action_rate import ActionRate
from lipsrl.regularizers.asap import ASAP
from lipsrl.regularizers.caps import CAPS
from lipsrl.regularizers.cats import CATS
from lipsrl.regularizers.grad_caps import GradCAPS
from lipsrl.regularizers.gradient_penalty import GradientPenalty
from lipsrl.regularizers.l2c2 import L2C2
from lipsrl.regularizers.pave import PAVE
from lipsrl.regularizers.smooth_policy import SmoothPolicy

_ALL = (CAPS, GradCAPS, L2C2, SmoothPolicy, GradientPenalty, CATS, ASAP, PAVE, ActionRate)

_KNOWN: dict[str, type[Regularizer]] = {cls.__name__: cls for cls in _ALL}

#: name → class, as data (a zip, a YAML file) names them.
METHODS: MappingProxyType[str, type[Regularizer]] = MappingProxyType(_KNOWN)

Method = TypeVar("Method", bound=Regularizer)


def register(cls: type[Method]) -> type[Method]:
    """Make a method of your own known by its class's name; to be written above the class.

    A model keeps its methods as data, so that its zip opens anywhere: what is in it has to be found by name. Import the
    module with the class before a model that learns with it is trained on.

    Raises:
        TypeError: no frozen dataclass that derives from :class:`Regularizer`, or one without a ``name``.
        ValueError: another class has that name already, of the class or in the log.

    Example:
        >>> from dataclasses import dataclass
        >>> from lipsrl.regularizers import Regularizer, register
        >>> @register
        ... @dataclass(frozen=True)
        ... class Small(Regularizer):
        ...     size: float = 0.01
        ...     name = "small"
        ...     actor_terms = ("size",)
        ...
        ...     def actor_losses(self, batch, terms):
        ...         return {"size": (batch.networks.mean(batch.observations) * batch.action_unit).square().mean()}
    """
    given: Any = cls
    parameters = vars(given).get("__dataclass_params__") if isinstance(given, type) else None
    if parameters is None or not parameters.frozen or not issubclass(given, Regularizer) or not given.name:
        raise TypeError(
            f"{cls!r} must be a dataclass(frozen=True) that derives from Regularizer, with a ``name`` for the log."
        )
    for known in _KNOWN.values():
        same = (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
        if not same and (known.__name__ == cls.__name__ or known.name == cls.name):
            raise ValueError(f"{cls.__name__} (name={cls.name!r}) has a name of {known!r}. Give it another.")
    _KNOWN[cls.__name__] = cls
    return cls
