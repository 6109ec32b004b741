"""Models that choose: KL for distributions, margins for Q-values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attack_models import DISCRETE_MAKERS
from sb3_contrib import RecurrentPPO

from lipsrl.attacks import CriticAttack, MADAttack, RandomAttack
from lipsrl.attacks._actor import actor_of

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])


def scores(model, rows):
    """(n, act) logits or Q-values of the model itself, float32."""
    policy = model.policy
    with torch.no_grad():
        seen = torch.as_tensor(rows)
        if hasattr(policy, "quantile_net"):
            return policy.quantile_net(seen).mean(dim=1)
        if hasattr(policy, "q_net"):
            return policy.q_net(seen)
        return policy.action_net(policy.mlp_extractor.forward_actor(policy.extract_features(seen)))


@pytest.mark.parametrize("name", list(DISCRETE_MAKERS))
def test_the_actor_is_the_models_own(models, observations, name):
    ours = actor_of(models[name]).mean(torch.as_tensor(observations).double())
    np.testing.assert_allclose(ours, scores(models[name], observations), rtol=1e-4, atol=1e-5)


@NORMS
@pytest.mark.parametrize("name", ["ppo-discrete", "ppo-multi-discrete"])
def test_mad_moves_a_distribution_further_than_chance(models, observations, attacked, name, norm):
    model = models[name]

    def divergence(attack):
        shown = torch.as_tensor(attacked(attack, observations))
        with torch.no_grad():
            p, q = (
                model.policy.get_distribution(x).distribution for x in (torch.as_tensor(observations), shown)
            )
            p, q = (x if isinstance(x, list) else [x] for x in (p, q))
            pairs = zip(p, q, strict=True)
            return float(sum(torch.distributions.kl_divergence(a, b) for a, b in pairs).mean())

    assert divergence(MADAttack(model, 0.1, norm)) > 1.5 * divergence(RandomAttack(model, 0.1, norm)) > 0


@NORMS
@pytest.mark.parametrize("name", ["dqn", "qrdqn"])
def test_mad_narrows_the_margin_and_changes_choices(models, observations, attacked, name, norm):
    model = models[name]
    greedy = scores(model, observations).argmax(dim=1)

    def margins(attack):
        found = scores(model, attacked(attack, observations)).numpy()
        rows = np.arange(len(found))
        own = found[rows, greedy].copy()
        found[rows, greedy] = -np.inf
        return found.max(axis=1) - own

    mad, chance = margins(MADAttack(model, 0.5, norm)), margins(RandomAttack(model, 0.5, norm))
    assert mad.mean() > chance.mean()
    assert (mad > 0).sum() > (chance > 0).sum()


@NORMS
@pytest.mark.parametrize("name", ["dqn", "qrdqn"])
def test_the_critic_attack_leads_to_worse_choices(models, observations, attacked, name, norm):
    """Q(s, argmax Q(ŝ, ·)) falls further than by chance."""
    model = models[name]
    clean = scores(model, observations)

    def worth(attack):
        chosen = scores(model, attacked(attack, observations)).argmax(dim=1)
        return float(clean[np.arange(len(clean)), chosen].mean())

    assert worth(CriticAttack(model, 0.5, norm)) < worth(RandomAttack(model, 0.5, norm)) - 1e-4


@pytest.mark.parametrize("name", ["ppo-discrete", "ppo-multi-discrete"])
def test_the_critic_attack_on_a_value_needs_no_action(models, observations, attacked, name):
    model = models[name]

    def worth(rows):
        with torch.no_grad():
            return model.policy.predict_values(torch.as_tensor(rows)).numpy()

    fall = worth(observations) - worth(attacked(CriticAttack(model, 0.1), observations))
    assert fall.min() > 0


def test_policies_that_remember_are_refused(models):
    model = RecurrentPPO("MlpLstmPolicy", models["ppo-discrete"].get_env(), device="cpu", n_steps=8)
    with pytest.raises(ValueError, match="cannot be turned into a plain feed-forward network"):
        MADAttack(model, 0.1)
    with pytest.raises(ValueError, match=r"critic of .* cannot be attacked"):
        CriticAttack(model, 0.1)
