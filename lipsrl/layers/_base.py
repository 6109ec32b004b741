"""The contract that every constrained layer keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipsrl._validation import positive_finite, positive_int
from lipsrl.layers.activations import ACTIVATIONS, activation_name


class LipschitzLayer(nn.Module, ABC):
    """``y = W_out φ(W_in x + b)``, at most ``bound``-Lipschitz in l2; ``W_out`` is the identity where ``None``.

    All state is in Parameters, so polyak averaging, ``state_dict``, ``deepcopy`` and pickling need no care.
    Deliberately no subclass of ``nn.Linear``: SB3's ``ortho_init`` overwrites those.

    Args:
        in_features, out_features: sizes.
        activation: key of :data:`~lipsrl.layers.ACTIVATIONS`, a torch class, or ``None`` for a linear layer.
        bound: Lipschitz constant that the layer never exceeds.
        gain: initial norm relative to ``bound`` for layers that may shrink.
    """

    #: Key in ``LAYERS``.
    name: ClassVar[str]
    #: Whether the constraint is held by projecting plain weights after each optimizer step.
    projected: ClassVar[bool] = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str | type[nn.Module] | None = "relu",
        *,
        bound: float = 1.0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.in_features = positive_int("in_features", in_features)
        self.out_features = positive_int("out_features", out_features)
        self.bound = positive_finite("bound", bound)
        self.activation_name = None if activation is None else activation_name(activation)
        self.activation: nn.Module | None = (
            None if self.activation_name is None else ACTIVATIONS[self.activation_name]()
        )
        if not 0 < gain <= 1:
            raise ValueError(f"gain must be in (0, 1], the initial share of the bound; received {gain!r}.")
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.reset_parameters(gain)

    @abstractmethod
    def reset_parameters(self, gain: float) -> None:
        """Create the weights, inside their set."""

    @abstractmethod
    def input_weight(self) -> Tensor:
        """``W_in`` (out_features, in_features), differentiable."""

    def output_weight(self) -> Tensor | None:
        """``W_out`` (out_features, out_features), differentiable, or ``None`` for the identity."""
        return None

    def unit_scale(self) -> Tensor | None:
        """Positive diagonal Ψ (out_features,) with ``W_out = …Ψ`` and ``W_in = Ψ⁻¹…``, or ``None`` if there is none.

        It commutes with the activation's slopes, so it drops out of every Jacobian.
        """
        return None

    @abstractmethod
    def lipschitz_bound(self) -> float:
        """Sound float64 upper bound of the layer's Lipschitz constant, of the weights as they are now."""

    @abstractmethod
    def project(self) -> bool:
        """Put the weights exactly back into their set. Feasible weights keep every bit. Returns whether any changed.

        Raises:
            ValueError: the weights hold NaN or infinity (they are left as they are).
        """

    @abstractmethod
    def project_cheaply(self) -> None:
        """The update after an optimizer step: close to :meth:`project`, at a fraction of its price."""

    def project_gradient(self) -> None:
        """Keep only the part of the gradient that moves along the set, before an optimizer step.

        The rest would be undone by the projection, but not before it has filled an adaptive optimizer's
        moments: a loss that wants to grow the weights then hardly turns them any more.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (…, in_features) to (…, out_features)."""
        y = F.linear(x, self.input_weight(), self.bias)
        if self.activation is not None:
            y = self.activation(y)
        out = self.output_weight()
        return y if out is None else F.linear(y, out)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bound={self.bound:g}"
