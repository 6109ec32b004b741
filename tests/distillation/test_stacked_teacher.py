"""Teachers behind SB3's VecFrameStack: the student sees what its teacher sees, through the same stack."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize, unwrap_vec_wrapper

import lipsrl
from lipsrl.actors.normalization import attached_frames
from lipsrl.attacks import MADAttack
from lipsrl.cli import main
from lipsrl.distillation import frontier, student_environments
from lipsrl.distillation._rollouts import Rollouts
from lipsrl.evaluation._environments import make_environments

LAW = np.array([[-5.0, -4.0], [-2.5, -2.0]])
KINDS = ["plain", "inside", "outside"]
BUDGET = {"net_arch": [16, 16], "rounds": 2, "steps": 600}

pytestmark = pytest.mark.filterwarnings("ignore:The student's mean return", "ignore:K=.*mean return")


def stacked(cart, kind, n=2):
    venv = DummyVecEnv([lambda: Monitor(cart())] * n)
    if kind == "plain":
        return VecFrameStack(venv, 2)
    venv = venv if kind == "inside" else VecFrameStack(venv, 2)
    venv = VecNormalize(venv, norm_reward=False, clip_obs=5.0)
    size = venv.obs_rms.mean.size
    venv.obs_rms.mean[:] = np.tile([0.1, -0.1], 2)[:size]
    venv.obs_rms.var[:] = np.array([4.0, 0.25, 2.0, 0.5])[:size]
    return VecFrameStack(venv, 2) if kind == "inside" else venv


def make(cart, kind):
    """Feedback of what is mostly the newest frame, in the units of the policy."""
    model = PPO(
        "MlpPolicy", stacked(cart, kind), n_steps=64, batch_size=32, seed=3, device="cpu",
        policy_kwargs={"net_arch": {"pi": [], "vf": [8]}, "activation_fn": torch.nn.Tanh},
    )  # fmt: skip
    statistics = unwrap_vec_wrapper(model.get_env(), VecNormalize)
    std, mean = np.ones(4), np.zeros(4)
    if statistics is not None:
        std, mean = (
            np.tile(a, 4 // a.size) for a in (np.sqrt(statistics.obs_rms.var), statistics.obs_rms.mean)
        )
    law = np.concatenate([0.2 * LAW, 0.8 * LAW], axis=1)
    with torch.no_grad():
        model.policy.action_net.weight.copy_(torch.as_tensor(law * std))
        model.policy.action_net.bias.copy_(torch.as_tensor(law @ mean))
    return model


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def teacher(cart, kind):
    return make(cart, kind)


@pytest.fixture(scope="module")
def student(teacher, cart):
    return lipsrl.distill(teacher, cart, lipschitz_bound=8.0, **BUDGET)


def test_the_student_parks_the_cart_as_its_teacher_does(teacher, student, cart):
    models = {"teacher": teacher, "student": student, "idle": lambda o: np.zeros((len(o), 2), np.float32)}
    returns = lipsrl.evaluate(models, cart, n_episodes=20).frame.groupby("agent")["return"].mean()
    assert returns["student"] == pytest.approx(returns["teacher"], rel=0.15)
    assert returns["idle"] < 3 * returns["teacher"]


def test_it_has_the_stack_of_its_teacher(teacher, student, kind):
    assert student.observation_space == teacher.observation_space == student.get_env().observation_space
    assert attached_frames(student) == 2
    layers, found = student.get_env(), []
    while not isinstance(layers, DummyVecEnv):
        found.append(type(layers))
        layers = layers.venv
    expected = {"plain": [VecFrameStack], "inside": [VecFrameStack, VecNormalize]}
    assert found == expected.get(kind, [VecNormalize, VecFrameStack])
    certificate = lipsrl.certify(student)
    assert certificate.network.upper_bound <= 8.0
    assert certificate.lower_bound <= certificate.upper_bound


def test_sb3_runs_it_as_lipsrl_does(student, cart):
    """``predict`` on what the student's own environments stack."""
    ours = lipsrl.evaluate(student, cart, n_episodes=60, seed=1).frame["return"].to_numpy()
    returns, _ = evaluate_policy(student, student.get_env(), n_eval_episodes=60, return_episode_rewards=True)
    assert np.mean(returns) == pytest.approx(ours.mean(), abs=4 * ours.std() / np.sqrt(30))


def test_a_zip_is_told_its_frames(teacher, student, cart, tmp_path):
    teacher.save(tmp_path / "model.zip")
    statistics = unwrap_vec_wrapper(teacher.get_env(), VecNormalize)
    zipped = PPO.load(tmp_path / "model.zip", device="cpu")
    again = lipsrl.distill(
        zipped, cart, lipschitz_bound=8.0, frame_stack=2, vec_normalize=statistics, **BUDGET
    )
    for name, value in student.policy.state_dict().items():
        assert torch.equal(value, again.policy.state_dict()[name]), name
    student.save(tmp_path / "student.zip")
    loaded = PPO.load(tmp_path / "student.zip", device="cpu")
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict(rows)[0].shape, (50, 2))
    np.testing.assert_array_equal(
        loaded.predict(rows, deterministic=True)[0], student.predict(rows, deterministic=True)[0]
    )


