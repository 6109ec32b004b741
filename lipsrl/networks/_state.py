"""What constrained networks do about their weights outside training: writes in eval mode, saving, loading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from lipsrl._warnings import warn_user
from lipsrl.layers import LipschitzLayer
from lipsrl.layers._linalg import check_finite

#: Loading may lower a bound by this much (relative) without a word: what rounding and cheap updates leave.
SMALL = 1e-3


class WeightKeeper(nn.Module, ABC):
    """A network that projects in eval mode after writes that torch can tell, before it is saved, and after loading.

    Subclasses call :meth:`_keep_state` at the end of their constructor, and :meth:`_refresh_cache` whenever their
    weights are inside their sets. Copies and pickles start without a stamp: their first forward in eval mode projects.
    """

    bound: float
    #: Whether the weights that were loaded last broke the bound, which was said.
    loaded_beyond_bound = False
    _watched: list[dict[str, Any]] | None = None
    _stamp: list[tuple[int, int]] | None = None  # of the weights that were last seen inside their sets

    @abstractmethod
    def lipschitz_bound(self) -> float:
        """Sound upper bound of the Lipschitz constant of the weights as they are now, computed in float64."""

    @abstractmethod
    def project(self) -> bool:
        """Put every layer exactly back into its set. Returns whether any changed."""

    def _keep_state(self) -> None:
        self.register_load_state_dict_post_hook(_after_load)  # type: ignore[no-untyped-call]
        self.register_state_dict_pre_hook(_before_save)  # type: ignore[no-untyped-call]

    def _refresh_cache(self) -> None:
        """To be called when the weights are inside their sets."""
        for layer in self._held():
            layer.mark()
        self._stamp = None if self.training else self._current_stamp()

    @abstractmethod
    def _held(self) -> Iterable[LipschitzLayer]:
        """The constrained layers."""

    def _wants_gradients(self) -> bool:
        """Whether the weights' gradients are asked for: what is kept of them has none."""
        if not torch.is_grad_enabled():
            return False
        if self._watched is None:
            self._current_stamp()
        assert self._watched is not None
        return any(p is not None and p.requires_grad for held in self._watched for p in held.values())

    def _current_stamp(self) -> list[tuple[int, int]] | None:
        """What tells most writes to the weights, in 2 µs; ``None`` if they are not the module's own Parameters."""
        if self._watched is None:
            self._watched = [m._parameters for m in self.modules() if m._parameters]
        stamp = []
        try:
            for parameters in self._watched:
                for p in parameters.values():
                    if p is not None:
                        if type(p) is not nn.Parameter:
                            return None
                        stamp.append((p.data_ptr(), p._version))
        except RuntimeError:  # made in inference mode: they count no versions, and nobody trains them
            return []
        return stamp

    def _apply(self, fn: Any, recurse: bool = True) -> WeightKeeper:
        self._stamp = None  # memory may be reused at the same address
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_stamp", None)
        state.pop("_watched", None)
        return state

    def check_parameters(self) -> None:
        """Biases too, which no projection looks at.

        Raises:
            ValueError: one is not finite.
        """
        for name, parameter in self.named_parameters():
            check_finite(parameter.detach(), name)


def _before_save(module: WeightKeeper, prefix: str, keep_vars: bool) -> None:
    """Saved weights are inside their sets, also in the middle of a training phase (cheap updates may overstep them)."""
    module.check_parameters()
    module.lipschitz_bound()  # renews what acts
    module.project()


def _after_load(module: WeightKeeper, _: Any) -> None:
    """Loaded weights that break the bound are projected, and that is said."""
    module.check_parameters()
    before = module.lipschitz_bound()
    changed = module.project()
    module.loaded_beyond_bound = before > module.bound
    if (changed and not module.lipschitz_bound() > before * (1 - SMALL)) or before > module.bound:
        warn_user(
            f"The loaded weights had Lipschitz bound {before:.4g}, {module.bound:g} is allowed in all, and layers that "
            "were outside their sets were projected back. "
            "Load weights that were trained with the same lipschitz_bound and layer to keep them as they are."
        )
    module._refresh_cache()
