"""Networks beyond LipSDP's size, compiled policies, and actuators that do not move."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

import lipsrl
from lipsrl.certificates.bounds import _upper
from lipsrl.certificates.deterministic import _words
from lipsrl.metrics import saturation
from lipsrl.policies import LipschitzSchedule
from lipsrl.tracking import SmoothnessCallback


@pytest.mark.parametrize(
    ("widths", "most"), [([64, 64], 100), pytest.param([512, 512, 512], 1200, marks=pytest.mark.slow)]
)
def test_a_large_network_is_bounded_by_eclipse_fast_and_that_is_said(widths, most, monkeypatch):
    for module in (_upper, _words):
        monkeypatch.setattr(module, "LARGEST_PROBLEM", most)
    large = PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": widths}, seed=0, device="cpu")
    with torch.no_grad():
        large.policy.action_net.weight.mul_(100)
    size = 3 + sum(widths)
    found = lipsrl.certify(large)
    product = lipsrl.certify(large, method="product")
    assert found.method == "eclipse-fast"
    assert found.upper_bound < 0.9 * product.upper_bound
    assert found.upper_bound >= found.lower_bound
    assert any("LipSDP was left out" in text and str(size) in text for text in found.warnings)
    assert lipsrl.certify(large, method="eclipse-fast").upper_bound == pytest.approx(
        found.upper_bound, rel=1e-6
    )
    with pytest.raises(ValueError, match=f"at most {most} inputs and units, this network has {size}"):
        lipsrl.certify(large, method="lipsdp")


def test_a_compiled_policy_is_the_policy(tmp_path):
    model = PPO(
        "LipschitzMlpPolicy", "Pendulum-v1", policy_kwargs={"lipschitz_bound": 9.0}, seed=0, device="cpu",
        n_steps=64, batch_size=64, n_epochs=1,
    )  # fmt: skip
    plain = lipsrl.certify(model)
    model.policy = torch.compile(model.policy, backend="eager")
    found = lipsrl.certify(model)
    assert (found.upper_bound, found.policy) == (plain.upper_bound, plain.policy)
    lipsrl.export(model, tmp_path / "policy.safetensors")
    observation = np.ones(3, np.float32)
    exported = lipsrl.load_policy(tmp_path / "policy.safetensors")
    np.testing.assert_allclose(
        exported(observation), model.predict(observation, deterministic=True)[0], atol=1e-5
    )
    model.learn(64, callback=[SmoothnessCallback(every=1), LipschitzSchedule("linear", end=3.0)])
    assert lipsrl.certify(model).upper_bound <= 3
    found = lipsrl.evaluate(model, "Pendulum-v1", n_episodes=1, strengths=[0], disturbances=["gaussian"])
    assert len(found.frame) == 1


class Fixed(gym.Env):
    """The second actuator has no range."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(np.array([-1, 0.5], np.float32), np.array([1, 0.5], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(2, np.float32), 1.0, self.left == 0, False, {}


def test_an_actuator_without_range_does_not_count():
    assert saturation([[0.0, 0.5], [1.0, 0.5]], [-1, 0.5], [1, 0.5]) == 0.5
    assert np.isnan(saturation([0.5], 0.5, 0.5))
    model = PPO("MlpPolicy", Fixed(), device="cpu", seed=0)
    found = lipsrl.evaluate(model, Fixed, n_episodes=2, strengths=[0], disturbances=["gaussian"])
    assert found.frame["saturation"].tolist() == [0.0, 0.0]


class Both(gym.Env):
    observation_space = spaces.Dict({"a": spaces.Box(-1, 1, (2,), np.float32)})
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, True, False, {}


def test_a_frame_stack_of_a_dict_is_refused_by_name():
    model = PPO(
        "MultiInputPolicy", VecFrameStack(DummyVecEnv([Both]), 2), device="cpu", n_steps=8, batch_size=8
    )
    with pytest.raises(ValueError, match="Frame stacks of Dict observations are not supported"):
        lipsrl.certify(model)
    with pytest.raises(ValueError, match="Frame stacks of Dict observations are not supported"):
        lipsrl.evaluate(model, Both, n_episodes=1, strengths=[0], disturbances=["gaussian"])
