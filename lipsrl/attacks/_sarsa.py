"""The on-policy Q-function of a frozen policy, learnt from rollouts, that does not jump with the action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lipsrl.actors.acting import Acting
from lipsrl.actors.view import Shown, View
from lipsrl.attacks._critic import ActionValue

FloatArray = NDArray[np.floating[Any]]

# the shape of the learnt Q-function and of its training; Zhang et al. use the architecture of the policy
_HIDDEN, _BATCH, _LEARNING_RATE = 64, 256, 1e-3
# what a squashed policy is explored with, in half ranges: TD3's own
_EXPLORATION = 0.1


@dataclass(frozen=True)
class Transitions:
    """What the policy received, did and got, n steps; actions in units of half their range.

    ``states``, ``next_states`` (n, obs); ``actions``, ``next_actions`` (n, act); ``rewards``, ``terminated`` (n,).
    """

    states: Tensor
    actions: Tensor
    rewards: Tensor
    next_states: Tensor
    next_actions: Tensor
    terminated: Tensor


def collect(
    actor: Acting,
    view: View,
    half_range: FloatArray,
    made: Sequence[gym.Env[Any, Any]],
    steps: int,
    seed: int,
) -> Transitions:
    """At least ``steps`` transitions of the policy as it explores, in environments that are stepped side by side.

    Args:
        actor, view: the policy, its normalisation and its frame stack.
        half_range: (act,), > 0: unit of the actions.
        made: environments; reset here.
        seed: of start states and exploration.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    space = made[0].action_space
    assert isinstance(space, gym.spaces.Box)
    low, high = np.asarray(space.low, np.float64).reshape(-1), np.asarray(space.high, np.float64).reshape(-1)
    centre = (low + high) / 2 if actor.squash else np.zeros_like(low)

    def reset(env: gym.Env[Any, Any]) -> Any:
        return env.reset(seed=int(rng.integers(2**31)))[0]

    everyone = np.arange(len(made))
    shown = Shown(view, len(made))

    def seen(raw: Sequence[Any]) -> Tensor:
        return torch.from_numpy(shown.seen(np.stack(raw), everyone))

    def act(states: Tensor) -> Tensor:
        with torch.no_grad():
            noise = torch.from_numpy(rng.standard_normal((len(states), len(low))))
            if actor.squash:
                return (actor.mean(states) + _EXPLORATION * noise).clamp(-1.0, 1.0)
            return (actor.mean(states) + actor.deviation(states) * noise) / torch.from_numpy(half_range)

    observations = [reset(env) for env in made]
    columns: dict[str, list[Any]] = {"states": [], "actions": [], "rewards": [], "next": [], "terminated": []}
    for _ in range(-(-steps // len(made))):
        states = seen(observations)
        shown.show(np.stack(observations), everyone)
        actions = act(states)
        executed = np.clip(centre + half_range * actions.numpy(), low, high).astype(space.dtype)
        columns["states"].append(states)
        columns["actions"].append(actions)
        ended = []
        for slot, env in enumerate(made):
            observations[slot], reward, terminated, truncated, _ = env.step(
                executed[slot].reshape(space.shape)
            )
            columns["rewards"].append(float(reward))
            columns["terminated"].append(float(terminated))
            if terminated or truncated:
                ended.append(slot)
        columns["next"].append(seen(observations))
        shown.begin(ended)
        for slot in ended:
            observations[slot] = reset(made[slot])
    next_states = torch.cat(columns["next"])
    return Transitions(
        states=torch.cat(columns["states"]).float(),
        actions=torch.cat(columns["actions"]).float(),
        rewards=torch.tensor(columns["rewards"]),
        next_states=next_states.float(),
        next_actions=act(next_states).float(),
        terminated=torch.tensor(columns["terminated"]),
    )


def fit(
    data: Transitions, gamma: float, *, radius: float, weight: float, updates: int, seed: int
) -> ActionValue:
    """Q of the policy that made ``data``, by TD(0), regularised to be steady in the action.

    Zhang et al. 2020 (arXiv:2003.08938), section 3.5: the loss is the mean of
    ``(r + γQ(s', a') - Q(s, a))² + weight · max_â (Q(s, â) - Q(s, a))²``, ‖â - a‖_∞ ≤ radius. The target is held
    fixed in the gradient; the maximum is bounded from above by interval arithmetic. Rewards are divided by their
    deviation times 1/(1 - γ)^½ first, so that ``weight`` means the same on every task.

    Args:
        gamma: discount, in [0, 1).
        radius: in units of half the action range.
        updates: gradient steps of Adam on 256 transitions each, the learning rate falling from 1e-3 to 0.
        seed: of the initial weights and the batches.
    """
    generator = torch.Generator().manual_seed(seed)
    network = _network(data.states.shape[1] + data.actions.shape[1], generator)
    optimizer = torch.optim.Adam(network.parameters(), _LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=updates)
    scale = float(data.rewards.std(correction=0)) / max(1.0 - gamma, 1e-3) ** 0.5
    rewards = data.rewards / (scale if scale > 0 else 1.0)
    with torch.enable_grad():
        for _ in range(updates):
            rows = torch.randint(len(rewards), (_BATCH,), generator=generator)
            states, actions = data.states[rows], data.actions[rows]
            with torch.no_grad():
                following = network(torch.cat([data.next_states[rows], data.next_actions[rows]], dim=1))[:, 0]
                target = rewards[rows] + gamma * (1.0 - data.terminated[rows]) * following
            value = network(torch.cat([states, actions], dim=1))[:, 0]
            lower, upper = action_interval(network, states, actions, radius)
            spread = torch.maximum(upper - value, value - lower)
            loss = ((target - value) ** 2).mean() + weight * (spread**2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return ActionValue([network.double().requires_grad_(False).eval()])


def action_interval(
    network: nn.Sequential, states: Tensor, actions: Tensor, radius: float
) -> tuple[Tensor, Tensor]:
    """Bounds (n,) of Q(s, â) over ‖â - a‖_∞ ≤ radius, by interval arithmetic; sound up to rounding.

    Args:
        network: linear layers and ReLUs, of states and actions side by side.
    """
    centre = torch.cat([states, actions], dim=1)
    reach = torch.cat([torch.zeros_like(states), torch.full_like(actions, radius)], dim=1)
    for layer in network:
        if isinstance(layer, nn.Linear):
            centre, reach = layer(centre), reach @ layer.weight.abs().mT
        else:
            lower, upper = layer(centre - reach), layer(centre + reach)
            centre, reach = (lower + upper) / 2, (upper - lower) / 2
    return (centre - reach)[:, 0], (centre + reach)[:, 0]


def _network(inputs: int, generator: torch.Generator) -> nn.Sequential:
    """Two hidden layers of ReLUs; uniform in ±1/√inputs as torch's own, but from ``generator``."""
    widths = [inputs, _HIDDEN, _HIDDEN, 1]
    modules: list[nn.Module] = []
    for rows, columns in zip(widths[1:], widths[:-1], strict=True):
        linear = nn.Linear(columns, rows, device="meta").to_empty(device="cpu")
        for parameter in linear.parameters():
            nn.init.uniform_(parameter, -(columns**-0.5), columns**-0.5, generator=generator)
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])
