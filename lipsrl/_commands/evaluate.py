"""``lipsrl evaluate``, and what every measuring command shares with it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from lipsrl._commands._source import Source, doubt_returns, in_environment, open_sources, unique_keys
from lipsrl._commands._tracking import Tracking, shown
from lipsrl.disturbances import parse_disturbance
from lipsrl.evaluation import EndlessEpisodeError, Evaluation, NonFiniteError, evaluate
from lipsrl.reporting import comparison_table


@contextlib.contextmanager
def keeping(output: Path | None) -> Iterator[None]:
    """At a value that is not finite, or an episode that never ends: save those that had ended beside ``output``."""
    try:
        yield
    except (NonFiniteError, EndlessEpisodeError) as error:
        said = ""
        if error.evaluation is not None and output is not None:
            path = error.evaluation.save(output.with_stem(f"{output.stem}-incomplete"))
            said = f" The {len(error.evaluation.frame)} episodes before it are in {str(path)!r}."
        raise ValueError(f"{error}{said}") from error


@dataclass
class Episodes:
    """Which models are measured, and in which episodes."""

    path: tyro.conf.Positional[list[Path]]
    """Run folders or SB3 zips; several are measured in the same episodes."""
    env: str | None = None
    """Gymnasium id; needed for zips."""
    env_kwargs: list[str] = field(default_factory=list)
    """Arguments of the environment, KEY:VALUE, such as g:9.81."""
    vec_normalize: str = "auto"
    """VecNormalize file that belongs to the model; auto: the one that SB3, rl-zoo or lipsrl put beside it; none: it had
    none."""
    trust: bool = False
    """Open files that name code of your own, and run it. Only for what you or somebody you trust made."""
    frame_stack: int | None = None
    """How many observations the policies see at once, if they were trained behind a VecFrameStack
    (where no configuration says it)."""
    strengths: list[float] = field(default_factory=lambda: [0.0, 0.05, 0.1, 0.2, 0.4])
    """Multipliers of the disturbance; with gaussian the noise's standard deviation in raw sensor units."""
    episodes: int = 50
    """Episodes per model and strength; the same ones for all."""
    seed: int = 0
    """Of the episodes and the noise."""
    max_episode_steps: int | None = None
    """Truncate episodes after so many steps; needed where neither the task nor a TimeLimit ends them."""

    def sources(self) -> list[Source]:
        """The models, and where each is to be run.

        Raises:
            ValueError: no environment is known, or several.
        """
        found = open_sources(self.path, self.vec_normalize, trust=self.trust, env=self.env)
        for source in found:
            source.frame_stack = self.frame_stack or source.frame_stack
        return in_environment(found, self.env, self.env_kwargs)

    def evaluated(self, sources: list[Source], disturbances: Any, **options: Any) -> Evaluation:
        """The table of all sources; ``options`` are further arguments of `lipsrl.evaluate`."""
        keys = [agent if seed is None else (agent, seed) for agent, seed in unique_keys(sources)]
        evaluation = evaluate(
            {key: source.model for key, source in zip(keys, sources, strict=True)},
            sources[0].env,
            disturbances=disturbances,
            strengths=self.strengths,
            n_episodes=self.episodes,
            seed=self.seed,
            vec_normalize={key: source.vec_normalize for key, source in zip(keys, sources, strict=True)},
            frame_stack={key: source.frame_stack for key, source in zip(keys, sources, strict=True)},
            max_episode_steps=self.max_episode_steps,
            progress=sys.stderr.isatty(),
            **options,
        )
        doubt_returns(sources, evaluation.frame)
        return evaluation


@dataclass
class Measurement(Episodes):
    """What is measured: models, one disturbance, strengths, episodes."""

    disturbance: str = "gaussian:1.0"
    """NAME:PARAMETER; the strengths multiply it."""

    def measure(self, sources: list[Source]) -> Evaluation:
        """The table of all sources."""
        return self.evaluated(sources, parse_disturbance(self.disturbance))


@dataclass
class Evaluate(Tracking, Episodes):
    """Measure return and smoothness as sensor faults grow."""

    disturbance: list[str] = field(default_factory=lambda: ["gaussian"])
    """One or more, each NAME[:PARAMETER...]; the strengths multiply it."""
    workers: int = 1
    """Processes; for slow simulators as many as there are cores. The table does not depend on it."""
    envs: int = 64
    """Environments side by side in each process."""
    floor: float | None = None
    """The return that counts as nothing, recorded for the share of the return that survives."""
    resume: Path | None = None
    """Folder in which finished episodes are kept; give it again to go on after an interruption."""
    output: Path | None = None
    """Write the table there (.parquet, with a .json beside it)."""

    def run(self, console: Console) -> None:
        self.check_tracking()
        if self.output is not None:
            Evaluation.check_path(self.output)
        sources = self.sources()
        with keeping(self.output):
            evaluation = self.evaluated(
                sources,
                self.disturbance,
                n_workers=self.workers,
                n_envs=self.envs,
                floor=self.floor,
                resume=self.resume,
            )
        if self.output is not None:
            evaluation.save(self.output)
        console.print(comparison_table(evaluation, []))
        self.log(
            console, "evaluate", sources, evaluation, {"disturbance": self.disturbance}, seed=self.seed,
            max_episode_steps=self.max_episode_steps, **shown(self.disturbance, self.strengths),
        )  # fmt: skip
