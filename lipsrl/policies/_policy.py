"""What all Lipschitz policies share: their keyword arguments, extractors and stored settings."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
)
from torch import nn

from lipsrl.networks import LipschitzMLP
from lipsrl.networks._state import WeightKeeper
from lipsrl.policies._arguments import check_features_extractor, check_net_arch, warn_ortho_init
from lipsrl.policies._earlier import adopt_loaded
from lipsrl.policies._front import Part, parts
from lipsrl.policies._lone_layers import ProjectsLoneLayers, before_save, project_lone_layers
from lipsrl.policies._optimizers import step_these
from lipsrl.policies._options import EARLIER_LAYER, LipschitzOptions, own_draws
from lipsrl.policies._saved_bound import compare_bound, note_bound, say_bound
from lipsrl.policies.combined_extractor import LipschitzCombinedExtractor
from lipsrl.policies.nature_cnn import LipschitzNatureCNN
from lipsrl.regularizers import check_actions, parse, refusal

#: SB3's extractor → ours, which stands in for it where it would be the default.
_CONSTRAINED: dict[Any, type[BaseFeaturesExtractor]] = {
    FlattenExtractor: FlattenExtractor,
    NatureCNN: LipschitzNatureCNN,
    CombinedExtractor: LipschitzCombinedExtractor,
}


class LipschitzPolicy(ProjectsLoneLayers):
    """Mixin to stand before an SB3 policy class: takes lipsrl's keyword arguments and passes the others on.

    Attributes:
        extractor: the features extractor where the user names none, as in SB3.
        critic_key: SB3's name of the critic in ``net_arch``; ``""`` where there is none.
        image_arch: ``net_arch`` where images are the observation and the user gives none, as in SB3.
        takes_extractor: whether SB3's class has a features extractor to choose.
        has_critic: whether there is a critic that can be constrained.
        has_log_std: whether the standard deviation is a network's output that can be constrained.
        default_layer: key of :data:`lipsrl.layers.LAYERS` where the user names none.
        unregularizable: the algorithm, where it cannot learn with :mod:`lipsrl.regularizers`.
    """

    extractor: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor
    critic_key: ClassVar[str] = "qf"
    image_arch: ClassVar[tuple[int, ...]] = ()
    takes_extractor: ClassVar[bool] = True
    has_critic: ClassVar[bool] = True
    has_log_std: ClassVar[bool] = False
    default_layer: ClassVar[str] = EARLIER_LAYER
    unregularizable: ClassVar[str] = ""
    options: LipschitzOptions

    def __init__(
        self,
        *args: Any,
        lipschitz_bound: float | None = None,
        layer: str | None = None,
        norm: str = "l2",
        budget: str | None = None,
        observation_scale: Any = None,
        activation: str | None = None,
        critic_lipschitz_bound: float | None = None,
        log_std_lipschitz_bound: float | None = None,
        regularizers: Any = None,
        **kwargs: Any,
    ) -> None:
        self._check_regularizers(regularizers, args[1] if len(args) > 1 else kwargs.get("action_space"))
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
            default_activation=self._stock_activation(),
            default_layer=self.default_layer,
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
            self._make_contiguous()
            self.register_state_dict_pre_hook(before_save)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_post_hook(adopt_loaded)  # type: ignore[no-untyped-call]
            self.register_state_dict_post_hook(say_bound)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_pre_hook(note_bound)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_post_hook(compare_bound)  # type: ignore[no-untyped-call]

    def _check_regularizers(self, regularizers: Any, action_space: Any) -> None:
        """The training finds them in ``model.policy_kwargs``; here they are only checked, before anything is made."""
        if not parse(regularizers or ()):
            return
        if self.unregularizable:
            raise refusal(self.unregularizable)
        check_actions(action_space)

    @classmethod
    def _stock_activation(cls) -> type[nn.Module]:
        """The activation that SB3's class takes where the user names none."""
        for base in cls.__mro__:
            if not issubclass(base, LipschitzPolicy) and "__init__" in vars(base):
                parameter = inspect.signature(base.__init__).parameters.get("activation_fn")
                if parameter is not None and isinstance(parameter.default, type):
                    return parameter.default
        return nn.ReLU

    def _make_contiguous(self) -> None:
        """Torch's ``parameters_to_vector`` takes no other parameters."""
        for parameter in self.parameters():
            parameter.data = parameter.data.contiguous()

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

    def free_extractor(self) -> BaseFeaturesExtractor | None:
        """SB3's own extractor in the place of ours, for a free critic that shares none; ``None`` if there is none."""
        policy: Any = self
        return None if policy.share_features_extractor else self._stock_extractor()

    def _stock_extractor(self) -> BaseFeaturesExtractor | None:
        """SB3's own in the place of ours, freshly drawn; ``None`` if there is none, or nothing is drawn."""
        policy: Any = self
        stock = {ours: theirs for theirs, ours in _CONSTRAINED.items()}.get(policy.features_extractor_class)
        if self.options.unconstrained or stock in (None, FlattenExtractor):
            return None
        kwargs = dict(policy.features_extractor_kwargs)
        for own in ("activation", "lipschitz_bound"):
            kwargs.pop(own, None)
        assert stock is not None
        extractor: BaseFeaturesExtractor = stock(policy.observation_space, **kwargs)
        return extractor

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """SB3's; what it draws is what SB3's own extractor draws, so that all that is drawn later is the same."""
        policy: Any = super()
        twin = self._stock_extractor()
        if twin is None:
            stock: BaseFeaturesExtractor = policy.make_features_extractor()
            return stock
        with own_draws():
            extractor: BaseFeaturesExtractor = policy.make_features_extractor()
        self.__dict__.setdefault("_stock_twins", []).append((extractor, twin))
        return extractor

    @contextmanager
    def with_stock_twins(self) -> Iterator[None]:
        """SB3's own extractors inside ours, while SB3 initialises all layers that it finds (``ortho_init``)."""
        twins = self.__dict__.pop("_stock_twins", [])
        for extractor, twin in twins:
            extractor.add_module("stock_twin", twin)
        try:
            yield
        finally:
            for extractor, _ in twins:
                del extractor.stock_twin

    def lipschitz_targets(self) -> list[LipschitzMLP]:
        """The target networks that keep the promise of ``lipschitz_network``."""
        return []

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        network = getattr(self, "lipschitz_network", None)
        if network is not None:
            network.check_conversion(fn)  # before the features extractor is converted
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Torch's, but what is refused changes nothing.

        Weights that an earlier release saved with its own default layers make the networks what they were.
        """
        networks = [module for module in self.modules() if isinstance(module, LipschitzMLP)]
        held = [(tensor, tensor.detach().clone()) for tensor in (*self.parameters(), *self.buffers())]
        for network in networks:
            network.may_change_layers = True
        try:
            return super().load_state_dict(*args, **kwargs)
        except Exception:  # torch has copied what fits before it says what does not
            with torch.no_grad():
                for tensor, before in held:
                    tensor.copy_(before)
            raise
        finally:
            for network in networks:
                network.may_change_layers = False

    def hold_again(self) -> None:
        """To be called when the networks have other layers: the optimizer steps and projects those."""

    def _step_these(self, module: nn.Module) -> None:
        policy: Any = self
        step_these(
            policy.optimizer,
            module,
            lambda parameters: policy.optimizer_class(parameters, **policy.optimizer_kwargs),
        )

    def set_lipschitz_bound(self, bound: float) -> None:
        """Change K, of the network that acts and of its targets; where it shrinks they are projected at once.

        What ``save`` writes knows the new K; SB3's ``model.save`` takes it from ``model.policy_kwargs``, which
        :class:`~lipsrl.policies.LipschitzSchedule` keeps up to date. If you call this yourself, set it there, too: with
        another K the same weights are another function, and loading them warns.

        Raises:
            ValueError: out of range, or the policy is not constrained.
        """
        policy: Any = self
        if self.options.unconstrained:
            raise ValueError(
                "lipschitz_bound=inf cannot be changed: the policy is SB3's own. Start from a finite K."
            )
        targets = self.lipschitz_targets()
        for network in targets:  # all of them, or none; the first checks itself
            network.check_bound(bound)
        for network in (policy.lipschitz_network, *targets):
            network.set_bound(bound)
        options = dataclasses.replace(self.options, lipschitz_bound=float(bound))
        for module in self.modules():
            if getattr(module, "options", None) is not None:
                module.options = options  # type: ignore[assignment]

    def load_from_vector(self, vector: Any) -> None:
        """SB3's, then the exact projection: it writes where no optimizer and no version counter sees it."""
        super().load_from_vector(vector)  # type: ignore[misc]
        for module in self.modules():
            if isinstance(module, WeightKeeper):
                module.project()
        project_lone_layers(self)

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


def hidden_of(net_arch: Any, key: str) -> list[int]:
    """The widths of one part of SB3's ``net_arch``."""
    return list(net_arch.get(key, [])) if isinstance(net_arch, Mapping) else list(net_arch)
