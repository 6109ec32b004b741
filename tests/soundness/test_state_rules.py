"""What SB3, torch and users do to weights between training and acting (FIELD-GUIDE section 1), for every family."""

from __future__ import annotations

import copy
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from lipsrl.layers import project_after_step
from lipsrl.networks import LipschitzMLP
from tests.families import FAMILIES, PROJECTED, norm_of, push

K = 3.0


class Arm(gym.Env):
    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Box(-50.0, 50.0, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action):
        return self._draw(), float(action[0]), False, False, {}

    def _draw(self):
        return self.np_random.normal(size=3).astype(np.float32)


def build(family, bound=K, **options):
    kwargs = {"lipschitz_bound": bound, "layer": family, "net_arch": [8, 8], **norm_of(family)}
    return PPO("LipschitzMlpPolicy", Arm(), n_steps=64, batch_size=32, n_epochs=2, seed=0, device="cpu",
               policy_kwargs={**kwargs, **options})  # fmt: skip


def bound_of(model):
    return model.policy.lipschitz_network.lipschitz_bound()


class FirstRatio(BaseCallback):
    """What PPO's first probability ratio of each training phase would be."""

    def __init__(self):
        super().__init__()
        self.worst = []

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        policy, buffer = self.model.policy, self.locals["rollout_buffer"]
        policy.set_training_mode(True)
        with torch.no_grad():
            observations = torch.as_tensor(buffer.observations[:, 0])
            actions = torch.as_tensor(buffer.actions[:, 0])
            _, log_prob, _ = policy.evaluate_actions(observations, actions)
        old = torch.as_tensor(buffer.log_probs[:, 0])
        self.worst.append(float((torch.exp(log_prob - old) - 1).abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_weights_that_acted_are_those_that_training_starts_from(family):
    """Stale weights in rollouts show as first ratios away from 1 (trap 6)."""
    callback = FirstRatio()
    build(family).learn(256, callback=callback)
    assert len(callback.worst) == 4
    assert max(callback.worst) < 5e-3, "float32 maps and float64 ones differ by 3e-5 of the mean at most"


@pytest.mark.parametrize("family", FAMILIES)
def test_ortho_init_leaves_the_actor_alone(family):
    """SB3 orthogonalises every nn.Linear it finds, subclasses too (trap 3)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        with_it = build(family, ortho_init=True)
        without = build(family, ortho_init=False)
    assert bound_of(with_it) <= K
    assert with_it.policy.lipschitz_network.head.lipschitz_bound() <= 0.011 * K, "the small first head"
    names = [name for name, _ in with_it.policy.lipschitz_network.named_parameters()]
    assert names == [name for name, _ in without.policy.lipschitz_network.named_parameters()]


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_of_a_looser_model_are_projected_and_that_is_said(family):
    loose, tight = build(family, 50.0), build(family)
    loose.policy.set_training_mode(True)
    push(loose.policy.lipschitz_network, project_after_step(
        torch.optim.Adam(loose.policy.lipschitz_network.parameters(), lr=1e-1), loose.policy), 3, 100)  # fmt: skip
    assert bound_of(loose) > K
    with pytest.warns(UserWarning, match="projected back"):
        tight.set_parameters(loose.get_parameters())
    assert bound_of(tight) <= K


@pytest.mark.parametrize("family", FAMILIES)
def test_clipped_gradients_keep_the_bound(family):
    torch.manual_seed(0)
    net = LipschitzMLP(4, 2, (16, 16), K, family, **norm_of(family))
    optimizer = project_after_step(torch.optim.AdamW(net.parameters(), lr=1e-1, weight_decay=0.1), net)
    for _ in range(30):
        loss = -net(torch.randn(32, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
    net.eval()
    assert net.lipschitz_bound() <= K


@pytest.mark.parametrize("family", PROJECTED)
def test_a_line_search_that_writes_through_data_is_projected_before_acting(family):
    """TRPO and ARS write weights without any optimizer (trap 24)."""
    model = build(family)
    model.policy.set_training_mode(True)
    for name, parameter in model.policy.lipschitz_network.named_parameters():
        if "gains" in name or "log_psi" in name:
            parameter.data.fill_(20.0)  # logarithms
        else:
            parameter.data.mul_(400.0)
    assert bound_of(model) > K
    model.predict(np.zeros(3, np.float32))
    assert bound_of(model) <= K


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_between_two_transitions_change_what_acts(family):
    """A cache that outlives its weights is the peers' favourite bug (traps 1, 6, 7)."""
    model = build(family)
    network, x = model.policy.lipschitz_network, np.ones(3, np.float32)
    optimizer = model.policy.optimizer
    seen = []
    for _ in range(3):
        seen.append(model.predict(x, deterministic=True)[0])
        model.policy.set_training_mode(True)
        optimizer.zero_grad()
        (-network(torch.randn(32, 3)).square().mean()).backward()
        optimizer.step()
    assert not np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[1], seen[2])


@pytest.mark.parametrize("family", ["sandwich", "orthogonal"])
def test_compiled_forward_and_training(family):
    """torch.compile where the platform has a compiler."""
    torch.manual_seed(0)
    net = LipschitzMLP(4, 2, (16, 16), K, family)
    compiled = torch.compile(net, backend="aot_eager")
    optimizer = project_after_step(torch.optim.Adam(net.parameters(), lr=1e-2), net)
    x = torch.randn(32, 4)
    for _ in range(5):
        loss = -compiled(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(compiled(x), net(x))
    net.eval()
    assert net.lipschitz_bound() <= K
    torch.testing.assert_close(compiled(x), net(x))
    twin = copy.deepcopy(net)
    assert torch.equal(twin(x), net(x))
