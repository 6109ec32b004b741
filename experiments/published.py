"""Each soft method at its published weights on Pendulum, beside what others have published of it.

    python -m experiments.published --output runs/published

The weights are those of `agents.regularized` (CAPS, L2C2, Grad-CAPS, ASAP: ASAP's appendix; PAVE: its authors' code),
chosen by nobody here. Episodes without noise, deterministic actions, as in the publications; `Sm` is their measure
(2/T·Σ|Y_k|k/T of the actions that the environment receives, `lipsrl.metrics.spectral_smoothness`, whose default is the
same up to a factor). Beside it the chatter, mean |Δa| in white noise of the task's chatter strength, which no
publication has. Paired with the plain agent seed by seed. What is there already is not made again; the rows are one
small file in --results, with which the study goes on where the run folders were lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from envs import get_task
from experiments._conditions import Episodes, kept
from experiments._console import fail, parse
from experiments._locks import exclusive
from experiments._trials import Trainings
from experiments.regularizers import METHODS
from lipsrl._files import write_text
from lipsrl._validation import lookup, positive_int
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import evaluate
from lipsrl.statistics import bootstrap_ci, iqm, paired_difference, paired_ratio
from lipsrl.tracking import RunFolder

TASK = get_task("pendulum")

#: Recipes whose weights are not those of the publications: ASAP's appendix has .01.
SCALES = {"ppo-grad-caps": 0.1}

#: Agents that are no method's own but its twin: PAVE needs smooth activations.
TWINS = {"sac-pave": "sac-silu"}

#: Agent → change of Sm against the publication's own plain agent on Pendulum: ASAP (2601.18479, tables 2 and 3), CATS
#: (2610.07910, table I), PAVE (2601.22970, table 2), DAMPER (2026, table 2; others' methods run again).
PUBLISHED = {
    "ppo-caps": "ASAP −16 %, CATS −10 %",
    "ppo-l2c2": "ASAP +1 %, CATS −4 %",
    "ppo-grad-caps": "ASAP −12 %, CATS −4 %",
    "ppo-asap": "ASAP −17 %, CATS −4 %",
    "ppo-cats": "CATS −27 %",
    "sac-caps": "ASAP −28 %, CATS −62 %, PAVE −38 %, DAMPER −32 %",
    "sac-l2c2": "ASAP −9 %, CATS +21 %, DAMPER +6 %",
    "sac-grad-caps": "ASAP −18 %, CATS −49 %, PAVE −31 %, DAMPER −21 %",
    "sac-asap": "ASAP −20 %, CATS −51 %, PAVE −34 %, DAMPER +5 %",
    "sac-cats": "CATS −70 %",
    "sac-pave": "PAVE −47 %, DAMPER −30 %",
}

MEASURED = ["return", "spectral_smoothness", "action_fluctuation", "chatter"]
COLUMNS = ["agent", "seed", "timesteps", "episodes", *MEASURED]


@dataclass
class Args:
    """Train every method at its published weights, measure it without noise, print the table."""

    family: str = "ppo"
    """Algorithm: ppo or sac."""
    seeds: int = 5
    """Training seeds, from 0."""
    timesteps: int | None = None
    """Environment steps of each training. Default: the agent's own number."""
    episodes: int = 30
    """Episodes per run, the same ones for all."""
    output: Path = Path("runs/published")
    """Folder for the run folders."""
    results: Path | None = None
    """Folder for the rows. Default: OUTPUT."""
    jobs: int = 2
    """Number of trainings that run at the same time, one thread each."""

    @property
    def file(self) -> Path:
        """Of the rows."""
        return (self.results or self.output) / f"published-{self.family}.csv"

    def agents(self) -> list[str]:
        """The plain agent first, twins before their methods."""
        named = [name for method in METHODS[self.family] for name in (TWINS.get(method), method) if name]
        return [self.family, *named]


def measured(folder: Path, episodes: Episodes) -> pd.DataFrame:
    """Means of a run over its episodes, one row."""

    def play() -> pd.DataFrame:
        model, statistics = RunFolder(folder).load()
        frame = evaluate(
            model,
            TASK.make,
            disturbances=GaussianNoise(1.0),
            strengths=(0.0, TASK.chatter_strength),
            n_episodes=episodes.number,
            seed=episodes.seed,
            vec_normalize=statistics,
            progress=False,
        ).frame
        clean, noisy = (part for _, part in frame.groupby("strength"))
        found = clean[MEASURED[:-1]].mean().to_frame().T
        return found.assign(chatter=noisy["action_fluctuation"].mean())

    return kept(folder / "with-and-without-noise.json", episodes, play)


