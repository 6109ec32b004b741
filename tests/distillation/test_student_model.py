"""What a student is besides its actor: an SB3 model of its teacher's class that goes on where the teacher was."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

import lipsrl
from lipsrl.distillation._exploration import _std

pytestmark = pytest.mark.filterwarnings("ignore:The student's mean return")  # a small budget

TEACHERS = {
    "ppo": (PPO, {"target_kl": 0.02, "learning_rate": LinearSchedule(3e-3, 0.0, 1.0)}),
    "ppo-gsde": (PPO, {"use_sde": True}),
    "ppo-gsde-squashed": (PPO, {"use_sde": True, "policy_kwargs": {"squash_output": True}}),
    "ppo-gsde-one-std": (PPO, {"use_sde": True, "policy_kwargs": {"full_std": False}}),
    "a2c": (A2C, {"n_steps": 8}),
    "sac": (SAC, {}),
    "sac-fixed-entropy": (SAC, {"ent_coef": 0.05, "target_entropy": -3.0}),
    "sac-gsde": (SAC, {"use_sde": True}),
    "tqc": (TQC, {}),
    "crossq": (CrossQ, {}),
    "td3": (TD3, {}),
    "ddpg": (DDPG, {}),
    "trpo": (TRPO, {}),
    "ppo discrete": (PPO, {}),
    "ppo multi-discrete": (PPO, {}),
    "ppo multi-binary": (PPO, {}),
    "maskable discrete": (MaskablePPO, {}),
    "dqn discrete": (DQN, {"exploration_fraction": 0.3}),
    "qrdqn discrete": (QRDQN, {}),
}
K = 4.0
ROOT = Path(__file__).parents[2]
BUDGET = {"lipschitz_bound": K, "net_arch": [8, 8], "rounds": 1, "steps": 40}


def cart_of(name, make_cart):
    return make_cart[name.partition(" ")[2] or "box"]


def make_pair(name, make_teacher, make_cart):
    algorithm, options = TEACHERS[name]
    cart = cart_of(name, make_cart)
    teacher = make_teacher(algorithm, DummyVecEnv([lambda: Monitor(cart())] * 2), **options)
    teacher.learn(64)  # counters, optimizer moments and an entropy coefficient that have moved
    return teacher, lipsrl.distill(teacher, cart, **BUDGET)


@pytest.fixture(scope="module", params=TEACHERS)
def pair(request, make_teacher, make_cart):
    """A teacher and its student; not to be changed."""
    return make_pair(request.param, make_teacher, make_cart)


@pytest.fixture
def own_cart(request, make_cart):
    """The environment of the pair's teacher."""
    return cart_of(request.node.callspec.params["pair"], make_cart)


def observations(n=400):
    return np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)


def critics(model):
    return {k: v for k, v in model.policy.state_dict().items() if "value_net" in k or k.startswith("critic")}


def test_everything_but_the_actor_is_taken_over(pair):
    teacher, student = pair
    assert type(student) is type(teacher)
    assert type(student.policy) is type(teacher).policy_aliases["LipschitzMlpPolicy"]
    assert student.observation_space == teacher.observation_space
    assert student.action_space == teacher.action_space
    for name in ("seed", "gamma", "num_timesteps", "n_envs", "use_sde", "learning_rate", "batch_size", "tau",
                 "target_kl", "target_entropy", "ent_coef", "_n_updates", "exploration_rate"):  # fmt: skip
        theirs, own = getattr(teacher, name, None), getattr(student, name, None)
        assert own == theirs or (callable(own) and own(0.3) == theirs(0.3)), name
    theirs, own = critics(teacher), critics(student)
    assert own.keys() == theirs.keys()
    assert len(own) > 3 or isinstance(teacher, (DQN, QRDQN))  # where the actor is the critic
    assert all(torch.equal(own[k], theirs[k]) and own[k].data_ptr() != theirs[k].data_ptr() for k in own)
    if getattr(teacher, "log_ent_coef", None) is not None:
        assert torch.equal(student.log_ent_coef, teacher.log_ent_coef)
        assert student.log_ent_coef is not teacher.log_ent_coef
    if hasattr(teacher, "critic"):
        mine, theirs = student.critic.optimizer.state_dict(), teacher.critic.optimizer.state_dict()
        assert torch.equal(mine["state"][0]["exp_avg"], theirs["state"][0]["exp_avg"])


