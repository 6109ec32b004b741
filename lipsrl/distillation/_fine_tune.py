"""Reinforcement learning from a student on, under its bound, in disturbed episodes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from lipsrl._episodes import EndlessEpisodeError, check_limit, limited
from lipsrl._validation import is_real, positive_finite, positive_int
from lipsrl.actors.frames import frames_of
from lipsrl.actors.normalization import NormalizeLike, normalization_of, normalizes_frames
from lipsrl.attacks._aim import holds_attack_with_target, refresh, with_target
from lipsrl.distillation._asymmetric import BothViews, asymmetric, same_weights
from lipsrl.distillation._rollouts import FINE_TUNING, HELD_OUT, Rollouts, derived_seed
from lipsrl.distillation._rounds import InterruptedWarning
from lipsrl.distillation._student import hyperparameters
from lipsrl.disturbances import Disturbance
from lipsrl.evaluation._environments import EnvLike, environment_factory, make_environments
from lipsrl.evaluation._seeding import check_seed
from lipsrl.wrappers._strength import Level, constant_level, draw

#: Largest divergence of one PPO update from the policy before, where the model names none: without it the first updates
#: of a Pendulum student moved by 0.2 to 0.9 nats and cost a quarter of its return.
TARGET_KL = 0.01
#: Times that the policy is compared with the best so far.
COMPARISONS = 5
#: Share of the training over which strengths rise to their range.
RAMP = 0.75


def fine_tune(
    model: BaseAlgorithm,
    env: EnvLike,
    *,
    timesteps: int,
    disturbance: Disturbance,
    strength: Level = (0.0, 1.0),
    clean_share: float = 0.25,
    learning_rate: float = 1e-4,
    vec_normalize: NormalizeLike = None,
    frame_stack: int | None = None,
    seed: int = 0,
    max_episode_steps: int | None = None,
) -> bool:
    """Continue the training of a student with its own algorithm under disturbances or attacks; keep the best weights.

    A student imitates the teacher's action for the clean observation. Under an attack this is not the best action, so
    the algorithm's own gradient improves the student further. The actor sees disturbed observations, the critic sees
    clean ones (asymmetric actor-critic; the policy does not need the critic to act). A share of the episodes has no
    disturbance, and the strength increases over the first three quarters: with adversarial training alone the training
    gets stuck (arXiv:2512.01228). Attacks use the weights at the start of every rollout. Five times during the
    training, 30 clean and 30 disturbed held-out episodes are played. ``model`` gets the weights with the best mean
    return over all of them; the weights before fine-tuning are one of the candidates.

    Args:
        model: PPO, A2C, TRPO (or another of SB3's on-policy algorithms) on vector observations, with or without a
            window (:func:`lipsrl.distill`). Changed in place; its bound holds throughout.
        env: as in :func:`lipsrl.distill`.
        timesteps: environment steps, > 0.
        disturbance: of the raw observations; attacks without a target model get this one (random and MAD).
        strength: of each episode, a number or a range to draw from.
        clean_share: of the episodes, in [0, 1].
        learning_rate: at the start, > 0; falls linearly to 0.
        vec_normalize, frame_stack: as in :func:`lipsrl.distill`. The normalisation is not changed.
        seed: of everything drawn here; no global generator moves.
        max_episode_steps: of all episodes, as in :func:`lipsrl.evaluate`.

    Returns:
        Whether the weights changed; False: nothing on the way was better than the start.

    Raises:
        TypeError: ``disturbance`` is something else.
        ValueError: an argument out of range; an algorithm that is not on-policy; an attack that cannot follow a model
            that learns; a normalisation of stacks.

    Warns:
        InterruptedWarning: interrupted by Ctrl-C or an episode that never ends; the best so far is in ``model``.
    """
    check_on_policy(model)
    if not isinstance(disturbance, Disturbance):
        raise TypeError(f"disturbance must be a Disturbance, received {disturbance!r}.")
    strength = constant_level("strength", strength)
    timesteps = positive_int("timesteps", timesteps)
    learning_rate, seed = positive_finite("learning_rate", learning_rate), check_seed(seed)
    if not is_real(clean_share) or not 0 <= clean_share <= 1:
        raise ValueError(f"clean_share must be a number in [0, 1], received {clean_share!r}.")
    normalization = normalization_of(model, vec_normalize)
    frames = frames_of(model, frame_stack)
    limit = check_limit(max_episode_steps)
    factory, _ = environment_factory(env)
    environments = make_environments(factory, HELD_OUT, max_episode_steps=limit)
    venv = DummyVecEnv([lambda: Monitor(limited(factory(), limit))] * model.n_envs)
    try:
        held_out = Rollouts(model, environments, normalization, disturbance, seed, frames, strength=strength)
        met = followed(disturbance, model, normalization, frames)

        def strengths(generator: np.random.Generator, steps: int) -> float:
            if generator.random() < clean_share:
                return 0.0
            return min(1.0, steps / (RAMP * timesteps)) * draw(strength, 1.0, generator)

        own = derived_seed(seed, FINE_TUNING)
        both = BothViews(venv, normalization, frames, met, strengths, own)
        both.seed(own)
        with _own_generators(own, model.device):
            learner = _learner(model, both, learning_rate)
            choice = _Choice(model, learner, held_out, met, timesteps)
            try:
                learner.learn(timesteps, callback=choice)
                choice.judge()
            except (KeyboardInterrupt, EndlessEpisodeError) as error:
                reason = f" {error}" if str(error) else ""
                warnings.warn(
                    f"fine_tune was interrupted after {learner.num_timesteps} of {timesteps} steps.{reason} The best "
                    "weights so far are in the model.",
                    InterruptedWarning,
                    stacklevel=2,
                )
            finally:
                choice.leave_the_best()
        return choice.changed
    finally:
        venv.close()
        for environment in environments:
            environment.close()


def check_on_policy(model: Any) -> None:
    """``ValueError`` unless ``model`` is one that :func:`fine_tune` can train on."""
    policy = getattr(model, "policy", None)
    feed_forward = isinstance(policy, ActorCriticPolicy) and not hasattr(policy, "lstm_actor")
    if not isinstance(model, OnPolicyAlgorithm) or not feed_forward:
        raise ValueError(
            f"model must be trained on-policy (PPO, A2C, TRPO) with a feed-forward actor-critic policy, received "
            f"{type(model).__name__} with {type(policy).__name__}. Of others use "
            "model.learn in environments behind a VecObservationDisturbance."
        )


def followed(
    disturbance: Disturbance, model: BaseAlgorithm, vec_normalize: VecNormalize | None, frames: int
) -> Disturbance:
    """The disturbance with ``model`` as the target of its attacks, ready to follow its weights.

    Raises:
        ValueError: a normalisation of stacks, an attack that cannot follow, or one that has a model already.
    """
    size = int(np.prod(model.observation_space.shape or ()))
    if frames > 1 and vec_normalize is not None and not normalizes_frames(vec_normalize, (size // frames,)):
        raise ValueError(
            "vec_normalize is of stacks of observations; fine-tuning needs one of single observations "
            "(VecFrameStack around VecNormalize)."
        )
    if holds_attack_with_target(disturbance):  # it would follow in place, and its owner's attack with it
        raise ValueError(
            "disturbance contains an attack that has a target model already, so it cannot follow this model as it "
            "learns. "
            "Create the attack with model=None."
        )
    met = with_target(disturbance, model, vec_normalize, frames)
    refresh(met, model)
    return met


@contextmanager
def _own_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Seed what SB3 draws from (torch's and NumPy's global generators), and leave it as it was before."""
    before = np.random.get_state()  # noqa: NPY002
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for used in cuda:
            with torch.cuda.device(used):
                torch.cuda.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


def _learner(model: Any, venv: BothViews, learning_rate: float) -> Any:
    """The same algorithm and weights on observations of both views."""
    cls = type(model)
    learner = cls(model.policy_class, venv, device=model.device, _init_setup_model=False)
    learner.__dict__.update(hyperparameters(model))
    learner.observation_space = venv.observation_space
    learner.policy_class = asymmetric(model.policy_class)
    learner.learning_rate = LinearSchedule(learning_rate, 0.0, 1.0)
    learner.num_timesteps = 0
    if getattr(learner, "target_kl", 0.0) is None:
        learner.target_kl = TARGET_KL
    learner.seed = None
    learner.verbose, learner.tensorboard_log = 0, None  # the teacher's log is of the teacher's training
    learner._setup_model()
    same_weights(model, learner)
    return learner


class _Choice(BaseCallback):
    """Lets attacks follow the weights, and keeps the best."""

    def __init__(
        self, model: Any, learner: Any, held_out: Rollouts, disturbance: Disturbance, timesteps: int
    ) -> None:
        super().__init__()
        self._student, self._learner = model, learner
        self._held_out, self._disturbance = held_out, disturbance
        self._every = timesteps / COMPARISONS
        self._due = self._every
        self._best = copy.deepcopy(model.policy.state_dict())
        self._highest = self._return()
        self.changed = False

    def _return(self) -> float:
        return float(self._held_out.returns(self._held_out.student(self._student)).mean())

    def _on_rollout_start(self) -> None:
        self._compare()
        same_weights(self._learner, self._student)
        refresh(self._disturbance, self._student)

    def _on_step(self) -> bool:
        return True

    def _compare(self) -> None:
        if self.num_timesteps < self._due:
            return
        self._due += self._every
        self.judge()

    def judge(self) -> None:
        """Measure the weights of this moment."""
        same_weights(self._learner, self._student)
        found = self._return()
        if found > self._highest:
            self._highest, self.changed = found, True
            self._best = copy.deepcopy(self._student.policy.state_dict())

    def leave_the_best(self) -> None:
        """In the student."""
        self._student.policy.load_state_dict(self._best)
        self._student.policy.set_training_mode(False)
