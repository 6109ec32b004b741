"""Constrained layers stacked to one bound."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipsrl._validation import lookup, positive_finite, positive_int
from lipsrl.layers import ACTIVATIONS, LAYERS, LipschitzLayer, Spectral, activation_name, spectral_norm
from lipsrl.layers._linalg import EPS64, MARGIN
from lipsrl.layers._plain import plain_linear

Affine = tuple[Tensor, Tensor]

#: Bounds and scales may be this large, and this small.
LARGEST = 1e15


def scale_vector(argument: str, value: Any, size: int) -> Tensor | None:
    """``value`` (None, a number > 0 or one per coordinate) as a float32 vector of ``size``."""
    if value is None:
        return None
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{argument} must be one number > 0 or {size} of them, received {value!r}."
        ) from None
    if array.ndim == 0:
        array = np.full(size, float(array))
    array = array.reshape(-1)
    if array.shape != (size,):
        raise ValueError(
            f"{argument} must be one number > 0 or {size} of them, received {array.size} values."
        )
    if not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(f"{argument} must be finite and > 0, received {array.tolist()}.")
    _check_magnitude(argument, array)
    return torch.as_tensor(array, dtype=torch.float32)


def _check_magnitude(argument: str, value: Any) -> None:
    """Refuse numbers whose products float32 cannot hold with its usual precision: the bound would be lost."""
    if not ((np.asarray(value) >= 1 / LARGEST) & (np.asarray(value) <= LARGEST)).all():
        raise ValueError(
            f"{argument} must lie between {1 / LARGEST:g} and {LARGEST:g}, received {value}: float32 weights cannot "
            "hold such a factor. Change the units of the observation or the action."
        )


class LipschitzMLP(nn.Module):
    """Multi-layer perceptron with ``‖f(x) - f(x')‖₂ ≤ bound·‖x - x'‖₂`` for all x, x'.

    Hidden layers stay at their bound, 1; the last layer lies in the spectral ball of radius K and can shrink,
    because a network that cannot make its output small is hard to train (an orthogonal last layer costs PPO
    its return on Pendulum). K belongs to the last layer alone: spent before the first one, wholly or by half,
    it made PPO on Pendulum worse.

    Args:
        in_features, out_features: sizes of x (…, in_features) and f(x) (…, out_features).
        hidden: widths of the hidden layers; may be empty.
        bound: K > 0.
        layer: key of :data:`lipsrl.layers.LAYERS`.
        activation: key of :data:`lipsrl.layers.ACTIVATIONS`, or a torch class.
        norm: ``"l2"``.
        head_gain: initial norm of the last layer, as a share of what it may reach.
        input_scale: unit of each input; the promise becomes ``‖Δf‖ ≤ K·‖Δx / input_scale‖``.
        output_scale: f is divided by it, and the promise holds for ``f·output_scale``.

    In training mode each forward merges the factors (differentiably) into plain weights. In eval mode an
    owner that is the only writer of the weights may set :attr:`cache_in_eval`; the merged weights are then
    computed once per train→eval transition. Copies start without a cache: a target network that is written
    through ``.data`` must never have one.

    The train→eval transition projects. So does the first forward in eval mode after a copy, or after a write
    that torch can tell (``load_from_vector``, ``optimizer.step``, in-place operations). A write through ``.data`` in
    eval mode leaves no trace: follow it by :meth:`project`, or by ``train()`` and ``eval()``.

    Raises:
        ValueError: an argument is out of range, or a name is unknown (the nearest is suggested).
    """

    input_scale: Tensor | None
    output_scale: Tensor | None
    _cache: list[Affine] | None = None
    _cache_in_eval: bool = False
    _stamp: list[tuple[int, int]] | None = None  # of the weights that were last seen inside their sets

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
        head_gain: float = 1.0,
        input_scale: Any = None,
        output_scale: Any = None,
    ) -> None:
        super().__init__()
        self.in_features = positive_int("in_features", in_features)
        self.out_features = positive_int("out_features", out_features)
        self.hidden = tuple(positive_int("hidden", width) for width in hidden)
        self.bound = positive_finite("bound", bound)
        _check_magnitude("bound", self.bound)
        self.layer_name = layer
        layer_class = lookup("layer", layer, LAYERS)
        self.activation_name = activation_name(activation)
        if norm != "l2":
            raise ValueError(f"norm={norm!r} is not supported by layer={layer!r}. Accepted: 'l2'.")
        self.norm = norm

        # Rounding of the merged float32 weights must not carry the network over its bound (lipschitz_bound()
        # adds it): a little is kept back. It grows with depth as the product of the factors' norms does.
        reserve = min(1e-2, MARGIN * (len(self.hidden) + 1) * 2 ** len(self.hidden))
        radius = self.bound * (1.0 - reserve)
        sizes = (self.in_features, *self.hidden)
        self.layers = nn.ModuleList(
            layer_class(n_in, n_out, self.activation_name) for n_in, n_out in itertools.pairwise(sizes)
        )
        self.head = Spectral(sizes[-1], self.out_features, None, bound=radius, gain=head_gain)
        self.activation = ACTIVATIONS[self.activation_name]()
        # Constants of the problem, equal in every copy; not part of the state dict.
        for name, value, size in (
            ("input_scale", input_scale, self.in_features),
            ("output_scale", output_scale, self.out_features),
        ):
            self.register_buffer(name, scale_vector(name, value, size), persistent=False)
        self.register_load_state_dict_post_hook(_after_load)  # type: ignore[no-untyped-call]
        self.register_state_dict_pre_hook(_before_save)  # type: ignore[no-untyped-call]

    # -- the function ------------------------------------------------------------------------------------

    def affine_maps(self, dtype: torch.dtype | None = None) -> list[Affine]:
        """Weights and biases of the equivalent plain network (differentiable, unless ``dtype`` is given).

        ``W_k = W_in,k · W_out,k-1``, with the scales folded into the first and last.
        """

        def cast(tensor: Tensor) -> Tensor:
            return tensor if dtype is None else tensor.detach().to(dtype)

        maps: list[Affine] = []
        before: Tensor | None = None
        modules: list[LipschitzLayer] = [*self.layers, self.head]
        if dtype is not None:  # converted before anything is computed from them
            modules = [copy.deepcopy(layer).to(dtype) for layer in modules]
        for layer in modules:
            weight = layer.input_weight()
            maps.append((cast(weight if before is None else weight @ before), cast(layer.bias)))
            before = layer.output_weight()
        if self.input_scale is not None:
            maps[0] = (maps[0][0] / cast(self.input_scale), maps[0][1])
        if self.output_scale is not None:
            scale = cast(self.output_scale)
            weight, bias = maps[-1]
            maps[-1] = (weight / scale.unsqueeze(1), bias / scale)
        return maps

    def _current_maps(self) -> list[Affine]:
        if not self.training and not torch.compiler.is_compiling():
            stamp = self._current_stamp()
            if stamp is None:  # torch.func.functional_call put others in their place
                return self.affine_maps()
            if stamp != self._stamp:
                self.project()
        return self.affine_maps() if self._cache is None else self._cache

    def _current_stamp(self) -> list[tuple[int, int]] | None:
        """What tells most writes to the weights, in 2 µs; ``None`` if they are not the module's own Parameters."""
        stamp = []
        try:
            for layer in (*self.layers._modules.values(), self.head):
                for p in layer._parameters.values():
                    if p is not None:
                        if type(p) is not nn.Parameter:
                            return None
                        stamp.append((p.data_ptr(), p._version))
        except RuntimeError:  # made in inference mode: they count no versions, and nobody trains them
            return []
        return stamp

    def latent(self, x: Tensor) -> Tensor:
        """Activations of the last hidden layer (…, hidden[-1]); ``x`` itself if there is none."""
        activate = self.activation.forward  # one module call per layer costs 9 % of batch-1 inference
        for weight, bias in self._current_maps()[:-1]:
            x = activate(F.linear(x, weight, bias))
        return x

    def output(self, latent: Tensor) -> Tensor:
        """f from :meth:`latent`'s result: the last affine map."""
        return F.linear(latent, *self._current_maps()[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (…, in_features) to (…, out_features)."""
        *hidden, last = self._current_maps()
        activate = self.activation.forward
        for weight, bias in hidden:
            x = activate(F.linear(x, weight, bias))
        return F.linear(x, *last)

    # -- the promise -------------------------------------------------------------------------------------

    def lipschitz_bound(self) -> float:
        """Sound upper bound of the Lipschitz constant of the weights as they are now, computed in float64.

        Infinite where float64 overflows. A cache that the weights have left behind is renewed (and projected) first.

        Of ``x / input_scale ↦ f·output_scale``. It is the product of the layers' own bounds (for Sandwich
        layers the construction bound: the product of the *merged* norms says nothing) plus what rounding
        the merged weights to their dtype can add: ‖Π(Wᵢ + Eᵢ) - ΠWᵢ‖ ≤ Π(‖Wᵢ‖ + ‖Eᵢ‖) - Π‖Wᵢ‖, where W and E are
        taken between units scaled by Ψ, which commutes with the activations' slopes between them.
        """
        self._renew_stale_cache()
        modules: list[LipschitzLayer] = [*self.layers, self.head]
        norms = [layer.lipschitz_bound() for layer in modules]
        exact = self.affine_maps(torch.float64)
        plain, perturbed = 1.0, 1.0
        before = self.input_scale
        previous: Tensor | None = None
        with torch.no_grad():
            for (target, _), (weight, _), layer in zip(exact, self.affine_maps(), modules, strict=True):
                error = weight.double() - target
                # columns to the units before this map, rows to those after it
                after = self.output_scale if layer is self.head else layer.unit_scale()
                scale = torch.ones_like(target)
                if before is not None:
                    scale = scale * before.double()
                if after is not None:
                    scale = scale * after.double().unsqueeze(1)
                norm = spectral_norm(target * scale)
                # rounding of the float64 product W_in·W_out itself
                factors = layer.input_weight().double()
                factors = factors if after is None else factors * after.double().unsqueeze(1)
                size = float(factors.norm()) * (1.0 if previous is None else float(previous.norm()))
                rounding = 8 * EPS64 * (len(factors[0]) + 8) * size if self.hidden else 0.0
                plain, perturbed = plain * norm, perturbed * (norm + spectral_norm(error * scale) + rounding)
                before = None if after is None else 1.0 / after
                previous = layer.output_weight()
                if previous is not None:
                    previous = previous.double() if before is None else previous.double() * before.double()
        added = perturbed - plain + 4 * EPS64 * len(modules) * perturbed
        with np.errstate(over="ignore", under="ignore"):
            bound = (float(np.prod(norms)) + added) * (1.0 + 64 * EPS64)
        if not np.isfinite(bound):
            return float("inf")
        return bound if 0.0 in norms else max(bound, float(np.finfo(np.float64).tiny))

    def project(self) -> bool:
        """Put every layer exactly back into its set (feasible ones keep every bit). Returns whether any changed.

        In eval mode the weights that act are then these.
        """
        changed = [m.project() for m in self.modules() if isinstance(m, LipschitzLayer)]
        self._refresh_cache()
        return any(changed)

    def merge(self) -> nn.Sequential:
        """The same function as fresh plain torch modules: ``nn.Linear`` and activations."""
        modules: list[nn.Module] = []
        with torch.no_grad():
            maps = [(w.detach(), b.detach()) for w, b in self._current_maps()]
        for i, (weight, bias) in enumerate(maps):
            if i:
                modules.append(ACTIVATIONS[self.activation_name]())
            modules.append(plain_linear(weight, bias))
        return nn.Sequential(*modules).train(self.training)

    # -- state -------------------------------------------------------------------------------------------

    @property
    def cache_in_eval(self) -> bool:
        """Whether eval mode may keep merged weights. Only for a network whose weights change in training mode."""
        return self._cache_in_eval

    @cache_in_eval.setter
    def cache_in_eval(self, value: bool) -> None:
        self._cache_in_eval = bool(value)
        self._refresh_cache()

    def _refresh_cache(self) -> None:
        """To be called when the weights are inside their sets."""
        self._cache = None
        if not self.training:
            self._stamp = self._current_stamp()
            if self._cache_in_eval:
                with torch.no_grad():
                    self._cache = [(w.detach().clone(), b.detach().clone()) for w, b in self.affine_maps()]

    def _renew_stale_cache(self) -> None:
        if self._cache is not None:
            with torch.no_grad():
                pairs = zip(self._cache, self.affine_maps(), strict=True)
                if not all(torch.equal(old, new) for a, b in pairs for old, new in zip(a, b, strict=True)):
                    self.project()

    def train(self, mode: bool = True) -> LipschitzMLP:
        """Switch mode. Acts on transitions only: SB3 calls this at every ``predict``."""
        if mode == self.training:
            return self
        if not mode:  # first: weights that cannot be projected must not leave the module in eval mode
            for layer in (*self.layers, self.head):
                layer.project()
        super().train(mode)
        self._refresh_cache()
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> LipschitzMLP:
        dtype = fn(self.head.bias.detach()).dtype
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"A LipschitzMLP keeps its bound in float32 and float64 only, received {dtype}: merged weights are "
                "rounded too much there. Use merge() and certify the result."
            )
        self._cache = self._stamp = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self._cache_in_eval and not self.training and not self.head.weight.is_meta:
            self.project()
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_cache", None)
        state.pop("_stamp", None)
        state.pop("_cache_in_eval", None)
        return state

    def extra_repr(self) -> str:
        return (
            f"{self.in_features} → {' → '.join(map(str, self.hidden))} → {self.out_features}, bound={self.bound:g}, "
            f"layer={self.layer_name!r}, activation={self.activation_name!r}"
        )


def _before_save(module: LipschitzMLP, prefix: str, keep_vars: bool) -> None:
    """Saved weights keep the bound, also in the middle of a training phase (cheap updates may overstep it)."""
    if module.lipschitz_bound() > module.bound:
        module.project()


def _after_load(module: LipschitzMLP, _: Any) -> None:
    """Loaded weights that break the bound are projected, and that is said."""
    before = module.lipschitz_bound()
    if before > module.bound and module.project():
        warnings.warn(
            f"The loaded weights had Lipschitz bound {before:.4g} > {module.bound:g} and were projected back. "
            "Load weights that were trained with the same lipschitz_bound and layer to keep them as they are.",
            stacklevel=2,
        )
    module._refresh_cache()
