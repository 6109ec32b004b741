"""Does it cost pace if a layer's singular values cannot grow apart, as those of an orthogonal layer cannot?

``python -m benchmarks.directions [--task cartpole-a2c] [--shares 0 0.25 0.5 1] [--seeds N]``: stock agents, whose
actor's layers are squeezed after every optimizer step: with share ρ all singular values stay in [ρ·m, m/ρ], m their
mean. ρ = 0 is stock itself, and with ρ = 1 all directions move together. No bound, no gains of their own, nothing else
of lipsrl is in these agents. Seeds from 100; one JSON file per training, those that are there are not trained again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.pace import TASKS, area, final, random_return, recent, steepest
from lipsrl._files import write_text
from lipsrl.statistics import bootstrap_ci

RESULTS = Path(__file__).parent / "results" / "directions"


@torch.no_grad()
def squeeze(weight: torch.Tensor, share: float) -> None:
    """Keep the singular values of ``weight`` within [share·mean, mean/share], in place."""
    if share > 0.0:
        u, values, v = torch.linalg.svd(weight.double(), full_matrices=False)
        mean = values.mean()
        weight.copy_((u * values.clamp(share * mean, mean / share)) @ v)


def train(job: tuple[str, float, int]) -> dict[str, Any]:
    """One training: episodes, and the actor's slope and its layers' largest singular values at the end."""
    torch.set_num_threads(1)
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    name, share, seed = job
    task = TASKS[name]
    episodes: list[tuple[int, float]] = []

    class Record(BaseCallback):
        def _on_step(self) -> bool:
            ended = (info["episode"]["r"] for info in self.locals["infos"] if "episode" in info)
            episodes.extend((self.num_timesteps, float(r)) for r in ended)
            return True

    model = getattr(stable_baselines3, task.algorithm)(
        "MlpPolicy", make_vec_env(task.env, task.n_envs, seed=seed), policy_kwargs=dict(task.policy), seed=seed,
        device="cpu", **task.arguments,
    )  # fmt: skip
    policy = model.policy
    actor = [*policy.mlp_extractor.policy_net, policy.action_net]
    weights = [layer.weight for layer in actor if isinstance(layer, nn.Linear)]

    def after_step(*_: Any) -> None:
        for weight in weights:
            squeeze(weight, share)

    policy.optimizer.register_step_post_hook(after_step)
    model.learn(task.steps, callback=Record())
    sizes = [torch.linalg.svdvals(weight.detach())[[0, -1]].tolist() for weight in weights]
    slopes = [(model.num_timesteps, steepest(model, recent(model)))]
    return {
        "task": name,
        "share": share,
        "seed": seed,
        "episodes": episodes,
        "slopes": slopes,
        "sizes": sizes,
    }


def table(results: list[dict[str, Any]], task: str) -> str:
    """Markdown: per share the area relative to share 0, its paired difference, and the return at the end."""
    floor = random_return(TASKS[task].env)
    of = {(r["share"], r["seed"]): r for r in results}
    seeds = sorted({seed for _, seed in of})
    plain = np.array([area(of[0.0, seed]) - floor for seed in seeds])
    lines = ["| ρ | seeds | area relative to ρ = 0 | return at the end | slope | singular values of layer 2 |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for share in sorted({share for share, _ in of}):
        own = [of[share, seed] for seed in seeds]
        ratio = np.array([area(r) - floor for r in own]) / plain.mean()
        interval = bootstrap_ci(ratio - plain / plain.mean(), np.mean)
        ends = statistics.mean(final(r) for r in own)
        slope = statistics.median(r["slopes"][-1][1] for r in own)
        large, small = (statistics.median(r["sizes"][1][i] for r in own) for i in (0, 1))
        lines.append(
            f"| {share:g} | {len(seeds)} | {ratio.mean():.2f}, difference [{interval.low:+.2f}, {interval.high:+.2f}] "
            f"| {ends:.0f} | {slope:.3g} | {large:.3g} to {small:.3g} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    on_policy = [name for name, task in TASKS.items() if task.algorithm in ("PPO", "A2C")]
    parser.add_argument("--task", choices=on_policy, default="cartpole-a2c")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.25, 0.5, 1.0])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if 0.0 not in options.shares or not all(0.0 <= share <= 1.0 for share in options.shares):
        parser.error("--shares are numbers from 0 to 1, among them 0: what the others are compared with.")
    RESULTS.mkdir(parents=True, exist_ok=True)
    jobs = [
        (options.task, share, seed) for seed in range(100, 100 + options.seeds) for share in options.shares
    ]
    files = {job: RESULTS / f"{job[0]}-{job[1]:g}-{job[2]}.json" for job in jobs}
    missing = [job for job in jobs if not files[job].exists()]
    with multiprocessing.get_context("spawn").Pool(options.workers, maxtasksperchild=1) as pool:
        for result in pool.imap_unordered(train, missing, chunksize=1):
            file = files[result["task"], result["share"], result["seed"]]
            write_text(file, json.dumps(result))
            print(f"{file.stem}: area {area(result):.1f}, end {final(result):.1f}", flush=True)
    print(table([json.loads(file.read_text()) for file in files.values()], options.task))


if __name__ == "__main__":
    main()
