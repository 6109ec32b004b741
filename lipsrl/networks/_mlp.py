"""Constrained layers stacked to one bound."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lipsrl._context import own_precision
from lipsrl._validation import lookup, positive_finite, positive_int
from lipsrl.layers import (
    GROWTHS,
    HEADS,
    LAYERS,
    GrowingGains,
    LearnedBudget,
    LipschitzLayer,
    Shares,
    activation_name,
    start_norms,
)
from lipsrl.networks._earlier import become_as_saved, growth_code
from lipsrl.networks._layout import Part, growing_layout, in_own_units, shared_layout, with_reserve
from lipsrl.networks._merged import Merging
from lipsrl.networks._scales import check_magnitude, norm_mismatch, scale_vector
from lipsrl.networks._stages import Stage, added_by_rounding, build, plain_modules, proven_product


class LipschitzMLP(Merging):
    """Multi-layer perceptron with ``‖f(x) - f(x')‖ ≤ bound·‖x - x'‖`` for all x, x', in l2 or l-inf.

    Hidden layers stay at their bound; the last layer lies in the ball of its radius and can shrink, because a
    network that cannot make its output small is hard to train (an orthogonal last layer costs PPO its return on
    Pendulum).

    Args:
        in_features, out_features: sizes of x (…, in_features) and f(x) (…, out_features).
        hidden: widths of the hidden layers; may be empty.
        bound: K > 0.
        layer: key of :data:`lipsrl.layers.LAYERS`.
        activation: key of :data:`lipsrl.layers.ACTIVATIONS`, or a torch class.
        norm: ``"l2"``, or ``"linf"`` with ``layer="linf"``.
        budget: how K is split over the layers, key of :data:`lipsrl.layers.BUDGETS`. All of it in the last layer
            unless said otherwise (docs/layers.md has what was measured).
        head_gain: initial norm of the last layer, as a share of what it may reach; with ``budget="growing"`` the norm
            itself (``None``: as ``start`` says).
        start: what a plain twin of this network starts from, one of :data:`lipsrl.layers.STARTS`; of meaning with
            ``budget="growing"`` only.
        growth: how such a twin grows, one of :data:`lipsrl.layers.GROWTHS`; likewise. Weights that were saved under the
            other one are read as what they are.
        input_unit: size of an input as the twin receives it, in units of ``input_scale``; likewise.
        input_scale: unit of each input; the promise becomes ``‖Δf‖ ≤ K·‖Δx / input_scale‖``.
        output_scale: f is divided by it, and the promise holds for ``f·output_scale``.

    In training mode each forward merges the factors (differentiably) into plain weights. In eval mode an
    owner that is the only writer of the weights may set :attr:`cache_in_eval`; the merged weights are then
    computed once per train→eval transition, and serve where no gradients of the weights are asked for. Copies start
    without: a target network that is written through ``.data`` must never have them.

    The train→eval transition projects. So does the first forward in eval mode after a copy, or after a write
    that torch can tell (``load_from_vector``, ``optimizer.step``, in-place operations); and a forward in training mode
    after a step of an optimizer that lipsrl did not make. Torch does not tell writes through ``.data``, or of another
    process into shared memory. Where merged weights are kept, ``eval()`` (SB3 calls it at every ``predict``) looks at
    a few entries of each parameter on the CPU; elsewhere follow such a write by :meth:`project`.

    Raises:
        ValueError: an argument is out of range, or a name is unknown (the nearest is suggested).
    """

    input_scale: Tensor | None
    growth: str = "random"  # also of pickles from before there was another
    output_scale: Tensor | None
    #: What weights had that were saved without a word on the activation, or on the layer.
    earlier_activation: str | None = None
    earlier_layer: str | None = None
    #: Only while a policy loads: it tells its optimizer and its options.
    may_change_layers: bool = False

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int] = (64, 64),
        bound: float = 1.0,
        layer: str = "sandwich",
        activation: str | type[nn.Module] = "relu",
        norm: str = "l2",
        *,
        budget: str = "output",
        head_gain: float | None = 1.0,
        start: str = "linear",
        growth: str = "random",
        input_unit: float = 1.0,
        input_scale: Any = None,
        output_scale: Any = None,
    ) -> None:
        super().__init__()
        self.in_features = positive_int("in_features", in_features)
        self.out_features = positive_int("out_features", out_features)
        self.hidden = tuple(positive_int("hidden", width) for width in hidden)
        self.bound = positive_finite("bound", bound)
        check_magnitude("bound", self.bound)
        self.layer_name = layer
        layer_class = lookup("layer", layer, LAYERS)
        self.activation_name = activation_name(activation)
        if norm != layer_class.norm:
            lookup("norm", norm, HEADS)
            raise norm_mismatch(layer, norm)
        self.norm = norm
        self.budget = budget

        self.input_unit = positive_finite("input_unit", input_unit)
        self._set_output_unit(scale_vector("output_scale", output_scale, self.out_features))
        lookup("growth", growth, GROWTHS)
        self.growth = growth
        self.starts = start_norms(start, (self.in_features, *self.hidden, self.out_features))
        if budget == "growing":
            if norm != "l2":
                raise ValueError(f"budget='growing' is of norm='l2' only, received norm={norm!r}.")
            if head_gain is not None:
                self.starts[-1] = positive_finite("head_gain", head_gain)

        layout = self._layout(layer_class)
        sizes = (self.in_features, *self.hidden)
        self.layers = nn.ModuleList(
            layer_class(n_in, n_out, self.activation_name, bound=part.bound, gain=part.gain, unit=part.unit)
            for (n_in, n_out), part in zip(itertools.pairwise(sizes), layout[:-1], strict=True)
        )
        head_class = HEADS[norm]
        gain = 1.0 if head_gain is None else head_gain
        gain = layout[-1].gain if budget == "growing" else gain
        self.head = head_class(
            sizes[-1], self.out_features, None, bound=layout[-1].bound, gain=gain, unit=layout[-1].unit
        )
        self.shares: Shares | None = None
        if budget == "learned":
            self.shares = LearnedBudget(len(layout))
        elif budget == "growing":
            # files from before this budget lack it, and are read as what they were; likewise those of another growth
            self.register_buffer("growing", torch.full((1,), growth_code(growth)))
            if self.hidden and not layer_class.shrinks:
                self.shares = GrowingGains(
                    [start / part.size for start, part in zip(self.starts[:-1], layout[:-1], strict=True)]
                )
        # Constants of the problem, equal in every copy; not part of the state dict.
        for name, value, size in (
            ("input_scale", input_scale, self.in_features),
            ("output_scale", output_scale, self.out_features),
        ):
            self.register_buffer(name, scale_vector(name, value, size), persistent=False)
        self._keep_state()

    def _set_output_unit(self, output_scale: Tensor | None) -> None:
        self.output_unit = 1.0 if output_scale is None else float(output_scale.double().log().mean().exp())

    def _layout(self, layer_class: type[LipschitzLayer]) -> list[Part]:
        """What each layer may become and how it holds its weights."""
        n_layers = len(self.hidden) + 1
        bound = with_reserve(self.bound, n_layers)
        if self.budget != "growing":
            return shared_layout(bound, self.budget, layer_class, self.norm, n_layers)
        sizes = (self.in_features, *self.hidden, self.out_features)
        return growing_layout(
            bound, sizes, self.starts, layer_class, self.input_unit, self.output_unit, self.growth
        )

    def set_bound(self, bound: float) -> None:
        """Change K. Layers are projected at once; where their share grows they may move on from where they are (SLL,
        and parametrised layers without a gain, scale with their share).

        Raises:
            ValueError: out of range, or weights that cannot be projected.
        """
        self.check_bound(bound)
        layer_class = LAYERS[self.layer_name]
        before = self._layout(layer_class)
        self.bound = float(bound)
        self._set_output_unit(self.output_scale)
        after = self._layout(layer_class)
        if isinstance(self.shares, GrowingGains):  # layers stay as large as they are, if they may
            factors = self.shares.factors(torch.float64).tolist()
            sizes = zip(factors[:-1], before[:-1], after[:-1], strict=True)
            self.shares.set([factor * old.size / new.size for factor, old, new in sizes])
        self._adopt(after)

    def check_bound(self, bound: float) -> None:
        """Whether :meth:`set_bound` can be called with it.

        Raises:
            ValueError: out of range, or parameters that are not finite.
        """
        check_magnitude("bound", positive_finite("bound", bound))
        self.check_parameters()

    def _adopt(self, layout: Sequence[Part]) -> None:
        for layer, part in zip((*self.layers, self.head), layout, strict=True):
            # also where the share stays: somebody may have written into the weights since the last forward
            layer.hold(part.bound, part.unit)
        self._refresh_cache()

    @torch.no_grad()
    def start_from(self, plain: Sequence[nn.Linear]) -> None:
        """Start as near to the chain of ``plain`` layers as the constraint allows (``budget="growing"``).

        The layers that act on what the plain ones act on; the families that cannot take their weights keep their own
        draws, of the same size, and take the biases.
        """
        weights = in_own_units(plain, self.input_unit, self.output_scale)
        for layer, (weight, bias) in zip(self._held(), weights, strict=True):
            layer.start_from(weight)
            layer.bias.copy_(bias)
        self._refresh_cache()

    # -- the function ------------------------------------------------------------------------------------

    def stages(self, *, acting: bool = True) -> list[Stage]:
        """The equivalent chain of plain stages, as it acts now (differentiable), or exactly in float64."""
        if torch.compiler.is_compiling():
            return self._build(acting)
        with own_precision(self._modules["head"]._parameters["bias"]):  # type: ignore[union-attr,arg-type]
            return self._build(acting)

    def _build(self, acting: bool) -> list[Stage]:
        shares = None
        if self.shares is not None:
            late = acting and self.training
            shares = self.shares.per_layer(None if late else torch.float64)
        return build(
            self._held(),
            acting=acting,
            input_scale=self._buffers["input_scale"],
            output_scale=self._buffers["output_scale"],
            shares=shares,
        )

    # -- the promise -------------------------------------------------------------------------------------

    def lipschitz_bound(self) -> float:
        """Sound upper bound of the Lipschitz constant of the weights as they are now, computed in float64.

        Of ``x / input_scale ↦ f·output_scale``, in the network's norm. Infinite where float64 overflows. A cache that
        the weights have left behind is renewed (and projected) first.

        It is the product of the layers' own bounds (for Sandwich and residual layers the construction bound: the
        product of the *merged* norms says nothing) plus what rounding the merged weights to their dtype can add.
        """
        self._renew_stale_cache()
        modules = self._held()
        norms = [layer.lipschitz_bound() for layer in modules]
        if self.shares is not None:
            norms.append(float(torch.prod(self.shares.factors(torch.float64)).detach()))
        added = added_by_rounding(
            modules, self.stages(), self.stages(acting=False), norm=self.norm, input_scale=self.input_scale,
            output_scale=self.output_scale,
        )  # fmt: skip
        return proven_product(norms, added)

    def _project_shares(self) -> bool:
        return self.shares is not None and self.shares.project()

    def merge(self) -> nn.Sequential:
        """The same function as fresh plain torch modules: ``nn.Linear``, activations and residual blocks of them."""
        with torch.no_grad():
            stages = [stage.detach() for stage in self._current_stages()]
        activations = [layer.activation for layer in self._held()]
        return nn.Sequential(*plain_modules(stages, activations)).train(self.training)

    # -- state -------------------------------------------------------------------------------------------

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if become_as_saved(self, state_dict, prefix):
            self._adopt_for_loading()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _adopt_for_loading(self) -> None:
        """The layers' bounds and units; all that is known of the weights is void."""
        layer: Any
        for layer, part in zip(self._held(), self._layout(LAYERS[self.layer_name]), strict=True):
            layer.bound, layer.unit = part.bound, part.unit
        self._watched = self._stamp = self._kept = self._left = self._probes = self._kept_of = None

    def _held(self) -> list[LipschitzLayer]:
        # Module.__getattr__ would cost as much as a matrix product, at every forward
        modules: Any = self._modules
        return [*modules["layers"]._modules.values(), modules["head"]]

    def _merging_is_dear(self) -> bool:
        held = self._held()
        return self.shares is None and held[0].merges and all(layer.projected for layer in held)

    def _settle(self) -> bool:
        written = super()._settle()
        if written and self.shares is not None:
            self.shares.project()
        return written

    def check_conversion(self, fn: Any) -> None:
        """Refuse what torch's ``to`` would make of the network.

        Raises:
            ValueError: a dtype in which the bound does not hold.
        """
        dtype = fn(self.head.bias.detach()).dtype
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"A LipschitzMLP keeps its bound in float32 and float64 only, received {dtype}: merged weights are "
                "rounded too much there. Use merge() and certify the result."
            )

    def _apply(self, fn: Any, recurse: bool = True) -> LipschitzMLP:
        self.check_conversion(fn)
        super()._apply(fn, recurse)
        return self

    def extra_repr(self) -> str:
        return (
            f"{self.in_features} → {' → '.join(map(str, self.hidden))} → {self.out_features}, bound={self.bound:g}, "
            f"layer={self.layer_name!r}, activation={self.activation_name!r}"
        )
