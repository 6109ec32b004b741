"""Live smoothness while an agent learns."""

from __future__ import annotations

import warnings
from collections import deque
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from lipsrl._episodes import EndlessEpisodeError
from lipsrl._validation import positive_int
from lipsrl.actors import ActorParts
from lipsrl.actors.normalization import normalization_of
from lipsrl.certificates import FeasibilityFloor, policy_units
from lipsrl.disturbances import Disturbance
from lipsrl.evaluation._environments import EnvLike
from lipsrl.tracking._episodes import Episodes
from lipsrl.tracking._live import bounds, has_slopes, on_states, read
from lipsrl.tracking._quiet import undisturbed


class SmoothnessCallback(BaseCallback):
    """Record how smooth the deterministic actor is on the observations that training visits.

    Under ``smoothness/``, in the policy's own units (docs/tracking.md has each with its unit): how far the action moves
    from step to step along the first environment's trajectory, its Jacobian norms, a sound bound by one method for
    constrained and stock agents, their ratio, each layer's share of the budget, saturation; for discrete actions of the
    logits or Q-values, with the share of steps at which the choice changes and the mean certified radius. With
    ``eval_env`` also returns under ``robustness/``. All goes wherever SB3's logger goes (CSV, TensorBoard, W&B), with
    SB3's next dump; what belongs to the last weights is dumped when training ends.

    Observations may be vectors, images, Dicts, discrete, and windows of a VecFrameStack. Left out: slopes, tightness
    and radius where all of the observation is discrete (a one-hot vector cannot move a little), saturation where
    actions are discrete, and the layers before the first linear one in ``layer_norm`` (convolutions; the bound has
    them). For images as many of the newest states are used as 2²² Jacobian entries allow, at least 8.

    The callback does not change the training: it draws no random numbers, does not step the training environment and
    does not update VecNormalize. The weights are the same, bit for bit.

    With ``feasibility`` also ``feasibility_floor``, the floor of the equilibrium in the policy's own units as
    VecNormalize defines them by then; a ``UserWarning``, once, if the promise of the policy is below it. It comes
    before the first step if the units are fixed.

    Args:
        every: environment steps between two records.
        n_states: most recent observations used.
        feasibility: floor of the equilibrium that the policy is to hold, in raw units
            (:func:`lipsrl.certificates.feasibility_floor`).
        eval_env: id, factory or environment, as :func:`lipsrl.evaluate` takes it, of the raw task. None: no episodes.
            They are normalised and stacked as the training environment does at that moment.
        disturbance: of the raw observations of the noisy episodes, or its text (``"gaussian:0.1"``). None: clean
            episodes only, as for images and Dicts, which disturbances do not act on.
        evaluate_every: environment steps between two evaluations.
        n_episodes: number of clean and of noisy episodes; they have the same seeds every time.
        seed: of those episodes.
        max_episode_steps: truncates them.

    Raises:
        ValueError: when training starts, a policy that cannot be measured, or an ``eval_env`` of other spaces; a floor
            in other units, or of other observations than the model's.
        TypeError: ``eval_env`` is none, such as a VecEnv.

    Example:
        >>> from stable_baselines3 import PPO
        >>> from lipsrl.tracking import SmoothnessCallback
        >>> model = PPO("MlpPolicy", "Pendulum-v1", n_steps=64, batch_size=64, device="cpu")
        >>> _ = model.learn(64, callback=SmoothnessCallback(every=64))
    """

    def __init__(
        self,
        every: int = 4096,
        n_states: int = 512,
        verbose: int = 0,
        *,
        feasibility: FeasibilityFloor | None = None,
        eval_env: EnvLike | None = None,
        disturbance: Disturbance | str | None = None,
        evaluate_every: int = 50_000,
        n_episodes: int = 4,
        seed: int = 0,
        max_episode_steps: int | None = None,
    ) -> None:
        super().__init__(verbose)
        self.every = positive_int("every", every)
        self.evaluate_every = positive_int("evaluate_every", evaluate_every)
        self.feasibility = feasibility
        self.episodes: Episodes | None = None
        if eval_env is not None:
            self.episodes = Episodes(eval_env, disturbance, n_episodes, seed, max_episode_steps)
        elif disturbance is not None:
            raise ValueError(
                "disturbance= is of the episodes in eval_env=, which is missing. Give both, or neither."
            )
        self._warned: set[str] = set()
        self._recent: deque[Any] = deque(maxlen=positive_int("n_states", n_states))
        self._ends: deque[bool] = deque(maxlen=n_states)
        self._last_record = self._last_evaluation = 0

    # -- when --------------------------------------------------------------------------------------------

    def _init_callback(self) -> None:
        self._recent.clear()  # of another learn(), or another model
        self._ends.clear()
        self._last_record = min(self._last_record, self.model.num_timesteps)
        self._last_evaluation = min(self._last_evaluation, self.model.num_timesteps)
        # off-policy algorithms collect a few steps at a time: their observations are counted in steps
        self._by_rollout = isinstance(self.model, OnPolicyAlgorithm)
        with undisturbed(self.model):
            self._check()
            self._check_floor()

    def _on_step(self) -> bool:
        observations = self.locals.get("new_obs")
        if observations is not None:
            first = (
                {key: value[0].copy() for key, value in observations.items()}
                if isinstance(observations, dict)
                else np.array(observations[0])
            )
            self._recent.append(first)
            self._ends.append(bool(self.locals["dones"][0]))
            if not self._by_rollout and self.num_timesteps - self._last_record >= self.every:
                self._record()
        return True

    def _on_rollout_end(self) -> None:
        if self._by_rollout and self.num_timesteps - self._last_record >= self.every:
            self._record()

    def _on_training_end(self) -> None:
        if len(self._recent) > 2:  # the last update came after the last record
            self._record(evaluate=True)
            self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
            self.logger.dump(self.num_timesteps)
        if self.episodes is not None:
            self.episodes.close()

    # -- training that was cut off ------------------------------------------------------------------------

    def training_state(self) -> dict[str, Any]:
        """What a checkpoint keeps, for :meth:`resume_training`: the newest observations and when was recorded last."""
        return {
            "recent": list(self._recent), "ends": list(self._ends), "warned": sorted(self._warned),
            "last_record": self._last_record, "last_evaluation": self._last_evaluation,
        }  # fmt: skip

    def resume_training(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`training_state` was asked for; after the start of ``learn``, which forgets."""
        self._recent.extend(state["recent"])
        self._ends.extend(state["ends"])
        self._warned |= set(state["warned"])
        self._last_record, self._last_evaluation = state["last_record"], state["last_evaluation"]

    # -- what --------------------------------------------------------------------------------------------

    def _record(self, evaluate: bool = False) -> None:
        if len(self._recent) <= 2:
            return
        self._last_record = self.num_timesteps
        with undisturbed(self.model):
            try:
                pipeline = read(self.model)
                found = bounds(pipeline)
                space, bound = self.model.observation_space, found["lipschitz_bound"]
                found |= on_states(pipeline, space, list(self._recent), list(self._ends), bound)
                if self.feasibility is not None:
                    found["feasibility_floor"] = self._feasible(pipeline.parts)
            except ValueError as error:  # it was measured at the start: weights that are not finite any more
                self._warn(f"smoothness is not recorded any more: {error}")
                return
            for name, value in found.items():
                self.logger.record(f"smoothness/{name}", value)
            if evaluate or self.num_timesteps - self._last_evaluation >= self.evaluate_every:
                self._evaluate()

    def _evaluate(self) -> None:
        self._last_evaluation = self.num_timesteps
        if self.episodes is None:
            return
        try:
            found = self.episodes.run(self.model)
        except EndlessEpisodeError as error:
            self.episodes = None
            self._warn(f"returns are not recorded any more: {error} Give max_episode_steps=.")
            return
        for name, value in found.items():
            self.logger.record(f"robustness/{name}", value)

    # -- refusals and warnings ---------------------------------------------------------------------------

    def _check(self) -> None:
        """What cannot be measured is refused before the first step, not after the first rollout."""
        try:
            found = bounds(read(self.model))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"SmoothnessCallback cannot measure this {type(self.model).__name__} policy: {error} Leave it out."
            ) from error
        if self.verbose and not has_slopes(self.model.observation_space):
            print(
                "SmoothnessCallback: observations are discrete, so slopes, tightness and radius are left out."
            )
        if not np.isfinite(found["lipschitz_bound"]):
            self._warn("the policy's Lipschitz bound overflows.")
        if self.episodes is not None:
            self.episodes.controller(self.model)

    def _check_floor(self) -> None:
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
            self._feasible(read(self.model).parts)

    def _feasible(self, parts: ActorParts) -> float:
        """The floor in the policy's own units; warns, once, if the promise is below it."""
        assert self.feasibility is not None
        units = policy_units(self.model, parts=parts)
        floor = self.feasibility.floor_for(units)
        if parts.constrained is not None and parts.constrained.bound < floor:
            text = self.feasibility.in_units(units).warning(parts.constrained.bound)
            said = f"after {self.num_timesteps} steps, in the policy's own units: {text}"
            self._warn(said, "feasibility")
        return floor

    def _warn(self, text: str, once: str | None = None) -> None:
        key = once or text
        if key not in self._warned:
            self._warned.add(key)
            warnings.warn(text, stacklevel=3)
