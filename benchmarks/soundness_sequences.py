"""Try to break the bound by what happens to a model over time: random sequences of what SB3, torch and users do.

    python -m benchmarks.soundness_sequences

Learning, a K that moves, polyak updates, zips, copies, parameters of an earlier moment, careless writes and steps of
somebody else's optimizer, in any order, one to four between two looks. A look asks the policy for actions and then
demands of the online network and of each target that it stands at the policy's K, that its own float64 bound is not
above K, and that no Jacobian at random states is. Sequences are made from their number, so that one can be made again.
"""

from __future__ import annotations

import copy
import io
import pickle
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import sb3_contrib
import stable_baselines3
import torch
import tyro
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import polyak_update
from torch import nn
from tqdm import tqdm

import lipsrl
from lipsrl.layers import BUDGETS, LAYERS
from lipsrl.networks import LipschitzMLP

ON_POLICY = {"n_steps": 16, "learning_rate": 3e-3}
OFF_POLICY = {"learning_starts": 8, "batch_size": 8, "buffer_size": 200, "learning_rate": 3e-3}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "PPO": {**ON_POLICY, "batch_size": 8, "n_epochs": 2},
    "A2C": ON_POLICY,
    "TRPO": {**ON_POLICY, "batch_size": 8},
    "SAC": OFF_POLICY,
    "TD3": OFF_POLICY,
    "DDPG": OFF_POLICY,
    "TQC": OFF_POLICY,
    "CrossQ": OFF_POLICY,
    "DQN": {**OFF_POLICY, "train_freq": 2, "target_update_interval": 8},
}
BOUNDS = (0.05, 0.5, 1.5, 3.0, 20.0, 200.0)


@dataclass
class Args:
    """Random sequences of what happens to a model; after each step, what acts is within its bound."""

    sequences: int = 300
    """How many."""
    length: int = 8
    """Looks per sequence."""
    first: int = 0
    """Number of the first sequence."""