def test_it_learns_on(student):
    student.learn(128)
    assert student.policy.lipschitz_network.lipschitz_bound() <= 8.0


def test_what_is_learned_from_is_what_sb3_shows(teacher, cart, kind):
    """States of whole episodes beside SB3's own stack; the teacher is asked on the stack of clean frames."""
    statistics = unwrap_vec_wrapper(teacher.get_env(), VecNormalize)
    rollouts = Rollouts(teacher, make_environments(cart, 3), statistics, None, 0)
    shown, targets = rollouts.collect(rollouts.teacher, 2)
    assert shown.shape == (80, 4)
    np.testing.assert_allclose(
        targets, teacher.predict(shown.astype(np.float32), deterministic=True)[0], atol=1e-5
    )

    class Replay(cart):
        """The first of those episodes."""

        def reset(self, **_):
            super().reset(seed=0)
            self.frames = iter(raw)
            return next(self.frames), {}

        def step(self, action):
            _, reward, *rest = super().step(action)
            return next(self.frames), reward, *rest

    newest = shown[:40, 2:].astype(np.float64)
    if statistics is not None:
        std, mean = (
            a[-2:] for a in (np.sqrt(statistics.obs_rms.var + statistics.epsilon), statistics.obs_rms.mean)
        )
        newest = newest * std + mean
    raw = newest.astype(np.float32)
    venv = stacked(Replay, kind, 1)
    if kind != "plain":
        unwrap_vec_wrapper(venv, VecNormalize).training = False
    expected = [venv.reset()[0]]
    expected += [venv.step(np.zeros((1, 2)))[0][0] for _ in range(39)]
    np.testing.assert_allclose(shown[:40], np.array(expected), atol=1e-5)


def test_an_attack_is_aimed_at_the_student(teacher, cart):
    student = lipsrl.distill(
        teacher, cart, lipschitz_bound=8.0, disturbance=MADAttack(None, 0.05, steps=1), net_arch=[8], rounds=1,
        steps=60,
    )  # fmt: skip
    assert student.policy.lipschitz_network.lipschitz_bound() <= 8.0


def test_q_values(stepped_cart):
    teacher = DQN(
        "MlpPolicy",
        VecFrameStack(DummyVecEnv([stepped_cart]), 2),
        device="cpu",
        buffer_size=50,
        learning_starts=5,
    )
    student = lipsrl.distill(teacher, stepped_cart, lipschitz_bound=20.0, net_arch=[8], rounds=1, steps=60)
    assert type(student) is DQN
    assert attached_frames(student) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_frontier(cart, workers):
    teacher = make(cart, "outside")
    found = frontier(
        teacher, cart, bounds=[4.0, 8.0], strengths=[0.0], n_episodes=3, n_workers=workers, net_arch=[8], rounds=1,
        steps=40,
    )  # fmt: skip
    assert {agent["frame_stack"] for agent in found.evaluation.metadata["agents"]} == {2}
    assert found.teacher_certificate.upper_bound > 0
    for student in found.students:
        assert attached_frames(student.model) == 2
        assert isinstance(student.model.get_env(), VecNormalize)
    alone = lipsrl.distill(teacher, cart, lipschitz_bound=8.0, net_arch=[8], rounds=1, steps=40)
    for name, value in alone.policy.state_dict().items():
        assert torch.equal(value, found.students[1].model.policy.state_dict()[name]), name


@pytest.mark.parametrize("command", ["distill", "frontier"])
def test_the_commands(cart, tmp_path, command, capsys):
    gym.register("StackedCart-v0", entry_point=cart)
    try:
        teacher = make(cart, "inside")
        teacher.save(tmp_path / "model.zip")
        unwrap_vec_wrapper(teacher.get_env(), VecNormalize).save(str(tmp_path / "statistics.pkl"))
        arguments = [str(tmp_path / "model.zip"), "--env", "StackedCart-v0", "--frame-stack", "2"]
        arguments += ["--vec-normalize", str(tmp_path / "statistics.pkl"), "--net-arch", "8", "--rounds", "1"]
        arguments += ["--steps", "40", "--episodes", "3"]
        output = tmp_path / ("student.zip" if command == "distill" else "frontier")
        bounds = ["--lipschitz-bound", "8"] if command == "distill" else ["--bounds", "8", "--workers", "1"]
        assert main([command, *arguments, *bounds, "--output", str(output)]) == 0
    finally:
        del gym.registry["StackedCart-v0"]
    assert "teacher" in capsys.readouterr().out
    zipped = output if command == "distill" else output / "K8.zip"
    student = PPO.load(zipped, device="cpu")
    assert student.observation_space.shape == (4,)
    found = lipsrl.evaluate(
        student, cart, n_episodes=2, frame_stack=2, vec_normalize=zipped.with_suffix(".vecnormalize.pkl")
    )
    assert np.isfinite(found.frame["return"]).all()


def test_environments_for_a_stack(cart):
    statistics = unwrap_vec_wrapper(stacked(cart, "outside"), VecNormalize)
    venv = student_environments(cart, 3, statistics, 2)
    assert venv.reset().shape == (3, 4)
    assert venv.obs_rms is not statistics.obs_rms
    assert not venv.training
