"""Policies on a device: they learn there, keep their bound, are certified, attacked, exported and saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.utils import polyak_update

import lipsrl

SETTINGS = {
    PPO: {"n_steps": 64, "batch_size": 64, "n_epochs": 1},
    SAC: {"learning_starts": 20, "buffer_size": 200},
}


@pytest.mark.parametrize(
    ("algorithm", "layer"), [(PPO, "sandwich"), (PPO, "spectral"), (SAC, "orthogonal"), (SAC, "sandwich")]
)
def test_a_policy_lives_on_its_device(algorithm, layer, device, tmp_path):
    model = algorithm(
        "LipschitzMlpPolicy", "Pendulum-v1", device=device, seed=0, **SETTINGS[algorithm],
        policy_kwargs={"lipschitz_bound": 4.0, "layer": layer, "net_arch": [12, 12]},
    )  # fmt: skip
    model.learn(64)
    if algorithm is SAC:
        polyak_update(model.critic.parameters(), model.critic_target.parameters(), 0.5)
    assert {p.device.type for p in model.policy.parameters()} == {device}
    found = lipsrl.certify(model, n_starts=64)
    assert found.lower_bound <= found.upper_bound <= 4.0 * (1 + 1e-6)
    observations = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    acted = model.predict(observations, deterministic=True)[0]
    model.save(tmp_path / "model.zip")
    again = algorithm.load(tmp_path / "model.zip", device="cpu")
    assert again.predict(observations, deterministic=True)[0] == pytest.approx(acted, abs=1e-5)
    exported = lipsrl.load_policy(lipsrl.export(model, tmp_path / "policy.safetensors"))
    assert exported(observations) == pytest.approx(acted, abs=1e-5)
    attack = lipsrl.attacks.MADAttack(model, 0.1)
    frame = lipsrl.evaluate(
        model, "Pendulum-v1", disturbances=attack, strengths=[1.0], n_episodes=1, max_episode_steps=5
    ).frame
    assert np.isfinite(frame["return"]).all()
    assert not any(torch.isnan(p).any() for p in model.policy.parameters())
