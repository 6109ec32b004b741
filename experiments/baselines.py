"""One table of all agents: clean, under white and coloured noise, bias and attacks; K; training time.

    python -m experiments.baselines runs/pendulum/ppo-pendulum-* runs/baselines/*

Runs of the same agent with different training seeds are pooled. The first agent is the baseline. The others are
compared with it, seed by seed in the same episodes, and it is also shown with an action filter. The results of a run
are stored in its folder (conditions.json) and not measured again.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import tyro
from tqdm import tqdm

from envs import Task
from experiments._conditions import MEASURED, Conditions, Episodes
from experiments._console import fail, open_runs, parse
from experiments._pooling import one_task, refuse_mixtures, refuse_twins
from experiments._rows import rows_of
from lipsrl._files import write_text
from lipsrl.statistics import bootstrap_ci, iqm, paired_difference


@dataclass
class Args:
    """One table of all agents."""

    run: tyro.conf.Positional[list[Path]]
    """Run folders; the agent of the first one is the baseline."""
    episodes: int = 50
    """Episodes per run and condition; the same ones for every run."""
    seed: int = 0
    """Random seed of the episodes and the noise (not of the training)."""
    smoothing: float = 0.5
    """Weight of the newest action in the baseline's action filter."""
    output: Path | None = None
    """Write the rows of each run there (.csv)."""


def table(rows: pd.DataFrame, task: Task) -> str:
    """Markdown: IQM over training seeds with 95 % bootstrap intervals, paired differences with the first agent.

    Args:
        rows: of all runs (`experiments._rows`); the first agent is the baseline.
        task: of all runs.
    """

    def by_seed(agent: str, disturbance: str, strength: float, column: str) -> pd.Series:
        own = rows[
            (rows["agent"] == agent) & (rows["disturbance"] == disturbance) & (rows["strength"] == strength)
        ]
        return own.set_index("seed")[column].sort_index()

    agents = list(dict.fromkeys(rows["agent"]))
    runs = rows.drop_duplicates(["agent", "seed"])
    columns = Conditions.of(task).columns
    titles = ["agent", "seeds", *columns.values()]
    titles += [
        f"mean \\|Δa\\|, white noise σ={task.chatter_strength:g}",
        "power above a quarter of the sampling rate, likewise",
        "certified K, raw units",
        "training, s",
    ]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for agent in agents:
        cells = [agent, str((runs["agent"] == agent).sum())]
        for disturbance, strength in columns:
            own = by_seed(agent, disturbance, strength, "return")
            if own.empty:
                cells.append("–")
                continue
            low, high = bootstrap_ci(own.to_numpy(), iqm)[1:]
            cell = f"{float(iqm(own.to_numpy())):.0f} [{low:.0f}, {high:.0f}]"
            if agent != agents[0]:
                base = by_seed(agents[0], disturbance, strength, "return")
                shared = own.index.intersection(base.index)
                gap, down, up = paired_difference(own[shared].to_numpy(), base[shared].to_numpy())
                cell += f"; {gap:+.0f} [{down:+.0f}, {up:+.0f}]"
            cells.append(cell)
        for column in MEASURED[1:]:
            found = by_seed(agent, "gaussian", task.chatter_strength, column).to_numpy()
            low, high = bootstrap_ci(found, iqm)[1:]
            cells.append(f"{float(iqm(found)):.2f} [{low:.2f}, {high:.2f}]")
        own = runs[runs["agent"] == agent]
        for column in ("K", "train_seconds"):
            known = own[column].dropna()
            cells.append(f"{known.median():.3g}" if len(known) else "none")
        lines.append("| " + " | ".join([agent, *(cell.replace("-", "−") for cell in cells[1:])]) + " |")
    return "\n".join(lines)


def of_runs(paths: list[Path], args: Args) -> str:
    """The table of run folders of one task.

    Raises:
        ValueError: runs of several tasks, one training twice, or an agent with several settings.
    """
    folders = open_runs(paths)
    configs = [folder.read_config() for folder in folders]
    task = one_task(configs)
    refuse_twins(folders, configs)
    refuse_mixtures(folders, configs)
    first, episodes = configs[0]["agent"], Episodes(args.episodes, args.seed)
    rows = pd.concat(
        [
            rows_of(folder, task, episodes, args.smoothing if config["agent"] == first else None)
            for folder, config in zip(tqdm(folders, unit="run", disable=None), configs, strict=True)
        ]
    )
    if args.output is not None:
        write_text(args.output, rows.to_csv(index=False))
    return table(rows, task)


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    with fail():
        print(of_runs(args.run, args))


if __name__ == "__main__":
    sys.exit(main())
