"""Try to break the bound of policies that see images: careless optimizers, every network that acts, steepest pairs.

    python -m benchmarks.soundness_images

For every algorithm with a ``LipschitzCnnPolicy``, image sizes on both sides of where float32 Gram matrices decide, and
learning rates from harmless to absurd: optimizer steps that only want to grow the slope, each followed by the
transition to acting. Then the norm of every layer by float64 SVDs (of the transfer matrices at all frequencies of the
padded image, for the convolutions), of the network that acts, of a ``deepcopy`` and of a polyak target; and a climb of
‖Δaction‖/‖Δobservation‖ against the certificate. A violation is a layer or a pair above its bound.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import polyak_update
from tqdm import tqdm

from lipsrl.certificates import certify
from lipsrl.layers._convolution import polyphase
from lipsrl.policies.nature_cnn import LipschitzNatureCNN

ALGORITHMS: tuple[type[BaseAlgorithm], ...] = (PPO, A2C, SAC, TD3, DDPG, DQN, TRPO, TQC, QRDQN, CrossQ)
LEARNING_RATES = (1e-4, 3e-3, 0.3, 1e3)
BOUND = 3.0


@dataclass
class Args:
    """Policies that see images, their weights pushed against the bound."""

    sizes: tuple[int, ...] = (36, 64)
    """Height and width of the grey image."""
    transitions: int = 4
    """Optimizer steps, each followed by the change to acting."""
    starts: int = 64
    """Pairs that climb at the same time, for the certificate's lower bound."""
    seed: int = 0
    """Of weights and images."""


def build(algorithm: type[BaseAlgorithm], size: int, layer: str, seed: int) -> BaseAlgorithm:
    """A fresh policy."""
    buttons = algorithm in (DQN, QRDQN)
    env = FakeImageEnv(screen_height=size, screen_width=size, discrete=buttons)
    options: dict[str, Any] = {"buffer_size": 10} if issubclass(algorithm, OffPolicyAlgorithm) else {}
    policy = {"lipschitz_bound": BOUND, "layer": layer, "net_arch": [64]}
    return algorithm("LipschitzCnnPolicy", env, seed=seed, device="cpu", policy_kwargs=policy, **options)


def acting(model: BaseAlgorithm) -> tuple[Any, torch.optim.Optimizer]:
    """The module that acts, and its optimizer."""
    policy: Any = model.policy
    module = next(
        (getattr(policy, name) for name in ("actor", "q_net", "quantile_net") if hasattr(policy, name)),
        policy,
    )
    return module, getattr(module, "optimizer", None) or policy.optimizer


def outputs(module: Any, network: Any, images: torch.Tensor) -> torch.Tensor:
    """What the constrained part makes of the images."""
    extractor = next(m for m in module.modules() if isinstance(m, LipschitzNatureCNN))
    return network(extractor(images))


@torch.no_grad()
def excess(module: torch.nn.Module) -> float:
    """Largest norm of a layer of the extractors over its bound, by SVDs that no projection uses."""
    worst = 0.0
    for extractor in (m for m in module.modules() if isinstance(m, LipschitzNatureCNN)):
        weight = extractor.linear.weight.double()
        worst = max(worst, float(torch.linalg.svdvals(weight)[0]) / extractor.linear.bound)
        for conv in extractor.convolutions:
            taps = polyphase(conv.weight.double(), conv.stride)
            size = [n + t - 1 for n, t in zip(conv.output_size, taps.shape[:2], strict=True)]
            matrices = torch.fft.fft2(taps, s=size, dim=(0, 1)).flatten(0, 1)
            worst = max(worst, float(torch.linalg.svdvals(matrices).max()) / conv.bound)
    return worst


def main() -> None:
    """Command line."""
    args = tyro.cli(Args, description=__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    cases = list(itertools.product(ALGORITHMS, args.sizes, LEARNING_RATES))
    acted, violations, worst, slopes = 0, 0, 0.0, []
    for turn, (algorithm, size, lr) in enumerate(tqdm(cases, disable=None)):
        model = build(algorithm, size, ("spectral", "orthogonal", "sandwich")[turn % 3], args.seed + turn)
        module, optimizer = acting(model)
        network: Any = model.policy.lipschitz_network
        target = copy.deepcopy(module)
        target.train(False)
        for group in optimizer.param_groups:
            group["lr"] = lr
        for _ in range(args.transitions):
            module.train(True)
            y = outputs(module, network, torch.rand(8, 1, size, size))
            optimizer.zero_grad()
            (y[1:] - y[:-1]).square().mean().neg().backward()
            optimizer.step()
            model.policy.set_training_mode(False)
            polyak_update(module.parameters(), target.parameters(), 0.3)
            for one, allowed in ((module, 1.0), (target, 1 + 1e-6), (copy.deepcopy(module), 1.0)):
                found = excess(one)
                acted, worst = acted + 1, max(worst, found)
                if not found <= allowed:
                    violations += 1
                    print(
                        f"VIOLATION: {algorithm.__name__} {size}×{size} lr {lr}: a layer at {found!r} of its bound"
                    )
        certificate = certify(model, n_starts=args.starts, seed=turn)
        slope = certificate.lower_bound / certificate.upper_bound
        slopes.append(slope)
        promised = certificate.promise is not None and certificate.network.upper_bound > certificate.promise
        if slope > 1 or promised:
            violations += 1
            print(f"VIOLATION: {algorithm.__name__} {size}×{size} lr {lr}: {certificate}")
    print(
        f"{acted} networks of {len(cases)} policies that act, copies and targets: {violations} violations; largest "
        f"norm {worst:.8f} of its bound; slope found / bound: median {np.median(slopes):.2f}, largest {max(slopes):.4f}"
    )


if __name__ == "__main__":
    main()
