"""``lipsrl check``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lipsrl._commands._frames import frames_said
from lipsrl._commands._source import doubt_return, in_environment, open_source
from lipsrl.assessment import Assessment, Limits, assess
from lipsrl.assessment.card import check_path
from lipsrl.certificates import feasibility_floor

#: Exit status of a verdict that is no.
FAILED = 1


@dataclass
class Check:
    """May this agent be deployed? Certify, disturb and attack it by its sensors' tolerances, and print a verdict.

    Exit status: 0 all criteria pass, 1 at least one fails, 2 error.
    Example: lipsrl check model.zip:vecnormalize.pkl --env Pendulum-v1 --sensor-scale 0.01 0.01 0.1 --output card.html
    """

    path: tyro.conf.Positional[Path]
    """Run folder or SB3 zip file. MODEL.zip:STATISTICS.pkl also names the VecNormalize statistics."""
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
    """Number of stacked observations, if the policy was trained with a VecFrameStack."""
    sensor_scale: list[float] = field(default_factory=list)
    """Tolerance of each sensor in raw units, from its datasheet: one number per sensor, or one for all. Default: 1 % of
    the standard deviation of its readings."""
    max_move: float = Limits.max_move
    """Limit for the proven move of an actuator while all sensors are inside their tolerances, as a share of its
    range."""
    max_chatter: float = Limits.max_chatter
    """Limit for the mean change of the action per step in white noise of one tolerance, as a share of the range."""
    min_kept: float = Limits.min_kept
    """Share of the clean return that the agent must keep under each fault. The return of random actions counts as 0."""
    min_kept_attacked: float = Limits.min_kept_attacked
    """Share of the clean return that the agent must keep under the worst attack inside the tolerances."""
    min_return: float | None = None
    """Smallest clean return. Default: more than the return of random actions."""
    equilibrium: list[float] = field(default_factory=list)
    """State of the environment (MuJoCo: qpos and qvel) that the policy must hold. Checks whether its bound is large
    enough for this."""
    equilibrium_action: list[float] = field(default_factory=list)
    """Action that holds the equilibrium. Default: zeros."""
    episodes: int = 50
    """Episodes per fault and attack."""
    seed: int = 0
    """Random seed of the episodes and the noise."""
    max_episode_steps: int | None = None
    """Truncate episodes after this number of steps. Required if neither the task nor a TimeLimit ends an episode."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON instead of the table."""
    output: Path | None = None
    """File for the card: .html or .json."""

    def run(self, console: Console) -> int:
        if self.output is not None:
            check_path(self.output)
        if self.equilibrium_action and not self.equilibrium:
            raise ValueError("equilibrium_action needs equilibrium: pass --equilibrium STATE.")
        limits = Limits(
            self.max_move, self.max_chatter, self.min_kept, self.min_kept_attacked, self.min_return
        )
        opened = open_source(self.path, self.vec_normalize, trust=self.trust, env=self.env)
        opened.frame_stack = frames_said(self.frame_stack, opened.frame_stack)
        (source,) = in_environment([opened], self.env, self.env_kwargs)
        card = assess(
            source.model,
            source.env,
            tolerance=self.sensor_scale or None,
            limits=limits,
            vec_normalize=source.normalization,
            frame_stack=source.frame_stack,
            n_episodes=self.episodes,
            seed=self.seed,
            max_episode_steps=self.max_episode_steps,
            feasibility=self._floor(source.env),
            name=source.name,
        )
        returned = next(c.value for c in card.criteria if c.name == "clean return")
        if returned is not None:
            doubt_return(source, source.name, returned)
        if self.output is not None:
            card.save(self.output)
        if self.as_json:
            print(json.dumps(card.to_dict(), indent=1))
        else:
            console.print(card_table(card))
            for sentence in card.assumptions:
                console.print(Text(f"- {sentence}"))
            console.print(Text(card.verdict, style="bold" if card.passed else "bold red"))
        sys.stdout.flush()
        return 0 if card.passed else FAILED

    def _floor(self, env: Any) -> Any:
        if not self.equilibrium:
            return None
        made = gym.make(env) if isinstance(env, str) else env()
        try:
            made.reset(seed=self.seed)
            action = self.equilibrium_action or np.zeros(made.action_space.shape or (1,))
            return feasibility_floor(made, self.equilibrium, action)
        finally:
            made.close()


def card_table(card: Assessment) -> Table:
    """Criterion, found, asked, how it is known, verdict."""
    table = Table(title=Text(f"{card.name} in {card.env}"), box=box.SIMPLE_HEAD)
    for column in ("criterion", "found", "asked", "", ""):
        table.add_column(column)
    for c in card.criteria:
        style = "red" if c.holds is False else ""
        table.add_row(*(Text(cell) for cell in (c.name, c.found, c.asked, c.kind)), Text(c.mark), style=style)
    return table
