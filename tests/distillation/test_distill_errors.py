"""What cannot be distilled is refused before anything is run, with the argument, what came and what is accepted."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

import lipsrl
from lipsrl.disturbances import GaussianNoise


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lipschitz_bound": 0.0}, "lipschitz_bound must be a finite number > 0, received 0.0"),
        ({"lipschitz_bound": float("nan")}, "lipschitz_bound must be a finite number > 0"),
        ({"lipschitz_bound": "6"}, "lipschitz_bound must be a finite number > 0, received '6'"),
        ({"layer": "sandwhich"}, "layer='sandwhich' is not known. Did you mean 'sandwich'?"),
        ({"net_arch": {"pi": [8]}}, "net_arch must be the widths of the student's actor"),
        ({"net_arch": [8, 0]}, "each width in net_arch must be an integer > 0, received 0"),
        ({"budget": "evenly"}, "budget='evenly' is not known. Did you mean 'even'?"),
        ({"rounds": 0}, "rounds must be an integer > 0"),
        ({"steps": 2.5}, "steps must be an integer > 0"),
        ({"rounds": 5, "steps": 5}, "steps must be more than rounds=5, received 5"),
        ({"seed": -1}, "seed must be an integer >= 0"),
        ({"disturbance": GaussianNoise([0.1, 0.1, 0.1])}, "has 3 values, one per observation dimension"),
    ],
)
def test_arguments_out_of_range(teacher, cart, arguments, message):
    with pytest.raises(ValueError) as error:
        lipsrl.distill(teacher, cart, **{"lipschitz_bound": 4.0, **arguments})
    assert message in str(error.value)


def test_a_disturbance_must_be_one(teacher, cart):
    with pytest.raises(TypeError, match=r"disturbance must be a Disturbance or None, received 0\.2"):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0, disturbance=0.2)


def test_the_teacher_must_be_a_model(cart):
    with pytest.raises(
        TypeError, match=r"model must be a trained Stable-Baselines3 model, received str.*PPO\.load"
    ):
        lipsrl.distill("teacher.zip", cart, lipschitz_bound=4.0)


def test_algorithms_without_a_lipschitz_policy(cart):
    teacher = RecurrentPPO("MlpLstmPolicy", cart(), device="cpu", n_steps=8, batch_size=8)
    with pytest.raises(ValueError, match=r"model is a RecurrentPPO, for which there is no .*PPO, A2C, SAC"):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0)


def test_a_policy_without_an_actor(make_teacher, cart):
    class Rule(BasePolicy):
        def _predict(self, observation, deterministic=False):
            return -observation

    teacher = make_teacher(PPO)
    teacher.policy = Rule(teacher.observation_space, teacher.action_space)
    with pytest.raises(ValueError, match="with a Rule, which has no differentiable actor"):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0)


def test_a_promise_on_the_standard_deviation_that_would_be_lost(cart):
    bounds = {"lipschitz_bound": 8.0, "log_std_lipschitz_bound": 1.0}
    teacher = SAC("LipschitzMlpPolicy", cart(), policy_kwargs=bounds, device="cpu", buffer_size=10)
    with pytest.raises(
        ValueError, match="log_std_lipschitz_bound, a promise that a student cannot take over"
    ):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0)


def test_a_frame_stack_that_is_not_named(cart, tmp_path):
    venv = VecFrameStack(make_vec_env(cart, 1), 2)
    PPO("MlpPolicy", venv, n_steps=8, batch_size=8, device="cpu").save(tmp_path / "model.zip")
    teacher = PPO.load(tmp_path / "model.zip", device="cpu")
    with pytest.raises(ValueError, match="give frame_stack=2"):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0)
    with pytest.raises(ValueError, match="They were compared behind frame_stack=3"):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0, frame_stack=3)
    with pytest.raises(ValueError, match="frame_stack must be an integer > 0"):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0, frame_stack=0)


def test_a_features_extractor(cart):
    class Doubled(FlattenExtractor):
        pass

    options = {"features_extractor_class": Doubled}
    teacher = PPO("MlpPolicy", cart(), policy_kwargs=options, device="cpu", n_steps=8, batch_size=8)
    with pytest.raises(
        ValueError, match="has the features extractor Doubled, which a student cannot take over"
    ):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0)


def test_an_activation_that_is_not_known(cart):
    class Gate(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.gain * x * x

    teacher = PPO("MlpPolicy", cart(), policy_kwargs={"activation_fn": Gate}, device="cpu")
    with pytest.raises(ValueError, match="Gate"):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0)


def test_an_activation_that_the_layer_does_not_cover(cart):
    teacher = PPO("MlpPolicy", cart(), policy_kwargs={"activation_fn": torch.nn.SiLU}, device="cpu")
    with pytest.raises(ValueError, match="layer='sandwich' cannot be used with activation='silu'"):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0)


def test_another_environment(teacher):
    with pytest.raises(ValueError, match="the teacher was trained on observations"):
        lipsrl.distill(teacher, "Pendulum-v1", lipschitz_bound=4.0)
    with pytest.raises(ValueError, match="env='Pendulum-v9' is not a registered environment"):
        lipsrl.distill(teacher, "Pendulum-v9", lipschitz_bound=4.0)
    with pytest.raises(TypeError, match="env must be an id"):
        lipsrl.distill(teacher, teacher.get_env(), lipschitz_bound=4.0)


def test_other_actions(teacher, cart):
    class Wide(gym.ActionWrapper):
        action_space = spaces.Box(-9.0, 9.0, (2,), np.float32)

    with pytest.raises(ValueError, match="the teacher was trained on actions"):
        lipsrl.distill(teacher, lambda: Wide(cart()), lipschitz_bound=4.0)


def test_the_normalisation_of_another_task(teacher, cart, tmp_path):
    other = VecNormalize(make_vec_env("Pendulum-v1", 1))
    with pytest.raises(ValueError, match="belongs to another task"):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0, vec_normalize=other)
    with pytest.raises(FileNotFoundError, match="is not a file"):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0, vec_normalize=tmp_path / "none.pkl")
