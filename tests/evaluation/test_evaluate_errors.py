"""Bad input gets an error that names it; a value that is not finite names its episode."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import NonFiniteError, evaluate, random_return, rollout_trace


def rest(observations):
    return np.zeros((len(observations), 1))


class Pixels(gym.Env):
    observation_space = spaces.Box(0, 255, (4, 4), np.uint8)
    action_space = spaces.Discrete(2)


class Pairs(gym.Env):
    observation_space = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2)))
    action_space = spaces.Discrete(2)


class TwoHands(gym.Env):
    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2)))


class Integers(gym.Env):
    observation_space = spaces.Box(0, 255, (4,), np.int64)
    action_space = spaces.Discrete(2)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"models": {}}, ValueError, "at least one model"),
        ({"models": {3: rest}}, ValueError, "received the key 3"),
        ({"models": {("a", "zero"): rest}}, ValueError, "training seed"),
        ({"models": "ppo"}, TypeError, "Stable-Baselines3 model, or a callable"),
        ({"models": lambda o: o}, ValueError, r"actions of shape \(64, 1\).*received shape \(64, 3\)"),
        ({"env": "Pendulumm-v1"}, ValueError, "env='Pendulumm-v1'.*Pendulum"),
        ({"env": "no_such_module:Pendulum-v1"}, ValueError, "no_such_module"),
        ({"env": 3}, TypeError, "env must be an id"),
        ({"env": lambda: None}, TypeError, "factory must return a gymnasium.Env"),
        ({"env": Pixels}, ValueError, "disturbances act on vectors"),
        ({"env": Pairs, "disturbances": None, "strengths": 0.0}, ValueError, "or a Dict of those"),
        ({"env": TwoHands}, ValueError, r"the actions of .* must be a Box.*received Tuple"),
        ({"env": Integers()}, ValueError, "floating-point observations"),
        ({"disturbances": []}, ValueError, "at least one"),
        ({"disturbances": "gausian"}, ValueError, "Did you mean 'gaussian'"),
        ({"disturbances": ["gaussian:1", "gaussian:1"]}, ValueError, "a name of its own"),
        ({"disturbances": 0.1}, TypeError, "Disturbance"),
        ({"disturbances": [GaussianNoise(1), GaussianNoise(2)]}, ValueError, "a name of its own"),
        ({"disturbances": {"x": 0.1}}, TypeError, "received 0.1 under the name 'x'"),
        ({"disturbances": GaussianNoise([1.0, 1.0])}, ValueError, "2 values, one per observation dimension"),
        ({"strengths": ()}, ValueError, "at least one"),
        ({"strengths": (0.1, -0.1)}, ValueError, "strengths must be finite numbers >= 0"),
        ({"strengths": (np.nan,)}, ValueError, "strengths must be finite"),
        ({"strengths": (0.1, 0.1)}, ValueError, "all differ"),
        ({"disturbances": None}, ValueError, "disturbances is None"),
        ({"n_episodes": 0}, ValueError, "n_episodes"),
        ({"n_envs": 0}, ValueError, "n_envs"),
        ({"n_workers": 0}, ValueError, "n_workers"),
        ({"env": Integers(), "n_workers": 2}, ValueError, "cannot be rebuilt"),
        ({"on_nonfinite_action": "ignore"}, ValueError, "Accepted: 'raise', 'record'"),
        ({"frame_stack": {"other": 4}}, ValueError, "frame_stack has the key 'other'"),
        ({"frame_stack": 0}, ValueError, "frame_stack"),
        ({"seed": -1}, ValueError, "seed"),
        ({"floor": np.inf}, ValueError, "floor"),
        ({"sensitivity_std": [1.0, 1.0]}, ValueError, r"sensitivity_std.*\(3,\)"),
        ({"sensitivity_std": 0.0}, ValueError, "sensitivity_std"),
        ({"vec_normalize": "nowhere.pkl"}, FileNotFoundError, "nowhere.pkl"),
        ({"vec_normalize": 3}, TypeError, "vec_normalize must be"),
        ({"vec_normalize": {"other": None}}, ValueError, "key 'other', which is no model's name"),
    ],
)
def test_bad_arguments(changes, error, match):
    arguments = {
        "models": rest,
        "env": "Pendulum-v1",
        "disturbances": GaussianNoise(1.0),
        "strengths": (0.1,),
        "n_episodes": 1,
    } | changes
    with pytest.raises(error, match=match):
        evaluate(arguments.pop("models"), arguments.pop("env"), **arguments)


def test_two_models_of_one_identity(ppo):
    with pytest.raises(ValueError, match="two of agent 'a' with training seed 0"):
        evaluate({"a": ppo, ("a", 0): ppo}, "Pendulum-v1")


def test_spaces_that_do_not_fit(ppo, dqn):
    with pytest.raises(ValueError, match=r"'DQN'.*trained on observations.*\(4,\)"):
        evaluate(dqn, "Pendulum-v1")
    with pytest.raises(ValueError, match=r"'x'.*trained on observations"):
        evaluate({"x": ppo}, "CartPole-v1")


def test_vec_normalize_of_another_task(tmp_path):
    other = VecNormalize(make_vec_env("CartPole-v1", 1))
    with pytest.raises(ValueError, match=r"shape \(4,\).*another task"):
        evaluate(rest, "Pendulum-v1", vec_normalize=other)
    (tmp_path / "x.pkl").write_bytes(b"not a pickle")
    with pytest.raises(ValueError, match="holds no VecNormalize"):
        evaluate(rest, "Pendulum-v1", vec_normalize=tmp_path / "x.pkl")


def test_vectorised_environments_are_refused():
    with pytest.raises(TypeError, match="VecEnv is not needed"):
        evaluate(rest, make_vec_env("Pendulum-v1", 1))


class TestNotFinite:
    def test_policy_of_nan_names_model_disturbance_strength_and_episode(self, ppo):
        calls = []

        def fails_late(observations):
            calls.append(None)
            return np.full((len(observations), 1), 0.0 if len(calls) < 300 else np.nan)

        with pytest.raises(
            NonFiniteError,
            match=r"action of model 'bad' \(training seed 4\).*step \d+ of episode \d.*Gauss.*strength 0.5",
        ) as caught:
            evaluate(
                {"good": ppo, ("bad", 4): fails_late},
                "Pendulum-v1",
                disturbances=GaussianNoise(1.0),
                strengths=(0.5,),
                n_episodes=4,
                n_envs=2,
            )
        kept = caught.value.evaluation
        assert kept.frame.groupby("agent").size().to_dict() == {"good": 4, "bad": 2}

    def test_sb3_policy_with_nan_weights(self, ppo):
        broken = copy.deepcopy(ppo.policy)
        with torch.no_grad():
            broken.action_net.bias.fill_(np.nan)
        with pytest.raises(NonFiniteError, match=r"an action of model 'x'.*no disturbance") as caught:
            evaluate({"x": broken}, "Pendulum-v1", n_episodes=2)
        assert caught.value.evaluation is None

    def test_trace(self):
        with pytest.raises(NonFiniteError, match="an action of model"):
            rollout_trace(lambda o: o[:, :1] * np.nan, "Pendulum-v1")


def test_discrete_policies_with_nan_weights_are_refused(dqn):
    """An argmax over nan is an action like any other."""
    broken = copy.deepcopy(dqn.policy)
    with torch.no_grad():
        broken.q_net.q_net[0].bias.fill_(np.nan)
    with pytest.raises(ValueError, match=r"weights that are not finite \(q_net"):
        evaluate({"x": broken}, "CartPole-v1", n_episodes=1)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"disturbance": "gausian"}, ValueError, "Did you mean 'gaussian'"),
        ({"disturbance": 0.1}, TypeError, "Disturbance"),
        ({"disturbance": GaussianNoise([1.0, 1.0])}, ValueError, "2 values, one per observation dimension"),
        ({"strength": -1.0}, ValueError, "strength must be one finite number >= 0"),
        ({"episode": -1}, ValueError, "episode must be an integer >= 0"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0"),
    ],
)
def test_bad_arguments_of_a_trace(changes, error, match):
    with pytest.raises(error, match=match):
        rollout_trace(rest, "Pendulum-v1", **changes)


def test_a_trace_takes_the_text_of_a_disturbance():
    shown = [
        rollout_trace(rest, "Pendulum-v1", disturbance=disturbance)["disturbed_observations"]
        for disturbance in ("gaussian:0.1", GaussianNoise(0.1))
    ]
    np.testing.assert_array_equal(*shown)


def test_a_floor_of_no_episodes():
    with pytest.raises(ValueError, match="n_episodes"):
        random_return("Pendulum-v1", n_episodes=0)
