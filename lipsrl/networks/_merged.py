"""A network that acts with merged plain weights: when they are made, kept, renewed and handed out as constants."""

from __future__ import annotations

import contextlib
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipsrl._context import own_precision, tracing
from lipsrl._warnings import warn_user
from lipsrl.layers import LipschitzLayer
from lipsrl.networks._stages import Stage, evaluate
from lipsrl.networks._state import WeightKeeper
from lipsrl.networks._tree import set_mode

#: Entries of a parameter that are looked at, as shares of its length.
_PROBED = (0.0, 0.37, 0.73, 1.0)

#: A projection that moves a layer by more (relative, Frobenius) is no rounding and no last optimizer step.
MOVED = 0.05


class Probes:
    """A few numbers of every parameter in CPU memory: tells writes that torch does not count, in 2 µs.

    Writes through ``.data`` and by another process into shared memory change no version. One that leaves all the
    probed entries as they are goes unseen.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._places = [
            (p.detach().numpy(), round(share * (p.numel() - 1)))
            for p in parameters
            if p.device.type == "cpu" and p.numel()
            for share in _PROBED
        ]
        self._values = self._read()

    def _read(self) -> list[float]:
        return [array.item(place) for array, place in self._places]

    def differ(self) -> bool:
        """Whether something has been written since."""
        return self._read() != self._values


class Merging(WeightKeeper):
    """See :class:`LipschitzMLP`, which says what a user may rely on."""

    _kept: list[Stage] | None = None  # of eval mode
    _left: list[Stage] | None = None  # what was kept in the last eval mode
    #: What `LipschitzLayer.keep_inside` had left of each layer when these were merged, where that is known: an
    #: optimizer that calls it later leaves others.
    _kept_of: list[Any] | None = None
    _left_of: list[Any] | None = None
    _probes: Probes | None = None
    _cache_in_eval: bool = False
    #: What the last training forward of :meth:`latent` returned, the weights it was made with, whether it had a graph.
    _handed: tuple[weakref.ref[Tensor], list[tuple[int, int]], Stage, bool] | None = None

    def project(self) -> bool:
        """Put every layer exactly back into its set (feasible ones keep every bit). Returns whether any changed.

        In eval mode the weights that act are then these.
        """
        return self._project(lambda layer: layer.project())

    def _keep_inside(self, *, roughly: bool = False) -> bool:
        """:meth:`project`, but layers are left alone whose weights are to the bit those that the last call left."""
        changed = self._project(lambda layer: layer.keep_inside(roughly=roughly))
        self._kept_of = self._insides()
        return changed

    def _insides(self) -> list[Any]:
        return [layer._inside for layer in self._held()]

    def _project(self, how: Callable[[LipschitzLayer], bool]) -> bool:
        with own_precision(self._like()):
            changed = [how(layer) for layer in self._held()]
            changed.append(self._project_shares())
        self._refresh_cache()
        return any(changed)

    def _project_shares(self) -> bool:
        """What the budget learns, where it does."""
        return False

    @abstractmethod
    def stages(self, *, acting: bool = True) -> list[Stage]:
        """The equivalent chain of plain stages."""

    def latent(self, x: Tensor) -> Tensor:
        """Activations of the last hidden layer (…, hidden[-1]); ``x`` itself if there is none."""
        stages = self._current_stages()
        latent = evaluate(stages[:-1], x)
        if self.training and not torch.compiler.is_compiling():
            stamp = self._current_stamp()
            graph = torch.is_grad_enabled()
            self.__dict__["_handed"] = stamp and (weakref.ref(latent), stamp, stages[-1], graph)
        return latent

    def output(self, latent: Tensor, *, again: bool = False) -> Tensor:
        """f from :meth:`latent`'s result: the last affine map.

        Args:
            latent: (…, hidden[-1]).
            again: whether it will be called once more with the same ``latent`` before the backward pass.
        """
        last = self._handed_over(latent, again) or self._current_stages()[-1]
        return F.linear(latent, last.weight, last.bias)

    def _handed_over(self, latent: Tensor, again: bool) -> Stage | None:
        """The last stage as :meth:`latent` has merged it for this very tensor: merging is half the price of a forward.

        Once only, since a backward pass frees the graph.
        """
        handed = self._handed
        if handed is None or torch.compiler.is_compiling() or handed[0]() is not latent:
            return None
        if not again:
            self.__dict__["_handed"] = None
        if not self.training or handed[3] != torch.is_grad_enabled() or handed[1] != self._current_stamp():
            return None
        return handed[2]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (…, in_features) to (…, out_features)."""
        return evaluate(self._current_stages(), x)

    @property
    def cache_in_eval(self) -> bool:
        """Whether eval mode may keep merged weights. Only for a network whose weights change in training mode."""
        return self._cache_in_eval

    @cache_in_eval.setter
    def cache_in_eval(self, value: bool) -> None:
        self._cache_in_eval = bool(value)
        self._refresh_cache()

    def _current_stages(self) -> list[Stage]:
        if torch.compiler.is_compiling():
            if torch.compiler.is_exporting() and not self.training:
                return self._constants()
            return self.stages() if self._kept is None or not self._cache_in_eval else self._kept
        if self.training:
            self._settle()
            return self._still_kept() or self.stages()
        stamp = self._current_stamp()
        if stamp is None:  # torch.func.functional_call put others in their place
            return self.stages()
        if stamp != self._stamp:
            self._project_aloud()
        if tracing():
            return self._constants()
        if self._kept is None or not self._cache_in_eval or self._wants_gradients():
            return self.stages()
        return self._kept

    def _still_kept(self) -> list[Stage] | None:
        """In training without gradient, before the first step: what the policy has just acted with.

        Off-policy algorithms ask for the next actions then, and merging is as dear as the forward itself.
        """
        return None if torch.is_grad_enabled() else self._kept_of_these_weights()

    def _kept_of_these_weights(self) -> list[Stage] | None:
        """What was kept in the last eval mode, if no bit was written since."""
        if self._left is not None:
            known = zip(self._held(), self._left_of or (), strict=True)
            if not all(layer._inside is inside and layer.is_as_left() for layer, inside in known):
                self._left = None
        return self._left

    def _constants(self) -> list[Stage]:
        """The weights that act, as constants of a graph that is being recorded.

        Raises:
            RuntimeError: there are none, or others than those that are being exported.
        """
        if self._kept is None and tracing():
            self._refresh_cache()
        if self._kept is None or (self._probes is not None and self._probes.differ()):
            raise RuntimeError(
                "This network's merged weights are older than its parameters. Call it once in evaluation mode before "
                "exporting it, or export merge(), the same function as plain modules."
            )
        return self._kept

    def _settle(self) -> bool:
        """In training: put back what an optimizer without projections has written."""
        written = False
        for layer in self._held():
            written |= layer.settle()
        return written

    def _project_aloud(self) -> None:
        """Project before acting. Moving the function of weights that somebody else has written is worth a word."""
        written = [layer for layer in self._held() if layer.projected and layer.written()]
        before = [[p.detach().clone() for p in layer.parameters()] for layer in written]
        self._keep_inside(roughly=self.training)
        for layer, old in zip(written, before, strict=True):
            change = sum(
                float((p.detach() - q).square().sum()) for p, q in zip(layer.parameters(), old, strict=True)
            )
            size = sum(float(q.square().sum()) for q in old)
            if change > (MOVED**2) * size:
                warn_user(
                    f"The weights of a {layer.name} layer were outside the set of its bound and have been projected, "
                    f"which moved them by {100 * (change / size) ** 0.5:.0f} %: the policy acts otherwise than "
                    "in its last training forward. An optimizer that lipsrl did not make writes where it likes; use "
                    "lipsrl.layers.project_after_step(optimizer, policy), or policy.optimizer."
                )
                return

    def _refresh_cache(self, same: list[Stage] | None = None) -> None:
        """To be called when the weights are inside their sets.

        Args:
            same: what would be merged, where it is known.
        """
        super()._refresh_cache()
        self._kept = self._left = self._probes = None
        self._kept_of = self._left_of = None
        if self.training or torch.compiler.is_compiling() or self._like().is_meta:
            return
        with torch.no_grad(), own_precision(self._like()):
            self._kept = same or [stage.clone() for stage in self.stages()]
        held = (p for parameters in self._watched or () for p in parameters.values())
        self._probes = Probes(p for p in held if type(p) is nn.Parameter)

    def _like(self) -> Tensor:
        """Of the device and dtype of the weights."""
        return next(iter(self._held())).bias

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if not self.training and not torch.compiler.is_compiling():
            with contextlib.suppress(ValueError):  # weights that are not finite: whoever uses them is told
                self.project()  # a copy may be exported before it is called

    def _renew_stale_cache(self) -> None:
        if self._kept is not None:
            with torch.no_grad(), own_precision(self._like()):
                for old, new in zip(self._kept, self.stages(), strict=True):
                    for a, b in zip(old, new, strict=True):
                        if isinstance(a, Tensor) and isinstance(b, Tensor) and not torch.equal(a, b):
                            self.project()
                            return

    def train(self, mode: bool = True) -> Self:
        """Switch mode. Acts on transitions, and looks for unseen writes: SB3 calls this at every ``predict``."""
        if mode == self.training:
            if not mode and self._cache_in_eval and self._probes is not None and self._probes.differ():
                self._project_aloud()
            return self
        same = None
        if not mode:  # first: weights that cannot be projected must not leave the module in eval mode
            same = self._kept_of_these_weights()  # TD3 steps its actor at every second environment step
            self._project_aloud()
        left = left_of = None
        if mode and self._cache_in_eval and self._kept_of is not None and self._merging_is_dear():
            left, left_of = self._kept, self._kept_of
        set_mode(self, mode)
        self._refresh_cache(same)
        self._kept_of = None if mode else self._insides()
        self._left, self._left_of = left, left_of
        return self

    def _merging_is_dear(self) -> bool:
        """And the weights that act are the same in both modes."""
        return False

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._kept = self._left = self._probes = None
        super()._apply(fn, recurse)
        if self._cache_in_eval and not self.training and not self._like().is_meta:
            self.project()
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_kept", "_kept_of", "_left", "_left_of", "_probes", "_cache_in_eval", "_handed"):
            state.pop(name, None)
        return state
