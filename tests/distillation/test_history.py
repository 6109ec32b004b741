"""Students with a window of observations: what they see, what they take over, and that they filter."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import lipsrl
from lipsrl.attacks import MADAttack
from lipsrl.cli import main
from lipsrl.distillation import _rollouts, frontier
from lipsrl.distillation._rollouts import Rollouts
from lipsrl.disturbances import GaussianNoise, Mixture
from lipsrl.evaluation._environments import make_environments

BUDGET = {"net_arch": [16, 16], "rounds": 3, "steps": 900}
SHORT = {"net_arch": [8], "rounds": 1, "steps": 40}

pytestmark = pytest.mark.filterwarnings("ignore:The student's mean return", "ignore:K=.*mean return")


@pytest.fixture(scope="module")
def student(normalized_teacher, cart):
    return lipsrl.distill(
        normalized_teacher,
        cart,
        lipschitz_bound=12.0,
        history=6,
        disturbance=GaussianNoise(0.6),
        strength=(0, 1),
        **BUDGET,
    )


def test_a_window_filters_what_one_observation_cannot(normalized_teacher, student, cart):
    alone = lipsrl.distill(
        normalized_teacher,
        cart,
        lipschitz_bound=12.0,
        disturbance=GaussianNoise(0.6),
        strength=(0, 1),
        **BUDGET,
    )
    found = lipsrl.evaluate(
        {"teacher": normalized_teacher, "one": alone, "six": student},
        cart,
        disturbances=GaussianNoise(0.6),
        strengths=(0, 1),
        n_episodes=40,
        vec_normalize=normalized_teacher.get_vec_normalize_env(),
    )
    noisy = (
        found.frame[found.frame["strength"] == 1].groupby("agent")[["return", "action_fluctuation"]].mean()
    )
    assert noisy["return"]["six"] > max(noisy["return"]["one"], noisy["return"]["teacher"])
    assert noisy["action_fluctuation"]["six"] < noisy["action_fluctuation"]["teacher"]
    clean = found.frame[found.frame["strength"] == 0].groupby("agent")["return"].mean()
    assert clean["six"] == pytest.approx(clean["teacher"], rel=0.25)


def test_it_is_a_model_on_stacked_observations(student, cart):
    assert type(student) is PPO
    assert student.observation_space.shape == (12,)
    stack = student.get_env()
    assert isinstance(stack, VecFrameStack)
    assert isinstance(stack.venv, VecNormalize)
    assert stack.venv.obs_rms.mean.shape == (2,)
    certificate = lipsrl.certify(student)
    assert certificate.network.upper_bound <= 12.0
    ours = lipsrl.evaluate(student, cart, n_episodes=60, seed=1).frame["return"].to_numpy()
    returns, _ = evaluate_policy(student, stack, n_eval_episodes=60, return_episode_rewards=True)
    assert np.mean(returns) == pytest.approx(ours.mean(), abs=4 * ours.std() / np.sqrt(30))


def test_what_it_learns_from_is_what_its_own_environments_show(normalized_teacher, cart):
    statistics = normalized_teacher.get_vec_normalize_env()
    rollouts = Rollouts(
        normalized_teacher,
        make_environments(cart, 2),
        statistics,
        GaussianNoise(0.3),
        0,
        strength=(0, 1),
        history=4,
    )
    shown, targets = rollouts.collect(rollouts.teacher, 3)
    assert shown.shape == (120, 8)
    for episode in shown.reshape(3, 40, 4, 2):
        assert not episode[0, :3].any()
        np.testing.assert_array_equal(episode[1:, :-1], episode[:-1, 1:])
    answers = normalized_teacher.predict(shown[:, -2:].astype(np.float32), deterministic=True)[0]
    assert np.abs(targets - answers).max() > 0.1  # asked on the clean observation


def test_strengths_are_drawn_anew_for_every_episode(normalized_teacher, cart, monkeypatch):
    seen = []
    monkeypatch.setattr(
        _rollouts,
        "run_episodes",
        lambda actor, envs, tasks, disturbance, seed: seen.append(list(tasks)) or [],
    )
    rollouts = Rollouts(
        normalized_teacher, make_environments(cart, 2), None, GaussianNoise(0.3), 0, strength=(0.5, 1.5)
    )
    for call in (rollouts.collect, rollouts.collect):
        with pytest.raises(ValueError, match="concatenate"):
            call(rollouts.teacher, 50)
    with pytest.raises(KeyError):
        rollouts.returns(rollouts.teacher)
    first, second, held_out = seen
    drawn = np.array([task.strength for task in first + second])
    assert len(set(drawn)) == 100
    assert 0.5 <= drawn.min() < 0.6
    assert 1.4 < drawn.max() <= 1.5
    strengths = [task.strength for task in held_out]
    assert strengths[:30] == [0.0] * 30
    assert len(strengths) == 60
    assert 0.5 < strengths[30] < strengths[-1] < 1.5


@pytest.mark.parametrize("algorithm", [PPO, SAC, TD3, DDPG, TQC, CrossQ])
def test_its_critic_judges_the_newest_observation_as_its_teachers(make_teacher, cart, algorithm):
    teacher = make_teacher(algorithm)
    student = lipsrl.distill(teacher, cart, lipschitz_bound=20.0, history=3, **SHORT)
    rng = np.random.default_rng(0)
    window = torch.as_tensor(rng.normal(size=(50, 6)), dtype=torch.float32)
    newest = window[:, -2:]
    teacher.policy.set_training_mode(False)
    student.policy.set_training_mode(False)
    with torch.no_grad():
        if algorithm is PPO:
            own, theirs = student.policy.predict_values(window), teacher.policy.predict_values(newest)
        else:
            action = torch.as_tensor(rng.uniform(-1, 1, size=(50, 2)), dtype=torch.float32)
            own, theirs = (torch.stack(list(c)) if isinstance(c, tuple) else c
                           for c in (student.critic(window, action), teacher.critic(newest, action)))  # fmt: skip
    if algorithm is CrossQ:  # its normalisation layer stands before the first weights: close, not equal
        assert own.shape == theirs.shape
    else:
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("algorithm", [PPO, SAC, TD3, DQN])
def test_it_goes_on_learning_is_saved_and_found_again(make_teacher, make_cart, algorithm, tmp_path):
    env = make_cart["discrete" if algorithm is DQN else "box"]
    teacher = make_teacher(algorithm, DummyVecEnv([lambda: Monitor(env())]))
    student = lipsrl.distill(teacher, env, lipschitz_bound=9.0, history=3, **SHORT)
    student.learn(130)
    for network in (student.policy.lipschitz_network, *student.policy.lipschitz_targets()):
        assert network.lipschitz_bound() <= 9.0
    student.save(tmp_path / "student.zip")
    agent = lipsrl.load_agent(tmp_path / "student.zip")
    assert agent.frame_stack == 3
    assert "3 stacked frames" in agent.described
    # nobody says the frames, to any of these
    assert lipsrl.certify(agent.model, vec_normalize="none").upper_bound > 0
    assert len(lipsrl.evaluate(agent.model, env, n_episodes=2).frame) == 2
    assert lipsrl.load_policy(lipsrl.export(agent.model, tmp_path / "p.safetensors")) is not None
    again = algorithm.load(tmp_path / "student.zip", env=student.get_env(), device="cpu")
    again.learn(30)
    assert again.policy.lipschitz_network.lipschitz_bound() <= 9.0


def test_without_a_bound_it_is_a_plain_network(normalized_teacher, make_teacher, cart):
    student = lipsrl.distill(normalized_teacher, cart, lipschitz_bound=math.inf, history=3, **BUDGET)
    assert student.policy.lipschitz_network is None
    clean = lipsrl.evaluate(
        {"teacher": normalized_teacher, "student": student}, cart, n_episodes=20,
        vec_normalize=normalized_teacher.get_vec_normalize_env(),
    ).frame.groupby("agent")["return"].mean()  # fmt: skip
    assert clean["student"] == pytest.approx(clean["teacher"], rel=0.2)
    twin = lipsrl.distill(make_teacher(TD3), cart, lipschitz_bound=math.inf, **SHORT)
    for own, target in zip(twin.actor.parameters(), twin.actor_target.parameters(), strict=True):
        assert torch.equal(own, target)


def test_attacks_follow_the_student(normalized_teacher, cart, monkeypatch):
    """The attack of a round is aimed at the weights of that round."""
    aimed = []
    original = MADAttack._aim
    monkeypatch.setattr(
        MADAttack,
        "_aim",
        lambda self, model, target: (aimed.append(target.weights_sha256), original(self, model, target))[1],
    )
    mixture = Mixture([GaussianNoise(0.1), MADAttack(None, 0.1, steps=2)])
    lipsrl.distill(
        normalized_teacher, cart, lipschitz_bound=9.0, history=2, disturbance=mixture, strength=(0, 1), net_arch=[8],
        rounds=3, steps=80,
    )  # fmt: skip
    assert len(set(aimed)) >= 5  # the teacher, and the student after each of four lessons


def test_an_observation_scale_is_that_of_every_frame(cart):
    teacher = PPO(
        "LipschitzMlpPolicy", DummyVecEnv([lambda: Monitor(cart())]), n_steps=64, device="cpu", seed=0,
        policy_kwargs={"lipschitz_bound": 5.0, "observation_scale": [2.0, 0.5], "net_arch": [8]},
    )  # fmt: skip
    student = lipsrl.distill(teacher, cart, lipschitz_bound=5.0, history=3, **SHORT)
    scale = student.policy.lipschitz_network.input_scale
    assert scale.tolist() == [2.0, 0.5] * 3


def test_a_teacher_behind_a_stack_may_have_a_student_with_a_longer_window(cart):
    def teacher_of(inside):
        venv = DummyVecEnv([lambda: Monitor(cart())])
        if inside is not None:
            venv = VecFrameStack(VecNormalize(venv), 2) if inside else VecNormalize(VecFrameStack(venv, 2))
        else:
            venv = VecFrameStack(venv, 2)
        return PPO("MlpPolicy", venv, n_steps=64, device="cpu", seed=0, policy_kwargs={"net_arch": [8]})

    for inside in (None, True):
        student = lipsrl.distill(teacher_of(inside), cart, lipschitz_bound=5.0, history=4, **SHORT)
        assert student.observation_space.shape == (8,)
    with pytest.raises(ValueError, match="is of its stacks of 2 observations"):
        lipsrl.distill(teacher_of(False), cart, lipschitz_bound=5.0, history=4, **SHORT)
    with pytest.raises(ValueError, match="history=1 is shorter than what the teacher sees, 2"):
        lipsrl.distill(teacher_of(True), cart, lipschitz_bound=5.0, history=1, **SHORT)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"history": 0}, "history"),
        ({"history": 2.5}, "history"),
        ({"strength": -1.0}, "strength must be a finite number >= 0"),
        ({"strength": (1.0, 0.5)}, "0 <= low <= high"),
        ({"strength": lambda progress: 1.0}, "draw from in every episode; received <function"),
        ({"strength": 0.5}, "multiplies a disturbance, but no disturbance was given"),
        ({"lipschitz_bound": math.nan}, "lipschitz_bound"),
    ],
)
def test_wrong_input(teacher, cart, wrong, text):
    with pytest.raises(ValueError, match=text):
        lipsrl.distill(teacher, cart, **{"lipschitz_bound": 4.0, **wrong}, **SHORT)


def test_a_constrained_critic_is_not_widened(cart):
    teacher = PPO(
        "LipschitzMlpPolicy", DummyVecEnv([lambda: Monitor(cart())]), n_steps=64, device="cpu",
        policy_kwargs={"lipschitz_bound": 5.0, "critic_lipschitz_bound": 5.0, "net_arch": [8]},
    )  # fmt: skip
    with pytest.raises(ValueError, match="critic_lipschitz_bound, and a constrained critic"):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0, history=2, **SHORT)


def test_frontier_over_histories(normalized_teacher, cart):
    found = frontier(
        normalized_teacher, cart, bounds=[6.0], histories=[1, 3], noise_levels=[0.0, (0.0, 0.3)], strengths=[0.0, 0.3],
        n_episodes=3, n_workers=2, **SHORT,
    )  # fmt: skip
    names = ["K=6, 1 frame", "K=6, 1 frame, shown 0:0.3", "K=6, 3 frames", "K=6, 3 frames, shown 0:0.3"]
    assert [student.name for student in found.students] == names
    assert [student.model.observation_space.shape for student in found.students] == [(2,), (2,), (6,), (6,)]
    table = found.table()
    assert set(table["history"]) == {0, 1, 3}
    with pytest.raises(ValueError, match="all different"):
        frontier(normalized_teacher, cart, bounds=[6.0], histories=[3, 3], **SHORT)


@pytest.mark.parametrize("command", ["distill", "frontier"])
def test_the_commands(normalized_teacher, cart, tmp_path, command, capsys):
    gym.register("WindowCart-v0", entry_point=cart)
    try:
        normalized_teacher.save(tmp_path / "model.zip")
        normalized_teacher.get_vec_normalize_env().save(str(tmp_path / "statistics.pkl"))
        arguments = [
            str(tmp_path / "model.zip"),
            "--env",
            "WindowCart-v0",
            "--net-arch",
            "8",
            "--rounds",
            "1",
        ]
        arguments += ["--vec-normalize", str(tmp_path / "statistics.pkl"), "--steps", "40", "--episodes", "3"]
        output = tmp_path / ("student.zip" if command == "distill" else "frontier")
        if command == "distill":
            arguments += ["--lipschitz-bound", "8", "--history", "3", "--strength", "0", "0.5"]
            arguments += ["--disturbance", "gaussian:0.3", "bias:0.2", "mad:0.2", "--fine-tune", "64"]
        else:
            arguments += [
                "--bounds",
                "8",
                "--histories",
                "1",
                "3",
                "--noise-levels",
                "0:0.5",
                "--workers",
                "1",
            ]
        assert main([command, *arguments, "--output", str(output)]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert (
            "0.5 × gaussian:0.3 or bias:0.2 or mad:0.2"
            if command == "distill"
            else "K=8, 3 frames, shown 0:0.5"
        ) in said
        zipped = output if command == "distill" else output / "K8-k3-shown0-0.5.zip"
        attack = ["attack", "--episodes", "2", "--attack", "mad", "--steps", "2"]
        for more in (["certify"], ["evaluate", "--episodes", "2"], attack):
            place = [] if more[0] == "certify" else ["--env", "WindowCart-v0"]
            assert main([more[0], str(zipped), *place, *more[1:]]) == 0, capsys.readouterr().out
        assert main(["export", str(zipped), "--output", str(tmp_path / "p.safetensors")]) == 0
    finally:
        del gym.registry["WindowCart-v0"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--disturbance", "gausian:0.1"], "gaussian"),
        (["--disturbance", "mad:x"], "NAME:EPSILON"),
        (["--disturbance", "gaussian:0.3+mad:0.2"], "cannot combine an attack with other disturbances"),
        (["--disturbance", "mad:0.2+gaussian:1e+3"], "cannot combine an attack with other disturbances"),
        (["--strength", "0", "1", "2"], "one number, or two"),
        (["--history", "0"], "history"),
        (["--fine-tune", "100"], "needs a disturbance"),
    ],
)
def test_the_command_refuses(normalized_teacher, cart, tmp_path, options, text, capsys):
    gym.register("WindowCart-v0", entry_point=cart)
    try:
        normalized_teacher.save(tmp_path / "model.zip")
        arguments = [str(tmp_path / "model.zip"), "--env", "WindowCart-v0", "--lipschitz-bound", "4"]
        arguments += ["--vec-normalize", "none", "--output", str(tmp_path / "student.zip")]
        assert main(["distill", *arguments, *options]) != 0
    finally:
        del gym.registry["WindowCart-v0"]
    captured = capsys.readouterr()
    assert text in captured.out + captured.err


def test_another_number_of_frames_than_the_students_own_is_refused(student, cart, tmp_path):
    student.save(tmp_path / "student.zip")
    opened = PPO.load(tmp_path / "student.zip", device="cpu")
    with pytest.raises(ValueError, match="made for windows of 6 observations, as it says itself"):
        lipsrl.evaluate(
            opened, cart, frame_stack=2, n_episodes=1, vec_normalize=student.get_vec_normalize_env()
        )


def test_a_zip_without_its_statistics_is_another_controller(student, tmp_path):
    student.save(tmp_path / "student.zip")
    with pytest.raises(FileNotFoundError, match="made to act behind a VecNormalize"):
        lipsrl.load_agent(tmp_path / "student.zip")
    assert lipsrl.load_agent(tmp_path / "student.zip", vec_normalize="none").vec_normalize is None
    student.get_vec_normalize_env().save(str(tmp_path / "student.vecnormalize.pkl"))
    assert lipsrl.load_agent(tmp_path / "student.zip").vec_normalize is not None


def test_the_teacher_is_not_replaced_by_its_student(normalized_teacher, cart, tmp_path, capsys):
    gym.register("WindowCart-v0", entry_point=cart)
    try:
        normalized_teacher.save(tmp_path / "model.zip")
        file = str(tmp_path / "model.zip")
        arguments = [file, "--env", "WindowCart-v0", "--lipschitz-bound", "4", "--vec-normalize", "none"]
        assert main(["distill", *arguments, "--output", file, "--overwrite"]) != 0
    finally:
        del gym.registry["WindowCart-v0"]
    captured = capsys.readouterr()
    assert "is the teacher itself" in captured.out + captured.err
