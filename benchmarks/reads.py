"""How often does a training read a tensor's value back? On a GPU each such read waits for everything before it.

``python -m benchmarks.reads [--steps N]`` trains SAC, TD3 and PPO on the CPU, where the same code reads the same
values, and counts per environment step: stock and each fast layer, at two sizes. The optimizers' own step counters are
left out: torch keeps them on the CPU also where the weights are not.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Any
from unittest.mock import patch

import stable_baselines3
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lipsrl  # noqa: F401
from lipsrl.layers import _same

ALGORITHMS: dict[str, dict[str, Any]] = {
    "SAC": {"learning_starts": 50},
    "TD3": {"learning_starts": 50},
    "PPO": {"n_steps": 64, "batch_size": 64, "n_epochs": 1},
}
LAYERS = ("stock", "spectral", "orthogonal", "sandwich")
SIZES = ([64, 64], [256, 256])

#: Operations whose result the program waits for: a number, a truth value, or a size that depends on values.
READS = ("aten._local_scalar_dense", "aten.equal", "aten.is_nonzero", "aten.nonzero", "aten.masked_select")


class Reads(TorchDispatchMode):
    """Counts reads by the line that asked for them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: Counter[str] = Counter()

    def __enter__(self) -> Reads:
        tolist = torch.Tensor.tolist

        def counted(tensor: torch.Tensor) -> Any:
            self.lines[_asked()] += 1
            return tolist(tensor)

        self._patches = [
            patch.object(torch.Tensor, "tolist", counted),  # of an accelerator's tensor: one copy
            patch.object(_same, "waits", lambda device: True),  # lipsrl asks there as it would
        ]
        for one in self._patches:
            one.start()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for one in self._patches:
            one.stop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).rsplit(".", 1)[0]
        by_mask = name == "aten.index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in READS or by_mask:
            line = _asked()
            if "/torch/optim/" not in line:
                self.lines[line] += 1
        return func(*args, **(kwargs or {}))


def _asked() -> str:
    """The nearest line of SB3, lipsrl or torch's optimizers."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if any(place in file for place in ("/lipsrl/", "/stable_baselines3/", "/torch/optim/")):
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


def reads(algorithm: str, layer: str, hidden: list[int], steps: int) -> Counter[str]:
    """By line, over ``steps`` environment steps of a training that has begun."""
    policy: dict[str, Any] = {"net_arch": hidden}
    if layer != "stock":
        policy |= {"lipschitz_bound": 10.0, "layer": layer}
    model = getattr(stable_baselines3, algorithm)(
        "MlpPolicy" if layer == "stock" else "LipschitzMlpPolicy", "Pendulum-v1", seed=0, device="cpu",
        policy_kwargs=policy, **ALGORITHMS[algorithm],
    )  # fmt: skip
    model.learn(256)
    with Reads() as found:
        model.learn(steps, reset_num_timesteps=False)
    return found.lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=128, help="a multiple of PPO's rollout, 64")
    parser.add_argument("--lines", action="store_true", help="also which lines ask, for the last size")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| reads per environment step | {' | '.join(LAYERS)} |\n|---|" + "---|" * len(LAYERS))
    asked = {}
    for algorithm in ALGORITHMS:
        for hidden in SIZES:
            counts = []
            for layer in LAYERS:
                lines = asked[algorithm, layer] = reads(algorithm, layer, hidden, options.steps)
                counts.append(f"{sum(lines.values()) / options.steps:.1f}")
            print(f"| {algorithm}, {len(hidden)}×{hidden[0]} | {' | '.join(counts)} |", flush=True)
    if options.lines:
        for (algorithm, layer), lines in asked.items():
            print(f"\n{algorithm}, {layer}")
            for line, count in lines.most_common(12):
                print(f"  {count / options.steps:.2f}  {line}")


if __name__ == "__main__":
    main()
