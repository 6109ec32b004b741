"""Algorithms, action spaces, observation spaces and layers, through learning, saving, loading and learning on.

Every algorithm meets every kind of observation and every kind of action that it has; the layers take turns.
"""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import polyak_update

import lipsrl
from lipsrl.layers import LAYERS
from lipsrl.networks import LipschitzMLP
from lipsrl.policies._front import flatten
from tests.policies.zoo import ALGORITHMS, build, sample

K, CRITIC_K = 3.0, 5.0

LAYERS_IN_TURN = itertools.cycle(
    ("sandwich", "spectral", "orthogonal", "cayley", "sll", "linf", "sandwich-cayley", "aol")
)
VECTORS = ("vector", "discrete", "multidiscrete", "multibinary", "dict")
CASES = [
    (algorithm, actions[(i + j) % len(actions)], observation, next(LAYERS_IN_TURN))
    for i, (algorithm, (_, _, actions)) in enumerate(ALGORITHMS.items())
    for j, observation in enumerate(VECTORS)
    if not (observation == "dict" and algorithm in ("ARS", "CrossQ"))
]
# images cost the most: one algorithm of each kind of target and of features extractor
CASES += [
    ("PPO", "box", "image", "sandwich"),
    ("SAC", "box", "image", "orthogonal"),
    ("TD3", "box", "dict with image", "sandwich"),
    ("DQN", "discrete", "image", "spectral"),
    ("QRDQN", "discrete", "dict with image", "sandwich"),
]


def promised(policy):
    """(network, K) of everything in the policy that promises something, targets included."""
    found = [(policy.lipschitz_network, K), *((net, K) for net in policy.lipschitz_targets())]
    actors = {id(net) for net, _ in found}
    for net in policy.modules():
        if isinstance(net, LipschitzMLP) and id(net) not in actors:
            found.append((net, CRITIC_K))
    return found


class Watch(BaseCallback):
    """The promise at every step at which the policy acts, and PPO's first ratio."""

    def __init__(self):
        super().__init__()
        self.checks, self.ratios = 0, []

    def _on_step(self):
        self.checks += 1
        if self.checks % 4 == 0:
            check(self.model.policy)
        return True

    def _on_rollout_end(self):
        if type(self.model).__name__ not in ("PPO", "MaskablePPO"):
            return
        policy = self.model.policy
        policy.set_training_mode(True)  # as train() does first
        batch = next(self.model.rollout_buffer.get(8))
        masks = {"action_masks": batch.action_masks} if hasattr(batch, "action_masks") else {}
        discrete = isinstance(self.model.action_space, spaces.Discrete)
        actions = batch.actions.long().flatten() if discrete else batch.actions
        with torch.no_grad():
            _, log_prob, _ = policy.evaluate_actions(batch.observations, actions, **masks)
        self.ratios.append(float((torch.exp(log_prob - batch.old_log_prob) - 1).abs().max()))
        policy.set_training_mode(False)


def promised_extractors(policy):
    """Features extractors with a constant in front of a network with a promise: all but those of a free critic."""
    free = set()
    if policy.options.critic_lipschitz_bound is None and hasattr(policy, "critic"):
        critics = (policy.critic, getattr(policy, "critic_target", policy.critic))  # CrossQ has no target
        free = {m for net in critics for m in net.modules()} - set(policy.actor.modules())
    extractors = [m for m in policy.modules() if isinstance(m, BaseFeaturesExtractor) and m not in free]
    return [m for m in extractors if hasattr(m, "lipschitz_bound")]


def check(policy):
    for net, bound in promised(policy):
        assert net.bound == bound
        assert net.lipschitz_bound() <= bound
    for extractor in promised_extractors(policy):
        assert extractor.training or extractor.lipschitz_bound() <= extractor.bound


def jacobian_norm(network, x, order):
    """Largest operator norm of the Jacobian of a float64 ``network`` at the rows of ``x``."""
    x = x.clone().requires_grad_(True)
    y = network(x)
    rows = [torch.autograd.grad(y[:, i].sum(), x, retain_graph=True)[0] for i in range(y.shape[1])]
    return float(torch.linalg.matrix_norm(torch.stack(rows, 1), order).max())


def in_units(net):
    """``x / input_scale ↦ f·output_scale`` in float64."""
    double = copy.deepcopy(net).double().eval()
    units = [1.0 if unit is None else unit for unit in (double.input_scale, double.output_scale)]
    return lambda x: double(x * units[0]) * units[1]


@pytest.mark.parametrize(("algorithm", "action", "observation", "layer"), CASES)
def test_every_combination(algorithm, action, observation, layer, tmp_path):
    free = algorithm in ("DQN", "QRDQN", "ARS", "CrossQ")
    options = {} if free else {"critic_lipschitz_bound": CRITIC_K}
    if "image" in observation:  # the little that is left of an image must not die
        options |= {"net_arch": [16, 16], "arguments": {"learning_rate": 1e-4}}
    norm = LAYERS[layer].norm
    model = build(
        algorithm,
        observation=observation,
        action=action,
        lipschitz_bound=K,
        layer=layer,
        norm=norm,
        **options,
    )
    steps = 24
    targets = [parameter for net in model.policy.lipschitz_targets() for parameter in net.parameters()]
    before = [parameter.detach().clone() for parameter in targets]
    watch = Watch()
    model.learn(steps, callback=watch)
    assert watch.checks >= 8
    assert max(watch.ratios, default=0.0) <= 1e-5
    assert not targets or any(not torch.equal(a, b) for a, b in zip(targets, before, strict=True))

    # a target computes what its weights are now, not what it has merged before (trap 1: SB3 writes through .data)
    online = model.policy.lipschitz_network
    for net in model.policy.lipschitz_targets():
        z = torch.randn(64, net.in_features)
        with torch.no_grad():
            apart = (net(z) - online(z)).abs().max()
            polyak_update(online.parameters(), net.parameters(), 1.0)
            assert apart > 1e-4
            assert (net(z) - online(z)).abs().max() < 0.2 * apart

    # an independent look at the promise, from the flattened observation, in float64
    rows = sample(model.observation_space)
    actions = model.predict(rows, deterministic=True)[0]
    check(model.policy)
    x = torch.as_tensor(flatten(model.observation_space, rows))
    order = 2 if norm == "l2" else np.inf
    assert 0 < jacobian_norm(lipsrl.actor_network(model).double(), x, order) <= K
    for net, bound in promised(model.policy)[1:]:
        z = torch.randn(16, net.in_features, dtype=torch.float64)
        assert jacobian_norm(in_units(net), z, order) <= bound

    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", env=model.get_env())
    np.testing.assert_array_equal(loaded.predict(rows, deterministic=True)[0], actions)
    weights = [parameter.detach().clone() for parameter in loaded.policy.parameters()]
    if algorithm == "ARS":  # sb3-contrib restarts from the weights that it drew first
        loaded.weights = torch.as_tensor(loaded.policy.parameters_to_vector())
    loaded.learn(steps, callback=Watch(), reset_num_timesteps=False)
    assert any(not torch.equal(a, b) for a, b in zip(loaded.policy.parameters(), weights, strict=True))
    np.testing.assert_array_equal(model.predict(rows, deterministic=True)[0], actions)
