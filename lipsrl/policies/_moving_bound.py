"""Callbacks that change K of a Lipschitz policy while it learns: when, and what else has to know of it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from lipsrl.policies._policy import LipschitzPolicy
from lipsrl.policies._unwrapped import policy_of


class MovingBound(BaseCallback):
    """Calls :meth:`_update` before each rollout, never between an on-policy rollout and the updates that use it."""

    @abstractmethod
    def _update(self) -> None:
        """Move K, by :meth:`_move`."""

    def _constrained(self) -> LipschitzPolicy:
        """The policy that is trained.

        Raises:
            ValueError: it is not constrained.
        """
        policy: Any = policy_of(self.model)
        if not isinstance(policy, LipschitzPolicy) or policy.options.unconstrained:
            raise ValueError(
                f"{type(self).__name__} needs a Lipschitz policy with a finite lipschitz_bound, received "
                f'{type(policy).__module__}.{type(policy).__name__}. Use "LipschitzMlpPolicy" and '
                "policy_kwargs=dict(lipschitz_bound=K)."
            )
        return policy

    def _bound(self) -> float:
        """The present K."""
        return float(self._constrained().options.lipschitz_bound)

    def _move(self, bound: float) -> None:
        """Give the policy, its targets and what the zip will say another K, and log it."""
        policy = self._constrained()
        if bound != policy.options.lipschitz_bound:
            policy.set_lipschitz_bound(bound)
            # a new dict: the old one may be the user's
            self.model.policy_kwargs = {**self.model.policy_kwargs, "lipschitz_bound": bound}
        self.logger.record("train/lipschitz_bound", bound)

    def _progress(self) -> float:
        """The share of the training that is done."""
        return float(min(self.model.num_timesteps / max(self.model._total_timesteps, 1), 1.0))

    def _on_rollout_start(self) -> None:
        self._update()

    def _on_rollout_end(self) -> None:
        # PPO's first ratio must be one; ARS copies the policy before the rollout starts
        if not isinstance(self.model, OnPolicyAlgorithm):
            self._update()

    def _on_step(self) -> bool:
        return True
