"""What the student is asked to match: actions, the preferences of a categorical policy, or Q-values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import BaseModel, BasePolicy
from torch import Tensor
from torch.nn import functional as F

from lipsrl.evaluation._controller import Controller
from lipsrl.policies._unwrapped import policy_of

#: Weight of a Q-network's level V(s) beside its advantages: it decides nothing, but costs slope like them.
LEVEL = 0.01
#: How far an action is moved, in [-1, 1], to see what the critic makes of it; and the range of the weights that follow.
STEP, LIGHTEST, HEAVIEST = 0.3, 0.1, 5.0
#: A margin between the greedy action and the next that is wide enough (logits; in units of the advantages' spread).
MARGIN = 1.0


class Loss(ABC):
    """What the teacher says about a state, and how far the student is from it."""

    @abstractmethod
    def targets(self, teacher: Controller, observations: NDArray[Any]) -> NDArray[Any]:
        """What the student is to match where the teacher receives ``observations`` (n, dim): an array (n, …)."""

    @abstractmethod
    def __call__(self, policy: Any, observations: Tensor, targets: Tensor) -> Tensor:
        """Scalar loss of ``policy`` over what it receives (n, dim)."""


def loss_of(policy: BasePolicy) -> Loss:
    """The loss for the family and the action space of ``policy``."""
    if isinstance(policy.action_space, spaces.Box):
        kind = CriticWeightedLoss if hasattr(policy, "critic") else ActionLoss
        return kind(policy.action_space, bool(policy.squash_output))
    return PreferenceLoss(policy.action_space) if hasattr(policy, "mlp_extractor") else ValueLoss()


class ActionLoss(Loss):
    """Mean squared difference of the actions that the environment would receive.

    Clipped or squashed, as the policy does it, each dimension in units of half its range (in its own units where
    the space is unbounded).
    """

    def __init__(self, space: spaces.Box, squashed: bool) -> None:
        low, high = (np.asarray(b, dtype=np.float64).reshape(-1) for b in (space.low, space.high))
        bounded = np.isfinite(low) & np.isfinite(high)
        low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        half = (high - low) / 2
        half[half == 0] = 1.0  # a dimension that cannot move
        self._half, self._centre = half, (low + high) / 2
        self._limit = np.where(bounded, 1.0, np.inf)
        self._squashed = squashed

    def targets(self, teacher: Controller, observations: NDArray[Any]) -> NDArray[Any]:
        """(n, act) what the environment would receive."""
        return teacher.execute(teacher.blockwise(observations)).reshape(len(observations), -1)

    def __call__(self, policy: Any, observations: Tensor, targets: Tensor) -> Tensor:
        return self._squared_errors(policy, observations, targets).mean()

    def _squared_errors(self, policy: Any, observations: Tensor, targets: Tensor) -> Tensor:
        """(n, act), in units of half the range."""
        action: Tensor = policy._predict(observations, deterministic=True).flatten(1)
        centre, half, limit = (torch.as_tensor(v).to(action) for v in (self._centre, self._half, self._limit))
        if not self._squashed:
            action = (action - centre) / half
        # The gradient passes the clip: a student that saturates on the wrong side must find back.
        executed = action + (action.clamp(-limit, limit) - action).detach()
        return (executed - (targets - centre) / half).square()


class CriticWeightedLoss(ActionLoss):
    """:class:`ActionLoss`, each error weighted by what it would cost: the teacher has a critic Q(s, a).

    The weight of dimension j in state s is what Q falls by, on average, where the teacher's action is moved by
    ±:data:`STEP` along j; divided by the mean of the batch and kept within [:data:`LIGHTEST`, :data:`HEAVIEST`]. A
    student of small K then spends its slope where the action matters: SAC on Pendulum at K = 6 (of the teacher's 92)
    −152 and −151 against −169 and −174 without, the teacher's −133.
    """

    def targets(self, teacher: Controller, observations: NDArray[Any]) -> NDArray[Any]:
        """(n, 2·act): the actions, and what Q falls by."""
        actions = super().targets(teacher, observations)
        policy: Any = policy_of(teacher)
        scaled = (actions - self._centre) / self._half

        def falls(_: Any, seen: Tensor) -> Tensor:
            best = torch.as_tensor(scaled, dtype=torch.float32, device=seen.device)
            value = _value(policy.critic, seen, best)
            columns = []
            for step in STEP * torch.eye(best.shape[1], device=seen.device):
                up, down = (_value(policy.critic, seen, (best + way).clamp(-1, 1)) for way in (step, -step))
                columns.append(((value - up).relu() + (value - down).relu()) / 2)
            return torch.stack(columns, dim=1)

        return np.concatenate([actions, _asked(teacher, observations, falls)], axis=1)

    def __call__(self, policy: Any, observations: Tensor, targets: Tensor) -> Tensor:
        actions, falls = targets.chunk(2, dim=1)
        mean = falls.mean().clamp(min=torch.finfo(falls.dtype).tiny)
        weights = (falls / mean).clamp(LIGHTEST, HEAVIEST)
        return (weights * self._squared_errors(policy, observations, actions)).mean()


def _value(critic: Any, observations: Tensor, actions: Tensor) -> Tensor:
    """(n,) mean over the Q-networks (SAC, TD3, CrossQ) or over all their quantiles (TQC)."""
    values = critic(observations, actions)
    joined = torch.cat(values, dim=1) if isinstance(values, tuple) else values.flatten(1)
    return joined.mean(1)


class PreferenceLoss(Loss):
    """KL(teacher ‖ student) of categorical policies, and a hinge that keeps the teacher's choice the greedy one.

    The hinge asks that the logit of the teacher's choice lead the next by the teacher's own margin, or by
    :data:`MARGIN` where that is wider: KL alone cares little who is first where two options are nearly alike.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        match space:
            case spaces.Discrete():
                self._sizes = [int(space.n)]
            case spaces.MultiDiscrete():
                self._sizes = [int(n) for n in np.asarray(space.nvec).reshape(-1)]
            case _:
                assert isinstance(space, spaces.MultiBinary)
                self._sizes = [2] * int(np.prod(space.shape))

    def targets(self, teacher: Controller, observations: NDArray[Any]) -> NDArray[Any]:
        """(n, logits)."""
        return _asked(teacher, observations, self._logits)

    def __call__(self, policy: Any, observations: Tensor, targets: Tensor) -> Tensor:
        logits = self._logits(policy, observations)
        pairs = zip(torch.split(logits, self._sizes, -1), torch.split(targets, self._sizes, -1), strict=True)
        losses = [
            F.kl_div(own.log_softmax(-1), theirs.log_softmax(-1), reduction="batchmean", log_target=True)
            + _hinge(own, theirs, MARGIN)
            for own, theirs in pairs
        ]
        return torch.stack(losses).mean()

    def _logits(self, policy: Any, observations: Tensor) -> Tensor:
        features = BaseModel.extract_features(policy, observations, policy.pi_features_extractor)
        logits: Tensor = policy.action_net(policy.mlp_extractor.forward_actor(features))
        if logits.shape[-1] < sum(self._sizes):  # SB3's MultiBinary: one logit per bit, against 0
            return torch.stack([torch.zeros_like(logits), logits], dim=-1).flatten(1)
        return logits


class ValueLoss(Loss):
    """Regression on advantages, and a hinge that keeps the teacher's choice the greedy one.

    Advantages are Q-values (means over quantiles) minus their mean over the actions, and errors are in units of
    the teacher's. What is left, V(s) and the quantiles around their means, decides nothing and has a small weight
    (:data:`LEVEL`): K bounds all of it together. States where much is at stake weigh more by the size of their
    advantages, as in VIPER (Bastani, Pu & Solar-Lezama, NeurIPS 2018).
    """

    def targets(self, teacher: Controller, observations: NDArray[Any]) -> NDArray[Any]:
        """(n, quantiles, actions); one quantile for DQN."""
        return _asked(teacher, observations, values_of)

    def __call__(self, policy: Any, observations: Tensor, targets: Tensor) -> Tensor:
        own, own_rest = _advantages(values_of(policy, observations))
        theirs, their_rest = _advantages(targets)
        scale = theirs.square().mean().sqrt().clamp(min=torch.finfo(theirs.dtype).tiny)
        level = (their_rest - their_rest.mean()).square().mean().clamp(min=scale**2)
        loss: Tensor = (own - theirs).square().mean() / scale**2
        loss = loss + LEVEL * (own_rest - their_rest).square().mean() / level
        return loss + _hinge(own / scale, theirs / scale, MARGIN)


def values_of(policy: Any, observations: Tensor) -> Tensor:
    """Q-values of DQN or QR-DQN (n, quantiles, actions)."""
    if hasattr(policy, "q_net"):
        q_values: Tensor = policy.q_net(observations)
        return q_values.unsqueeze(1)
    quantiles: Tensor = policy.quantile_net(observations)
    return quantiles


def _advantages(values: Tensor) -> tuple[Tensor, Tensor]:
    """(n, actions) with mean 0 over the actions, and the rest of ``values``."""
    means = values.mean(1)
    advantages = means - means.mean(-1, keepdim=True)
    return advantages, values - advantages.unsqueeze(1)


def _hinge(own: Tensor, theirs: Tensor, margin: float) -> Tensor:
    """Mean of what the teacher's choice lacks to lead ``own`` (n, options) by its own margin, ``margin`` at most."""
    if own.shape[-1] < 2:
        return own.new_zeros(())
    best, order = theirs.topk(2)
    choice = order[:, :1]
    lead = own.gather(-1, choice).squeeze(-1) - own.scatter(-1, choice, -torch.inf).amax(-1)
    return ((best[:, 0] - best[:, 1]).clamp(max=margin) - lead).relu().mean()


def _asked(teacher: Controller, observations: NDArray[Any], function: Any) -> NDArray[Any]:
    policy = policy_of(teacher)
    assert policy is not None
    with torch.no_grad():
        seen: Any = policy.obs_to_tensor(observations)[0]
        answer: Tensor = function(policy, seen)
    return answer.cpu().numpy()
