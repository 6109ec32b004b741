"""What a state weighs where the teacher has a critic."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TQC
from stable_baselines3 import PPO, SAC, TD3

from lipsrl.distillation._losses import ActionLoss, CriticWeightedLoss, loss_of
from lipsrl.distillation._rollouts import Rollouts
from lipsrl.evaluation._environments import make_environments


@pytest.fixture
def seen():
    return np.random.default_rng(0).uniform(-1, 1, (40, 2)).astype(np.float32)


@pytest.mark.parametrize("algorithm", [SAC, TD3, TQC])
def test_the_weight_is_what_the_critic_falls_by(make_teacher, cart, seen, algorithm, monkeypatch):
    teacher = make_teacher(algorithm)

    def critic(observations, actions):  # steep in the second action only, where the position is positive
        value = -(observations[:, :1] > 0).float() * 2 * actions[:, 1:].abs() + 0 * observations[:, :1]
        return value.unsqueeze(1) if algorithm is TQC else (value, value)

    monkeypatch.setattr(teacher.policy.critic, "forward", critic)
    with torch.no_grad():
        for parameter in teacher.policy.actor.parameters():
            parameter.zero_()  # acts at the centre
    controller = Rollouts(teacher, make_environments(cart, 1), None, None, 0).teacher
    loss = loss_of(teacher.policy)
    assert type(loss) is CriticWeightedLoss
    answer = loss.targets(controller, seen)
    np.testing.assert_allclose(answer[:, :2], np.tile([0.0, 0.5], (40, 1)), atol=1e-6)
    np.testing.assert_allclose(answer[:, 2], 0.0)
    np.testing.assert_allclose(answer[:, 3], np.where(seen[:, 0] > 0, 0.6, 0.0), rtol=1e-5)

    targets = torch.as_tensor(answer, dtype=torch.float32)
    wrong = targets.clone()
    wrong[:, :2] += torch.tensor([2.0, 1.0])  # by half the range of each
    mean = float(targets[:, 2:].mean())
    weights = np.clip(answer[:, 2:] / mean, 0.1, 5.0)
    found = float(loss(teacher.policy, torch.as_tensor(seen), wrong).detach())
    assert found == pytest.approx(float(weights.mean()), rel=1e-5)
    assert float(loss(teacher.policy, torch.as_tensor(seen), targets).detach()) == pytest.approx(
        0.0, abs=1e-9
    )


def test_on_policy_teachers_have_no_critic_of_actions(make_teacher):
    assert type(loss_of(make_teacher(PPO).policy)) is ActionLoss


def test_unbounded_actions_are_matched_in_their_own_units():
    class Policy:
        def _predict(self, observations, deterministic):
            return observations * 3.0

    loss = ActionLoss(spaces.Box(-np.inf, np.inf, (2,)), False)
    seen = torch.ones(4, 2)
    assert float(loss(Policy(), seen, torch.full((4, 2), 5.0))) == pytest.approx(4.0)
