"""Windows that hold past actions (rl-zoo's HistoryWrapper): errors that come back."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from rl_zoo3.wrappers import HistoryWrapper
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from lipsrl import certify
from lipsrl.actors.normalization import observation_chain
from lipsrl.actors.pipeline import Pipeline
from tests.certificates.test_window import Still, shaken

FEW = {"n_starts": 32}
HORIZON, SIZE, ACTIONS = 3, 2, 2


def model_of(
    *, scale: float, normalised: bool = False, wrap=lambda env: env, stack: int = 1, **kwargs
) -> PPO:
    """A policy that sees three observations and three actions, the latter ``scale`` times as much as at first."""
    venv = DummyVecEnv([lambda: Monitor(wrap(HistoryWrapper(Still(SIZE), HORIZON)))])
    if normalised:
        venv = VecNormalize(venv, clip_obs=0.5, training=False)
        venv.obs_rms.var = np.linspace(0.3, 2.0, venv.observation_space.shape[0])
    if stack > 1:
        venv = VecFrameStack(venv, stack)
    model = PPO("MlpPolicy", venv, policy_kwargs=kwargs or {"net_arch": [12]}, seed=0, device="cpu")
    shaken(model, 0, 0.2)
    for module in model.policy.modules():
        if isinstance(module, torch.nn.Linear) and module.in_features == HORIZON * (SIZE + ACTIONS):
            module.weight.data[:, HORIZON * SIZE :] *= scale
    return model


def rollout(pipeline: Pipeline, observations: torch.Tensor) -> torch.Tensor:
    """(n, T, act) of the observations (n, T, d), each action handed back."""
    n, steps, _ = observations.shape
    seen = torch.zeros(n, HORIZON, SIZE, dtype=torch.float64)
    done = torch.zeros(n, HORIZON, ACTIONS, dtype=torch.float64)
    actions = []
    for t in range(steps):
        seen = torch.cat([seen[:, 1:], observations[:, t : t + 1]], dim=1)
        action = pipeline.act(torch.cat([seen.flatten(1), done.flatten(1)], dim=1))
        done = torch.cat([done[:, 1:], action.unsqueeze(1)], dim=1)
        actions.append(action)
    return torch.stack(actions, dim=1)


def test_the_wrapper_has_the_layout_that_is_assumed():
    model = model_of(scale=0.1)
    pipeline = Pipeline.of(model, observation_chain(model))
    env = model.get_env()
    observation = env.reset()
    seen = [observation[0, (HORIZON - 1) * SIZE : HORIZON * SIZE]]
    actions = []
    for _ in range(6):
        action = model.predict(observation, deterministic=True)[0]
        actions.append(action[0])
        observation = env.step(action)[0]
        seen.append(observation[0, (HORIZON - 1) * SIZE : HORIZON * SIZE])
    own = rollout(pipeline, torch.as_tensor(np.array(seen[:-1]), dtype=torch.float64).unsqueeze(0))
    assert np.allclose(own[0].numpy(), np.array(actions), atol=1e-5)


@pytest.mark.parametrize("normalised", [False, True])
def test_errors_that_die_out(normalised):
    model = model_of(scale=0.05, normalised=normalised)
    certificate = certify(model, **FEW)
    window, pipeline = certificate.window, Pipeline.of(model, observation_chain(model))
    assert window.frames == HORIZON
    assert len(window.per_sensor) == SIZE
    assert 0 < window.past_actions < 1
    assert window.whole <= certificate.upper_bound
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    found = {"signal": 0.0, "bias": 0.0}
    for size in (1e-3, 0.1, 1.0):
        clean = draw(2048, 20, SIZE)
        for name, move in (
            ("signal", draw(2048, 20, SIZE)),
            ("bias", draw(2048, 1, SIZE).expand(-1, 20, -1)),
        ):
            change = rollout(pipeline, clean + size * move) - rollout(pipeline, clean)
            if name == "signal":
                gain = change.flatten(1).norm(dim=1) / (size * move).flatten(1).norm(dim=1)
            else:
                gain = change.norm(dim=2).amax(dim=1) / (size * move[:, 0]).norm(dim=1)
            found[name] = max(found[name], float(gain.max()))
            assert float(gain.max()) <= getattr(window, name)
    assert found["signal"] > 0.2 * window.signal or normalised


def test_a_linear_loop_exactly():
    """a_t = o_t + a_{t-1}/2: a constant error doubles, and so does the slowest signal."""
    model = model_of(scale=1.0, net_arch=[])
    weight = torch.zeros(ACTIONS, HORIZON * (SIZE + ACTIONS))
    weight[:, (HORIZON - 1) * SIZE : HORIZON * SIZE] = torch.eye(SIZE)
    weight[:, -ACTIONS:] = 0.5 * torch.eye(ACTIONS)
    model.policy.action_net.weight.data.copy_(weight)
    window = certify(model, **FEW).window
    assert window.past_actions == pytest.approx(0.5, rel=1e-4)
    assert window.newest == pytest.approx(1.0)
    assert window.signal == pytest.approx(2.0, rel=1e-3)
    assert window.bias == pytest.approx(2.0, rel=1e-6)
    for unit in (4.0, 0.25):
        scaled = certify(model, sensor_scale=unit, **FEW).window
        assert scaled.past_actions == pytest.approx(0.5, rel=1e-4)
        assert scaled.signal == pytest.approx(2.0 * unit, rel=1e-3)


def test_what_may_not_die_out_is_not_stated():
    certificate = certify(model_of(scale=30.0), **FEW)
    window = certificate.window
    assert window.signal is window.bias is window.bias_unclipped is None
    assert window.newest <= window.whole <= window.each
    assert window.past_actions > 1
    assert any("past actions come back with a gain" in text for text in certificate.warnings)
    assert "signal" not in str(window)


class Doubled(gym.ActionWrapper):
    def action(self, action):
        return 2 * action


def test_what_hides_the_loop_is_named():
    hidden = certify(model_of(scale=0.05, wrap=Doubled), **FEW)
    assert hidden.window.signal is None
    assert any("Doubled stands around rl-zoo's HistoryWrapper" in text for text in hidden.warnings)
    stacked = certify(model_of(scale=0.05, stack=2), **FEW)
    assert stacked.window.frames == 2
    assert stacked.window.signal is stacked.window.bias is None
    assert stacked.window.each == stacked.upper_bound
    assert any("VecFrameStack stands around rl-zoo's" in text for text in stacked.warnings)


def test_units_that_change_from_frame_to_frame():
    unit = np.arange(1.0, 1.0 + HORIZON * (SIZE + ACTIONS))
    certificate = certify(model_of(scale=0.05), sensor_scale=unit, **FEW)
    assert certificate.window.signal is None
    assert any("another unit in every frame" in text for text in certificate.warnings)


def test_a_stack_of_stacks_repeats_observations():
    venv = VecFrameStack(VecFrameStack(DummyVecEnv([lambda: Still(SIZE)]), 2), 2)
    certificate = certify(PPO("MlpPolicy", venv, seed=0, device="cpu"), **FEW)
    assert certificate.window.frames == 4
    assert certificate.window.signal is certificate.window.bias is None
    assert any("one VecFrameStack stands around another" in text for text in certificate.warnings)
