"""Whatever SB3 and sb3-contrib can train is evaluated as they would run it."""

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked
from stable_baselines3 import A2C, DDPG, DQN, PPO, TD3
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from lipsrl.actors import actor_network
from lipsrl.attacks import MADAttack
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import evaluate, random_return, rollout_trace


def small():
    """A fresh one each time: off-policy algorithms write into it."""
    return {"net_arch": [16]}


class Scene(gym.Env):
    """Follow the light: the observation says at which of three places it will be next."""

    action_space = spaces.Discrete(3)
    spaces_by_kind: ClassVar = {
        "image": spaces.Box(0, 255, (36, 36, 1), np.uint8),
        "dict": spaces.Dict(
            {"image": spaces.Box(0, 255, (36, 36, 1), np.uint8), "clock": spaces.Box(0, 1, (2,), np.float32)}
        ),
        "discrete": spaces.Discrete(3),
        "multibinary": spaces.MultiBinary(3),
        "matrix": spaces.Box(-1, 1, (3, 2), np.float32),
    }

    def __init__(self, kind):
        self.kind, self.observation_space = kind, self.spaces_by_kind[kind]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.total = int(self.np_random.integers(5, 12))
        return self._observe(), {}

    def step(self, action):
        reward = float(action == self.light) + 0.1 * float(action)
        self.left -= 1
        return self._observe(), reward, self.left == 0, False, {}

    def action_masks(self):
        return np.arange(3) != self.light

    def _observe(self):
        self.light = int(self.np_random.integers(3))
        image = np.zeros((36, 36, 1), np.uint8)
        image[12 * self.light : 12 * self.light + 12] = 200
        return {
            "image": image,
            "dict": {"image": image, "clock": np.array([self.left / 12, 0.0], np.float32)},
            "discrete": self.light,
            "multibinary": np.eye(3, dtype=np.int8)[self.light],
            "matrix": np.eye(3, dtype=np.float32)[:, :2] * (self.light - 1),
        }[self.kind]


def returns_of_sb3(model, env, frame, evaluator=evaluate_policy, wrap=lambda venv: venv):
    returns = []
    for seed in frame["env_seed"]:
        venv = wrap(DummyVecEnv([lambda: Monitor(env())]))
        venv.seed(seed)
        returns += evaluator(model, venv, n_eval_episodes=1, return_episode_rewards=True)[0]
    return returns


def louder(model, factor=30.0):
    """Untrained policies hardly act."""
    with torch.no_grad():
        for parameter in model.policy.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor ** (1 / 3))
    return model


@pytest.mark.parametrize("kind", list(Scene.spaces_by_kind))
def test_observations_of_every_kind(kind):
    policy = {"image": "CnnPolicy", "dict": "MultiInputPolicy"}.get(kind, "MlpPolicy")
    model = louder(PPO(policy, Scene(kind), seed=1, device="cpu"))
    frame = evaluate(model, lambda: Scene(kind), n_episodes=5, n_envs=3).frame
    assert frame["return"].tolist() == pytest.approx(returns_of_sb3(model, lambda: Scene(kind), frame))
    assert frame["return"].nunique() > 1
    assert frame["action_sensitivity"].isna().all()
    again = evaluate(model, Scene(kind), n_episodes=5).frame  # the given environment, an episode at a time
    assert again.equals(frame)
    assert frame.equals(evaluate(model, lambda: Scene(kind), n_episodes=5, n_workers=2).frame)
    with pytest.raises(ValueError, match="disturbances act on vectors"):
        evaluate(model, Scene(kind), disturbances=GaussianNoise(1.0), strengths=1)
    assert rollout_trace(model, Scene(kind))["observations"].shape == (frame["length"][0], 0)


def test_callables_get_dicts_as_they_are():
    def follow(observations):
        return observations["image"][:, ::12, 0, 0].argmax(axis=1)

    frame = evaluate(follow, lambda: Scene("dict"), n_episodes=4).frame
    assert (frame["return"] >= frame["length"]).all()
    assert random_return(lambda: Scene("dict"), n_episodes=4) < frame["return"].min()


@pytest.mark.parametrize(
    ("algorithm", "env_id", "options"),
    [
        (A2C, "Pendulum-v1", {"policy_kwargs": {"use_expln": True}, "use_sde": True}),
        (TD3, "Pendulum-v1", {"buffer_size": 10}),
        (DDPG, "Pendulum-v1", {"buffer_size": 10}),
        (TQC, "Pendulum-v1", {"buffer_size": 10}),
        (CrossQ, "Pendulum-v1", {"buffer_size": 10}),
        (TRPO, "Pendulum-v1", {}),
        (ARS, "Pendulum-v1", {}),
        (QRDQN, "CartPole-v1", {"buffer_size": 10}),
        (RecurrentPPO, "Pendulum-v1", {}),
    ],
)
def test_every_algorithm(algorithm, env_id, options):
    policy = "MlpLstmPolicy" if algorithm is RecurrentPPO else "MlpPolicy"
    if algorithm not in (A2C, ARS):
        options = options | {"policy_kwargs": small()}
    model = louder(algorithm(policy, env_id, seed=1, device="cpu", **options))
    frame = evaluate(model, env_id, n_episodes=3, n_envs=2).frame
    expected = returns_of_sb3(model, lambda: gym.make(env_id), frame)
    assert frame["return"].tolist() == pytest.approx(expected, rel=2e-3)
    assert frame["action_sensitivity"].isna().all() == (algorithm in (QRDQN, RecurrentPPO))


