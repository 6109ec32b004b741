"""Train an agent with several K beside its plain twin: what is the smallest K that costs no return?

    python -m experiments.frontier --agent ppo-sandwich --plain ppo --task pendulum --bounds 2 4 6 8 12 --seeds 3

`lipsrl frontier` asks the same of one trained agent by distillation, in half a minute per K. Here every K is trained
from scratch, with several seeds. So this is what an agent under a bound can learn, and not what a student can copy. Run
folders and launchers are those of `experiments.sweep`: the same command continues after an interruption.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import torch
import tyro

from agents import get_agent
from envs import get_task
from experiments._checkpoint import is_finished
from experiments._console import open_runs, parse
from experiments._distill_tables import markdown
from experiments.evaluate import certify_run, evaluate_run, white_noise
from experiments.launchers import Options
from experiments.sweep import Args as SweepArgs
from experiments.sweep import exit_status, sweep
from lipsrl._validation import positive_finite, positive_int
from lipsrl.certificates import Certificate
from lipsrl.evaluation import Evaluation
from lipsrl.reporting.numbers import interval, number
from lipsrl.tracking import Mode, RunFolder


@dataclass
class Args:
    """Train an agent with several K, beside its plain twin."""

    agent: str = "ppo-sandwich"
    """Name of the Lipschitz agent (see agents/)."""
    plain: str = "ppo"
    """Name of its plain twin, with which every K is compared."""
    task: str = "pendulum"
    """Name of the task (see envs/)."""
    bounds: list[float | Literal["auto"]] = field(default_factory=lambda: [2.0, 4.0, 6.0, 8.0, 12.0, 16.0])
    """Values of K. auto beside them: the K that each training finds (experiments.train --lipschitz-bound auto)."""
    seeds: int = 3
    """Number of training seeds of every agent."""
    first_seed: int = 0
    """First training seed."""
    timesteps: int | None = None
    """Environment steps. Default: the agent's own number."""
    budget: str | None = None
    """How K is divided among the layers (see lipsrl.layers.BUDGETS). Default: the agent's own, output."""
    episodes: int = 100
    """Evaluation episodes per run and noise level."""
    output: Path = Path("runs/frontier")
    """Run folders are OUTPUT/ID; OUTPUT/frontier.parquet (and .json) has the episodes of all that is asked for."""
    extend: bool = False
    """Add values of K to the folder of an earlier frontier. Its runs are kept; the table and frontier.parquet have what
    is asked for now."""
    track: Mode | None = None
    """Weights & Biases: online, offline or disabled; see experiments.train."""
    launch: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)
    """Where the trainings run."""


@dataclass(frozen=True)
class Trained:
    """The plain agent and the agents of each K, all evaluated under white noise in the same episodes.

    Attributes:
        evaluation: of all of them.
        bounds: agent → K.
        plain: the agent that the others are compared with.
        searched: agent → the K that each of its trainings found, by seed. Nothing is recommended by these.
    """

    evaluation: Evaluation
    bounds: dict[str, float]
    plain: str
    searched: dict[str, list[float]] = field(default_factory=dict)

    @cached_property
    def _differences(self) -> dict[str, pd.DataFrame]:
        agents = [*self.bounds, *self.searched]
        return {agent: self.evaluation.compare(agent, self.plain, "return") for agent in agents}

    def difference(self, agent: str, strength: float) -> pd.Series:
        """Return of ``agent`` minus that of the plain one, paired by training seed."""
        table = self._differences[agent]
        return table.loc[table["strength"] == strength].iloc[0]

    def recommended(self, strength: float = 0.0) -> str | None:
        """The agent of the smallest K whose return is not distinguishable from the plain agent's, or better.

        That is: the 95 % interval of the paired difference reaches 0. More seeds tell smaller differences. None: no K.
        """
        fitting = [a for a in self.bounds if self.difference(a, strength)["difference_high"] >= 0]
        return min(fitting, key=lambda agent: self.bounds[agent], default=None)


def beside_search(trained: Trained) -> str:
    """What each search found, beside the K that is recommended without noise."""
    best, lines = trained.recommended(), []
    for agent, found in trained.searched.items():
        gap = trained.difference(agent, 0.0)
        text = f"{agent}: K = {', '.join(f'{k:.3g}' for k in found)}"
        if best is not None:
            low, high = (k / trained.bounds[best] for k in (min(found), max(found)))
            text += f", {low:.2f} to {high:.2f} times the smallest K without noise"
        lines.append(
            f"{text}; return minus that of {trained.plain}: {number(gap['difference'])} "
            f"{interval(gap['difference_low'], gap['difference_high'])}."
        )
    return "\n".join(lines)


