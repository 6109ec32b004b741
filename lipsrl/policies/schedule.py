"""A Lipschitz bound that moves while an agent learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import MappingProxyType

from lipsrl._validation import lookup, positive_finite
from lipsrl.policies._moving_bound import MovingBound

#: name → K as a function of (start, end, share of training that is done).
SCHEDULES: MappingProxyType[str, Callable[[float, float, float], float]] = MappingProxyType(
    {
        "constant": lambda start, end, done: start,
        "linear": lambda start, end, done: start + (end - start) * done,
        "exponential": lambda start, end, done: start * (end / start) ** done,
        "cosine": lambda start, end, done: end + (start - end) * (1 + math.cos(math.pi * done)) / 2,
    }
)


#: Attribute of the SB3 model: schedule, end and start of the training that is under way.
_MEMORY = "lipschitz_schedule"


class LipschitzSchedule(MovingBound):
    """SB3 callback that changes K of a Lipschitz policy during training, for example from large to small::

        PPO("LipschitzMlpPolicy", env, policy_kwargs=dict(lipschitz_bound=50.0)).learn(
            100_000, callback=LipschitzSchedule("exponential", end=5.0))

    K changes before each rollout, never between an on-policy rollout and the updates that learn from it, and once more
    at the end of training. The acting network always satisfies the current K: if K decreases, the network is projected
    before it acts again. Target networks get the same K at the same time and are projected too; an average of two
    networks that satisfy K also satisfies K. The bounds of the critic and of log σ do not change. (ARS with
    ``async_eval``: its worker processes keep the K that they were started with.)

    A training that is resumed (``learn(the rest, reset_num_timesteps=False)``, also from a zip) with the same schedule
    and end continues as if it had never stopped.

    After training, also if another callback ended it, the policy, its certificate and the file of ``model.save`` have
    the K of that time.

    Args:
        schedule: ``"constant"``, ``"linear"``, ``"exponential"``, ``"cosine"``, or a function of the remaining progress
            (1 at the start, 0 at the end, as SB3's learning-rate schedules) that returns K.
        start: K at the start; the policy's own where ``None``. Not with a function.
        end: K at the end; needed by every name but ``"constant"``.

    Raises:
        ValueError: an argument is missing, out of range or unknown; at the start of training where the policy is not
            constrained; at the end of a rollout where a function returns no K > 0.
    """

    def __init__(
        self,
        schedule: str | Callable[[float], float] = "linear",
        start: float | None = None,
        end: float | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        if callable(schedule):
            if start is not None or end is not None:
                raise ValueError("start and end belong to a named schedule; a function says all K itself.")
        else:
            lookup("schedule", schedule, SCHEDULES)
            if (end is None) != (schedule == "constant"):
                needs = "takes no end, its K is start" if schedule == "constant" else "needs end=K > 0"
                raise ValueError(f"schedule={schedule!r} {needs}; received end={end!r}.")
        for name, value in (("start", start), ("end", end)):
            if value is not None:
                positive_finite(name, value)
        self.schedule, self.start, self.end = schedule, start, end

    def bound_at(self, progress_remaining: float) -> float:
        """K at a remaining progress from 1 (start) to 0 (end). A name needs ``start`` or a model."""
        if callable(self.schedule):
            return positive_finite("the schedule's K", self.schedule(progress_remaining))
        start = self._own_start if self.start is None else self.start
        end = start if self.end is None else self.end
        return SCHEDULES[self.schedule](float(start), float(end), 1.0 - progress_remaining)

    def _init_callback(self) -> None:
        own = self._bound()
        # A resumed training goes on from where the first one began, which the model (and its zip) remembers.
        this = [self.schedule if isinstance(self.schedule, str) else None, self.end]
        memory = getattr(self.model, _MEMORY, None)
        resumed = self.model.num_timesteps > 0 and memory is not None and memory[:2] == this
        self._own_start = memory[2] if resumed and memory is not None else own
        setattr(self.model, _MEMORY, [*this, self._own_start])

    def _update(self) -> None:
        self._move(self.bound_at(max(1.0 - self._progress(), 0.0)))

    def _on_training_start(self) -> None:
        self._update()

    def _on_training_end(self) -> None:
        self._update()
