"""Every actor that has a plain form acts on NumPy and in onnxruntime as ``predict`` does."""

import numpy as np
import onnxruntime
import pytest
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from torch import nn

import lipsrl
from lipsrl.actors import actor_parts
from lipsrl.deployment import NumpyPolicy
from lipsrl.deployment._describe import describe_action, describe_network, describe_observation
from lipsrl.deployment._onnx import write_onnx
from tests.deployment.test_observations import row_of, samples

IMAGE = spaces.Box(0, 255, (36, 40, 3), np.uint8)
VECTOR = spaces.Box(-3.0, 3.0, (4,), np.float32)
DICT = spaces.Dict(
    {
        "camera": IMAGE,
        "gear": spaces.Discrete(4),
        "lights": spaces.MultiBinary(2),
        "mode": spaces.MultiDiscrete([2, 3]),
        "speed": VECTOR,
    }
)
TORQUE = spaces.Box(np.array([-2.0, -1.0], np.float32), np.array([2.0, 5.0], np.float32))
BUTTON = spaces.Discrete(3)
ON_POLICY = {"n_steps": 8, "batch_size": 8}
LIPSCHITZ = {"policy_kwargs": {"lipschitz_bound": 4.0}}

CASES = {
    "ppo-image": (PPO, "CnnPolicy", IMAGE, BUTTON, ON_POLICY),
    "ppo-image-lipschitz": (PPO, "LipschitzCnnPolicy", IMAGE, TORQUE, ON_POLICY | LIPSCHITZ),
    "sac-image": (SAC, "CnnPolicy", IMAGE, TORQUE, {}),
    "td3-image": (TD3, "CnnPolicy", IMAGE, TORQUE, {"policy_kwargs": {"net_arch": [32]}}),
    "dqn-image": (DQN, "CnnPolicy", IMAGE, BUTTON, {}),
    "a2c-dict": (A2C, "MultiInputPolicy", DICT, TORQUE, {}),
    "ppo-dict-lipschitz": (PPO, "LipschitzMultiInputPolicy", DICT, TORQUE, ON_POLICY | LIPSCHITZ),
    "sac-dict": (SAC, "MultiInputPolicy", DICT, TORQUE, {}),
    "dqn-dict": (DQN, "MultiInputPolicy", DICT, BUTTON, {"seed": 4}),
    "ppo-discrete": (PPO, "MlpPolicy", spaces.Discrete(6), TORQUE, ON_POLICY),
    "ppo-multi-discrete": (PPO, "MlpPolicy", spaces.MultiDiscrete([2, 5]), TORQUE, ON_POLICY),
    "ppo-multi-binary": (PPO, "MlpPolicy", spaces.MultiBinary(5), TORQUE, ON_POLICY),
    "ddpg": (DDPG, "MlpPolicy", VECTOR, TORQUE, {}),
    "td3-lipschitz": (TD3, "LipschitzMlpPolicy", VECTOR, TORQUE, LIPSCHITZ),
    "dqn-lipschitz": (DQN, "LipschitzMlpPolicy", VECTOR, BUTTON, LIPSCHITZ),
    "trpo": (TRPO, "MlpPolicy", VECTOR, TORQUE, ON_POLICY),
    "maskable": (MaskablePPO, "MlpPolicy", VECTOR, BUTTON, ON_POLICY),
    "maskable-bits": (MaskablePPO, "MlpPolicy", VECTOR, spaces.MultiBinary(3), ON_POLICY),
    "tqc": (TQC, "MlpPolicy", VECTOR, TORQUE, {}),
    "qrdqn": (QRDQN, "MlpPolicy", VECTOR, BUTTON, {}),
    "crossq-lipschitz": (CrossQ, "LipschitzMlpPolicy", VECTOR, TORQUE, LIPSCHITZ),
}


def model_of(name, spaces_env):
    algorithm, policy, observation_space, action_space, options = CASES[name]
    if hasattr(algorithm, "_store_transition"):
        options = {"buffer_size": 10, **options}
    return algorithm(
        policy, spaces_env(observation_space, action_space), device="cpu", **{"seed": 0, **options}
    )


def numpy_policy(model):
    """As :func:`lipsrl.export` makes it, without the certificate, which takes long for images."""
    parts = actor_parts(model)
    layers, tensors = describe_network(parts.network)
    observation, _ = describe_observation(model.observation_space, None)
    action, limits = describe_action(model.action_space, parts)
    description = {
        "algorithm": type(model).__name__, "observation": observation, "layers": layers, "action": action,
        "certificate": {}, "versions": {"lipsrl": "0"},
    }  # fmt: skip
    return NumpyPolicy(description, tensors | limits)


@pytest.mark.parametrize("name", CASES)
def test_acts_as_predict_does(name, spaces_env, tmp_path):
    model = model_of(name, spaces_env)
    policy, batch = numpy_policy(model), samples(model.observation_space)
    expected = model.predict(batch, deterministic=True)[0]
    write_onnx(tmp_path / "p.onnx", policy.description, policy._tensors)
    inputs = (
        {f"observation.{k}": v for k, v in batch.items()}
        if isinstance(batch, dict)
        else {"observation": batch}
    )
    session = onnxruntime.InferenceSession(tmp_path / "p.onnx", providers=["CPUExecutionProvider"])
    alone = np.stack([policy(row_of(batch, i)) for i in range(len(expected))])
    scale = 1.0
    if isinstance(model.action_space, spaces.Box):
        assert np.ptp(expected, axis=0).min() > 1e-4
        scale = (model.action_space.high - model.action_space.low) / 2
    else:
        assert len(np.unique(expected, axis=0)) > 1
    for action in (policy(batch), alone, session.run(None, inputs)[0]):
        assert (action.shape, action.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(action / scale, expected / scale, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["ppo-image", "a2c-dict"])
def test_sb3_evaluates_it_on_images_with_their_channels_last(name, spaces_env):
    model = model_of(name, spaces_env)
    _, _, observation_space, action_space, _ = CASES[name]

    class Scored(spaces_env):
        def reset(self, *, seed=None, options=None):
            if seed is not None:
                self.observation_space.seed(seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), float(np.sum(action)), True, False, {}

    def mean_return(agent):
        env = Monitor(Scored(observation_space, action_space))
        env.reset(seed=7)
        return evaluate_policy(agent, env, n_eval_episodes=20)[0]

    assert mean_return(numpy_policy(model)) == pytest.approx(mean_return(model), abs=1e-5)


class Squared(nn.Module):
    def forward(self, x):
        return x * x


def test_an_unknown_layer_is_named(spaces_env, tmp_path):
    model = model_of("ddpg", spaces_env)
    model.policy.actor.mu.insert(1, Squared())
    with pytest.raises(ValueError, match="Squared"):
        lipsrl.export(model, tmp_path / "p.safetensors")
    assert not list(tmp_path.iterdir())