def test_the_student_samples_as_widely_as_its_teacher(pair):
    teacher, student = pair
    if not isinstance(teacher.action_space, spaces.Box) or isinstance(teacher, TD3):
        assert not hasattr(student.policy, "log_std")
        return
    states = torch.as_tensor(observations())
    with torch.no_grad():
        theirs, own = _std(teacher, states), _std(student, states)
    if not teacher.use_sde and isinstance(teacher, OnPolicyAlgorithm):
        assert torch.equal(own, theirs)
    else:  # over other states than those it was fitted on
        np.testing.assert_allclose(own.square().mean().sqrt(), theirs.square().mean().sqrt(), rtol=0.4)


def test_it_saves_and_loads(pair, tmp_path):
    _, student = pair
    student.save(tmp_path / "student.zip")
    loaded = type(student).load(tmp_path / "student.zip", device="cpu")
    for name, value in student.policy.state_dict().items():
        assert torch.equal(loaded.policy.state_dict()[name], value), name
    expected = student.predict(observations(), deterministic=True)[0]
    np.testing.assert_array_equal(loaded.predict(observations(), deterministic=True)[0], expected)


def test_its_zip_loads_in_a_process_that_imported_only_sb3(teacher, cart, tmp_path):
    student = lipsrl.distill(teacher, cart, **BUDGET)
    student.save(tmp_path / "student.zip")
    np.save(tmp_path / "observations.npy", observations())
    code = (
        "import sys, numpy as np; from stable_baselines3 import PPO; folder = sys.argv[1]\n"
        "model = PPO.load(folder + '/student.zip', device='cpu')\n"
        "actions = model.predict(np.load(folder + '/observations.npy'), deterministic=True)[0]\n"
        "np.save(folder + '/actions.npy', actions)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    expected = student.predict(observations(), deterministic=True)[0]
    np.testing.assert_array_equal(np.load(tmp_path / "actions.npy"), expected)


def test_it_learns_on_under_its_bound_when_loaded(pair, tmp_path, own_cart):
    _, student = pair
    student.save(tmp_path / "student.zip")
    loaded = type(student).load(tmp_path / "student.zip", env=own_cart(), device="cpu")
    learn_on(loaded)


@pytest.mark.parametrize("name", ["ppo", "sac", "td3", "dqn discrete"])
def test_it_learns_on_under_its_bound_as_it_is(name, make_teacher, make_cart):
    _, student = make_pair(name, make_teacher, make_cart)
    learn_on(student)


def learn_on(student):
    before = copy.deepcopy(student.policy.lipschitz_network.state_dict())
    student.learn(64)
    after = student.policy.lipschitz_network.state_dict()
    assert any(not torch.equal(after[key], value) for key, value in before.items())
    for target in student.policy.lipschitz_targets():
        assert target.lipschitz_bound() <= K
    assert student.policy.lipschitz_network.lipschitz_bound() <= K


def test_it_can_be_certified_evaluated_and_distilled_again(pair, own_cart):
    _, student = pair
    cart = own_cart
    certificate = lipsrl.certify(student, n_starts=512)
    assert 0 < certificate.lower_bound <= certificate.upper_bound <= K
    frame = lipsrl.evaluate(student, cart, n_episodes=2).frame
    assert np.isfinite(frame["return"]).all()
    again = lipsrl.distill(student, cart, **BUDGET | {"lipschitz_bound": 2.0})
    assert again.policy.lipschitz_network.lipschitz_bound() <= 2.0
    assert {k: v.shape for k, v in critics(again).items()} == {
        k: v.shape for k, v in critics(student).items()
    }


def test_target_networks_follow_the_student(pair):
    _, student = pair
    own = student.policy.lipschitz_network.state_dict()
    targets = student.policy.lipschitz_targets()
    assert len(targets) == isinstance(student, (TD3, DQN, QRDQN))
    for target in targets:
        assert all(torch.equal(own[key], value) for key, value in target.state_dict().items())


def test_the_actor_has_the_teachers_widths_unless_others_are_asked_for(make_teacher, cart):
    teacher = make_teacher(PPO, policy_kwargs={"net_arch": {"pi": [6, 7], "vf": [5]}, "activation_fn": torch.nn.ReLU},
                           scripted=False)  # fmt: skip
    student = lipsrl.distill(teacher, cart, lipschitz_bound=K, rounds=1, steps=20)
    assert student.policy.lipschitz_network.hidden == (6, 7)
    assert student.policy.lipschitz_network.activation_name == "relu"
    assert student.policy.net_arch == {"pi": [6, 7], "vf": [5]}
