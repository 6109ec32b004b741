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

from lipsrl._commands._frames import frames_said
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
    """Run folders or SB3 zip files. Several models play the same episodes."""
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
    """Number of stacked observations, if the policies were trained with a VecFrameStack and no configuration file
    states the number."""
    strengths: list[float] = field(default_factory=lambda: [0.0, 0.05, 0.1, 0.2, 0.4])
    """Multipliers of the disturbance. For gaussian, the strength is the standard deviation of the noise in raw sensor
    units."""
    episodes: int = 50
    """Episodes per model and strength. All models play the same episodes."""
    seed: int = 0
    """Random seed of the episodes and the noise."""
    max_episode_steps: int | None = None
    """Truncate episodes after this number of steps. Required if neither the task nor a TimeLimit ends an episode."""

    def sources(self) -> list[Source]:
        """The models, and where each is to be run.

        Raises:
            ValueError: no environment is known, or several.
        """
        found = open_sources(self.path, self.vec_normalize, trust=self.trust, env=self.env)
        for source in found:
            source.frame_stack = frames_said(self.frame_stack, source.frame_stack)
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
            vec_normalize={key: source.normalization for key, source in zip(keys, sources, strict=True)},
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
    """Disturbance NAME:PARAMETER. The strengths multiply it."""

    def measure(self, sources: list[Source]) -> Evaluation:
        """The table of all sources."""
        return self.evaluated(sources, parse_disturbance(self.disturbance))


@dataclass
class Evaluate(Tracking, Episodes):
    """Measure return and smoothness of the actions under sensor faults of increasing strength."""

    disturbance: list[str] = field(default_factory=lambda: ["gaussian"])
    """One or more disturbances, each NAME[:PARAMETER...]. The strengths multiply them."""
    workers: int = 1
    """Number of processes. For slow simulators use as many as there are cores. The results do not depend on it."""
    envs: int = 64
    """Number of environments in each process."""
    floor: float | None = None
    """Return that counts as 0 % (usually that of random actions). It is used for the share of the return that is
    kept."""
    resume: Path | None = None
    """Folder that stores finished episodes. Pass the same folder again to continue after an interruption."""
    output: Path | None = None
    """File for the table of all episodes (.parquet). A .json file with the settings is written beside it."""

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
