"""The networks that `benchmarks.layers` compares, and what it times of each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from benchmarks._layer_tables import PLAIN
from benchmarks._peers import PEERS
from benchmarks._timing import Function
from lipsrl import LipschitzMLP
from lipsrl.layers import LAYERS, LipschitzLayer, project_after_step
from lipsrl.layers.optimizer import LONGEST_WAIT

N_INPUTS, N_OUTPUTS = 17, 6  # HalfCheetah's
BATCH, N_MINIBATCHES = 256, 16
BOUND = 1.0  # what the peers' layers have


@dataclass(frozen=True)
class Entry:
    """One line of the tables.

    Attributes:
        build: width → network.
        group: ``"plain"``, ``"lipsrl"`` or ``"peer"``.
        claim: Lipschitz constant that the network is said to have; ``None`` for plain.
        norm: in which norm.
        note: what a reader has to know.
        period: training steps are timed in multiples of it, where not every step costs the same.
        policy_kwargs: for PPO; ``None`` leaves PPO.learn out.
    """

    build: Callable[[int], nn.Module]
    group: str
    claim: float | None = BOUND
    norm: str = "l2"
    note: str = ""
    period: int = 1
    policy_kwargs: dict[str, Any] | None = None


def stacked(linear: Callable[[int, int], nn.Module], width: int) -> nn.Sequential:
    """The actor as SB3 builds it, of the given linear layers."""
    return nn.Sequential(
        linear(N_INPUTS, width), nn.ReLU(), linear(width, width), nn.ReLU(), linear(width, N_OUTPUTS)
    )


def lipschitz_network(name: str, width: int) -> LipschitzMLP:
    """The same by the family ``name``."""
    return LipschitzMLP(N_INPUTS, N_OUTPUTS, (width, width), BOUND, name, norm=LAYERS[name].norm)


def plain_entry() -> Entry:
    """What everything is compared with."""
    return Entry(partial(stacked, nn.Linear), PLAIN, None, policy_kwargs={"activation_fn": nn.ReLU})


def family_entry(name: str) -> Entry:
    """A family of :data:`lipsrl.layers.LAYERS`."""
    family = LAYERS[name]
    return Entry(
        partial(lipschitz_network, name),
        "lipsrl",
        norm=family.norm,
        note="projected" if family.projected else "parametrised",
        period=LONGEST_WAIT if family.projected else 1,  # its cheap updates may be that far apart
        policy_kwargs={
            "lipschitz_bound": 8.0,
            "layer": name,
            "norm": family.norm,
            "activation_fn": nn.ReLU,
        },
    )


def choose(families: Iterable[str], peers: Iterable[str]) -> tuple[dict[str, Entry], dict[str, str]]:
    """The entries that can run here, plain first, and why the other peers cannot."""
    entries = {PLAIN: plain_entry()} | {name: family_entry(name) for name in families}
    skipped: dict[str, str] = {}
    for name in peers:
        reason = PEERS[name].why_absent()
        if reason is not None:
            skipped[name] = reason
        else:
            entries[name] = Entry(partial(stacked, PEERS[name].linear), "peer", note=PEERS[name].note)
    return entries, skipped


def where(net: nn.Module) -> torch.device:
    """The device of its weights."""
    return next(net.parameters()).device


def inference(net: nn.Module, *, cached: bool) -> Function:
    """Forward at batch 1 in eval mode without gradient; ``cached`` as in a rollout of an online policy."""
    net.eval()
    if isinstance(net, LipschitzMLP):
        net.cache_in_eval = cached
    x = torch.randn(1, N_INPUTS, device=where(net))

    def forward() -> torch.Tensor:
        with torch.no_grad():
            y: torch.Tensor = net(x)
            return y

    return forward


def train_step(net: nn.Module) -> Function:
    """One Adam step on a minibatch of 256, projection included.

    The target is 20 times steeper than the bound allows: a constraint that is never reached would be cheap to keep.
    """
    net.train()
    optimizer: torch.optim.Optimizer = torch.optim.Adam(net.parameters(), lr=3e-4)
    if isinstance(net, LipschitzMLP):
        project_after_step(optimizer, net)
        net.cache_in_eval = True
    minibatches = itertools.cycle(torch.randn(N_MINIBATCHES, BATCH, N_INPUTS, device=where(net)))

    def step() -> None:
        x = next(minibatches)
        loss = (net(x) - 20 * BOUND * x[:, :N_OUTPUTS]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def step_and_act(net: nn.Module) -> Function:
    """What SAC does per environment step: one train step, to eval mode, one action, back to training mode."""
    step, x = train_step(net), torch.randn(1, N_INPUTS, device=where(net))

    def both() -> None:
        step()
        net.eval()
        with torch.no_grad():
            net(x)
        net.train()

    return both


def ppo_learn(policy_kwargs: dict[str, Any], width: int, steps: int, device: str = "cpu") -> Function:
    """A whole ``PPO.learn`` on Pendulum-v1; the model is built, and warmed up by one rollout, outside the clock.

    Rollouts have 2048 steps, of fewer ``steps`` in all so many, and at least one minibatch of 128.
    """
    policy = "LipschitzMlpPolicy" if "layer" in policy_kwargs else "MlpPolicy"
    kwargs = {**policy_kwargs, "net_arch": [width, width]}
    env = make_vec_env("Pendulum-v1", 4, seed=0)
    n_steps = min(max(steps // 4, 32), 512)
    model = PPO(policy, env, n_steps=n_steps, batch_size=128, policy_kwargs=kwargs, device=device, seed=0)
    model.learn(1)
    return partial(model.learn, steps)


@torch.no_grad()
def true_bound(net: nn.Module, norm: str) -> tuple[float, str]:
    """Float64 Lipschitz bound of the weights that act in eval mode, and how it was found.

    ``"product"``: of the exact norms of the plain linear layers. Where the activation is inside the constraint
    (Sandwich, residual layers) that product says nothing: there it is the ``"construction"`` bound of the factors.
    """
    was_training = net.training
    net.eval()
    plain = net
    if isinstance(net, LipschitzMLP):
        factors = [m.factors() for m in net.modules() if isinstance(m, LipschitzLayer)]
        if any(f.output is not None or f.skip is not None for f in factors):
            bound = net.lipschitz_bound()
            net.train(was_training)
            return bound, "construction"
        plain = net.merge()
    order = 2 if norm == "l2" else math.inf
    weights = [m.weight.double() for m in plain.children() if isinstance(m, nn.Linear)]
    net.train(was_training)
    return math.prod(float(torch.linalg.matrix_norm(weight, order)) for weight in weights), "product"
