"""A Lipschitz bound that finds itself: the smallest K with which the return stays, found while the agent learns."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from lipsrl._validation import is_real
from lipsrl.networks._scales import LARGEST
from lipsrl.policies._auto_bound import AutoBound
from lipsrl.policies._floor import Floor
from lipsrl.policies._kept_return import MEASURED
from lipsrl.policies._measured_bound import FEWEST, MeasuredBound
from lipsrl.policies._search_memory import KeptReturn, taken_up

#: Largest change of log₂ K per whole training: down while the return is kept, up while it is not. Up is faster, because
#: an agent that has lost its return must first learn it again.
DOWN, UP = 10.0, 30.0

#: Share of the training in which K goes up no further than to where the return was kept in that time. An agent whose
#: return does not come back by then is put back, as K is not what it lacks; without ``eval_env``, where there is none
#: to go back to, it gets more K, at the lesser rate.
BACK = 0.1

#: Share of the training between two evaluations in ``eval_env``.
EVERY = 0.01

#: Share of the training before the search, where nothing is given.
EXPLORE = 0.5

#: Share of the training after which K only rises.
SEARCH_ENDS = 0.8

#: Share of the training that an agent has to reach a target of the user's, before K is taken for too small.
PATIENCE = 0.4


class AutoLipschitz(MeasuredBound):
    """SB3 callback that looks for the smallest K that keeps the return::

        callback = AutoLipschitz(eval_env=make_vec_env("Pendulum-v1", n_envs=20))
        model = PPO("LipschitzMlpPolicy", env, policy_kwargs=dict(lipschitz_bound=12.0))  # to start: twice a good K
        model.learn(300_000, callback=callback)
        print(callback.found)

    The training has three parts:

    1. *Learn.* Up to the share ``explore`` K does not move. At its end, the return R sets the target
       ``T = R - tolerance·(R - R₀)``. R₀ is the return at first. So the agent should have learned the task by then.
       With ``eval_env`` and no ``tolerance`` R is the mean of the last five evaluations (of those in the last 0.08 of
       the training), and what may be given up is the noise of learning: two standard deviations of one evaluation, from
       the successive differences of the fifteen before the search, but at least 0.001 and at most 0.01 of R - R₀; 0.01
       where there are not more than five (rollouts are long).
       With ``target_return=`` this part ends when that return is reached for the first time, or after a share of 0.4.
    2. *Search.* K first becomes the proven bound of the present weights, if that is less (layers that have grown
       otherwise than K is split are clipped then). Then, up to a share of 0.8, log₂ K moves by
       ``10·clip((T - R)/s, -1, 0) + 30·clip((T - R)/s, 0, 1)`` per whole training, ``s = tolerance·|T - R₀|``: down
       while the return is above the target, three times as fast up while it is below, but not above the K of the last
       tenth of the training with which the return was kept. This is the dual variable of "the smallest K that keeps
       the return".
    3. *Settle.* K becomes the geometric mean of the last third of part 2. From then on it only rises, and only while
       the return is below the target (or goes back with an agent that fell, below).

    With ``eval_env=`` the return is that of deterministic actions in the same ``n_eval_episodes`` episodes every time,
    after a first time at most once per 0.01 of the training, from shortly before the search on; where the agent still
    improves, the target rises with the best. An agent that falls, by 5 % of what was learned below the target, or stays
    below the target for a tenth of the training, is put back, in the end too: to the weights, the optimizer, the
    statistics of VecNormalize and the K with which the return was last kept (since the training was last taken up: they
    are not in the zip); from then on K goes down half as fast.
    Without ``eval_env`` the return is the mean of the last 20 training episodes (SB3's ``ep_info_buffer``): of sampled
    actions from other starts each time, whose noise the search follows.

    Args:
        target_return: mean training return that has to be kept; None: from the agent's own, as above.
        tolerance: share of what was learned that may be given up, in (0, 1). If not given: 0.05 without ``eval_env``,
            0.01 with it and ``target_return``, else measured, as above.
        explore: share of the training before the search, in (0, 0.7]; 0.5 if not given; not with ``target_return``.
        floor: K below which no controller can do the task, in the policy's units
            (:func:`lipsrl.feasibility.feasibility_floor` with ``observation_gain=policy_units(model)``). K never goes
            below it. Behind VecNormalize those units change while it learns: give a function of the model, as
            ``lambda model: floor.floor_for(policy_units(model))``, which is asked whenever K moves.
        eval_env: environment, or better a VecEnv of several, of the same task as the training's, wrapped alike
            (``VecFrameStack``); ``VecNormalize`` is put around it where the training has it, with the statistics of the
            training. As in SB3's ``EvalCallback``, do not give the training's own.
        n_eval_episodes: of each evaluation; with as many environments in ``eval_env`` they start alike every time.

    Raises:
        ValueError: an argument out of range; at the start of training where the policy is not constrained, starts
            below the floor (a function's behind VecNormalize is not known yet), or sees other observations than
            ``eval_env`` gives.

    Warns:
        UserWarning: there is no search, and K stays: too few episodes ended, or nothing was learned in the first part.
            Or the search tried to go below the floor.
    """

    def __init__(
        self,
        target_return: float | None = None,
        tolerance: float | None = None,
        explore: float | None = None,
        floor: float | Callable[[BaseAlgorithm], float] = 0.0,
        verbose: int = 0,
        *,
        eval_env: gym.Env[Any, Any] | VecEnv | None = None,
        n_eval_episodes: int = 20,
    ) -> None:
        super().__init__(eval_env, n_eval_episodes, verbose)
        if target_return is not None and not (is_real(target_return) and math.isfinite(target_return)):
            raise ValueError(f"target_return must be a finite number, received {target_return!r}.")
        self._measures = tolerance is None and eval_env is not None and target_return is None
        if tolerance is None:
            tolerance = 0.05 if eval_env is None else 0.01
        if not (is_real(tolerance) and 0.0 < tolerance < 1.0):
            raise ValueError(f"tolerance is a share of the return, in (0, 1); received {tolerance!r}.")
        if explore is not None and not (is_real(explore) and 0.0 < explore <= 0.7):
            raise ValueError(
                f"explore must be in (0, 0.7], so that the search has at least a tenth; received {explore!r}."
            )
        if explore is not None and target_return is not None:
            raise ValueError(
                f"expected explore or target_return, received explore={explore!r} and target_return={target_return!r}: "
                "with a target the search begins when it is reached. Leave one out."
            )
        self.target_return, self.tolerance = target_return, float(tolerance)
        self._floor = Floor(floor)
        self.explore = 0.0 if target_return is not None else EXPLORE if explore is None else float(explore)
        self._state: dict[str, Any] = {}
        self._kept = KeptReturn(self._state, self.tolerance, self._measures)
        self._told = False

    @property
    def floor(self) -> float:
        """K never goes below it; the newest where it is a function, 0 before it was asked for."""
        return self._floor.value

    @property
    def found(self) -> AutoBound | None:
        """What was found; None before the search has ended, or where there was none."""
        state = self._state
        if "bound" not in state:
            return None
        low, high = np.quantile(state["late"], [0.025, 0.975])
        return AutoBound(
            state["bound"], float(low), float(high), state["target"], self.floor, state["at_floor"]
        )

    def _init_callback(self) -> None:
        own = self._bound()
        self._floor.begin(self.model)
        if own < self.floor:
            raise ValueError(
                f"lipschitz_bound={own:g} is below floor={self.floor:g}. Start with several times the floor."
            )
        super()._init_callback()
        asked = [
            self.target_return,
            None if self._measures else self.tolerance,
            self.explore,
            self._floor.asked,
        ]
        asked += [] if self.eval_env is None else [self.n_eval_episodes]
        earlier = [self.target_return, self.tolerance, *asked[2:]]
        self._state = taken_up(self.model, asked, earlier)
        self._kept = KeptReturn(self._state, self.tolerance, self._measures)

    def _on_training_start(self) -> None:
        state = self._state
        if "interrupted" in state:  # the search goes on where it was
            own, late = state.pop("interrupted")
            if self._progress() < SEARCH_ENDS:
                state.pop("bound")
                state["late"] = late
                self._move(own)
        state.setdefault("steps", self.model.num_timesteps)

    def _on_training_end(self) -> None:
        state, progress = self._state, self._progress()
        if "target" in state and "bound" not in state:
            before = [self._bound(), list(state["late"])]
            self._settle()
            if progress < SEARCH_ENDS:
                state["interrupted"] = before
        if self._good is not None and self._fell(self._return() or 0.0):
            self._put_back()
            state["bound"] = self._bound()
        if self._floor.moves and "bound" in state:
            self._hold_above_floor()
            state["bound"] = self._bound()
        if "target" not in state and "gave_up" not in state and progress >= 1.0:
            self._give_up(
                "the training ended before the search began. Train longer, or with shorter rollouts (n_steps): K moves "
                "between them."
            )

    def _due(self, progress: float, passed: float) -> bool:
        """Whether there is something to measure now."""
        if self._episodes is None:
            return passed > 0  # no: the first rollout of a training, or of one that goes on
        return "first" not in self._state or (progress >= self._measured_from() and passed >= EVERY)

    def _update(self) -> None:
        state, progress = self._state, self._progress()
        passed = (self.model.num_timesteps - state["steps"]) / max(self.model._total_timesteps, 1)
        if "gave_up" in state or not self._due(progress, passed):
            return
        state["steps"] = self.model.num_timesteps
        now = self._return()
        if now is not None and not math.isfinite(now):
            if not self._told:
                self._told = True
                warnings.warn(
                    f"an evaluation had the return {now}: the search for K takes no notice of it. Look at the rewards.",
                    UserWarning,
                    stacklevel=2,
                )
            return
        if now is None:
            if progress >= SEARCH_ENDS and "bound" not in state:
                self._give_up(
                    f"fewer than {FEWEST} episodes ended in {progress:.0%} of the training. Train longer, with a "
                    "Monitor around the environment."
                )
            return
        if "first" not in state:
            state["first"] = now
        elif progress >= self._measured_from():
            self._kept.note(progress, now)
        if progress < self.explore:
            return
        if "target" not in state:
            self._begin(now, progress)
            return
        if self._episodes is not None and self.target_return is None:
            self._kept.rise()
        if progress >= SEARCH_ENDS and "bound" not in state:
            self._settle()
        state["reached"] = state.get("reached", False) or now >= state["target"]
        if not state["reached"] and progress < PATIENCE:
            return
        self._step(now, progress, passed)
        self.logger.record("train/lipschitz_return", now)
        self.logger.record("train/lipschitz_target_return", state["target"])
        self.logger.record("train/lipschitz_tolerance", self._kept.tolerance)
        if "bound" in state:
            state["bound"] = self._bound()
        elif progress >= self.explore + (SEARCH_ENDS - self.explore) * 2 / 3:
            state["late"].append(self._bound())

    def _step(self, now: float, progress: float, passed: float) -> None:
        """Move K by what the return says, ``passed`` of the training after the step before."""
        self._hold_above_floor()
        state, bound = self._state, self._bound()
        missing = self._kept.missing(now)
        state["kept"] = [[when, k] for when, k in state["kept"] if when > progress - BACK]
        if missing <= 0:
            state["kept"].append([progress, bound])
            self._remember()
            down = 0.0 if "bound" in state else DOWN * missing * passed * 0.5 ** state["falls"]
            self._move_above_floor(bound * 2.0**down)
        elif self._fell(now) or (self._good is not None and not state["kept"]):
            state["falls"] += 1
            self._put_back()
            state["kept"].append([progress, self._bound()])  # it has the same time again
        elif state["kept"]:
            back = max(k for _, k in state["kept"])
            self._move_above_floor(max(bound, min(back, bound * 2.0 ** (UP * missing * passed))))
        else:
            self._move_above_floor(bound * 2.0 ** (DOWN * missing * passed))

    def _fell(self, now: float) -> bool:
        """Whether an agent that can be put back has to be: K goes down half as fast after that."""
        return self._good is not None and self._kept.fell(now)

    def _measured_from(self) -> float:
        """The share of the training from which the agent is evaluated again and again."""
        return self.explore - MEASURED * EVERY * self._measures

    def _begin(self, now: float, progress: float) -> None:
        """The target; and the room above what the weights have reached is given up."""
        self._hold_above_floor()
        state = self._state
        own = now if self.target_return is not None else self._kept.lately(now)
        if self.target_return is None and own <= state["first"]:
            self._give_up(
                f"after {progress:.0%} of the training the agent earns {own:.4g}, and earned {state['first']:.4g} at "
                "first: nothing that could be kept. Train longer, start with a larger lipschitz_bound, or give "
                "target_return."
            )
            return
        if self.target_return is not None:
            state["target"] = self.target_return
        else:
            policy: Any = self._constrained()
            self._kept.set_from(own)
            state["kept"].append([progress, self._bound()])
            if now >= state["target"]:  # an agent that is worse than usual just now is none to go back to
                self._remember()
            self._move_above_floor(min(self._bound(), policy.lipschitz_network.lipschitz_bound()))

    def _move_above_floor(self, wanted: float) -> None:
        floor = self._floor.ask(self.model)
        self._state["at_floor"] = self._state["at_floor"] or wanted < floor
        self._move(min(max(wanted, floor), LARGEST))

    def _hold_above_floor(self) -> None:
        """A floor that moves may have come above K."""
        if self._bound() < self._floor.ask(self.model):
            self._move_above_floor(self._bound())

    def _put_back(self) -> None:
        super()._put_back()
        self._hold_above_floor()

    def _give_up(self, why: str) -> None:
        """The training goes on with the K that it has: hours of it are not to be lost."""
        self._state["gave_up"] = why
        warnings.warn(f"no K was looked for: {why}", UserWarning, stacklevel=2)

    def _settle(self) -> None:
        """The end of the search."""
        state = self._state
        self._floor.ask(self.model)
        state["late"] = state["late"] or [self._bound()]  # rollouts may be longer than the search
        # rounding may put the mean below the floor, if all were at it
        state["bound"] = max(float(np.exp(np.mean(np.log(state["late"])))), self.floor)
        self._move(state["bound"])
        if state["at_floor"]:
            warnings.warn(
                f"the search for K went below the floor {self.floor:g} and was held there: with less, no controller "
                "can do the task, whatever the return of this training says.",
                UserWarning,
                stacklevel=2,
            )
