"""Policies take torch's fused Adam where nobody chose, and merge their factors once per training forward."""

from __future__ import annotations

import math

import gymnasium as gym
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3

import lipsrl  # noqa: F401
from lipsrl import LipschitzMLP
from lipsrl.layers import project_after_step


def _optimizers(model):
    policy = model.policy
    owners = [policy, *(getattr(policy, name, None) for name in ("actor", "critic"))]
    return [owner.optimizer for owner in owners if getattr(owner, "optimizer", None) is not None]


@pytest.mark.parametrize(
    ("algorithm", "env"),
    [(PPO, "Pendulum-v1"), (SAC, "Pendulum-v1"), (TD3, "Pendulum-v1"), (DQN, "CartPole-v1")],
)
def test_fused_unless_chosen(algorithm, env):
    def forms(policy, **kwargs):
        model = algorithm(policy, env, policy_kwargs=kwargs, device="cpu")
        return {group["fused"] for optimizer in _optimizers(model) for group in optimizer.param_groups}

    assert forms("LipschitzMlpPolicy", lipschitz_bound=5.0) == {True}
    assert forms("LipschitzMlpPolicy", lipschitz_bound=5.0, optimizer_kwargs={"fused": False}) == {False}
    assert forms("LipschitzMlpPolicy", lipschitz_bound=5.0, optimizer_kwargs={"foreach": True}) == {None}
    assert forms("LipschitzMlpPolicy", lipschitz_bound=math.inf) == {None}


def test_other_optimizers_are_left_alone():
    model = A2C("LipschitzMlpPolicy", "Pendulum-v1", policy_kwargs={"lipschitz_bound": 5.0}, device="cpu")
    assert all("fused" not in group for group in model.policy.optimizer.param_groups)


def test_fused_and_plain_adam_learn_the_same():
    def trained(**kwargs):
        kwargs = {"lipschitz_bound": 5.0, **kwargs}
        model = PPO(
            "LipschitzMlpPolicy", "Pendulum-v1", n_steps=64, policy_kwargs=kwargs, seed=3, device="cpu"
        )
        model.learn(64)
        return torch.nn.utils.parameters_to_vector(model.policy.parameters())

    start = PPO(
        "LipschitzMlpPolicy", "Pendulum-v1", policy_kwargs={"lipschitz_bound": 5.0}, seed=3, device="cpu"
    )
    before = torch.nn.utils.parameters_to_vector(start.policy.parameters())
    fused, plain = trained(), trained(optimizer_kwargs={"fused": False, "eps": 1e-5})  # SB3's default for PPO
    assert (plain - before).abs().max() > 1e-3
    torch.testing.assert_close(fused, plain, rtol=0, atol=2e-5)


def test_saved_and_resumed_as_it_was(tmp_path):
    model = PPO(
        "LipschitzMlpPolicy", "Pendulum-v1", n_steps=64, policy_kwargs={"lipschitz_bound": 5.0}, device="cpu"
    )
    model.learn(64).save(tmp_path / "a")
    again = PPO.load(tmp_path / "a", env=gym.make("Pendulum-v1"), device="cpu")
    assert {group["fused"] for group in again.policy.optimizer.param_groups} == {True}
    again.learn(64)


@pytest.mark.parametrize("layer", ["sandwich", "orthogonal", "spectral", "cayley", "sll"])
@pytest.mark.parametrize("budget", ["growing", "learned"])
def test_latent_then_output_is_the_forward(layer, budget):
    torch.manual_seed(0)
    net = LipschitzMLP(3, 4, (8, 8), 5.0, layer, "tanh", budget=budget, head_gain=None)
    x = torch.randn(7, 3)

    def gradients(y):
        net.zero_grad()
        y.square().sum().backward()
        return [p.grad.clone() for p in net.parameters()]

    whole = gradients(net(x))
    latent = net.latent(x)
    parts = gradients(net.output(latent))
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b)


def test_each_output_has_a_graph_of_its_own():
    net = LipschitzMLP(3, 4, (8, 8), 5.0, "sandwich")
    latent = net.latent(torch.randn(7, 3)).detach()
    net.output(latent).sum().backward()
    net.output(latent).sum().backward()

    for part in net.layers:
        part.requires_grad_(False)
    latent = net.latent(torch.randn(7, 3))
    first = net.output(latent)
    first.sum().backward(retain_graph=False)
    net.output(latent).sum().backward()


def test_output_is_of_the_weights_as_they_are():
    net = LipschitzMLP(3, 4, (8, 8), 5.0, "sandwich")
    latent = net.latent(torch.randn(7, 3))
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.fill_(2.0)
    assert (net.output(latent) == 2.0).all()


def test_a_closure_is_checked_as_a_backward_before_the_step_is():
    torch.manual_seed(0)
    net = LipschitzMLP(3, 4, (8, 8), 5.0, "orthogonal")
    twin = LipschitzMLP(3, 4, (8, 8), 5.0, "orthogonal")
    twin.load_state_dict(net.state_dict())
    x = torch.randn(16, 3)

    def closure(network, optimizer):
        def evaluate():
            optimizer.zero_grad()
            loss = (network(x) - 30 * x[:, :1]).square().mean()
            loss.backward()
            return loss

        return evaluate

    optimizers = [project_after_step(torch.optim.Adam(n.parameters(), 1e-2), n) for n in (net, twin)]
    for _ in range(5):
        optimizers[0].step(closure(net, optimizers[0]))
        closure(twin, optimizers[1])()
        optimizers[1].step()
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)

    before = [p.detach().clone() for p in net.parameters()]
    x = x * math.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        optimizers[0].step(closure(net, optimizers[0]))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