def test_a_recurrent_policy_remembers_its_own_episode_only():
    """Episodes of many lengths in few slots, and a hidden state that would carry over if it were let."""
    model = louder(RecurrentPPO("MlpLstmPolicy", Scene("matrix"), seed=1, device="cpu"), 300.0)
    frames = [evaluate(model, lambda: Scene("matrix"), n_episodes=9, n_envs=n).frame for n in (1, 4, 70)]
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])
    pendulum = RecurrentPPO("MlpLstmPolicy", "Pendulum-v1", device="cpu", policy_kwargs=small())
    with pytest.raises(ValueError, match="depends on more than the observation of the moment"):
        evaluate(pendulum, "Pendulum-v1", disturbances=MADAttack(None, 1.0), strengths=1)


def test_action_masks_are_asked_for():
    model = louder(MaskablePPO("MlpPolicy", Scene("matrix"), seed=1, device="cpu"))
    frame = evaluate(model, lambda: Scene("matrix"), n_episodes=6, n_envs=4).frame
    expected = returns_of_sb3(model, lambda: Scene("matrix"), frame, evaluate_masked)
    assert frame["return"].tolist() == pytest.approx(expected)
    # the light is never followed: only the tenths are earned
    assert (frame["return"] < 0.2 * frame["length"] + 1e-9).all()


class TestFrameStack:
    @pytest.mark.parametrize("kind", ["image", "matrix"])
    def test_is_that_of_sb3(self, kind):
        venv = VecFrameStack(DummyVecEnv([lambda: Scene(kind)]), 3)
        policy = "CnnPolicy" if kind == "image" else "MlpPolicy"
        model = louder(PPO(policy, venv, seed=1, device="cpu"))
        frame = evaluate(model, lambda: Scene(kind), n_episodes=6, n_envs=4).frame
        expected = returns_of_sb3(
            model, lambda: Scene(kind), frame, wrap=lambda inner: VecFrameStack(inner, 3)
        )
        assert frame["return"].tolist() == pytest.approx(expected)
        detached = evaluate({"PPO": model.policy}, lambda: Scene(kind), n_episodes=6, frame_stack=3).frame
        assert detached["return"].equals(frame["return"])
        with pytest.raises(ValueError, match="give frame_stack=3"):
            evaluate(model.policy, lambda: Scene(kind))

    def test_normalisation_before_or_after(self):
        def before(venv):
            return VecFrameStack(VecNormalize(venv, training=False, norm_reward=False), 2)

        def after(venv):
            return VecNormalize(VecFrameStack(venv, 2), training=False, norm_reward=False)

        for wrap in (before, after):
            venv = wrap(DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
            statistics = venv if isinstance(venv, VecNormalize) else venv.venv
            statistics.obs_rms.mean[:] = np.linspace(-0.5, 0.5, len(statistics.obs_rms.mean))
            model = louder(PPO("MlpPolicy", venv, seed=1, device="cpu"))

            def wrapped(inner, wrap=wrap, statistics=statistics):
                again = wrap(inner)
                (again if isinstance(again, VecNormalize) else again.venv).obs_rms = statistics.obs_rms
                return again

            frame = evaluate(model, "Pendulum-v1", n_episodes=2, vec_normalize=statistics).frame
            expected = returns_of_sb3(model, lambda: gym.make("Pendulum-v1"), frame, wrap=wrapped)
            assert frame["return"].tolist() == pytest.approx(expected, rel=2e-3)

    def test_noise_is_drawn_once_for_each_observation(self):
        """And not anew each time that the observation is seen again in the stack."""
        seen = []

        class Policy:
            def predict(self, observations, deterministic):
                seen.append(observations[0].copy())
                return np.zeros((len(observations), 1)), None

        trace = rollout_trace(Policy(), "Pendulum-v1", disturbance=GaussianNoise(1.0), frame_stack=3)
        noisy = trace["disturbed_observations"]
        seen = seen[3:]  # it has been tried out, whether it remembers
        np.testing.assert_array_equal(seen[0], np.concatenate([np.zeros(6), noisy[0]]))
        np.testing.assert_array_equal(seen[7], np.concatenate([noisy[5], noisy[6], noisy[7]]))


def test_models_that_only_predict():
    """SB3's calling convention is enough."""

    class Predicts:
        def predict(self, observations, deterministic):
            assert deterministic
            return 0.1 * observations[:, 1:2], None

    given = evaluate(Predicts(), "Pendulum-v1", n_episodes=2).frame
    called = evaluate({"policy": lambda o: 0.1 * o[:, 1:2]}, "Pendulum-v1", n_episodes=2).frame
    assert given.equals(called)


def test_policies_with_a_predict_of_their_own():
    model = DQN("MlpPolicy", "CartPole-v1", seed=0, device="cpu", buffer_size=10, policy_kwargs=small())

    class Own(type(model.policy)):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return (observation[:, 2] > 0).astype(np.int64), state

    model.policy.__class__ = Own
    frame = evaluate({"policy": model}, "CartPole-v1", n_episodes=3).frame
    called = evaluate({"policy": lambda o: (o[:, 2] > 0).astype(np.int64)}, "CartPole-v1", n_episodes=3).frame
    assert frame.drop(columns="seed").equals(called.drop(columns="seed"))


def test_a_torch_module_is_given_tensors(ppo):
    """What `actor_network` gives acts as the model does."""
    network = actor_network(ppo).train()
    options = {"disturbances": GaussianNoise(0.1), "strengths": 1.0, "n_episodes": 2}
    plain = evaluate({("a", 0): network}, "Pendulum-v1", **options).frame
    assert not network.training
    model = evaluate({("a", 0): ppo}, "Pendulum-v1", **options).frame
    pd.testing.assert_frame_equal(plain, model, rtol=1e-4)
