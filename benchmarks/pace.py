"""Does a Lipschitz agent learn as fast as stock SB3 with the same hyperparameters?

``python -m benchmarks.pace [--tasks …] [--layers …] [--seeds N]``: learning curves of stock agents and
of each fast layer side by side, seed by seed, with SB3's defaults or rl-baselines3-zoo's settings (``_pace_tasks.py``).
K is a multiple of the steepest slope that the stock agents end with. One JSON file per training; those that are there
are not trained again, so the command may be interrupted and called again. At the end a table.

Area: mean training return over the whole training, above the return of random actions, relative to stock's mean on that
task. In the IQM all tasks weigh the same, however many seeds they have. Seeds from 0 are for these tables; nothing was
chosen by them (trials use seeds from 100).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from benchmarks._pace_tasks import TASKS
from experiments._scores import task_iqm
from lipsrl._files import write_text
from lipsrl.layers import ACTIVATIONS
from lipsrl.layers import LAYERS as CONSTRAINTS
from lipsrl.statistics import bootstrap_ci

RESULTS = Path(__file__).parent / "results" / "pace"
LAYERS = ("sandwich", "orthogonal", "spectral")

#: Among the layers: SB3's own policy with torch's fused Adam, which ours has: the same equations, rounded in another
#: order. What it differs from stock by is chance.
FUSED = "stock-fused"

#: In the place of a share of stock's slope.
SUGGESTED = -1.0


@dataclass(frozen=True)
class Job:
    """One training. ``layer`` is ``"stock"`` or a constraint; ``share`` is K as a multiple of stock's slope.

    ``SUGGESTED``: K is what `lipsrl.suggest_bound` makes of the stock agents.
    """

    task: str
    layer: str
    seed: int
    share: float = 0.0
    bound: float = 0.0
    activation: str = ""  # the task's own, which is SB3's

    @property
    def name(self) -> str:
        parts = [
            self.task,
            self.layer,
            "suggested" if self.share == SUGGESTED else f"{self.share:g}" if self.share else "",
            self.activation,
            str(self.seed),
        ]
        return "-".join(part for part in parts if part)


def steepest(model: Any, observations: np.ndarray) -> float:
    """Largest singular value of the actor's Jacobian at ``observations`` (n, obs)."""
    import lipsrl

    network = lipsrl.actor_network(model)
    x = torch.as_tensor(observations, dtype=torch.float32).flatten(1)
    jacobians = torch.func.vmap(torch.func.jacrev(network))(x)
    return float(torch.linalg.svdvals(jacobians.flatten(1, -2))[:, 0].max())


def random_return(env_id: str, episodes: int = 50) -> float:
    """Mean return of random actions."""
    env = gym.make(env_id)
    env.action_space.seed(0)
    total = 0.0
    for episode in range(episodes):
        env.reset(seed=episode)
        done = False
        while not done:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, done = total + float(reward), terminated or truncated
    return total / episodes


def train(job: Job) -> dict[str, Any]:
    """The learning curve (step, return of the episode that ended there), and the slope found on the way."""
    torch.set_num_threads(1)
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    from lipsrl.certificates import suggestion_for

    task = TASKS[job.task]
    episodes: list[tuple[int, float]] = []
    slopes: list[tuple[int, float]] = []

    class Record(BaseCallback):
        due = 0

        def _on_step(self) -> bool:
            episodes.extend(
                (self.num_timesteps, float(info["episode"]["r"]))
                for info in self.locals["infos"]
                if "episode" in info
            )
            return True

        def _on_rollout_start(self) -> None:
            if self.num_timesteps >= self.due:
                self.due = self.num_timesteps + task.steps // 10
                slopes.append((self.num_timesteps, steepest(self.model, recent(self.model))))

    policy, constrained = dict(task.policy), job.layer not in ("stock", FUSED)
    if job.layer == FUSED:
        # an eps of its own: SB3 gives PPO's Adam one where nothing else is asked for
        policy["optimizer_kwargs"] = {"fused": True} | ({"eps": 1e-5} if task.algorithm == "PPO" else {})
    if constrained:
        policy |= {"lipschitz_bound": job.bound, "layer": job.layer}
        if job.activation:
            policy |= {"activation": job.activation}
    model = getattr(stable_baselines3, task.algorithm)(
        "LipschitzMlpPolicy" if constrained else "MlpPolicy",
        make_vec_env(task.env, task.n_envs, seed=job.seed),
        policy_kwargs=policy,
        seed=job.seed,
        device="cpu",
        **task.arguments,
    )
    model.learn(task.steps, callback=Record())
    slopes.append((model.num_timesteps, steepest(model, recent(model))))
    found: dict[str, Any] = {**asdict(job), "episodes": episodes, "slopes": slopes}
    if job.layer == "stock":
        found["suggested"] = suggestion_for(slopes[-1][1], model).bound
    return found


def recent(model: Any) -> np.ndarray:
    """Up to 1000 observations that the agent met last; zeros before there are any."""
    shape = model.observation_space.shape
    if hasattr(model, "rollout_buffer"):
        return model.rollout_buffer.observations.reshape(-1, *shape)[-1000:]
    buffer = model.replay_buffer
    return buffer.observations[max(0, buffer.pos - 1000) : max(1, buffer.pos)].reshape(-1, *shape)


def area(result: dict[str, Any]) -> float:
    """Mean return over the training: every step counts with the return of the episode that it belongs to."""
    steps, returns = np.array(result["episodes"], dtype=float).T
    return float(np.average(returns, weights=np.maximum(np.diff(steps, prepend=0.0), 1e-9)))


