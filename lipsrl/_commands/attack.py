"""``lipsrl attack``."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lipsrl._commands._source import Source, unique_keys
from lipsrl._commands._tracking import Tracking
from lipsrl._commands.evaluate import Measurement, keeping
from lipsrl._validation import lookup, non_negative
from lipsrl.attacks import (
    ATTACKS,
    Attack,
    ConstantBiasAttack,
    GradientAttack,
    MinimumOverAttacks,
    RandomAttack,
    RobustSarsaAttack,
    minimum_rows,
    robust_sarsa_scan,
    worst_attacks,
)
from lipsrl.evaluation import Evaluation, evaluate
from lipsrl.reporting.numbers import interval, number

#: what the table calls the worst of all attacks, and that of the scan
MINIMUM, SCAN = "minimum", "robust-sarsa scan"


@dataclass
class AttackCommand(Tracking):
    """Measure the return under attacks: errors of the observations, of limited size, that harm the policy most."""

    path: tyro.conf.Positional[list[Path]]
    """Run folders or SB3 zip files. Several models are attacked in the same episodes."""
    env: str | None = None
    """Gymnasium id of the environment. Required for zip files."""
    env_kwargs: list[str] = field(default_factory=list)
    """Arguments of the environment, KEY:VALUE, such as g:9.81."""
    vec_normalize: str = "auto"
    """File with the VecNormalize statistics of the model. auto: use the file that SB3, rl-zoo or lipsrl saved beside
    it. none: the model was trained without VecNormalize."""
    trust: bool = False
    """Also open files that contain custom code, and run this code. Use it only for files from a source that you
    trust."""
    frame_stack: int | None = None
    """How many observations the policies see at once, if they were trained behind a VecFrameStack."""
    attack: list[str] = field(default_factory=lambda: ["mad", "critic", "bias"])
    """One or more of mad, critic, bias (the worst constant error) and robust-sarsa. random is always included."""
    epsilon: list[float] = field(default_factory=lambda: [0.05, 0.1])
    """Largest errors allowed (radii of the ball around the true observation)."""
    norm: str = "linf"
    """Norm of the error: linf or l2."""
    units: str = "normalized"
    """Units of epsilon. normalized: the policy's input, after VecNormalize. raw: the sensors' own units."""
    sensor_scale: list[float] = field(default_factory=list)
    """Unit of epsilon for each sensor, for instance its tolerance in the datasheet: one number per sensor, or one for
    all. Replaces --units."""
    steps: int = 10
    """Gradient steps of an attack. Each has size epsilon/steps."""
    restarts: int = 1
    """How often an attack starts its gradient search again at every environment step."""
    scan: bool = False
    """Try Robust Sarsa with several training radii and weights, and use the lowest return."""
    episodes: int = 50
    """Episodes per model, attack and epsilon. All models play the same episodes."""
    seed: int = 0
    """Random seed of the episodes and the attacks."""
    max_episode_steps: int | None = None
    """Truncate episodes after this number of steps. Required if neither the task nor a TimeLimit ends an episode."""
    workers: int = 1
    """Number of processes. More than one helps with slow simulators (MuJoCo)."""
    resume: Path | None = None
    """Folder that stores finished episodes. Pass the same folder again to continue after an interruption."""
    output: Path | None = None
    """File for the table of all episodes (.parquet). A .json file with the settings is written beside it."""

    def run(self, console: Console) -> None:
        self.check_tracking()
        if self.output is not None:
            Evaluation.check_path(self.output)
        self.check_attacks()
        sources = Measurement(
            path=self.path,
            env=self.env,
            env_kwargs=self.env_kwargs,
            vec_normalize=self.vec_normalize,
            trust=self.trust,
            frame_stack=self.frame_stack,
        ).sources()
        if len(self.sensor_scale) == 1:
            shape = sources[0].model.observation_space.shape or (1,)
            self.sensor_scale *= shape[0] // (sources[0].frame_stack or 1)
        attacks = self.attacks(sources[0].env)
        with keeping(self.output):
            evaluation = self.measure(sources, attacks)
        if self.output is not None:
            evaluation.save(self.output)
        ball = f"{self.norm}, {'units of sensor-scale' if self.sensor_scale else f'{self.units} units'}"
        for agent in evaluation.frame["agent"].unique():
            console.print(attack_table(evaluation, agent, list(attacks), ball))
        config = {"attacks": list(attacks), "norm": self.norm, "units": self.sensor_scale or self.units}
        self.log(console, "attack", sources, evaluation, config, seed=self.seed)

    def check_attacks(self) -> None:
        """What of the attacks can be known to fail before anything is opened.

        Raises:
            ValueError: an unknown attack, norm or unit, one that is chosen twice, a radius that is none, or a scan of
                what is not chosen.
        """
        radii = [non_negative("each of epsilon", radius) for radius in self.epsilon]
        if not any(radii):
            raise ValueError(f"epsilon must hold at least one radius > 0, received {self.epsilon}.")
        self.attacks(None)
        if self.scan and RobustSarsaAttack.name not in self.attack:
            raise ValueError(
                f"scan needs {RobustSarsaAttack.name}, received --attack {' '.join(self.attack)}. Name it too, or "
                "leave --scan out."
            )

    def attacks(self, env: Any) -> MinimumOverAttacks:
        """The chosen attacks with ε = 1, to be scaled by the strengths; random first.

        Raises:
            ValueError: an unknown attack, norm or unit, or one that is chosen twice.
        """
        budget: dict[str, Any] = {"norm": self.norm, "units": self.sensor_scale or self.units}
        chosen: list[Attack | MinimumOverAttacks] = [RandomAttack(None, 1.0, **budget)]
        walk = {**budget, "steps": self.steps, "restarts": self.restarts}
        for name in self.attack:
            kind = lookup("attack", name, ATTACKS)
            if kind is RobustSarsaAttack:
                make = robust_sarsa_scan if self.scan else RobustSarsaAttack
                chosen.append(make(None, 1.0, env=env, max_episode_steps=self.max_episode_steps, **walk))
            elif kind is ConstantBiasAttack:
                chosen.append(
                    ConstantBiasAttack(None, 1.0, env=env, max_episode_steps=self.max_episode_steps, **budget)
                )
            elif issubclass(kind, GradientAttack):
                chosen.append(kind(None, 1.0, **walk))
        return MinimumOverAttacks(chosen)

    def measure(self, sources: list[Source], attacks: MinimumOverAttacks) -> Evaluation:
        """All episodes of all models."""
        keys = [agent if seed is None else (agent, seed) for agent, seed in unique_keys(sources)]
        return evaluate(
            {key: source.model for key, source in zip(keys, sources, strict=True)},
            sources[0].env,
            disturbances=attacks,
            strengths=[0.0, *(e for e in self.epsilon if e != 0)],
            n_episodes=self.episodes,
            n_workers=self.workers,
            seed=self.seed,
            vec_normalize={key: source.normalization for key, source in zip(keys, sources, strict=True)},
            frame_stack={key: source.frame_stack for key, source in zip(keys, sources, strict=True)},
            max_episode_steps=self.max_episode_steps,
            resume=self.resume,
            progress=sys.stderr.isatty(),
        )


def attack_table(evaluation: Evaluation, agent: str, attacks: list[str], ball: str) -> Table:
    """The return of one agent without attack, under each, and under the worst of them, with 95 % intervals.

    Args:
        evaluation: with strength 0 and the attacks as disturbances.
        agent: a name in it.
        attacks: names of disturbances, random first; members of a scan of robust Sarsa are shown as their minimum.
        ball: norm and units of the budget, for the title.
    """
    frame = evaluation.frame[evaluation.frame["agent"] == agent]
    scan = [name for name in attacks if name.startswith(f"{RobustSarsaAttack.name}(")]
    shown = [name for name in attacks if name not in scan]
    parts = [frame, minimum_rows(frame, attacks, name=MINIMUM)]
    if scan:
        parts.append(minimum_rows(frame, scan, name=SCAN))
        shown.append(SCAN)
    cells, resampled = _cells(pd.concat(parts), [*shown, MINIMUM])
    worst = worst_attacks(frame, attacks)
    strengths = sorted(worst["strength"].unique())
    said = (
        f"{frame['episode'].nunique()} episodes per model; 95 % intervals over {resampled}. Δ: difference to random in "
        "the same episodes. The minimum is taken for each model over the whole episodes of an attack."
    )
    table = Table(
        title=Text(f"{agent}: return under attack, ε in {ball}"),
        caption=Text(said),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("")
    for strength in strengths:
        table.add_column(f"ε = {strength:g}", justify="right")
    table.add_row("no attack", *[cells[shown[0], 0.0]] * len(strengths))
    for name in shown:
        table.add_row(name, *(cells[name, strength] for strength in strengths))
    table.add_section()
    named = [_names(worst[worst["strength"] == strength]["attack"]) for strength in strengths]
    minima = (f"{cells[MINIMUM, s]}\n{name}" for s, name in zip(strengths, named, strict=True))
    table.add_row(MINIMUM, *minima, style="bold")
    return table


def _cells(frame: pd.DataFrame, attacks: list[str]) -> tuple[dict[tuple[str, float], str], str]:
    """(attack, ε) → return and its difference to random, as text; and what was resampled."""
    # attacks in the place of agents: what compares agents then compares attacks
    table = Evaluation(frame.assign(agent=frame["disturbance"], disturbance="attack"))
    cells = {}
    summary = table.summary(["return"])
    for _, row in summary.iterrows():
        cells[row["agent"], row["strength"]] = _interval(row, "return")
    for name in attacks:
        if name != RandomAttack.name:
            for _, row in table.compare(name, RandomAttack.name).iterrows():
                if row["strength"] > 0:
                    cells[name, row["strength"]] += f"\nΔ {_interval(row, 'difference')}"
    return cells, f"{summary['n_seeds'].max()} training seeds" if "seeds" in set(
        summary["resampled"]
    ) else "episodes"


def _interval(row: pd.Series, column: str) -> str:
    return f"{number(row[column], 1)} {interval(row[f'{column}_low'], row[f'{column}_high'], 1)}"


def _names(attacks: pd.Series) -> str:
    """``mad``, or of several models ``mad ×3, critic ×1``."""
    counts = Counter(attacks).most_common()
    return counts[0][0] if len(counts) == 1 else ", ".join(f"{name} ×{count}" for name, count in counts)
