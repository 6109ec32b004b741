"""A policy as the evaluator calls it: raw observations in, environment actions out, many at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl.actors.frames import frames_of
from lipsrl.actors.normalization import ObservationChain, settled
from lipsrl.actors.observations import stack_axis
from lipsrl.attacks._aim import holds_attack, with_target
from lipsrl.disturbances import Disturbance
from lipsrl.evaluation._functions import Predicting, as_function, overrides_predict
from lipsrl.evaluation._memory import Memory, one_row, remembers
from lipsrl.evaluation._observations import Observations, count, numbers_in, padded, take
from lipsrl.policies._unwrapped import policy_of

# Matrix products round differently for different numbers of rows, but (measured) not for different positions
# among the same number. Policies are therefore called with exactly this many rows, idle ones included, and an
# episode comes out the same bit for bit whatever else is being evaluated beside it.
ROWS = 64
# Images: a forward of many idle rows would cost more than it saves.
_LARGE, _FEW_ROWS = 2048, 8

#: ``(tensor, rows that it holds)`` to actions
Predict = Callable[[Any, Any], torch.Tensor]


class Controller:
    """One agent: its normalisation, its deterministic policy, and what is done to the action before the env.

    Args:
        model: an SB3 (or sb3-contrib) algorithm or policy, anything else with SB3's ``predict`` (a state is handed
            back, see :class:`Memory`), or a callable without memory from raw observations ``(n, dim)`` to actions
            ``(n, *action_shape)`` (a torch module: of tensors).
        env: an environment with the spaces that the policy must fit.
        vec_normalize: applied to raw observations, never updated.
        label: the agent's name for errors.
        frame_stack: how many observations, the newest last, the policy sees at once (SB3's VecFrameStack); None:
            as in the model's own environment, if it has one.

    Raises:
        TypeError: neither an SB3 model nor callable.
        ValueError: the model's spaces or the normalisation do not fit the environment, or a policy of discrete
            actions has weights that are not finite (its actions would not show it).
    """

    def __init__(
        self,
        model: Any,
        env: gym.Env[Any, Any],
        vec_normalize: VecNormalize | None,
        label: str,
        frame_stack: int | None = None,
    ) -> None:
        self.label = label
        self._model = model
        self._faced: list[tuple[Disturbance, Disturbance]] = []
        self._vec_normalize = vec_normalize
        self.action_space = env.action_space
        self.frames = frames_of(model, frame_stack)
        self.axis = -1
        self.rows = _FEW_ROWS if numbers_in(env.observation_space) > _LARGE else ROWS
        self._policy: BasePolicy | None = None
        self._function: Any = None
        policy = policy_of(model) if isinstance(model, BaseAlgorithm) else model
        if isinstance(policy, BasePolicy):
            self._check_spaces(policy, env)
            policy.set_training_mode(False)
            self._policy = policy
            if not self.recurrent and not self.masked and overrides_predict(policy):
                self._function = Predicting(policy)
        else:
            self._function = as_function(model, label)
        chain = ObservationChain(vec_normalize, self.frames)
        self.normalizes_frames = chain.one_by_one(env.observation_space.shape, label)
        self._controller: Any = None
        if isinstance(self._function, Predicting) and self._remembers_by_itself(env):
            self._controller = self._function.model

    @property
    def policy(self) -> BasePolicy | None:
        """The SB3 policy, if it is one."""
        return self._policy

    @property
    def recurrent(self) -> bool:
        """Whether the policy carries a hidden state from step to step."""
        return hasattr(self._policy, "lstm_actor")

    @property
    def masked(self) -> bool:
        """Whether the policy can be told which actions are possible."""
        return self._policy is not None and (
            "action_masks" in inspect.signature(self._policy._predict).parameters
        )

    @property
    def remembers(self) -> bool:
        """Whether the action depends on more than the observation of the moment."""
        return self.frames > 1 or self.recurrent or self.keeps_state

    @property
    def keeps_state(self) -> bool:
        """Whether it is a controller with a memory of its own, which is called row by row (:class:`Memory`)."""
        return self._controller is not None

    def memory(self) -> Memory:
        """Of a new episode."""
        return Memory(self._controller)

    def _remembers_by_itself(self, env: gym.Env[Any, Any]) -> bool:
        rows = []
        for seed in (0, 1):
            row = one_row(env.observation_space, seed)
            if self.frames > 1 and isinstance(row, np.ndarray):
                row = np.concatenate([row] * self.frames, axis=row.ndim - 1 if self.axis == -1 else 1)
            rows.append(row if self.normalizes_frames else self.normalized(row))
        return remembers(self._function.model, *rows)

    def disturbance_for_model(self, disturbance: Disturbance) -> Disturbance:
        """The disturbance as this agent meets it: an attack without a target model gets this one.

        Raises:
            TypeError, ValueError: it cannot be; see `Attack.against`.
        """
        if not holds_attack(disturbance):
            return disturbance
        for given, met in self._faced:
            if given is disturbance or met is disturbance:
                return met
        if self.recurrent or self.keeps_state:
            raise ValueError(
                f"{disturbance!r} cannot attack {self.label}, whose action depends on more than the observation "
                "of the moment and the frames stacked with it (a recurrent policy, or a controller with a state)."
            )
        # kept, because aiming may be training (robust Sarsa)
        met = with_target(disturbance, self._model, settled(self._vec_normalize), self.frames)
        self._faced.append((disturbance, met))
        return met

    def propose(self, observations: Observations, active: NDArray[np.intp] | None = None) -> NDArray[Any]:
        """Deterministic actions before any clip, in the environment's units, in blocks of ``self.rows`` rows.

        Args:
            observations: raw, ``(n, dim)``.
            active: rows that count; blocks without any are not computed.

        Returns:
            ``(n, *action_shape)``; rows where the policy fails for lack of finite numbers are ``nan``.
        """
        if self.keeps_state:
            raise ValueError(
                f"{self.label} remembers what it has seen, so it has no action for an observation by itself."
            )
        return self.blockwise(self.normalized(observations), active)

    def blockwise(
        self, seen: Observations, active: NDArray[np.intp] | None = None, predict: Predict | None = None
    ) -> NDArray[Any]:
        """`propose` for what the policy sees; ``predict`` says how it is asked, if not for one observation."""
        n, predict = count(seen), predict or self._predict
        if n == self.rows:
            return self._call(seen, 0, predict)
        wanted = None if active is None else set((active // self.rows).tolist())
        wider = padded(seen, self.rows)
        blocks = [
            self._call(take(wider, slice(start, start + self.rows)), start, predict)
            if wanted is None or start // self.rows in wanted
            else None
            for start in range(0, count(wider), self.rows)
        ]
        some = next(block for block in blocks if block is not None)
        idle = np.zeros_like(some)
        return np.concatenate([idle if block is None else block for block in blocks])[:n]

    def execute(self, proposed: NDArray[Any]) -> NDArray[Any]:
        """What the environment receives: clipped to a Box, as SB3's ``predict`` does."""
        if isinstance(self.action_space, spaces.Box):
            return np.asarray(np.clip(proposed, self.action_space.low, self.action_space.high))
        return proposed

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Raw observations ``(n, dim)`` to environment actions ``(n, channels)``, in one batch."""
        proposed = self._call(self.normalized(observations), 0, self._predict)
        return self.execute(proposed).reshape(len(observations), -1)

    def normalized(self, observations: Observations) -> Observations:
        """As the policy sees them."""
        if self._vec_normalize is None:
            return observations
        return self._vec_normalize.normalize_obs(observations)

    def _call(self, seen: Observations, start: int, predict: Predict) -> NDArray[Any]:
        if self._function is not None:
            return self._called(seen)
        policy = self._policy
        assert policy is not None
        tensor: Any = policy.obs_to_tensor(seen)[0]
        n = count(seen)
        with torch.no_grad():
            try:
                actions = predict(tensor, slice(start, start + n)).cpu().numpy()
            except ValueError as error:
                # torch's distributions refuse a mean that is not finite; find the rows, to name the episode
                if "invalid values" not in str(error):
                    raise
                actions = np.concatenate([self._one(tensor, i, n, start, predict) for i in range(n)])
        actions = actions.reshape(-1, *self.action_space.shape)  # type: ignore[misc]
        if isinstance(self.action_space, spaces.Box) and policy.squash_output:
            return policy.unscale_action(actions)
        return actions

    def _predict(self, tensor: Any, rows: Any) -> torch.Tensor:
        assert self._policy is not None
        return self._policy._predict(tensor, deterministic=True)

    def _one(self, tensor: Any, row: int, n: int, start: int, predict: Predict) -> NDArray[Any]:
        # among as many rows as ever, so that it rounds as ever
        again = np.full(n, row)
        try:
            actions: NDArray[Any] = predict(take(tensor, again), again + start).cpu().numpy()
        except ValueError:
            # a wider type would make all rows wider, and environments compute in the type of the action
            return np.full((1, *(self.action_space.shape or ())), np.nan, dtype=np.float32)
        return actions[:1]

    def _called(self, seen: Observations) -> NDArray[Any]:
        return self.checked(self._function(seen), seen)

    def checked(self, answer: Any, seen: Observations) -> NDArray[Any]:
        """What a function or a controller has answered to ``seen``, as actions.

        Raises:
            ValueError: of another shape.
        """
        actions = np.asarray(answer)
        shape = (count(seen), *(self.action_space.shape or ()))
        if actions.shape != shape and not (actions.shape == shape[:1] and shape[1:] == (1,)):
            received = {k: v.shape for k, v in seen.items()} if isinstance(seen, dict) else seen.shape
            raise ValueError(
                f"{self.label} must return actions of shape {shape} for observations of shape "
                f"{received}, received shape {actions.shape}."
            )
        dtype = self.action_space.dtype if isinstance(self.action_space, spaces.Box) else actions.dtype
        return actions.reshape(shape).astype(dtype, copy=False)

    def _check_spaces(self, policy: BasePolicy, env: gym.Env[Any, Any]) -> None:
        self.axis = stack_axis(policy.observation_space, env.observation_space, self.frames, self.label)
        if policy.action_space != env.action_space:
            raise ValueError(
                f"{self.label} was trained on actions {policy.action_space}, but {env} takes "
                f"{env.action_space}. Evaluate it in the environment, wrappers included, that it was trained "
                "in (give a factory)."
            )
        if not isinstance(env.action_space, spaces.Box):
            broken = [name for name, p in policy.named_parameters() if not torch.isfinite(p).all()]
            if broken:
                raise ValueError(
                    f"{self.label} has weights that are not finite ({broken[0]}): its training has diverged. "
                    "Load an earlier checkpoint."
                )

    def __getstate__(self) -> dict[str, Any]:
        # for worker processes: a whole algorithm would bring its replay buffer and its environments along
        whole = isinstance(self._model, BaseAlgorithm)
        return {**self.__dict__, "_model": None if whole else self._model}