def known(args: Args, lengths: dict[str, int]) -> pd.DataFrame:
    """The rows that are there.

    Raises:
        ValueError: of another study.
    """
    if not args.file.is_file():
        return pd.DataFrame(columns=COLUMNS)
    rows = pd.read_csv(args.file)
    if list(rows.columns) != COLUMNS:
        raise ValueError(f"{args.file} has the columns {', '.join(rows.columns)}, not {', '.join(COLUMNS)}.")
    other = rows[(rows["episodes"] != args.episodes) | (rows["timesteps"] != rows["agent"].map(lengths))]
    if len(other):
        one = other.iloc[0]
        raise ValueError(
            f"{args.file} has {one['agent']}, seed {one['seed']}, with {one['timesteps']} steps and {one['episodes']} "
            "episodes: not the same settings. Give another --results, or the same settings."
        )
    return rows


def study(args: Args) -> None:
    """Trainings, measurements, table.

    Raises:
        ValueError: arguments that are out of range, or rows or run folders of another study.
        BusyError: another process writes these rows.
    """
    lookup("family", args.family, dict.fromkeys(name.split("-")[0] for name in PUBLISHED))
    for name in ("seeds", "episodes", "jobs"):
        positive_int(name, getattr(args, name))
    if args.timesteps is not None:
        positive_int("timesteps", args.timesteps)
    agents, trainings = args.agents(), Trainings(TASK, args.timesteps, args.jobs)
    lengths = {agent: trainings.length(agent) for agent in agents}
    with exclusive(args.file):
        rows = known(args, lengths)
        for seed in range(args.seeds):
            have = set(rows.loc[rows["seed"] == seed, "agent"])
            places = {agent: args.output / f"{agent}-{seed}" for agent in agents if agent not in have}
            trainings.run({place: (agent, seed, SCALES.get(agent, 1.0)) for agent, place in places.items()})
            for agent, place in places.items():
                row = measured(place, Episodes(args.episodes)).assign(
                    agent=agent, seed=seed, timesteps=lengths[agent], episodes=args.episodes
                )[COLUMNS]
                rows = row if rows.empty else pd.concat([rows, row], ignore_index=True)
            write_text(args.file, rows.to_csv(index=False))
    print(table(rows[rows["seed"] < args.seeds], agents))


def table(rows: pd.DataFrame, agents: list[str]) -> str:
    """Markdown: IQM over seeds, paired with the plain agent (PAVE with its twin), 95 % bootstrap intervals."""
    of = {agent: rows[rows["agent"] == agent].set_index("seed")[MEASURED].sort_index() for agent in agents}
    lines = [
        "| agent | return | against plain | Sm, × plain | Sm, published change | mean \\|Δa\\| | in noise, × plain |",
        "|---|---|---|---|---|---|---|",
    ]
    for agent in agents:
        own, plain = of[agent], of[TWINS.get(agent, agents[0])]
        centre, low, high = bootstrap_ci(own["return"].to_numpy(), iqm)
        cells = [f"`{agent}`", f"{centre:.0f} [{low:.0f}, {high:.0f}]"]
        fluctuation = f"{float(iqm(own['action_fluctuation'].to_numpy())):.3f}"
        if agent == agents[0]:
            cells += ["", "1", "", fluctuation, "1"]
        else:
            gap = paired_difference(own["return"].to_numpy(), plain["return"].to_numpy())
            ratios = [
                paired_ratio(own[column].to_numpy(), plain[column].to_numpy())
                for column in ("spectral_smoothness", "chatter")
            ]
            smooth, noisy = (f"{r.estimate:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in ratios)
            against = f"{gap.estimate:+.0f} [{gap.low:+.0f}, {gap.high:+.0f}]"
            cells += [against, smooth, PUBLISHED.get(agent, "none found"), fluctuation, noisy]
        lines.append(
            "| " + " | ".join(cell.replace("-", "−") if cell[:1] != "`" else cell for cell in cells) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    with fail():
        study(args)


if __name__ == "__main__":
    main()
