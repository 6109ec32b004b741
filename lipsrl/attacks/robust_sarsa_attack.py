"""Robust Sarsa: a Q-function of the attacker's own, learnt from rollouts, in place of the model's critic."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from lipsrl._episodes import check_limit
from lipsrl._validation import positive_int
from lipsrl.actors.normalization import NormalizeLike
from lipsrl.actors.view import Units, View
from lipsrl.attacks._actor import actor_of
from lipsrl.attacks._critic import ActionValue
from lipsrl.attacks._environment import EnvLike, check_env, check_stacked, env_name, env_of
from lipsrl.attacks._gradient_attack import GradientAttack, Objective
from lipsrl.attacks._sarsa import collect, fit
from lipsrl.attacks._target import Target
from lipsrl.certificates._clean_episodes import environments
from lipsrl.disturbances._parameters import nonnegative_number

# environments that are stepped side by side for the rollouts
_SLOTS = 20


class RobustSarsaAttack(GradientAttack):
    """Lowers Q(s, μ(ŝ)), ŝ in the ball around s, with a Q that is learnt for the purpose.

    Zhang et al. 2020 (arXiv:2003.08938), section 3.5. The critic of a model need not know what actions other than
    the policy's own are worth. This attack rolls the frozen policy out (sampled actions; squashed policies with
    Gaussian noise of .1 half ranges), learns the Q-function of that policy by TD, regularised by
    λ·max (Q(s, â) - Q(s, a))² over the ball ‖â - a‖_∞ ≤ ε_train so that its gradient can be trusted away from the
    data, and follows it.

    Learning takes seconds (20 000 steps of the environment and 5 000 gradient steps), at the moment when the attack
    gets its target model. It is seeded, and kept: an attack and its scaled copies learn once for each model.

    Args:
        model, epsilon, norm, vec_normalize, units, frame_stack: as in :class:`~lipsrl.attacks.Attack`; the model's
            actor must be a plain feed-forward network with continuous actions.
        steps, step_size, restarts: as in :class:`~lipsrl.attacks.GradientAttack`.
        env: Gymnasium id or zero-argument factory for the rollouts. None: made from the spec of the model's own
            environment.
        train_epsilon: ε_train, in units of half the action range (in action units where that is infinite), >= 0.
        weight: λ, >= 0.
        rollout_steps, updates: how much is learnt from, > 0.
        train_seed: of rollouts, initial weights and batches, >= 0.
        max_episode_steps: of the rollouts, as in :func:`lipsrl.evaluate`. None: as the environment has it; in one that
            never ends, the rollouts are from 20 starts only.

    Raises:
        ValueError: discrete actions, or no environment to roll out in.

    Other errors as in :class:`~lipsrl.attacks.Attack`.

    Example:
        >>> import numpy as np
        >>> from stable_baselines3 import PPO
        >>> model = PPO("MlpPolicy", "Pendulum-v1", seed=0, device="cpu")
        >>> attack = RobustSarsaAttack(model, epsilon=0.1, rollout_steps=100, updates=20)
        >>> attack.reset(seed=0)
        >>> observation = np.array([1.0, 0.0, 0.5], dtype=np.float32)
        >>> bool((abs(attack(observation) - observation) <= 0.1).all())
        True
    """

    name = "robust-sarsa"

    def __init__(
        self,
        model: Any,
        epsilon: float,
        norm: str = "linf",
        vec_normalize: NormalizeLike = None,
        units: Units = "normalized",
        *,
        steps: int = 10,
        step_size: float | None = None,
        restarts: int = 1,
        frame_stack: int | None = None,
        env: EnvLike | None = None,
        train_epsilon: float = 0.3,
        weight: float = 10.0,
        rollout_steps: int = 20_000,
        updates: int = 5_000,
        train_seed: int = 0,
        max_episode_steps: int | None = None,
    ) -> None:
        self.env = check_env(env)
        self.train_epsilon = nonnegative_number("train_epsilon", train_epsilon)
        self.weight = nonnegative_number("weight", weight)
        self.rollout_steps = positive_int("rollout_steps", rollout_steps)
        self.updates = positive_int("updates", updates)
        if train_seed != 0:
            positive_int("train_seed", train_seed)
        self.train_seed = int(train_seed)
        self.max_episode_steps = check_limit(max_episode_steps)
        # shared by all copies: identity of a target -> what was learnt about it
        self._learnt: dict[tuple[str, str | None, int], ActionValue] = {}
        super().__init__(
            model, epsilon, norm, vec_normalize, units, steps=steps, step_size=step_size, restarts=restarts,
            frame_stack=frame_stack,
        )  # fmt: skip

    @property
    def parameters(self) -> dict[str, Any]:
        own = ["env", "train_epsilon", "weight", "rollout_steps", "updates", "train_seed"]
        # named only where it is set, so that episodes that were stored before it existed are still recognised
        own += [] if self.max_episode_steps is None else ["max_episode_steps"]
        return {**super().parameters, **{name: getattr(self, name) for name in own}}

    def to_dict(self) -> dict[str, Any]:
        """As of every attack; an environment factory goes by its name."""
        return super().to_dict() | {"env": env_name(self.env)}

    def objective(self, clean: Tensor) -> Objective:
        actor, q, unit = self._actor, self._q, self._unit
        return lambda seen: -q(clean, actor.mean(seen) / unit)

    def _aim(self, model: Any, target: Target) -> None:
        super()._aim(model, target)
        self._actor = actor_of(model)
        if self._actor.choices is not None:
            raise ValueError(
                f"RobustSarsaAttack moves a continuous action, but {type(model).__name__} acts in "
                f"{model.action_space}. Use CriticAttack or MADAttack."
            )
        half_range = _half_range(model)
        self._unit = torch.ones(1) if self._actor.squash else torch.from_numpy(half_range)
        if target.identity not in self._learnt:
            self._learnt[target.identity] = self._learn(model, target.view, half_range)
        self._q = self._learnt[target.identity]

    def _learn(self, model: BaseAlgorithm, view: View, half_range: np.ndarray) -> ActionValue:
        alike = model if view.frames == 1 else None
        env = env_of(model, self.env, "RobustSarsaAttack learns from rollouts")
        with environments(env, _SLOTS, alike, self.max_episode_steps) as made:
            if alike is None:
                check_stacked(model, made[0], view.frames)
            data = collect(self._actor, view, half_range, made, self.rollout_steps, self.train_seed)
        gamma = float(getattr(model, "gamma", 0.99))
        return fit(
            data,
            gamma,
            radius=self.train_epsilon,
            weight=self.weight,
            updates=self.updates,
            seed=self.train_seed,
        )


def _half_range(model: BaseAlgorithm) -> np.ndarray:
    """(act,) half the range of each action, 1 where it is infinite."""
    space = model.action_space
    assert isinstance(space, gym.spaces.Box)
    half = (space.high.astype(np.float64) - space.low.astype(np.float64)).reshape(-1) / 2
    return np.where(np.isfinite(half), half, 1.0)
