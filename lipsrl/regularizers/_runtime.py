"""What a regularised model carries through its training: weights, random numbers, what methods learn, and logs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lipsrl._unwrapped import policy_of
from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers._batch import Batch, Memory, Neighbour
from lipsrl.regularizers._families import action_unit, networks_of
from lipsrl.regularizers._observations import Observations, ObservationUnits, observation_units
from lipsrl.regularizers._weights import DUAL_START, Dual

#: Keeps the seeds of successive updates apart.
_STRIDE = 1_000_003


@dataclass
class Sample:
    """The minibatch that is being learnt from.

    Attributes:
        observations: as the buffer gave them; what the update evaluates is this very object.
        actions: (n, act).
        next, previous: looked up when a method asks.
    """

    observations: Any
    actions: Tensor
    find_next: Any
    find_previous: Any = None

    @cached_property
    def next(self) -> Neighbour:
        """o_{t+1}."""
        found: Neighbour = self.find_next()
        return found

    @cached_property
    def previous(self) -> Neighbour:
        """o_{t-1}."""
        found: Neighbour = self.find_previous()
        return found


@dataclass
class Runtime:
    """The methods at work on one model.

    Attributes:
        methods: in the order given.
        state: plain data that is saved with the model and continues the training to the bit: ``seed``, ``updates``
            (losses computed so far), ``weights`` (of targets), ``memories``.
        waiting: minibatches sampled since a loss last rode.
        asked: what ``methods`` were made from.
    """

    methods: tuple[Regularizer, ...]
    state: dict[str, Any]
    device: torch.device
    duals: dict[str, Dual] = field(default_factory=dict)
    memories: dict[str, Memory] = field(default_factory=dict)
    logged: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    weights: dict[str, float] = field(default_factory=dict)
    waiting: int = 0
    asked: Any = None

    def __post_init__(self) -> None:
        self.generator = torch.Generator(device=self.device)

    @classmethod
    def of(cls, model: Any, methods: tuple[Regularizer, ...], state: dict[str, Any]) -> Runtime:
        """For ``model``, continuing from ``state``."""
        self = cls(methods, state, model.device)
        for method in methods:
            for term, target in method.targets().items():
                key = f"{method.name}_{term}"
                start = state["weights"].get(key) or method.weight(term, 1.0) or DUAL_START
                self.duals[key] = Dual(f"{type(method).__name__}: {term}", target, start)
                state["weights"][key] = start
            memory = method.memory(model, state["memories"].get(method.name))
            if memory is not None:
                self.memories[method.name] = memory
        return self

    def begin(self, model: Any) -> None:
        """At the start of each ``train()``."""
        self.logged.clear()
        # below zero where the last rollout goes beyond the number of steps asked for
        remaining = min(max(float(model._current_progress_remaining), 0.0), 1.0)
        self.weights = {
            f"{method.name}_{term}": method.weight(term, remaining)
            for method in self.methods
            for term in (*method.actor_terms, *method.critic_terms)
        }
        self.networks = networks_of(model)
        self.learning_rate = float(model.lr_schedule(model._current_progress_remaining))
        options = getattr(policy_of(model), "options", None)
        scale = getattr(options, "observation_scale", None)
        kinds = {method.units for method in self.methods}
        self.action_units = {kind: action_unit(model, kind) for kind in kinds}
        self._observation_units = {
            kind: _Lazy(
                observation_units,
                model.observation_space,
                kind,
                observation_scale=scale,
                vec_normalize=model.get_vec_normalize_env(),
            )
            for kind in kinds
        }

    def weight(self, key: str) -> float:
        """Of one loss, now."""
        return self.duals[key].value if key in self.duals else self.weights[key]

    @property
    def active(self) -> bool:
        """Whether any weight of an actor's loss is above zero."""
        return any(self._active(method, method.actor_terms) for method in self.methods)

    def _active(self, method: Regularizer, terms: Sequence[str]) -> tuple[str, ...]:
        return tuple(term for term in terms if self.weight(f"{method.name}_{term}") > 0)

    def loss(self, sample: Sample, *, critic: bool, now: Any = None) -> Tensor | None:
        """Sum of all weighted losses () on the side asked for; ``None`` where all weights are zero."""
        total: Tensor | None = None
        for method in self.methods:
            terms = self._active(method, method.critic_terms if critic else method.actor_terms)
            if not terms:
                continue
            batch = self._batch(method, sample, now)
            compute = method.critic_losses if critic else method.actor_losses
            for term, loss in compute(batch, terms).items():
                key = f"{method.name}_{term}"
                weighted = self.weight(key) * loss
                total = weighted if total is None else total + weighted
                self.logged[key].append(loss.detach())
                if key in self.duals:
                    self.duals[key].update(float(loss.detach()))
                    self.state["weights"][key] = self.duals[key].value
        return total

    def _batch(self, method: Regularizer, sample: Sample, now: Any) -> Batch:
        self.state["updates"] += 1
        self.generator.manual_seed((self.state["seed"] * _STRIDE + self.state["updates"]) % 2**63)
        return Batch(
            networks=self.networks,
            observations=sample.observations,
            action_unit=self.action_units[method.units],
            units=self._observation_units[method.units],
            generator=self.generator,
            actions=sample.actions,
            next=sample.next if "next" in method.needs else None,
            previous=sample.previous if "previous" in method.needs else None,
            now=now,
            memory=self.memories.get(method.name),
        )

    def step_memories(self) -> None:
        """After a backward pass, before the next loss and at the end of ``train()``."""
        for memory in self.memories.values():
            memory.step(self.learning_rate)

    def end(self, model: Any) -> None:
        """At the end of each ``train()``: state and logs."""
        self.step_memories()
        for name, memory in self.memories.items():
            self.state["memories"][name] = memory.plain()
        for key, losses in self.logged.items():
            model.logger.record(f"regularizers/{key}", float(torch.stack(losses).mean()))
        for method in self.methods:
            for term in (*method.actor_terms, *method.critic_terms):
                key = f"{method.name}_{term}"
                model.logger.record(f"regularizers/{key}_weight", self.weight(key))


class _Lazy:
    """A call made when it is first asked for: units are refused only by those losses that displace observations."""

    def __init__(self, function: Any, *args: Any, **kwargs: Any) -> None:
        self._make = (function, args, kwargs)

    @cached_property
    def _value(self) -> ObservationUnits:
        function, args, kwargs = self._make
        made: ObservationUnits = function(*args, **kwargs)
        return made

    def __call__(self) -> ObservationUnits:
        return self._value


def same(one: Observations, other: Observations) -> bool:
    """Whether both are the same object, or dicts of the same tensors."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(one[key] is other.get(key) for key in one)
    return one is other
