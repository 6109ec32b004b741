"""Categorical policies and Q-values: the student chooses as its teacher does, by a margin, within its bound."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, MaskablePPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from torch.nn import functional as F

import lipsrl
from lipsrl.distillation._losses import PreferenceLoss, ValueLoss, _hinge, values_of
from lipsrl.disturbances import GaussianNoise

pytestmark = pytest.mark.filterwarnings("ignore:The student's mean return")  # a small budget

K = 8.0  # the scripted teachers' is 13.6
NOISE = GaussianNoise(0.05)
BUDGET = {"lipschitz_bound": K, "net_arch": [16, 16], "rounds": 2, "steps": 700}


def observations(n=2000):
    return np.random.default_rng(0).uniform([-1.5, -1.5], [1.5, 1.5], (n, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("algorithm", "disturbance"),
    [(PPO, None), (MaskablePPO, None), (QRDQN, None), (DQN, NOISE)],
)
def test_the_student_chooses_as_its_teacher_does(make_teacher, stepped_cart, algorithm, disturbance):
    teacher = make_teacher(algorithm, make_vec_env(stepped_cart, 1))
    student = lipsrl.distill(teacher, stepped_cart, disturbance=disturbance, **BUDGET)
    seen = observations()
    agree = teacher.predict(seen, deterministic=True)[0] == student.predict(seen, deterministic=True)[0]
    assert agree.mean() > 0.8
    assert student.policy.lipschitz_network.lipschitz_bound() <= K
    idle = {"i": lambda o: np.ones(len(o), np.int64)}
    returns = lipsrl.evaluate({"t": teacher, "s": student} | idle, stepped_cart, n_episodes=20).frame
    mean = returns.groupby("agent")["return"].mean()
    assert mean["s"] > 1.35 * mean["t"]
    assert mean["i"] < 5 * mean["t"]


def test_q_values_keep_their_level(make_teacher, stepped_cart):
    """Fine-tuning starts from values, not from a ranking: their mean is the teacher's, 40 and what it adds."""
    teacher = make_teacher(DQN, make_vec_env(stepped_cart, 1))
    student = lipsrl.distill(teacher, stepped_cart, **BUDGET)
    seen = torch.as_tensor(observations())
    with torch.no_grad():
        theirs, own = (values_of(m.policy, seen).mean() for m in (teacher, student))
    assert abs(own - theirs) < 1.0


def test_the_hinge_asks_for_the_teachers_lead_and_no_more():
    theirs = torch.tensor([[3.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.0, 5.0, 4.5]])
    assert _hinge(theirs, theirs, 1.0) == 0
    assert _hinge(torch.zeros(3, 3), theirs, 1.0) == pytest.approx((1.0 + 0.2 + 0.5) / 3)
    wrong = torch.tensor([[0.0, 2.0, 0.0]])
    assert _hinge(wrong, theirs[:1], 1.0) == pytest.approx(3.0)
    assert _hinge(torch.zeros(2, 1), torch.ones(2, 1), 1.0) == 0  # no choice, no margin


def test_preferences_are_those_of_sb3s_distributions(make_teacher, make_cart):
    for kind in ("discrete", "multi-discrete", "multi-binary"):
        cart = make_cart[kind]
        teacher = make_teacher(PPO, make_vec_env(cart, 1))
        seen = torch.as_tensor(observations(50))
        with torch.no_grad():
            logits = PreferenceLoss(teacher.action_space)._logits(teacher.policy, seen)
            distribution = teacher.policy.get_distribution(seen)
            mode = distribution.mode().numpy()
            log_prob = distribution.log_prob(distribution.mode()).numpy()
        sizes = {
            "discrete": [3],
            "multi-discrete": [3, 2],
            "multi-binary": [2, 2],
        }[kind]
        groups = [F.log_softmax(group, -1) for group in torch.split(logits, sizes, -1)]
        chosen = np.stack([group.argmax(-1).numpy() for group in groups], -1)
        np.testing.assert_array_equal(chosen.reshape(mode.shape), mode)
        np.testing.assert_allclose(sum(g.amax(-1) for g in groups).numpy(), log_prob, atol=1e-5)  # float32


def test_the_loss_is_zero_for_the_teacher_itself(make_teacher, stepped_cart):
    for algorithm in (PPO, DQN, QRDQN):
        teacher = make_teacher(algorithm, make_vec_env(stepped_cart, 1))
        loss = ValueLoss() if algorithm is not PPO else PreferenceLoss(spaces.Discrete(3))
        seen = torch.as_tensor(observations(64))
        with torch.no_grad():
            own = (
                values_of(teacher.policy, seen)
                if algorithm is not PPO
                else loss._logits(teacher.policy, seen)
            )
            assert float(loss(teacher.policy, seen, own)) == pytest.approx(0.0, abs=1e-6)
            assert float(loss(teacher.policy, seen, own.flip(-1))) > 0.1
