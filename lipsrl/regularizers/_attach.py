"""``regularize``, and how a model that was loaded, copied or built from ``policy_kwargs`` finds its methods again."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from lipsrl._validation import lookup
from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers._families import algorithms, check_algorithm, on_policy
from lipsrl.regularizers._hooks import Hooks
from lipsrl.regularizers._methods import METHODS
from lipsrl.regularizers._pairs import check_buffer
from lipsrl.regularizers._runtime import Runtime

Model = TypeVar("Model")

#: Attributes of the SB3 model, which its zip has too: what was asked for, and how far it has come. Plain data.
_METHODS, _STATE = "regularizers", "regularizers_state"

_RUNTIMES: WeakKeyDictionary[Any, Runtime] = WeakKeyDictionary()

#: Models whose ``train()`` is running.
_RUNNING: set[int] = set()


def parse(regularizers: Any) -> tuple[Regularizer, ...]:
    """Methods from what a user may write.

    Args:
        regularizers: a list of methods, or of the same as data: ``{"name": "CAPS", "temporal": 0.1}`` or
            ``{"CAPS": {"temporal": 0.1}}``, as a YAML file says it.

    Raises:
        ValueError: an unknown method or argument, or one method twice.
        TypeError: something else.
    """
    given = [regularizers] if isinstance(regularizers, (Regularizer, Mapping)) else regularizers
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise TypeError(f"regularizers must be a list such as [CAPS(temporal=0.1)], received {given!r}.")
    methods = tuple(_parse_one(one) for one in given)
    names = [type(method).__name__ for method in methods]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(
            f"{', '.join(sorted(twice))} is given twice: one of each method, with all its weights."
        )
    return methods


def _parse_one(given: Any) -> Regularizer:
    if isinstance(given, Regularizer):
        if METHODS.get(type(given).__name__) is not type(given):
            raise TypeError(
                f"{type(given).__name__} is not known by name, and a zip names its methods: put "
                "@lipsrl.regularizers.register above the class."
            )
        return given
    if isinstance(given, type) and issubclass(given, Regularizer):
        raise TypeError(f"{given.__name__} is the class: write {given.__name__}() for its default weights.")
    if isinstance(given, Mapping):
        arguments = dict(given)
        if "name" in arguments:
            name = arguments.pop("name")
        elif len(arguments) == 1:
            name, inner = next(iter(arguments.items()))
            arguments = dict(inner or {})
        else:
            raise ValueError(f'a method as data is {{"name": "CAPS", …}}; received {given!r}.')
        cls = lookup("regularizer", name, METHODS)
        accepted = cls.__dataclass_fields__
        for argument in arguments:
            lookup(f"{name}: argument", argument, accepted)
        return cls(**arguments)
    raise TypeError(
        f"a regularizer is one of {', '.join(METHODS)} of lipsrl.regularizers, received {type(given).__name__}."
    )


def _check(model: Any, methods: tuple[Regularizer, ...]) -> None:
    check_algorithm(model)
    for method in methods:
        buffer = model.rollout_buffer if on_policy(model) else model.replay_buffer
        check_buffer(buffer, method.needs)
        method.check(model)


def _state(model: Any) -> dict[str, Any]:
    return {"seed": int(model.seed or 0), "updates": 0, "weights": {}, "memories": {}}


def _asked(model: Any) -> Any:
    """What was asked for, as it is kept: by :func:`regularize`, or in ``policy_kwargs``."""
    own = vars(model).get(_METHODS)
    return own or (getattr(model, "policy_kwargs", None) or {}).get("regularizers") or ()


def regularized(model: Any) -> tuple[Regularizer, ...]:
    """The methods that ``model`` learns with; empty where there is none."""
    return parse(_asked(model))


def regularize(model: Model, *methods: Regularizer) -> Model:
    """Let ``model`` learn with soft regularisers from now on.

    Works on stock and Lipschitz policies of PPO, A2C, SAC, TD3, DDPG and TQC with a Box of actions, on vectors, images
    and Dict observations. The losses are added to those of the algorithm's own ``train()``; they draw from a random
    generator of their own. They survive ``save``, ``load`` (with lipsrl imported), ``deepcopy``, ``set_env`` and a
    resumed ``learn``. Each is logged as ``regularizers/…``, beside its weight.

    Args:
        model: an SB3 model; it is changed and returned.
        methods: such as ``CAPS(temporal=0.1, spatial=0.5)``; see ``docs/regularizers.md``.

    Returns:
        ``model``.

    Raises:
        ValueError: the algorithm, its buffer or its networks have not what a method needs, or the model is regularised
            already; says why.

    Example:
        >>> from stable_baselines3 import PPO
        >>> from lipsrl.regularizers import CAPS, regularize
        >>> model = PPO("MlpPolicy", "Pendulum-v1", n_steps=64, device="cpu")
        >>> regularize(model, CAPS(temporal=0.01, spatial=0.05)).learn(64).num_timesteps
        64
    """
    target: Any = model
    if not methods:
        raise ValueError("regularize needs at least one method, such as CAPS(temporal=0.1, spatial=0.5).")
    before = regularized(target)
    if before:
        raise ValueError(
            f"this {type(target).__name__} is regularised already, by {', '.join(map(repr, before))}. Give all methods "
            "in one call, or unregularize(model) first."
        )
    chosen = parse(methods)
    _check(target, chosen)
    setattr(target, _METHODS, [method.plain() for method in chosen])
    setattr(target, _STATE, _state(target))
    return model


def unregularize(model: Model) -> Model:
    """Let ``model`` learn without them again; returns it."""
    target: Any = model
    for name in (_METHODS, _STATE):
        vars(target).pop(name, None)
    kwargs = getattr(target, "policy_kwargs", None) or {}
    if kwargs.get("regularizers"):
        target.policy_kwargs = {key: value for key, value in kwargs.items() if key != "regularizers"}
    _RUNTIMES.pop(target, None)
    return model


def _runtime(model: Any) -> Runtime | None:
    asked = _asked(model)
    if not asked:
        return None
    state = vars(model).get(_STATE)
    if not isinstance(state, dict):  # of policy_kwargs, or left in the file by load_agent
        state = _state(model)
        setattr(model, _STATE, state)
    runtime = _RUNTIMES.get(model)
    if runtime is None or runtime.state is not state or runtime.asked is not asked:
        methods = parse(asked)
        _check(model, methods)
        runtime = _RUNTIMES[model] = Runtime.of(model, methods, state)
        runtime.asked = asked
    return runtime


def _training(model: Any) -> AbstractContextManager[None] | None:
    """What is around one ``train()`` of ``model``; ``None`` where nothing is to be."""
    if id(model) in _RUNNING:  # a subclass that calls its parent's
        return None
    runtime = _runtime(model)
    return None if runtime is None else Hooks(model, runtime).installed()


def _with_regularizers(stock: Any) -> Any:
    @functools.wraps(stock)
    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        around = _training(self)
        if around is None:
            return stock(self, *args, **kwargs)
        _RUNNING.add(id(self))
        try:
            with around:
                return stock(self, *args, **kwargs)
        finally:
            _RUNNING.discard(id(self))

    train.lipsrl_stock = stock  # type: ignore[attr-defined]
    return train


def install() -> None:
    """Let SB3's algorithms ask at each ``train()`` whether the model is regularised; safe to call twice.

    A zip only names SB3's own classes, so that a loaded model can only be noticed there. Models without regularisers
    look up two attributes and run SB3's function.
    """
    for algorithm in algorithms():
        stock = vars(algorithm)["train"]
        if not hasattr(stock, "lipsrl_stock"):
            algorithm.train = _with_regularizers(stock)  # type: ignore[attr-defined]
