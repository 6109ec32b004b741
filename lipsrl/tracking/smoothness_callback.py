"""Live smoothness while an agent learns."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback

from lipsrl.certificates import jacobians, product_bound
from lipsrl.metrics import action_fluctuation
from lipsrl.policies import actor_parts
from lipsrl.policies.normalization import normalization_of, observation_gains


class SmoothnessCallback(BaseCallback):
    """Record how smooth the deterministic actor is on the states it visits, in the policy's own units.

    Logged under ``smoothness/``: ``action_fluctuation`` (mean ‖μ(o_t+1) - μ(o_t)‖ along the first environment's
    trajectory), ``sensitivity`` and ``max_sensitivity`` (mean and largest Jacobian norm of the mean action),
    ``lipschitz_bound`` (sound, float64: construction for Lipschitz policies, product of norms for stock
    ones), ``tightness`` (largest Jacobian norm over bound) and ``raw_lipschitz_bound`` (times the steepest
    VecNormalize gain). They go wherever SB3's logger goes: CSV, TensorBoard, W&B.

    Args:
        every: environment steps between two records.
        n_states: most recent observations used.
    """

    def __init__(self, every: int = 4096, n_states: int = 512, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.every = every
        self._recent: deque[np.ndarray] = deque(maxlen=n_states)
        self._ends: deque[bool] = deque(maxlen=n_states)
        self._last_record = 0

    def _on_step(self) -> bool:
        observations = self.locals.get("new_obs")
        if isinstance(observations, np.ndarray):
            self._recent.append(observations[0].reshape(-1))
            self._ends.append(bool(np.asarray(self.locals["dones"])[0]))
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps - self._last_record >= self.every and len(self._recent) > 2:
            self._last_record = self.num_timesteps
            self._record()

    def _record(self) -> None:
        was_training = self.model.policy.training
        parts = actor_parts(self.model)
        self.model.policy.set_training_mode(was_training)
        observations = torch.as_tensor(np.stack(self._recent), dtype=torch.float32)
        constrained = parts.constrained
        scale = torch.ones(1)
        if constrained is not None and constrained.input_scale is not None:
            scale = constrained.input_scale.cpu()  # the promise is per unit of observation / scale
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
        _, gain, _ = observation_gains(normalization_of(self.model, None), observations.shape[1])
        record = self.logger.record
        record("smoothness/action_fluctuation", float(np.mean(moves)) if moves else float("nan"))
        record("smoothness/sensitivity", float(slopes.mean()))
        record("smoothness/max_sensitivity", float(slopes.max()))
        record("smoothness/lipschitz_bound", bound)
        record("smoothness/tightness", float(slopes.max()) / bound)
        record("smoothness/raw_lipschitz_bound", bound * float((gain / scale.numpy()).max()))
