"""What the constraint costs against plain SB3, interleaved in one run: medians and ratios.

    python -m benchmarks.speed

Three figures per layer: the actor's forward at batch 1 in rollout mode, one optimizer step of the actor at batch
256, and the wall clock of `PPO.learn` on Pendulum-v1 (4 environments), each against its plain twin.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from lipsrl import LipschitzMLP
from lipsrl._validation import positive_int
from lipsrl.layers import LAYERS, project_after_step

PLAIN = "plain"


@dataclass
class Args:
    """Cost of the constraint against plain SB3."""

    width: int = 64
    """Units of each of the two hidden layers."""
    repeats: int = 15
    """Interleaved rounds; the median is quoted."""
    learn_steps: int = 8192
    """Environment steps of each PPO.learn."""
    learn_repeats: int = 3
    """Interleaved rounds of PPO.learn; 0 leaves it out."""


def seconds(function: Callable[[], object], calls: int) -> float:
    """Seconds per call."""
    begun = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - begun) / calls


def interleave(
    functions: dict[str, Callable[[], object]], calls: int, repeats: int
) -> dict[str, list[float]]:
    """Time each function ``repeats`` times, in turn, so that a drifting machine hits all alike."""
    for function in functions.values():
        seconds(function, max(1, calls // 10))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(seconds(function, calls))
    return times


def plain_network(width: int) -> nn.Sequential:
    """What SB3 builds for 17 observations and 6 actions."""
    return nn.Sequential(
        nn.Linear(17, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 6)
    )


def networks(width: int) -> dict[str, nn.Module]:
    """The plain network and one per layer."""
    constrained = {name: LipschitzMLP(17, 6, (width, width), 8.0, name) for name in LAYERS}
    return {PLAIN: plain_network(width), **constrained}


def inference(net: nn.Module) -> Callable[[], object]:
    """Forward at batch 1 as in a rollout."""
    net.eval()
    if isinstance(net, LipschitzMLP):
        net.cache_in_eval = True
    x = torch.randn(1, 17)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return net(x)

    return forward


def train_step(net: nn.Module) -> Callable[[], object]:
    """One Adam step at batch 256, projection included."""
    optimizer: torch.optim.Optimizer = torch.optim.Adam(net.parameters(), lr=3e-4)
    if isinstance(net, LipschitzMLP):
        project_after_step(optimizer, net)
    x, target = torch.randn(256, 17), torch.randn(256, 6)

    def step() -> None:
        loss = (net(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def learn(layer: str, width: int, steps: int) -> Callable[[], object]:
    """A whole ``PPO.learn``; the model is built outside the clock."""
    policy = "MlpPolicy" if layer == PLAIN else "LipschitzMlpPolicy"
    kwargs: dict[str, object] = {"net_arch": [width, width]}
    kwargs |= {"activation_fn": nn.ReLU} if layer == PLAIN else {"lipschitz_bound": 8.0, "layer": layer}
    model = PPO(policy, make_vec_env("Pendulum-v1", 4, seed=0), n_steps=512, batch_size=128, policy_kwargs=kwargs,
                device="cpu", seed=0)  # fmt: skip
    return lambda: model.learn(steps)


def main() -> None:
    """Command line."""
    args = tyro.cli(Args, description=__doc__)
    positive_int("repeats", args.repeats)
    torch.set_num_threads(1)
    results = {
        "inference, batch 1": interleave(
            {name: inference(net) for name, net in networks(args.width).items()}, 2000, args.repeats
        ),
        "train step, batch 256": interleave(
            {name: train_step(net) for name, net in networks(args.width).items()}, 200, args.repeats
        ),
    }
    if args.learn_repeats:
        names = [PLAIN, *LAYERS]
        results["PPO.learn"] = interleave(
            {name: learn(name, args.width, args.learn_steps) for name in names}, 1, args.learn_repeats
        )
    table = Table(title=f"2×{args.width}, one thread, torch {torch.__version__}: median (ratio to plain)")
    table.add_column("")
    for name in (PLAIN, *LAYERS):
        table.add_column(name, justify="right")
    for title, times in results.items():
        plain = np.array(times[PLAIN])
        cells = []
        for name in (PLAIN, *LAYERS):
            own = np.array(times[name])
            unit = f"{np.median(own) * 1e6:.0f} µs" if np.median(own) < 0.1 else f"{np.median(own):.1f} s"
            cells.append(unit if name == PLAIN else f"{unit} ({np.median(own / plain):.2f}×)")
        table.add_row(title, *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