def table(trained: Trained, certificates: dict[str, list[Certificate]], strengths: list[float]) -> str:
    """Markdown: one row per K, and one per search."""
    chatter = "mean \\|Δa\\|"
    small = next((s for s in strengths if s > 0), strengths[0])
    heads = ["K", "return clean"] + [f"σ = {s:g}" for s in strengths if s > 0]
    rows = [[*heads, "clean, minus plain", f"{chatter} at σ = {small:g}", "tightness of the network"]]
    summary = trained.evaluation.summary(["return", "action_fluctuation"]).set_index(["agent", "strength"])
    names = {
        agent: f"{trained.bounds[agent]:g}"
        for agent in sorted(trained.bounds, key=trained.bounds.__getitem__)
    }
    names |= {
        agent: f"auto: {', '.join(f'{k:.3g}' for k in found)}" for agent, found in trained.searched.items()
    }
    for agent in [trained.plain, *names]:

        def cell(column: str, strength: float, agent: str = agent) -> str:
            row = summary.loc[(agent, strength)]
            low, high = row[f"{column}_low"], row[f"{column}_high"]
            return f"{number(row[column])} {interval(low, high)}"

        known = agent in names
        found = trained.difference(agent, 0.0) if known else None
        tightness = [c.network.tightness for c in certificates[agent]]
        rows.append(
            [
                names.get(agent, "plain"),
                *(cell("return", s) for s in strengths),
                "" if found is None else
                f"{number(found['difference'])} {interval(found['difference_low'], found['difference_high'])}",
                cell("action_fluctuation", small),
                f"{min(tightness):.0%} to {max(tightness):.0%}",
            ]
        )  # fmt: skip
    return markdown(rows)


def frontier(args: Args) -> Trained | None:
    """Train what is missing, evaluate and print; ``None`` where Slurm has trainings still to do.

    Raises:
        ValueError: a name that does not exist, a plain agent with a bound, one without, or a number out of range.
        FailedError: trainings failed.
    """
    if get_agent(args.plain).layer is not None or get_agent(args.agent).layer is None:
        raise ValueError(
            f"expected a plain agent and a Lipschitz one, received plain={args.plain!r} and agent={args.agent!r}."
        )
    bounds = [bound if bound == "auto" else positive_finite("bounds", bound) for bound in args.bounds]
    if not set(bounds) - {"auto"} or len(set(bounds)) < len(bounds):
        raise ValueError(f"bounds must be at least one number, all different, received {args.bounds}.")
    task = get_task(args.task)
    positive_int("episodes", args.episodes)
    asked = SweepArgs(
        agents=[args.plain, args.agent], tasks=[args.task], seeds=args.seeds, first_seed=args.first_seed,
        timesteps=args.timesteps, lipschitz_bound=bounds, budget=args.budget, output=args.output, extend=args.extend,
        track=args.track, launch=args.launch,
    )  # fmt: skip
    paths = sweep(asked)
    if args.launch.launcher == "slurm" and not all(is_finished(RunFolder(path)) for path in paths):
        return None  # submitted: the same command later evaluates
    folders = open_runs(paths)
    evaluations, known, searched, certificates = [], {}, {}, {}
    for folder in folders:
        config = folder.read_config()
        evaluations.append(white_noise(evaluate_run(folder, episodes=args.episodes, seed=0)))
        certificates.setdefault(config["agent"], []).append(certify_run(folder))
        if "lipschitz_search" in config:
            searched.setdefault(config["agent"], []).append(float(config["lipschitz_bound"]))
            if config["lipschitz_search"] is None:
                print(f"note: {folder.path} found no K and has the one that it began with.", file=sys.stderr)
        elif config["layer"] is not None:
            known[config["agent"]] = float(config["lipschitz_bound"])
    trained = Trained(Evaluation.concat(evaluations), known, args.plain, searched)
    trained.evaluation.save(args.output / "frontier.parquet")
    print(table(trained, certificates, list(task.strengths)) + "\n")
    for strength in task.strengths:
        agent = trained.recommended(strength)
        where = "without noise" if strength == 0 else f"at σ = {strength:g}"
        said = "no K of these" if agent is None else f"K = {trained.bounds[agent]:g}"
        print(f"Smallest K whose return is not distinguishable from that of {args.plain} {where}: {said}.")
    if searched:
        print(beside_search(trained))
    return trained


def main() -> int:
    """Command line."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    return exit_status(lambda: frontier(args))


if __name__ == "__main__":
    sys.exit(main())
