"""The contract that every constrained layer keeps."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipsrl._context import own_precision
from lipsrl._validation import positive_finite, positive_int
from lipsrl.layers._same import same
from lipsrl.layers.activations import UNIT_SLOPE, activation_name, has_unit_slope, make_activation

#: In the place of versions, in the state of a layer whose weights were seen.
_AS_SEEN = -1


class Factors(NamedTuple):
    """What a layer computes with: ``y = S x + W_out φ(W_in x + b)``.

    Attributes:
        input: ``W_in`` (out_features, in_features).
        output: ``W_out`` (out_features, out_features), or ``None`` for the identity.
        skip: ``S`` (out_features, in_features), or ``None`` for no skip connection.
        unit_scale: positive diagonal Ψ (out_features,) with ``W_out = …Ψ`` and ``W_in = Ψ⁻¹…``, or ``None``. It
            commutes with the activation's slopes, so it drops out of every Jacobian.
    """

    input: Tensor
    output: Tensor | None = None
    skip: Tensor | None = None
    unit_scale: Tensor | None = None


class LipschitzLayer(nn.Module, ABC):
    """``y = S x + W_out φ(W_in x + b)``, at most ``bound``-Lipschitz in :attr:`norm`; see :class:`Factors`.

    All state is in Parameters, so polyak averaging, ``state_dict``, ``deepcopy`` and pickling need no care.
    Deliberately no subclass of ``nn.Linear``: SB3's ``ortho_init`` overwrites those.

    A *projected* layer holds plain weights that are put back into their set after each optimizer step. A
    *parametrised* one computes its weights from free parameters whenever they are used; they are inside the set by
    construction.

    Args:
        in_features, out_features: sizes.
        activation: key of :data:`~lipsrl.layers.ACTIVATIONS`, a torch class, or ``None`` for a linear layer.
        bound: Lipschitz constant that the layer never exceeds.
        gain: initial norm relative to ``bound`` for layers that may shrink.
        unit: in which layers of plain weights hold them: what acts is ``unit·weight``. An optimizer whose steps have a
            given size per entry moves the layer's function by ``unit`` as much. ``None``: the family's own.

    Raises:
        ValueError: an argument is out of range, or the family's proof does not cover the activation.
    """

    #: Key in ``LAYERS``.
    name: ClassVar[str]
    #: Whether the constraint is held by projecting plain weights after each optimizer step.
    projected: ClassVar[bool] = True
    #: Norm of inputs and outputs that the bound speaks of.
    norm: ClassVar[str] = "l2"
    #: Whether the proof needs activations with slope in [0, 1].
    needs_unit_slope: ClassVar[bool] = False
    #: Whether ``W_out`` is a matrix, which a network multiplies into the next layer.
    merges: ClassVar[bool] = False
    #: Whether the weights may shrink inside their set; others need a gain to be smaller than ``bound``.
    shrinks: ClassVar[bool] = False

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str | type[nn.Module] | None = "relu",
        *,
        bound: float = 1.0,
        gain: float = 1.0,
        unit: float | None = None,
    ) -> None:
        super().__init__()
        self.in_features = positive_int("in_features", in_features)
        self.out_features = positive_int("out_features", out_features)
        self.bound = positive_finite("bound", bound)
        self.unit = self.own_unit(self.bound) if unit is None else positive_finite("unit", unit)
        self.activation_name = None if activation is None else activation_name(activation)
        self.activation: nn.Module | None = None
        if self.activation_name is not None:
            if self.needs_unit_slope and not has_unit_slope(self.activation_name):
                raise ValueError(
                    f"layer={self.name!r} cannot be used with activation={self.activation_name!r}: its proof needs "
                    f"slopes between 0 and 1. Accepted: {', '.join(map(repr, sorted(UNIT_SLOPE)))}; or use a layer "
                    "whose proof does not, such as 'orthogonal'."
                )
            self.activation = make_activation(self.activation_name, self.out_features, norm=self.norm)
        if not 0 < gain <= 1:
            raise ValueError(f"gain must be in (0, 1], the initial share of the bound; received {gain!r}.")
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.reset_parameters(gain)

    #: Versions of the parameters when they were last put into their set by who knows how.
    _seen: int | None = None
    _hooked: list[int] | None = None

    #: The parameters, and in which set, as :meth:`keep_inside` has left them.
    _inside: tuple[tuple[float, float], list[Tensor]] | None = None

    def keep_inside(self, *, roughly: bool = False) -> bool:
        """:meth:`project`, unless the weights are to the bit those that the last call of this has left.

        Comparing them costs a hundredth of a projection; off-policy algorithms often act without having learned.

        Args:
            roughly: whether :meth:`project_roughly` is enough.
        """
        if self.is_as_left():
            return False
        changed = self.project_roughly() if roughly else self.project()
        own = [p.detach().clone() for p in self._parameters.values() if p is not None]
        self.__dict__["_inside"] = ((self.bound, self.unit), own)
        return changed

    def is_as_left(self) -> bool:
        """Whether the weights are those that :meth:`keep_inside` has left, and their set the same."""
        inside = self._inside
        if inside is None or inside[0] != (self.bound, self.unit) or self._versions() is None:
            return False
        return same(inside[1], [p for p in self._parameters.values() if p is not None])

    def mark(self) -> None:
        """To be called by whoever has put the weights into their set, or will in time."""
        self.__dict__["_seen"] = (
            self._versions()
        )  # not by Module.__setattr__: this is called at every optimizer step

    def settle(self) -> bool:
        """Before a forward in training: project what an optimizer without projections has written since :meth:`mark`.

        So the loss is of the function that acts, whatever the optimizer. Returns whether anything was written.
        """
        if not self.projected or not self.written():
            return False
        with own_precision(self.bias):
            self.project()
        self.mark()
        self._hook_gradients()
        return True

    def _hook_gradients(self) -> None:
        """An optimizer of somebody else's does not ask for :meth:`project_gradient`, so each backward does from now on.

        Of no harm where lipsrl's does too. Copies start without, and come here again if need be.
        """
        if type(self).project_gradient is LipschitzLayer.project_gradient:
            return
        parameters = [
            p for p in self._parameters.values() if p is not None and p.requires_grad and p.dim() == 2
        ]
        hooked = [id(p) for p in parameters]
        if hooked == self._hooked:
            return
        self._hooked = hooked
        this = weakref.ref(self)

        def project_gradient(_: Tensor) -> None:
            layer = this()
            if layer is not None:
                with own_precision(layer.bias):
                    layer.project_gradient()

        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(project_gradient)  # type: ignore[no-untyped-call]

    def written(self) -> bool:
        """Whether torch knows of a write since :meth:`mark`."""
        versions = self._versions()
        return versions is not None and versions != self._seen

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_seen"] = None if self.written() else _AS_SEEN  # a copy's parameters count anew
        state.pop("_hooked", None)
        state.pop("_inside", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if self._seen == _AS_SEEN:
            self.mark()

    def _versions(self) -> int | None:
        """``None`` where the parameters are not the module's own, or count none."""
        versions = 0
        try:
            for parameter in self._parameters.values():
                if parameter is not None:
                    if type(parameter) is not nn.Parameter:
                        return None
                    versions += parameter._version
        except RuntimeError:  # made in inference mode
            return None
        return versions

    @classmethod
    def own_unit(cls, bound: float) -> float:
        """Where none is given."""
        return 1.0

    @property
    def radius(self) -> float:
        """``bound`` in units of the stored weights."""
        return self.bound / self.unit

    @abstractmethod
    def reset_parameters(self, gain: float) -> None:
        """Create the weights, inside their set."""

    def start_from(self, weight: Tensor) -> None:
        """Start as near to a plain layer of ``weight`` (out_features, in_features) as the set allows, if it can."""

    def hold(self, bound: float, unit: float) -> None:
        """Another bound and unit; what shrinks stays the function that it is, as far as the new set allows.

        Raises:
            ValueError: weights that cannot be projected.
        """
        self.bound, self.unit = bound, unit
        self.project()

    @abstractmethod
    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        """The weights that act, differentiable, computed in ``dtype`` (the parameters' own if ``None``)."""

    @abstractmethod
    def lipschitz_bound(self) -> float:
        """Sound float64 upper bound of the Lipschitz constant of the layer with ``factors(torch.float64)``.

        What rounding to another dtype adds is counted by whoever rounds (:meth:`LipschitzMLP.lipschitz_bound`).
        """

    @abstractmethod
    def project(self) -> bool:
        """Put the weights exactly back into their set. Feasible weights keep every bit. Returns whether any changed.

        Raises:
            ValueError: the weights hold NaN or infinity (they are left as they are).
        """

    def project_roughly(self) -> bool:
        """:meth:`project`, but feasible weights at the very edge of their set may be moved, too, where that is cheaper.

        For weights that are trained on anyway.
        """
        return self.project()

    def project_cheaply(self) -> float:
        """The update after an optimizer step: close to :meth:`project`, at a fraction of its price.

        Returns:
            How far (relative) the weights were outside their set: small values let the next update wait.
        """
        return 0.0

    def project_gradient(self) -> None:
        """Keep only the part of the gradient that moves along the set, before an optimizer step.

        The rest would be undone by the projection, but not before it has filled an adaptive optimizer's
        moments: a loss that wants to grow the weights then hardly turns them any more.
        """

    def acting_factors(self) -> Factors:
        """:meth:`factors` as the layer acts in its present mode.

        In training a float32 map with a margin; in evaluation mode a parametrised layer computes in float64 and
        rounds, because the float32 map of extreme parameters may be off by more than that margin.
        """
        if self.training or self.projected or self.bias.dtype == torch.float64:
            return self.factors()
        exact = self.factors(torch.float64)
        return Factors(*(None if f is None else f.to(self.bias.dtype) for f in exact))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (…, in_features) to (…, out_features)."""
        if self.training and not torch.compiler.is_compiling():
            self.settle()
        factors = self.acting_factors()
        y = F.linear(x, factors.input, self.bias)
        if self.activation is not None:
            y = self.activation(y)
        if factors.output is not None:
            y = F.linear(y, factors.output)
        return y if factors.skip is None else y + F.linear(x, factors.skip)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bound={self.bound:g}"
