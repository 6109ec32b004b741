"""What all Lipschitz policies share: their keyword arguments, and the optimizer that keeps the promise."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
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
from lipsrl.networks import LipschitzMLP
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
        takes_extractor: whether SB3's class has a features extractor to choose.
        has_critic: whether there is a critic that can be constrained.
        has_log_std: whether the standard deviation is a network's output that can be constrained.
    """

    extractor: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor
    critic_key: ClassVar[str] = "qf"
    image_arch: ClassVar[tuple[int, ...]] = ()
    takes_extractor: ClassVar[bool] = True
    has_critic: ClassVar[bool] = True
    has_log_std: ClassVar[bool] = False
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
        log_std_lipschitz_bound: float | None = None,
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
            log_std_lipschitz_bound=log_std_lipschitz_bound,
        )
        if critic_lipschitz_bound is not None and not self.has_critic:
            raise ValueError(
                f"critic_lipschitz_bound={critic_lipschitz_bound!r} is not supported by {type(self).__module__}: there "
                "is no critic beside the network that lipschitz_bound speaks of, or it has normalisation layers."
            )
        if log_std_lipschitz_bound is not None and not (self.has_log_std and not kwargs.get("use_sde")):
            raise ValueError(
                f"log_std_lipschitz_bound={log_std_lipschitz_bound!r} is not supported here: the standard deviation is "
                "no function of the observation alone. It is for SAC, TQC and CrossQ without gSDE (use_sde=False)."
            )
        check_net_arch(kwargs.get("net_arch"), self.critic_key)
        if self.options.unconstrained:
            if self.extractor is not FlattenExtractor:
                kwargs.setdefault("features_extractor_class", self.extractor)
        else:
            self._constrain(kwargs)
        super().__init__(*args, **kwargs)
        if not self.options.unconstrained:
            self.register_state_dict_pre_hook(_before_save)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_post_hook(_after_load)  # type: ignore[no-untyped-call]

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
            if kwargs.get("normalize_images") is False and chosen in _CONSTRAINED.values():
                # as SB3 does for its own: images may then be of any dtype and range
                given = kwargs.get("features_extractor_kwargs") or {}
                if chosen is not FlattenExtractor:
                    kwargs["features_extractor_kwargs"] = {**given, "normalized_image": True}
        if kwargs.get("ortho_init") is not None:
            warn_ortho_init()

    def found_parts(self, extractor: nn.Module) -> list[Part]:
        """How this policy's observation becomes features."""
        policy: Any = self
        return parts(extractor, policy.observation_space, policy.normalize_images)

    def lipschitz_targets(self) -> list[LipschitzMLP]:
        """The target networks that keep the promise of ``lipschitz_network``."""
        return []

    def set_lipschitz_bound(self, bound: float) -> None:
        """Change K, of the network that acts and of its targets; where it shrinks they are projected at once.

        What ``save`` writes knows the new K; SB3's ``model.save`` takes it from ``model.policy_kwargs``, which
        :class:`~lipsrl.policies.LipschitzSchedule` keeps up to date.

        Raises:
            ValueError: out of range, or the policy is not constrained.
        """
        policy: Any = self
        if self.options.unconstrained:
            raise ValueError("lipschitz_bound=inf cannot be changed: the policy is SB3's own. Start from a finite K.")
        for network in (policy.lipschitz_network, *self.lipschitz_targets()):
            network.set_bound(bound)
        options = dataclasses.replace(self.options, lipschitz_bound=float(bound))
        for module in self.modules():
            if getattr(module, "options", None) is not None:
                module.options = options  # type: ignore[assignment]

    def set_training_mode(self, mode: bool) -> None:
        """SB3's, which also projects what does not project itself."""
        if not mode and self.training:
            for layer in _lone_layers(self):
                layer.project()
        super().set_training_mode(mode)  # type: ignore[misc]

    def load_from_vector(self, vector: Any) -> None:
        """SB3's, then the exact projection: it writes where no optimizer and no version counter sees it."""
        super().load_from_vector(vector)  # type: ignore[misc]
        for module in self.modules():
            if isinstance(module, (LipschitzMLP, LipschitzNatureCNN)):
                module.project()
        for layer in _lone_layers(self):
            layer.project()

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


def _lone_layers(module: nn.Module) -> Iterator[LipschitzLayer]:
    if isinstance(module, LipschitzLayer):
        yield module
    elif not isinstance(module, (LipschitzMLP, LipschitzNatureCNN)):
        for child in module.children():
            yield from _lone_layers(child)


def _before_save(module: LipschitzPolicy, prefix: str, keep_vars: bool) -> None:
    """Saved weights keep the bound, also in the middle of a training phase; networks see to it themselves."""
    for layer in _lone_layers(module):
        layer.project()


def _after_load(module: LipschitzPolicy, _: Any) -> None:
    """Loaded weights that break their bound are projected, and that is said; networks see to it themselves."""
    if any([layer.project() for layer in _lone_layers(module)]):
        warnings.warn(
            "Loaded weights of the features extractor were outside their set and were projected back.", stacklevel=2
        )


def hidden_of(net_arch: Any, key: str) -> list[int]:
    """The widths of one part of SB3's ``net_arch``."""
    return list(net_arch.get(key, [])) if isinstance(net_arch, Mapping) else list(net_arch)
