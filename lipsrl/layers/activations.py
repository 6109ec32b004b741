"""Activations that a Lipschitz bound may pass through: none moves its output further than its input."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from lipsrl._validation import unknown_name
from lipsrl.layers._activation_modules import (
    Abs,
    ClippedReLU,
    DividedGELU,
    DividedMish,
    DividedSiLU,
    FullSort,
    GroupSort,
    Householder,
    MaxMin,
)

#: name → class. Every one is 1-Lipschitz with its default arguments, in l2 and (but for :data:`L2_ONLY`) in l-inf.
ACTIVATIONS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {
        "relu": nn.ReLU,
        "leaky_relu": nn.LeakyReLU,
        "tanh": nn.Tanh,
        "elu": nn.ELU,
        "softplus": nn.Softplus,
        "softsign": nn.Softsign,
        "hardtanh": nn.Hardtanh,
        "relu6": nn.ReLU6,
        "clipped_relu": ClippedReLU,
        "sigmoid": nn.Sigmoid,
        "silu": DividedSiLU,
        "gelu": DividedGELU,
        "mish": DividedMish,
        "abs": Abs,
        "maxmin": MaxMin,
        "group_sort": GroupSort,
        "full_sort": FullSort,
        "householder": Householder,
    }
)

#: Those steeper than 1 in torch, which are divided by their steepest slope here: name → torch's own.
UNDIVIDED: Mapping[str, type[nn.Module]] = MappingProxyType(
    {"silu": nn.SiLU, "gelu": nn.GELU, "mish": nn.Mish}
)

#: Those with one parameter per pair of units, whose class is called with the number of units.
LEARNED: frozenset[str] = frozenset({"householder"})

#: Steepest slope of activations without arguments, those that networks met in the wild use among them; for jointly
#: acting ones their Lipschitz constant in l2. The ones above 1 are rounded up.
MAX_SLOPE: Mapping[type[nn.Module], float] = MappingProxyType(
    {
        nn.Identity: 1.0,
        nn.ReLU: 1.0,
        nn.ReLU6: 1.0,
        nn.Tanh: 1.0,
        nn.Softsign: 1.0,
        nn.Sigmoid: 0.25,
        nn.LogSigmoid: 1.0,
        nn.Hardsigmoid: 0.16666668,
        nn.SiLU: DividedSiLU.divisor,
        nn.GELU: DividedGELU.divisor,
        nn.Mish: DividedMish.divisor,
        nn.Hardswish: 1.5,
        nn.SELU: 1.7580995,
        ClippedReLU: 1.0,
        DividedSiLU: 1.0,
        DividedGELU: 1.0,
        DividedMish: 1.0,
        Abs: 1.0,
        MaxMin: 1.0,
        GroupSort: 1.0,
        FullSort: 1.0,
        Householder: 1.0,
    }
)

#: ``φ(Dx) = Dφ(x)`` for every positive diagonal D: a scaling before it can be moved behind it. The sorting and
#: reflecting ones are homogeneous too, but only for one common factor per group.
POSITIVELY_HOMOGENEOUS: frozenset[str] = frozenset({"relu", "leaky_relu", "abs"})

#: Slope in [0, 1] everywhere: what LipSDP-type proofs (Sandwich, SLL) need.
UNIT_SLOPE: frozenset[str] = frozenset(
    {
        "relu",
        "leaky_relu",
        "tanh",
        "elu",
        "softplus",
        "softsign",
        "hardtanh",
        "relu6",
        "clipped_relu",
        "sigmoid",
    }
)

#: 1-Lipschitz in l2 only.
L2_ONLY: frozenset[str] = frozenset({"householder"})

_NAME_OF = {cls: name for registry in (ACTIVATIONS, UNDIVIDED) for name, cls in registry.items()}


def base_of(name: str) -> str:
    """The registry key in a name that may have arguments."""
    return name.partition("(")[0]


def arguments_of(name: str) -> dict[str, float]:
    """The arguments in ``"leaky_relu(negative_slope=0.2)"``."""
    inside = name.partition("(")[2].rstrip(")")
    pairs = (part.partition("=") for part in inside.split(",") if part.strip())
    return {key.strip(): float(value) for key, _, value in pairs}


def activation_class(name: str, *, undivided: bool = False) -> Any:
    """The class of ``name``, or a ``functools.partial`` of it with its arguments."""
    cls = UNDIVIDED.get(base_of(name)) if undivided else None
    cls = ACTIVATIONS[base_of(name)] if cls is None else cls
    arguments = arguments_of(name)
    return functools.partial(cls, **arguments) if arguments else cls


def has_unit_slope(name: str) -> bool:
    """Whether its slope is in [0, 1] everywhere."""
    steepness = {"leaky_relu": "negative_slope", "elu": "alpha"}.get(base_of(name))
    inside = steepness is None or 0 <= arguments_of(name).get(steepness, 0.0) <= 1
    return base_of(name) in UNIT_SLOPE and inside


def is_homogeneous(name: str) -> bool:
    """Whether ``φ(Dx) = Dφ(x)`` for every positive diagonal D."""
    return base_of(name) in POSITIVELY_HOMOGENEOUS


def _with_arguments(base: str, given: Mapping[str, Any]) -> str:
    """The name of ``base`` with arguments of torch's; ``inplace`` is left out, because it means nothing here.

    Raises:
        ValueError: arguments that it has not, that are no numbers, or that make it steeper than 1.
    """
    arguments = {key: value for key, value in given.items() if key != "inplace"}
    if not arguments:
        return base
    said = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    try:
        numbers = {key: float(value) for key, value in arguments.items()}
        slope = max_slope(ACTIVATIONS[base](**numbers))
    except (TypeError, ValueError) as error:
        raise ValueError(f"activation {base!r} does not take {said}: {error}") from error
    if slope is None or slope > 1:
        raise ValueError(
            f"activation {base!r} with {said} has a slope above 1, or one that is not known, and would break "
            "the bound. Leave the arguments out, or make them smaller."
        )
    return f"{base}({', '.join(f'{key}={value!r}' for key, value in sorted(numbers.items()))})"


def activation_name(activation: Any) -> str:
    """The name of ``activation``: given as one, as a torch class (SB3's ``activation_fn``) or a ``partial`` of one.

    A registry key, with arguments where there are: ``"leaky_relu(negative_slope=0.2)"``.

    ``nn.SiLU``, ``nn.GELU`` and ``nn.Mish``, which are steeper than 1, stand for the forms that are divided by their
    steepest slope: ``"silu"``, ``"gelu"`` and ``"mish"``.

    Raises:
        ValueError: names the nearest accepted activation, or says why a steep one is refused.
    """
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return activation
    if isinstance(activation, str) and base_of(activation) in ACTIVATIONS and activation.endswith(")"):
        try:
            arguments = arguments_of(activation)
        except ValueError:
            raise ValueError(
                f"activation={activation!r} has arguments that are no numbers; expected such as "
                "'leaky_relu(negative_slope=0.2)'."
            ) from None
        return _with_arguments(base_of(activation), arguments)
    if isinstance(activation, functools.partial):
        if activation.args:
            raise ValueError(f"activation_fn={activation} must have keyword arguments only.")
        return _with_arguments(activation_name(activation.func), activation.keywords)
    if isinstance(activation, type) and issubclass(activation, nn.Module):
        if activation in _NAME_OF:
            return _NAME_OF[activation]
        slope = MAX_SLOPE.get(activation)
        if slope is not None and slope > 1:
            raise ValueError(
                f"activation_fn={activation.__name__} has slope {slope:.4g} > 1 and would break the bound. "
                f"Accepted: {', '.join(map(repr, ACTIVATIONS))}."
            )
        raise unknown_name("activation", activation.__name__, ACTIVATIONS)
    raise unknown_name("activation", activation, ACTIVATIONS)


def max_slope(module: nn.Module) -> float | None:
    """Largest |slope| of an activation *instance* (its own arguments counted), or ``None`` if it is unknown.

    Of activations that act jointly on several units, their Lipschitz constant in l2. Classes are compared exactly: a
    subclass may compute anything.
    """
    kind = type(module)
    if kind is nn.LeakyReLU:
        return max(1.0, abs(float(module.negative_slope)))  # type: ignore[arg-type]
    if kind is nn.ELU:
        return max(1.0, abs(float(module.alpha)))  # type: ignore[arg-type]
    if kind is nn.CELU:  # slope exp(x/alpha) for x < 0, which explodes for alpha < 0
        return 1.0 if float(module.alpha) > 0 else None  # type: ignore[arg-type]
    if kind is nn.Softplus:
        # torch jumps by log(1 + exp(-threshold))/beta where it goes over to the identity: 2e-9 by default
        return 1.0 if float(module.beta) > 0 and float(module.threshold) >= 20 else None  # type: ignore[arg-type]
    if kind is nn.Hardtanh:
        return 1.0
    if kind is nn.GELU and getattr(module, "approximate", "none") != "none":
        return None
    return MAX_SLOPE.get(kind)


def make_activation(name: str, features: int, *, norm: str = "l2") -> nn.Module:
    """A fresh activation for vectors of ``features`` units.

    Args:
        name: key of :data:`ACTIVATIONS`.
        features: units it acts on.
        norm: norm in which it must be 1-Lipschitz.

    Raises:
        ValueError: the activation is not 1-Lipschitz in ``norm``.
    """
    if norm != "l2" and name in L2_ONLY:
        raise ValueError(
            f"activation={name!r} is 1-Lipschitz in l2 only and cannot be used with norm={norm!r}."
        )
    made: nn.Module = ACTIVATIONS[name](features) if name in LEARNED else activation_class(name)()
    return made
