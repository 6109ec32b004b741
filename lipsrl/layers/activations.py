"""Activations that a Lipschitz bound may pass through: slope between 0 and 1 everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from lipsrl._validation import unknown_name

#: name → class. Every one has slope in [0, 1] with its default arguments, which Sandwich layers need.
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
        "sigmoid": nn.Sigmoid,
    }
)

#: Steepest slope of activations that networks met in the wild use (FIELD-GUIDE-checked by tests).
#: The ones above 1 are rounded up.
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
        nn.SiLU: 1.0998394,
        nn.GELU: 1.1289042,
        nn.Mish: 1.0885006,
        nn.Hardswish: 1.5,
        nn.SELU: 1.7580995,
    }
)

#: Homogeneous of degree one: a positive diagonal scaling before it can be moved behind it.
POSITIVELY_HOMOGENEOUS: frozenset[str] = frozenset({"relu", "leaky_relu"})

#: Slope in [0, 1] everywhere: what LipSDP-type proofs (Sandwich, SLL) need.
UNIT_SLOPE: frozenset[str] = frozenset(
    {"relu", "leaky_relu", "tanh", "elu", "softplus", "softsign", "hardtanh", "relu6", "sigmoid"}
)

#: 1-Lipschitz in l2 only.
L2_ONLY: frozenset[str] = frozenset()

_NAME_OF = {cls: name for name, cls in ACTIVATIONS.items()}


def activation_name(activation: Any) -> str:
    """The registry key of ``activation``, given as a key or as a torch class (SB3's ``activation_fn``).

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

    Classes are compared exactly: a subclass may compute anything.
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
        raise ValueError(f"activation={name!r} is 1-Lipschitz in l2 only and cannot be used with norm={norm!r}.")
    return ACTIVATIONS[name]()
