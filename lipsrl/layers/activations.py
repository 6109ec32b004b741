"""Activations that a Lipschitz bound may pass through: none moves its output further than its input."""

from __future__ import annotations

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


def activation_name(activation: Any) -> str:
    """The registry key of ``activation``, given as a key or as a torch class (SB3's ``activation_fn``).

    ``nn.SiLU``, ``nn.GELU`` and ``nn.Mish``, which are steeper than 1, stand for the forms that are divided by their
    steepest slope: ``"silu"``, ``"gelu"`` and ``"mish"``.

    Raises:
        ValueError: names the nearest accepted activation, or says why a steep one is refused.
    """
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return activation
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
    return ACTIVATIONS[name](features) if name in LEARNED else ACTIVATIONS[name]()
