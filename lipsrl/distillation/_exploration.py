"""The student samples as widely as its teacher, so that fine-tuning starts where the teacher's training ended."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from lipsrl.policies._unwrapped import policy_of

#: Ridge term of the regression, as a share of the features' mean square.
RIDGE = 1e-6
#: Enough states to fit a few numbers by.
STATES = 10_000


@torch.no_grad()
def keep_exploration(teacher: BaseAlgorithm, student: BaseAlgorithm, observations: Tensor, seed: int) -> None:
    """Give the student the teacher's standard deviation; its deterministic action does not change.

    PPO and A2C hold it in a parameter of their own, which has been copied; logits, Q-values and TD3's actions have
    none. SAC's (TQC's, CrossQ's) is a linear function of the actor's last hidden layer: the student's is fitted to
    the teacher's by least squares. gSDE's depends on those features too: one factor per action dimension makes the
    mean variance over ``observations`` equal.

    Args:
        observations: ``(n, dim)``, what the student receives; the teacher receives the newest of it, or all.
        seed: of gSDE's first exploration matrix; no global generator moves.
    """
    squashed = hasattr(getattr(student.policy, "actor", None), "get_action_dist_params")
    if not (squashed or student.use_sde):
        return
    observations = observations[:: -(-len(observations) // STATES)]
    if student.use_sde:
        theirs, own = _std(teacher, _newest(teacher, observations)), _std(student, observations)
        ratio = theirs.square().mean(0) / own.square().mean(0)
        policy: Any = student.policy
        holder = policy if isinstance(policy, ActorCriticPolicy) else policy.actor
        shift = 0.5 * ratio.log()
        # one column for all action dimensions where SB3's full_std is off
        holder.log_std += shift.mean() if holder.log_std.shape[-1] == 1 else shift
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            policy.reset_noise()
    else:
        _fit_log_std_head(teacher, student, observations)


def _newest(teacher: BaseAlgorithm, observations: Tensor) -> Tensor:
    """What the teacher would receive: a student's window ends with it, in the same units."""
    assert teacher.observation_space.shape is not None
    return observations[:, -teacher.observation_space.shape[0] :]


def _std(model: BaseAlgorithm, observations: Tensor) -> Tensor:
    """Standard deviation ``(n, act)`` of the Gaussian before any squashing."""
    policy: Any = policy_of(model)
    if isinstance(policy, ActorCriticPolicy):
        distribution: Any = policy.get_distribution(observations)
    else:
        mean, log_std, features = policy.actor.get_action_dist_params(observations)
        distribution = policy.actor.action_dist.proba_distribution(mean, log_std, **features)
    std: Tensor = distribution.distribution.stddev
    return std


def _fit_log_std_head(teacher: Any, student: Any, observations: Tensor) -> None:
    seen = _newest(teacher, observations)
    target = policy_of(teacher).actor.get_action_dist_params(seen)[1].double()
    actor = student.policy.actor
    features = actor.latent_pi(actor.extract_features(observations, actor.features_extractor)).double()
    mean, target_mean = features.mean(0), target.mean(0)
    centred = features - mean
    gram = centred.mT @ centred / len(centred)
    gram.diagonal().add_(RIDGE * float(features.square().mean()) + torch.finfo(torch.float32).tiny)
    weight = torch.linalg.solve(gram, centred.mT @ (target - target_mean) / len(centred)).mT
    actor.log_std.weight.copy_(weight)
    actor.log_std.bias.copy_(target_mean - weight @ mean)
