"""Which K to start with."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

import lipsrl
from lipsrl import cli
from lipsrl.certificates import feasibility_floor


@pytest.fixture(scope="module")
def agent():
    model = PPO("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", n_steps=8, batch_size=8)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(300)
    return model


def test_twice_the_slope_of_an_agent(agent, tmp_path):
    found = lipsrl.suggest_bound(agent)
    assert found.slope == pytest.approx(lipsrl.certify(agent).network.lower_bound, rel=1e-3)
    assert 2 * found.slope <= found.bound <= 2.2 * found.slope
    assert found.policy_kwargs == {"lipschitz_bound": found.bound}
    agent.save(tmp_path / "agent.zip")
    assert lipsrl.suggest_bound(tmp_path / "agent.zip").bound == found.bound
    assert lipsrl.suggest_bound(str(tmp_path / "agent.zip")).bound == found.bound


def test_behind_vec_normalize_it_is_in_the_policys_units():
    venv = VecNormalize(make_vec_env("Pendulum-v1", 1, seed=0))
    venv.obs_rms.var = np.array([1e-4, 1e-4, 1e-4])
    model = PPO("MlpPolicy", venv, seed=0, device="cpu", n_steps=8, batch_size=8)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(300)
    alone = PPO("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", n_steps=8, batch_size=8)
    alone.policy.load_state_dict(model.policy.state_dict())
    assert lipsrl.suggest_bound(model).bound == pytest.approx(lipsrl.suggest_bound(alone).bound, rel=0.1)


def test_never_below_what_the_plant_needs(agent):
    env = gym.make("Pendulum-v1")
    env.reset(seed=0)
    floor = feasibility_floor(env, [0, 0], [0])
    shallow = PPO("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", n_steps=8, batch_size=8)
    found = lipsrl.suggest_bound(shallow, env="Pendulum-v1", equilibrium=[0, 0])
    assert found.floor.floor == floor.floor
    assert found.bound >= 2 * floor.lqr > lipsrl.suggest_bound(shallow).bound
    scaled = lipsrl.suggest_bound("Pendulum-v1", equilibrium=[0, 0], observation_scale=[1, 1, 8])
    assert scaled.bound == pytest.approx(2 * floor.in_units([1, 1, 1 / 8]).lqr, rel=0.1)
    assert scaled.policy_kwargs["observation_scale"] == [1, 1, 8]
    PPO("LipschitzMlpPolicy", "Pendulum-v1", policy_kwargs=scaled.policy_kwargs, device="cpu")


@pytest.mark.parametrize("env", ["Pendulum-v1", "CartPole-v1", "MountainCarContinuous-v0"])
def test_an_environment_alone_gives_a_start(env):
    found = lipsrl.suggest_bound(env)
    assert found.bound > 0
    assert len(found.observation_scale) == gym.make(env).observation_space.shape[0]
    twice = lipsrl.suggest_bound(env, observation_scale=2 * np.array(found.observation_scale))
    assert twice.bound == pytest.approx(2 * found.bound, rel=0.1)  # K is per unit of the scale


def test_what_does_not_fit_is_refused(agent):
    with pytest.raises(ValueError, match="equilibrium needs env"):
        lipsrl.suggest_bound(agent, equilibrium=[0, 0])
    with pytest.raises(ValueError, match="observation_scale is only for an environment"):
        lipsrl.suggest_bound(agent, observation_scale=2.0)
    with pytest.raises(ValueError, match="belong to an agent"):
        lipsrl.suggest_bound("Pendulum-v1", env="Pendulum-v1")
    with pytest.raises(ValueError, match="cannot be made"):
        lipsrl.suggest_bound("NoSuch-v0")
    with pytest.raises(TypeError, match="env must be an id"):
        lipsrl.suggest_bound(3)


def test_certify_says_it_of_a_stock_agent(agent, tmp_path, capsys):
    agent.save(tmp_path / "agent.zip")
    assert cli.main(["certify", str(tmp_path / "agent.zip")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"try lipschitz_bound={lipsrl.suggest_bound(agent).bound}" in text
    ours = PPO("LipschitzMlpPolicy", "Pendulum-v1", policy_kwargs={"lipschitz_bound": 5.0}, device="cpu")
    ours.save(tmp_path / "ours.zip")
    assert cli.main(["certify", str(tmp_path / "ours.zip")]) == 0
    assert "suggestion" not in capsys.readouterr().out


def test_wrong_arguments_are_named(agent):
    for wrong in (agent.policy, agent.policy.mlp_extractor):
        with pytest.raises(TypeError, match="pass the model that it belongs to"):
            lipsrl.suggest_bound(wrong)
    for seed in (-1, "x", True):
        with pytest.raises(ValueError, match="seed must be an integer >= 0"):
            lipsrl.suggest_bound("Pendulum-v1", seed=seed)
    with pytest.raises(ValueError, match="equilibrium_action is of an equilibrium"):
        lipsrl.suggest_bound("Pendulum-v1", equilibrium_action=[0.0])
