"""``lipsrl report``."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from lipsrl._commands._source import Source, unique_keys
from lipsrl._commands.attack import AttackCommand
from lipsrl._commands.evaluate import Episodes, keeping
from lipsrl._validation import lookup
from lipsrl.certificates import certify
from lipsrl.evaluation import EndlessEpisodeError, Evaluation, random_return
from lipsrl.reporting import (
    STANDARD_DISTURBANCES,
    Findings,
    Records,
    figures_of,
    findings_of,
    print_answer,
    write_figures,
    write_page,
)
from lipsrl.reporting.charts import FORMATS
from lipsrl.reporting.destinations import check_folder, check_page

#: Of random actions, whose mean return is the floor.
_FLOOR_EPISODES = 20
#: Of the attacks, where nothing is said.
_RADII = (0.05, 0.1)


@dataclass
class Report(Episodes):
    """Compare models: print the answer and a table, or write an HTML page with figures (--output)."""

    disturbance: list[str] = field(default_factory=lambda: list(STANDARD_DISTURBANCES))
    """One or more disturbances, each NAME[:PARAMETER...]. The strengths multiply them."""
    attack: list[str] = field(default_factory=list)
    """Also measure the worst of these attacks: mad, critic, bias, robust-sarsa. Takes minutes."""
    epsilon: list[float] = field(default_factory=lambda: list(_RADII))
    """Sizes of the attacks, l-inf in units of the policy's input."""
    reference: str | None = None
    """Agent with which all others are compared. Default: the first agent without a bound K."""
    title: str | None = None
    """Heading of the page."""
    floor: float | None = None
    """Return that counts as 0 %. Default: measured with random actions."""
    sensors: list[str] = field(default_factory=list)
    """Names of the sensors, in the order of the observation. Default: their numbers."""
    output: Path | None = None
    """File for the page (.html)."""
    figures: Path | None = None
    """Folder for the figures as separate files, for papers."""
    formats: list[str] = field(default_factory=lambda: list(FORMATS))
    """File formats of these figures."""

    def run(self, console: Console) -> None:
        self.check()
        sources = self.sources()
        keys = unique_keys(sources)
        if self.reference is not None:  # known before anything is measured
            lookup("reference", self.reference, {agent: agent for agent, _ in keys})
        for source in sources:
            self.check_sensors(source)
        floor = self.floor_of(sources[0])
        kept = self.output or self.figures
        with keeping(None if kept is None else kept.with_suffix(".parquet")):
            evaluation = self.evaluated(sources, self.disturbance, floor=floor)
            attacks = self.attacked(sources) if self.attack else None
        findings = self.found(sources, evaluation, attacks, floor)
        print_answer(console, findings)
        if self.output is not None:
            command = shlex.join(["lipsrl", *sys.argv[1:]])
            path = write_page(self.output, findings, commands=[command])
            console.print(f"Report: {path}", soft_wrap=True, highlight=False)
        if self.figures is not None:
            drawn = [figure for some in figures_of(findings).values() for figure in some]
            files = write_figures(self.figures, drawn, self.formats)
            console.print(f"Figures: {len(files)} files in {self.figures}", soft_wrap=True, highlight=False)

    def check(self) -> None:
        """What can be known to fail before anything is opened.

        Raises:
            ValueError: an output that is no page, a folder that is a file, an unknown format, or attacks that
                ``lipsrl attack`` refuses.
        """
        if self.output is not None:
            check_page("output", self.output)
        if self.figures is not None:
            check_folder("figures", self.figures)
        for name in self.formats:
            lookup("formats", name, FORMATS)
        if self.attack:
            self.attacking().check_attacks()
        elif tuple(self.epsilon) != _RADII:
            raise ValueError(
                "epsilon is the size of the attacks, and no attack was chosen. Also pass --attack, for instance "
                "--attack mad."
            )

    def check_sensors(self, source: Source) -> None:
        """Names for another number of sensors than the model sees are refused."""
        shape = source.model.observation_space.shape
        size = None if shape is None or len(shape) != 1 else shape[0] // (source.frame_stack or 1)
        if self.sensors and len(self.sensors) != size:
            expected = "a vector observation" if size is None else f"{size} names, one per sensor"
            received = f"{len(self.sensors)} names ({', '.join(self.sensors)})"
            raise ValueError(f"sensors: {source.name} needs {expected}, received {received}.")

    def floor_of(self, source: Source) -> float | None:
        """The given one, or what random actions earn; None where such an episode never ends."""
        if self.floor is not None:
            return self.floor
        with contextlib.suppress(EndlessEpisodeError):
            return random_return(
                source.env,
                n_episodes=_FLOOR_EPISODES,
                seed=self.seed,
                max_episode_steps=self.max_episode_steps,
            )
        return None

    def attacking(self) -> AttackCommand:
        """The command that measures the attacks."""
        return AttackCommand(
            path=[],
            attack=self.attack,
            epsilon=self.epsilon,
            episodes=self.episodes,
            seed=self.seed,
            max_episode_steps=self.max_episode_steps,
        )

    def attacked(self, sources: list[Source]) -> Evaluation:
        """All models under the attacks, in the same episodes."""
        command = self.attacking()
        return command.measure(sources, command.attacks(sources[0].env))

    def found(
        self, sources: list[Source], evaluation: Evaluation, attacks: Evaluation | None, floor: float | None
    ) -> Findings:
        """Everything that a report is made of."""
        certificates: list[dict[str, Any]] = []
        shown = min((s for s in self.strengths if s > 0), default=0.0)
        records = Records(
            self.disturbance[0], shown, seed=self.seed, max_episode_steps=self.max_episode_steps
        )
        for (agent, seed), source in zip(unique_keys(sources), sources, strict=True):
            certificates += certificate_of(agent, seed, source)
            records.add(
                agent,
                source.model,
                source.env,
                vec_normalize=source.normalization,
                frame_stack=source.frame_stack,
                folder=_folder(source),
            )
        return findings_of(
            evaluation=evaluation,
            certificates=certificates,
            **records.parts(),
            attacks=attacks,
            reference=self.reference,
            sensors=self.sensors,
            floor=floor,
            feasibility_floor=_shared(_config(source).get("feasibility_floor") for source in sources),
            title=self.title,
        )


def certificate_of(agent: str, seed: int | None, source: Source) -> list[dict[str, Any]]:
    """The certificate as reports take it; empty, and said, where the policy has a part that cannot be bounded."""
    try:
        certificate = certify(
            source.model, vec_normalize=source.normalization, frame_stack=source.frame_stack
        )
    except (ValueError, TypeError) as error:
        warnings.warn(f"{agent} has no certificate: {error}", stacklevel=2)
        return []
    return [{"agent": agent, "seed": seed, **certificate.to_dict()}]


def _folder(source: Source) -> Path | None:
    return None if source.agent is None else source.agent.file.parent


def _config(source: Source) -> dict[str, Any]:
    folder = _folder(source)
    if folder is not None:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else {}
    return {}


def _shared(values: Iterable[Any]) -> float | None:
    """The number that all have; None where they differ or have none."""
    found = set(values)
    only = found.pop() if len(found) == 1 else None
    return float(only) if isinstance(only, (int, float)) else None