def final(result: dict[str, Any]) -> float:
    """Mean return of the last fifth of the training."""
    steps, returns = np.array(result["episodes"], dtype=float).T
    return float(returns[steps > 0.8 * steps[-1]].mean())


def table(folder: Path, layers: list[str], share: float, activation: str = "") -> str:
    """Markdown: per task the relative area of each layer, and the IQM over tasks."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    found = [r for r in found if r["layer"] in ("stock", FUSED) or r.get("activation", "") == activation]
    lines = [
        f"| task | seeds | slope of stock | {' | '.join(layers)} |",
        "|---|---|---|" + "---|" * len(layers),
    ]
    relative: dict[str, list[list[float]]] = {layer: [] for layer in layers}
    for task in TASKS:
        stock = [r for r in found if r["task"] == task and r["layer"] == "stock"]
        if not stock:
            continue
        floor = random_return(TASKS[task].env)
        reference = statistics.mean(area(r) for r in stock) - floor
        slope = statistics.median(r["slopes"][-1][1] for r in stock)
        cells = []
        for layer in layers:
            wanted = (task, layer, 0.0 if layer == FUSED else share)
            own = [r for r in found if (r["task"], r["layer"], r["share"]) == wanted]
            areas = [(area(r) - floor) / reference for r in own]
            if areas:
                relative[layer].append(areas)
                ends = statistics.mean(final(r) for r in own), statistics.mean(final(r) for r in stock)
                slope_end = statistics.median(r["slopes"][-1][1] for r in own)
                cells.append(f"{np.mean(areas):.2f} ({ends[0]:.0f} / {ends[1]:.0f}; {slope_end:.3g})")
            else:
                cells.append("")
        lines.append(f"| {task} | {len(stock)} | {slope:.3g} | {' | '.join(cells)} |")
    summary = []
    for layer in layers:
        strata = relative[layer]
        if strata:
            found_iqm = bootstrap_ci(strata, task_iqm(list(map(len, strata))))  # tasks differ in seeds
            summary.append(f"**{found_iqm.estimate:.2f}** [{found_iqm.low:.2f}, {found_iqm.high:.2f}]")
        else:
            summary.append("")
    return "\n".join([*lines, f"| IQM over tasks | | | {' | '.join(summary)} |"])


def run(
    jobs: list[Job],
    folder: Path,
    workers: int,
    work: Callable[[Job], dict[str, Any]] = train,
    needed: str = "episodes",
) -> None:
    """Train what is missing, and what was trained before results had ``needed``."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for job in jobs:
        file = folder / f"{job.name}.json"
        if not (file.exists() and needed in json.loads(file.read_text())):
            missing.append(job)
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
        for result in pool.imap_unordered(work, missing, chunksize=1):
            job = Job(
                **{key: result[key] for key in ("task", "layer", "seed", "share", "bound", "activation")}
            )
            write_text(folder / f"{job.name}.json", json.dumps(result))
            print(f"{job.name}: area {area(result):.1f}, end {final(result):.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--layers", nargs="+", default=list(LAYERS))
    parser.add_argument(
        "--shares", nargs="+", type=float, help="K as multiples of stock's slope; 2 if not given"
    )
    parser.add_argument(
        "--suggested", action="store_true", help="instead: K as lipsrl.suggest_bound says of the stock agents"
    )
    parser.add_argument(
        "--activation",
        default="",
        choices=["", *ACTIVATIONS],
        help="of the Lipschitz agents; SB3's if not given",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    unknown = sorted(set(options.layers) - {*CONSTRAINTS, FUSED})
    if unknown:
        parser.error(f"expected --layers of {', '.join((*CONSTRAINTS, FUSED))}, got {', '.join(unknown)}.")
    if FUSED in options.layers and "cartpole-a2c" in options.tasks:
        parser.error(f"expected no {FUSED} with cartpole-a2c: A2C's optimizer is RMSprop. Leave one out.")
    if options.suggested and options.shares:
        parser.error("expected --suggested or --shares, got both: they are two rules for K.")
    if options.shares is not None and min(options.shares) <= 0:
        parser.error(f"expected --shares > 0, got {min(options.shares):g}.")
    shares = [SUGGESTED] if options.suggested else options.shares or [2.0]
    seeds = range(options.seeds)
    for task in options.tasks:
        stock = [Job(task, "stock", seed) for seed in seeds]
        run(stock, options.output, options.workers, needed="suggested" if options.suggested else "episodes")
        results = [json.loads((options.output / f"{job.name}.json").read_text()) for job in stock]
        slope = statistics.median(r["slopes"][-1][1] for r in results)
        if options.suggested:
            bounds = {SUGGESTED: statistics.median(r["suggested"] for r in results)}
        else:
            bounds = {share: share * slope for share in shares}
        jobs = [
            Job(task, layer, seed, share, float(f"{bound:.3g}"), options.activation)
            for share, bound in bounds.items()
            for seed in seeds
            for layer in options.layers
            if layer != FUSED
        ]
        jobs += [Job(task, FUSED, seed) for seed in seeds if FUSED in options.layers]
        run(jobs, options.output, options.workers)
    for share in shares:
        rule = "suggest_bound(stock)" if share == SUGGESTED else f"{share:g} × stock's slope"
        print(f"\nK = {rule}: area relative to stock (return at the end / stock's; slope)\n")
        print(table(options.output, options.layers, share, options.activation))


if __name__ == "__main__":
    main()
