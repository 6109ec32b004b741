"""What all Lipschitz policies share: their keyword arguments, and the optimizer that keeps the promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
)
from torch import nn

from lipsrl.layers import LipschitzLayer, project_after_step
from lipsrl.policies._front import Part, parts
from lipsrl.policies._options import (
    LipschitzOptions,
    check_features_extractor,
    check_net_arch,
    warn_ortho_init,
)
from lipsrl.policies.combined_extractor import LipschitzCombinedExtractor
from lipsrl.policies.nature_cnn import LipschitzNatureCNN

#: SB3's extractor → ours, which stands in for it where it would be the default.
_CONSTRAINED: dict[Any, type[BaseFeaturesExtractor]] = {
    FlattenExtractor: FlattenExtractor,
    NatureCNN: LipschitzNatureCNN,
    CombinedExtractor: LipschitzCombinedExtractor,
}


class LipschitzPolicy(nn.Module):
    """Mixin to stand before an SB3 policy class: takes lipsrl's keyword arguments and passes the others on.

    Attributes:
        extractor: the features extractor where the user names none, as in SB3.
        critic_key: SB3's name of the critic in ``net_arch``; ``""`` where there is none.
        image_arch: ``net_arch`` where images are the observation and the user gives none, as in SB3.
    """

    extractor: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor
    critic_key: ClassVar[str] = "qf"
    image_arch: ClassVar[tuple[int, ...]] = ()
    takes_extractor: ClassVar[bool] = True
    has_critic: ClassVar[bool] = True
    options: LipschitzOptions

    def __init__(
        self,
        *args: Any,
        lipschitz_bound: float | None = None,
        layer: str = "sandwich",
        norm: str = "l2",
        budget: str = "output",
        observation_scale: Any = None,
        activation: str | None = None,
        critic_lipschitz_bound: float | None = None,
        **kwargs: Any,
    ) -> None:
        if len(args) > 4:  # SB3's order: spaces, learning rate, net_arch, activation_fn
            raise TypeError("Pass what follows net_arch by keyword.")
        if len(args) == 4:
            *args, kwargs["net_arch"] = args  # type: ignore[assignment]
        self.options = LipschitzOptions.check(
            lipschitz_bound=lipschitz_bound,
            layer=layer,
            norm=norm,
            budget=budget,
            observation_scale=observation_scale,
            activation=activation,
            activation_fn=kwargs.get("activation_fn"),
            critic_lipschitz_bound=critic_lipschitz_bound,
        )
        if critic_lipschitz_bound is not None and not self.has_critic:
            raise ValueError(
                f"critic_lipschitz_bound={critic_lipschitz_bound!r} is not supported by {type(self).__module__}: there "
                "is no critic beside the network that lipschitz_bound speaks of, or it has normalisation layers."
            )
        check_net_arch(kwargs.get("net_arch"), self.critic_key)
        if self.options.unconstrained:
            if self.extractor is not FlattenExtractor:
                kwargs.setdefault("features_extractor_class", self.extractor)
        else:
            self._constrain(kwargs)
        super().__init__(*args, **kwargs)

    def _constrain(self, kwargs: dict[str, Any]) -> None:
        """SB3's arguments for the constrained policy, in place."""
        kwargs["activation_fn"] = self.options.activation_class
        if self.takes_extractor:
            chosen = kwargs.get("features_extractor_class") or _CONSTRAINED[self.extractor]
            check_features_extractor(chosen)
            if self.extractor is not FlattenExtractor:
                kwargs["features_extractor_class"] = chosen
            if chosen is LipschitzNatureCNN and kwargs.get("net_arch") is None:
                kwargs["net_arch"] = list(self.image_arch)
        if kwargs.get("ortho_init") is not None:
            warn_ortho_init()

    def found_parts(self, extractor: nn.Module) -> list[Part]:
        """How this policy's observation becomes features."""
        policy: Any = self
        return parts(extractor, policy.observation_space, policy.normalize_images)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data: dict[str, Any] = super()._get_constructor_parameters()  # type: ignore[misc]
        if not self.options.unconstrained:
            data.pop("activation_fn", None)
            data.pop("ortho_init", None)
        # SB3 forgets this one: a policy saved with separate extractors would not load
        if hasattr(self, "share_features_extractor"):
            data["share_features_extractor"] = self.share_features_extractor
        parameters = self.options.constructor_parameters()
        if self.options.unconstrained:
            parameters = {"lipschitz_bound": self.options.lipschitz_bound}
        return {**data, **parameters}


def hold(
    optimizer: torch.optim.Optimizer, module: nn.Module, *, exact: bool = False
) -> torch.optim.Optimizer:
    """:func:`project_after_step`, if there is something constrained; else the optimizer stays SB3's own."""
    if any(isinstance(m, LipschitzLayer) for m in module.modules()):
        return project_after_step(optimizer, module, exact=exact)
    return optimizer


def hidden_of(net_arch: Any, key: str) -> list[int]:
    """The widths of one part of SB3's ``net_arch``."""
    return list(net_arch.get(key, [])) if isinstance(net_arch, Mapping) else list(net_arch)
