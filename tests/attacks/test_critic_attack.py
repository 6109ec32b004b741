"""The critic attack lowers what the model's critic says, on every kind of critic, and through the normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attack_models import make_ppo

from lipsrl.attacks import CriticAttack, RandomAttack
from lipsrl.attacks._critic import critic_of


def value(model, clean, shown):
    """What the model's own (float32) critic says, (n,): V(ŝ), or Q(s, μ(ŝ))."""
    venv = model.get_vec_normalize_env()
    clean, shown = (x if venv is None else venv.normalize_obs(x) for x in (clean, shown))
    policy = model.policy
    with torch.no_grad():
        if hasattr(policy, "predict_values"):
            return policy.predict_values(torch.as_tensor(shown)).numpy()[:, 0]
        actions = policy._predict(torch.as_tensor(shown), deterministic=True)
        q = policy.critic(torch.as_tensor(clean), actions)
        return (q if isinstance(q, torch.Tensor) else torch.stack(q, dim=1)).mean(dim=(1, 2)).numpy()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    "name",
    ["ppo", "ppo-normalized", "lipschitz-ppo", "a2c", "trpo", "sac", "td3", "ddpg", "tqc", "lipschitz-sac"],
)
def test_it_lowers_the_critics_value_further_than_chance(models, observations, attacked, name, norm):
    model = models[name]
    clean = value(model, observations, observations)
    fallen = {}
    for attack in (RandomAttack(model, 0.05, norm), CriticAttack(model, 0.05, norm)):
        fallen[attack.name] = clean - value(model, observations, attacked(attack, observations))
    assert fallen["critic"].mean() > 1.5 * fallen["random"].mean()
    assert fallen["critic"].min() > -1e-5
    assert fallen["critic"].mean() > 1.5 * np.abs(fallen["random"]).mean()


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_of_a_linear_value(observations, attacked, norm, dual):
    """V(s) = w·s falls by ε‖w‖*; a first step the wrong way costs a tenth of it."""
    model = make_ppo(policy_kwargs={"net_arch": []})
    weight = np.array([1.0, -2.0, 0.5])
    with torch.no_grad():
        model.policy.value_net.weight.copy_(torch.from_numpy(weight[None]))
    rows = observations.astype(np.float64)
    fall = -(attacked(CriticAttack(model, 0.1, norm), rows) - rows) @ weight
    best = 0.1 * np.linalg.norm(weight, ord=dual)
    assert fall.max() <= best * (1 + 1e-9)
    assert fall.min() >= 0.9 * best * (1 - 1e-9)


def test_it_is_frozen_with_the_weights(observations, attacked):
    model = make_ppo()
    attack = CriticAttack(model, 0.1)
    expected = attacked(attack, observations)
    with torch.no_grad():
        model.policy.value_net.weight.mul_(-1.0)
    np.testing.assert_array_equal(attacked(attack, observations), expected)
    assert not np.array_equal(attacked(CriticAttack(model, 0.1), observations), expected)


@pytest.mark.parametrize("name", ["sac", "td3", "tqc"])
def test_the_copied_critic_is_the_mean_of_the_models(models, observations, name):
    model = models[name]
    actions = np.linspace(-1, 1, len(observations), dtype=np.float32)[:, None]
    states = torch.as_tensor(observations)
    with torch.no_grad():
        q = model.critic(states, torch.as_tensor(actions))
    expected = (q if isinstance(q, torch.Tensor) else torch.stack(q, dim=1)).mean(dim=(1, 2))
    ours = critic_of(model)(states.double(), torch.as_tensor(actions).double())
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