class Noise(gym.Env[Any, Any]):
    """Random observations and rewards: nothing to learn, everything moves."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,))

    def __init__(self, discrete: bool) -> None:
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-1.0, 1.0, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action: Any) -> Any:
        return self._draw(), float(self.np_random.normal()), bool(self.np_random.random() < 0.1), False, {}

    def _draw(self) -> Any:
        return self.np_random.normal(size=3).astype(np.float32)


@dataclass
class Subject:
    """A model, and parameters of it from an earlier moment."""

    model: BaseAlgorithm
    draw: random.Random
    kept: Any = None

    @property
    def policy(self) -> Any:
        return self.model.policy

    @property
    def networks(self) -> list[LipschitzMLP]:
        return [self.policy.lipschitz_network, *self.policy.lipschitz_targets()]

    def learn(self) -> None:
        self.model.learn(self.draw.choice((16, 24)), reset_num_timesteps=False)

    def move_the_bound(self) -> None:
        bound = self.draw.choice(BOUNDS)
        self.policy.set_lipschitz_bound(bound)
        self.model.policy_kwargs = {**self.model.policy_kwargs, "lipschitz_bound": bound}  # type: ignore[attr-defined]

    def save_and_load(self) -> None:
        file = io.BytesIO()
        self.model.save(file)
        file.seek(0)
        env = Noise(isinstance(self.model.action_space, spaces.Discrete))
        self.model = type(self.model).load(file, env=env, device="cpu")

    def copy_the_policy(self) -> None:
        self.policy.load_state_dict(copy.deepcopy(self.policy).state_dict())

    def pickle_a_network(self) -> None:
        other = pickle.loads(pickle.dumps(self.draw.choice(self.networks))).eval()
        if not other.lipschitz_bound() <= other.bound:
            raise Violation(f"a copy has {other.lipschitz_bound()} of {other.bound}")

    def keep_parameters(self) -> None:
        self.kept = copy.deepcopy(self.model.get_parameters())

    def set_kept_parameters(self) -> None:
        if self.kept is not None:
            self.model.set_parameters(copy.deepcopy(self.kept))

    @torch.no_grad()
    def write(self) -> None:
        """Into a network as it is; targets are in evaluation mode."""
        parameters = list(self.draw.choice(self.networks).parameters())
        for parameter in self.draw.sample(parameters, self.draw.randint(1, 2)):
            how = self.draw.randrange(4)
            if how == 0:
                parameter.copy_(self.draw.choice((0.1, 3.0, 50.0)) * torch.randn_like(parameter))
            elif how == 1:
                parameter.mul_(self.draw.choice((0.1, 5.0, 30.0)))
            elif how == 2:
                parameter.add_(torch.randn_like(parameter))
            else:
                parameter.view(-1)[0] = self.draw.choice((-10.0, 10.0))

    def write_through_data(self) -> None:
        """As line searches do: torch counts no such write, the change to acting is what notices it."""
        networks = self.networks
        for network in networks:
            network.train()
        for parameter in self.draw.choice(networks).parameters():
            parameter.data.mul_(self.draw.choice((0.5, 3.0)))
        for network in networks:
            network.eval()
        self.policy.set_training_mode(False)

    def polyak(self) -> None:
        online, *targets = self.networks
        for target in targets:
            polyak_update(online.parameters(), target.parameters(), self.draw.choice((0.005, 0.5, 1.0)))

    def own_optimizer(self) -> None:
        found = getattr(self.policy, "optimizer", None)
        self._step(self.policy.actor.optimizer if found is None else found, self.draw.choice((1.0, 100.0)))

    def another_optimizer(self) -> None:
        rate = self.draw.choice((0.1, 5.0))
        self._step(torch.optim.SGD(self.networks[0].parameters(), lr=rate), 1.0)

    def _step(self, optimizer: torch.optim.Optimizer, size: float) -> None:
        self.policy.set_training_mode(True)
        for parameter in self.networks[0].parameters():
            parameter.grad = size * torch.randn_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
        self.policy.set_training_mode(False)

    def change_modes(self) -> None:
        self.policy.set_training_mode(True)
        self.policy.set_training_mode(False)

    def certify(self) -> None:
        found = lipsrl.certify(self.model)
        if not found.lower_bound <= found.upper_bound * (1 + 1e-6):
            raise Violation(f"certified {found.upper_bound}, found {found.lower_bound}")


class Violation(AssertionError):
    """Something above its bound."""


#: What may happen → how often. Most of what went wrong was a write, and something else before anybody looked.
HAPPENINGS: dict[Callable[[Subject], None], int] = {
    Subject.write: 5,
    Subject.move_the_bound: 4,
    Subject.learn: 1,
    Subject.save_and_load: 1,
    Subject.copy_the_policy: 1,
    Subject.pickle_a_network: 1,
    Subject.keep_parameters: 1,
    Subject.set_kept_parameters: 1,
    Subject.write_through_data: 1,
    Subject.polyak: 2,
    Subject.own_optimizer: 1,
    Subject.another_optimizer: 1,
    Subject.change_modes: 1,
    Subject.certify: 1,
}


def steepest(network: nn.Module, norm: str, states: int = 256) -> float:
    """Largest norm of the Jacobian at random states."""
    x = 3.0 * torch.randn(states, 3)
    network(x)
    jacobians = torch.func.vmap(torch.func.jacrev(network))(x).double()
    slopes = torch.linalg.svdvals(jacobians)[:, 0] if norm == "l2" else jacobians.abs().sum(dim=2)
    return float(slopes.max())


def look(subject: Subject) -> None:
    """That everything that acts is within the policy's K.

    Raises:
        Violation: it is not.
    """
    subject.model.predict(torch.randn(5, 3).numpy(), deterministic=True)
    bound = subject.policy.options.lipschitz_bound
    for place, network in enumerate(subject.networks):
        if network.training:
            continue  # nothing acts with it yet
        if network.bound != bound:
            raise Violation(f"network {place} stands at {network.bound}, the policy at {bound}")
        if not network.lipschitz_bound() <= bound:
            raise Violation(f"network {place} has {network.lipschitz_bound()} of {bound}")
        slope = steepest(network, network.norm)
        if not slope <= bound * (1 + 1e-5):  # Jacobians are of float32
            raise Violation(f"network {place} has the slope {slope} of {bound}")


def sequence(number: int, length: int) -> tuple[str, str]:
    """What was done, in words, and what went wrong, empty if nothing did."""
    draw = random.Random(number)
    torch.manual_seed(number)
    algorithm, layer, budget = (draw.choice(sorted(names)) for names in (ALGORITHMS, LAYERS, BUDGETS))
    norm = LAYERS[layer].norm
    if norm != "l2" and budget == "growing":
        budget = "even"
    build = getattr(stable_baselines3, algorithm, None) or getattr(sb3_contrib, algorithm)
    model = build(
        "LipschitzMlpPolicy", Noise(algorithm == "DQN"), seed=number, device="cpu", **ALGORITHMS[algorithm],
        policy_kwargs={"lipschitz_bound": draw.choice(BOUNDS), "layer": layer, "budget": budget, "net_arch": [8, 8],
                       "norm": norm},
    )  # fmt: skip
    subject, words = Subject(model, draw), [f"{algorithm} {layer} {budget}"]
    subject.learn()
    for _ in range(length):
        for happens in draw.choices([*HAPPENINGS], [*HAPPENINGS.values()], k=draw.randint(1, 4)):
            words.append(happens.__name__)
            try:
                happens(subject)
            except Violation as violation:
                return ", ".join(words), str(violation)
            except ValueError as error:  # SB3 refuses to learn from what overflowed: loud, so no violation
                return ", ".join([*words, f"ended by an error: {str(error)[:80]}"]), ""
        words.append("look")
        try:
            look(subject)
        except Violation as violation:
            return ", ".join(words), str(violation)
    return ", ".join(words), ""


def main(args: Args) -> int:
    """Number of violations."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # weights that were projected back are said, and are many here
    violations = ended = 0
    for number in tqdm(range(args.first, args.first + args.sequences), unit="sequence", disable=None):
        words, wrong = sequence(number, args.length)
        ended += "ended by an error" in words
        if wrong:
            violations += 1
            print(f"violation in sequence {number}: {wrong}\n  {words}", flush=True)
    print(
        f"{args.sequences} sequences of up to {args.length} looks, {ended} ended by an error: "
        f"{violations} violations"
    )
    return violations


if __name__ == "__main__":
    raise SystemExit(bool(main(tyro.cli(Args, description=__doc__))))
