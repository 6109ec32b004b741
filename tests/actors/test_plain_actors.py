"""Which actors have a plain form, and what is said of those that have none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC
from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import Actor as TD3Actor
from stable_baselines3.td3.policies import TD3Policy
from torch import nn

from lipsrl.actors import actor_parts
from tests.actors.test_normalization import Plant


class Switch(Plant):
    def __init__(self, start):
        self.action_space = spaces.Discrete(3, start=start)


class OwnLatent(nn.Module):
    """In the place of SB3's MlpExtractor, with other names."""

    latent_dim_pi = latent_dim_vf = 4

    def __init__(self, inputs):
        super().__init__()
        self.pi, self.vf = nn.Linear(inputs, 4), nn.Linear(inputs, 4)

    def forward(self, x):
        return self.pi(x), self.vf(x)

    def forward_actor(self, x):
        return self.pi(x)

    def forward_critic(self, x):
        return self.vf(x)


class OwnActorCritic(ActorCriticPolicy):
    def _build_mlp_extractor(self):
        self.mlp_extractor = OwnLatent(self.features_dim)


class OwnSACActor(SACActor):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.mean = self.mu
        del self.mu

    def get_action_dist_params(self, obs):
        latent = self.latent_pi(self.extract_features(obs, self.features_extractor))
        return self.mean(latent), self.log_std(latent), {}


class OwnTD3Actor(TD3Actor):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.net, self.mu = self.mu, None

    def forward(self, obs):
        return self.net(self.extract_features(obs, self.features_extractor))


class OwnQNetwork(QNetwork):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.net = self.q_net
        del self.q_net

    def forward(self, obs):
        return self.net(self.extract_features(obs, self.features_extractor))


class OwnQuantiles(QuantileNetwork):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.net = self.quantile_net
        del self.quantile_net

    def forward(self, obs):
        features = self.extract_features(obs, self.features_extractor)
        return self.net(features).view(-1, self.n_quantiles, int(self.action_space.n))


def with_actor(policy, actor):
    def make_actor(self, features_extractor=None):
        return actor(**self._update_features_extractor(self.actor_kwargs, features_extractor))

    return type(policy.__name__, (policy,), {"make_actor": make_actor})


def with_net(policy, net):
    def make(self):
        return net(**self._update_features_extractor(self.net_args, features_extractor=None))

    return type(policy.__name__, (policy,), {"make_q_net": make, "make_quantile_net": make})


@pytest.mark.parametrize(
    ("algorithm", "policy", "env", "method"),
    [
        (PPO, OwnActorCritic, Plant(), "OwnLatent.forward_actor"),
        (SAC, with_actor(SACPolicy, OwnSACActor), Plant(), "OwnSACActor.get_action_dist_params"),
        (TD3, with_actor(TD3Policy, OwnTD3Actor), Plant(), "OwnTD3Actor.forward"),
        (DQN, with_net(DQNPolicy, OwnQNetwork), Switch(0), "OwnQNetwork.forward"),
        (QRDQN, with_net(QRDQNPolicy, OwnQuantiles), Switch(0), "OwnQuantiles.forward"),
    ],
)
def test_networks_of_ones_own_are_refused_by_name(algorithm, policy, env, method):
    options = {} if algorithm is PPO else {"buffer_size": 10}
    model = algorithm(policy, env, policy_kwargs={"net_arch": [4]}, device="cpu", **options)
    model.predict(np.zeros((1, 3), np.float32), deterministic=True)  # it acts
    with pytest.raises(ValueError, match=f"plain feed-forward network: {method} is not SB3's own and may"):
        actor_parts(model)


def test_a_part_that_is_missing_is_refused_in_words():
    model = TQC("MlpPolicy", Plant(), policy_kwargs={"net_arch": [4]}, buffer_size=10, device="cpu")
    del model.policy.actor.mu
    with pytest.raises(ValueError, match=r"its parts are not those of SB3's own class \(.*'mu'\)"):
        actor_parts(model)


@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN, QRDQN])
@pytest.mark.parametrize("start", [1, 2])
def test_discrete_actions_that_do_not_start_at_zero(algorithm, start):
    model = algorithm("MlpPolicy", Switch(start), policy_kwargs={"net_arch": [4]}, seed=0, device="cpu")
    rows = 4 * np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    logits = actor_parts(model).network(torch.as_tensor(rows))
    chosen, _ = model.predict(rows, deterministic=True)
    np.testing.assert_array_equal(logits.argmax(dim=1).numpy(), chosen)  # SB3 does not add the start


@pytest.mark.parametrize("start", [0, 2])
def test_a_policy_that_chooses_others_is_seen_through(start):
    model = DQN("MlpPolicy", Switch(start), policy_kwargs={"net_arch": [4]}, seed=0, device="cpu")
    inner = model.policy._predict
    model.policy._predict = lambda *args, **kwargs: (inner(*args, **kwargs) + 1) % 3
    with pytest.raises(ValueError, match=r"its predict\(\) returns other actions"):
        actor_parts(model)


@pytest.mark.parametrize("factor", [1e-30, 1e-38, 0.0])
def test_weights_that_underflow_in_float32(factor):
    model = PPO("MlpPolicy", Plant(), policy_kwargs={"net_arch": [4, 4]}, seed=0, device="cpu")
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(factor)
    assert len(actor_parts(model).network) == 5
