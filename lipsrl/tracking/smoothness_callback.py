"""Live smoothness while an agent learns."""

from __future__ import annotations

import warnings
from collections import deque

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback

from lipsrl.actors import ActorParts, actor_parts
from lipsrl.actors.normalization import normalization_of
from lipsrl.certificates import FeasibilityFloor, jacobians, policy_units, product_bound
from lipsrl.metrics import action_fluctuation
from lipsrl.policies._unwrapped import policy_of


class SmoothnessCallback(BaseCallback):
    """Record how smooth the deterministic actor is on the states it visits, in the policy's own units.

    Logged under ``smoothness/``: ``action_fluctuation`` (mean ‖μ(o_t+1) - μ(o_t)‖ along the first environment's
    trajectory), ``sensitivity`` and ``max_sensitivity`` (mean and largest Jacobian norm of the mean action),
    ``lipschitz_bound`` (sound, float64: construction for Lipschitz policies, product of norms for stock
    ones), ``tightness`` (largest Jacobian norm over bound) and ``raw_lipschitz_bound`` (times the steepest
    VecNormalize gain). They go wherever SB3's logger goes: CSV, TensorBoard, W&B.

    With ``feasibility`` also ``feasibility_floor``, the floor of the equilibrium in the policy's own units as
    VecNormalize defines them by then; a ``UserWarning``, once, if the promise of the policy is below it. It comes
    before the first step if the units are fixed.

    Args:
        every: environment steps between two records.
        n_states: most recent observations used.
        feasibility: floor of the equilibrium that the policy is to hold, in raw units
            (:func:`lipsrl.certificates.feasibility_floor`).

    Raises:
        ValueError: when training starts, a policy that cannot be measured; a floor in other units, or of other
            observations than the model's.
    """

    def __init__(
        self,
        every: int = 4096,
        n_states: int = 512,
        verbose: int = 0,
        *,
        feasibility: FeasibilityFloor | None = None,
    ) -> None:
        super().__init__(verbose)
        self.every = every
        self.feasibility = feasibility
        self._warned = False
        self._recent: deque[np.ndarray] = deque(maxlen=n_states)
        self._ends: deque[bool] = deque(maxlen=n_states)
        self._last_record = 0

    def _init_callback(self) -> None:
        self._recent.clear()  # of another learn(), or another model
        self._ends.clear()
        self._last_record = min(self._last_record, self.model.num_timesteps)
        self._check()
        if self.feasibility is None:
            return
        expected, shape = self.feasibility.observation_gain, self.model.observation_space.shape
        if shape != expected.shape or (expected != 1).any():
            raise ValueError(
                f"feasibility must be a floor in raw units (observation_gain=1) of observations {shape}, as the "
                f"model receives them; received one of {expected.shape} with gains {expected.tolist()}."
            )
        statistics = normalization_of(self.model, None)
        if statistics is None or not statistics.norm_obs:
            self._feasible(self._parts())

    def _check(self) -> None:
        """What cannot be measured is refused before the first step, not after the first rollout."""
        space = self.model.observation_space
        if not isinstance(space, spaces.Box):
            raise ValueError(
                f"SmoothnessCallback measures policies of Box observations, received {space}. Leave it out."
            )
        try:
            parts = self._parts()
            half_range = None if parts.half_range is None else torch.as_tensor(parts.half_range)
            if parts.constrained is None:
                product_bound(parts.network, half_range)
            policy_units(self.model, parts=parts)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"SmoothnessCallback cannot measure this {type(self.model).__name__} policy: {error} Leave it out."
            ) from error

    def _on_training_end(self) -> None:
        if self.feasibility is not None:
            self._feasible(self._parts())

    def _parts(self) -> ActorParts:
        """The actor, which is left in the mode that it is in."""
        training = policy_of(self.model).training
        parts = actor_parts(self.model)
        policy_of(self.model).set_training_mode(training)
        return parts

    def _feasible(self, parts: ActorParts) -> float:
        """The floor in the policy's own units; warns, once, if the promise is below it."""
        assert self.feasibility is not None
        units = policy_units(self.model, parts=parts)
        floor = self.feasibility.floor_for(units)
        if parts.constrained is not None and parts.constrained.bound < floor and not self._warned:
            self._warned = True
            text = self.feasibility.in_units(units).warning(parts.constrained.bound)
            warnings.warn(
                f"after {self.num_timesteps} steps, in the policy's own units: {text}", stacklevel=2
            )
        return floor

    def _on_step(self) -> bool:
        observations = self.locals.get("new_obs")
        if isinstance(observations, np.ndarray) and isinstance(self.model.observation_space, spaces.Box):
            self._recent.append(observations[0].reshape(-1))
            self._ends.append(bool(np.asarray(self.locals["dones"])[0]))
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps - self._last_record >= self.every and len(self._recent) > 2:
            self._last_record = self.num_timesteps
            self._record()

    def _record(self) -> None:
        parts = self._parts()
        observations = torch.as_tensor(np.stack(self._recent), dtype=torch.float32)
        constrained = parts.constrained
        scale = torch.ones(1)
        if constrained is not None:  # the promise is per unit of observation / scale
            scale = torch.as_tensor(constrained.input_scale, dtype=torch.float32)
        half_range = (
            None if parts.half_range is None else torch.as_tensor(parts.half_range, dtype=torch.float32)
        )

        def mean_action(x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = parts.network(x * scale)
            out = torch.tanh(out) if parts.squash else out
            return out if half_range is None else out * half_range

        slopes = torch.linalg.matrix_norm(jacobians(mean_action, observations / scale), ord=2)
        with torch.no_grad():
            actions = mean_action(observations / scale).numpy()
        # a done at row i means that row i already belongs to the next episode
        same_episode = ~np.array(self._ends)[1:]
        moves = [action_fluctuation(actions[i : i + 2]) for i in np.flatnonzero(same_episode)]
        bound = constrained.lipschitz_bound() if constrained else product_bound(parts.network, half_range)
        record = self.logger.record
        record("smoothness/action_fluctuation", float(np.mean(moves)) if moves else float("nan"))
        record("smoothness/sensitivity", float(slopes.mean()))
        record("smoothness/max_sensitivity", float(slopes.max()))
        record("smoothness/lipschitz_bound", bound)
        record("smoothness/tightness", float(slopes.max()) / bound)
        record("smoothness/raw_lipschitz_bound", bound * float(policy_units(self.model, parts=parts).max()))
        if self.feasibility is not None:
            record("smoothness/feasibility_floor", self._feasible(parts))
