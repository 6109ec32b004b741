"""The ``lipsrl`` command: certify, evaluate and report, on any SB3 zip or run folder."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from lipsrl.certificates import certify
from lipsrl.disturbances import parse_disturbance
from lipsrl.evaluation import Evaluation, evaluate, rollout_trace
from lipsrl.policies.loading import load_model
from lipsrl.policies.normalization import load_vec_normalize
from lipsrl.reporting import comparison_table, write_report
from lipsrl.tracking import RunFolder

TRUST = "SB3 zips and VecNormalize files are pickles: loading one runs the code in it. Open only files that you trust."


@dataclass
class Source:
    """A model to work on, with what belongs to it."""

    name: str
    model: Any
    vec_normalize: Any
    seed: int | None = None
    env_id: str | None = None


def open_source(path: Path, vec_normalize: Path | None) -> Source:
    """A run folder or an SB3 zip.

    Raises:
        FileNotFoundError, ValueError: nothing to load there; says what was expected.
    """
    if path.is_dir():
        folder = RunFolder.open(path)
        model, statistics = folder.load()
        config = folder.read_config()
        if vec_normalize is not None:
            raise ValueError(
                f"vec_normalize={str(vec_normalize)!r} is for an SB3 zip; the run folder {str(path)!r} has its own."
            )
        return Source(config["agent"], model, statistics, config["seed"], config["env_id"])
    statistics = load_vec_normalize(vec_normalize)
    return Source(path.stem, load_model(path), statistics)


def _one_or_many(values: list[float]) -> list[float] | float | None:
    """A list of one number speaks for all sensors; an empty one was not given."""
    if len(values) == 1:
        return values[0]
    return values or None


@dataclass
class Certify:
    """Bound how far the action can move per unit of the observation, in raw sensor and actuator units."""

    path: tyro.conf.Positional[Path]
    """Run folder, or any SB3 zip."""
    vec_normalize: Path | None = None
    """VecNormalize file that belongs to a zip (a run folder has its own)."""
    norm: str = "l2"
    """Norm on both sides: l2, linf or l1."""
    method: str = "auto"
    """auto (the smallest), lipsdp, eclipse-fast, product or construction."""
    sensor_scale: list[float] = field(default_factory=list)
    """Unit of each sensor (its tolerance on the datasheet): one number per sensor, or one for all."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON instead of text."""
    output: Path | None = None
    """Write the JSON there as well."""

    def run(self, console: Console) -> None:
        source = open_source(self.path, self.vec_normalize)
        certificate = certify(
            source.model,
            norm=self.norm,
            method=self.method,
            vec_normalize=source.vec_normalize,
            sensor_scale=_one_or_many(self.sensor_scale),
        )
        if self.output is not None:
            certificate.save(self.output)
        if self.as_json:
            print(json.dumps(certificate.to_dict(), indent=2, sort_keys=True))
        else:
            console.print(str(certificate), highlight=False, soft_wrap=True, markup=False)


@dataclass
class Measurement:
    """What is measured: models, disturbance, strengths, episodes."""

    path: tyro.conf.Positional[list[Path]]
    """Run folders or SB3 zips; several are measured in the same episodes."""
    env: str | None = None
    """Gymnasium id; needed for zips."""
    vec_normalize: Path | None = None
    """VecNormalize file that belongs to a zip (a run folder has its own)."""
    disturbance: str = "gaussian:1.0"
    """NAME:PARAMETER; the strengths multiply it."""
    strengths: list[float] = field(default_factory=lambda: [0.0, 0.05, 0.1, 0.2, 0.4])
    """Multipliers of the disturbance; with gaussian:1.0 the noise's standard deviation in raw sensor units."""
    episodes: int = 50
    """Episodes per model and strength; the same ones for all."""
    seed: int = 0
    """Of the episodes and the noise."""

    def sources(self) -> list[Source]:
        """The models, and where each is to be run.

        Raises:
            ValueError: no environment is known, or several.
        """
        if not self.path:
            raise ValueError("path is missing: give at least one run folder or SB3 zip.")
        if self.vec_normalize is not None and len(self.path) > 1:
            raise ValueError(
                "vec_normalize is one model's own, and several models were given. Measure them one at a time, or "
                "give run folders, which carry theirs."
            )
        sources = [open_source(path, self.vec_normalize) for path in self.path]
        ids = {self.env or source.env_id for source in sources}
        if None in ids:
            raise ValueError("env is missing: a zip does not say where it was trained. Pass --env ID.")
        if len(ids) > 1:
            raise ValueError(f"The runs are from different environments: {', '.join(sorted(map(str, ids)))}.")
        for source in sources:
            source.env_id = str(next(iter(ids)))
        return sources

    def measure(self, sources: list[Source]) -> Evaluation:
        """The table of all sources."""
        keys = [agent if seed is None else (agent, seed) for agent, seed in _unique_keys(sources)]
        return evaluate(
            {key: source.model for key, source in zip(keys, sources, strict=True)},
            str(sources[0].env_id),
            disturbances=parse_disturbance(self.disturbance),
            strengths=self.strengths,
            n_episodes=self.episodes,
            seed=self.seed,
            vec_normalize={key: source.vec_normalize for key, source in zip(keys, sources, strict=True)},
            progress=sys.stderr.isatty(),
        )


@dataclass
class Evaluate(Measurement):
    """Measure return and smoothness as sensor noise grows."""

    output: Path | None = None
    """Write the table there (.parquet, with a .json beside it)."""

    def run(self, console: Console) -> None:
        if self.output is not None:
            Evaluation.check_path(self.output)
        evaluation = self.measure(self.sources())
        if self.output is not None:
            evaluation.save(self.output)
        console.print(comparison_table(evaluation, []))


@dataclass
class Report(Measurement):
    """Write one self-contained HTML page that sets models side by side."""

    output: Path = Path("report.html")
    """The page."""

    def run(self, console: Console) -> None:
        sources = self.sources()
        evaluation = self.measure(sources)
        certificates, traces = [], {}
        disturbance = parse_disturbance(self.disturbance)
        shown = min((s for s in self.strengths if s > 0), default=0.0)
        for (agent, seed), source in zip(_unique_keys(sources), sources, strict=True):
            certificate = certify(source.model, vec_normalize=source.vec_normalize)
            certificates.append({"agent": agent, "seed": seed, **certificate.to_dict()})
            if agent not in traces:
                traces[agent] = rollout_trace(
                    source.model,
                    str(source.env_id),
                    disturbance=disturbance,
                    strength=shown,
                    seed=self.seed,
                    vec_normalize=source.vec_normalize,
                ) | {"disturbance": disturbance.name, "strength": shown}
        command = shlex.join(["lipsrl", *sys.argv[1:]])
        path = write_report(
            self.output, evaluation=evaluation, certificates=certificates, traces=traces, commands=[command]
        )
        console.print(comparison_table(evaluation, certificates))
        console.print(f"Report: {path}")


def _unique_keys(sources: list[Source]) -> list[tuple[str, int | None]]:
    """(agent, seed) of each source; names are numbered where two would collide."""
    keys: list[tuple[str, int | None]] = []
    for source in sources:
        name, number = source.name, 2
        while (name, source.seed) in keys or (source.seed is None and any(k[0] == name for k in keys)):
            name, number = f"{source.name}-{number}", number + 1
        keys.append((name, source.seed))
    return keys


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    commands: dict[str, Callable[..., Any]] = {"certify": Certify, "evaluate": Evaluate, "report": Report}
    chosen: Any = tyro.extras.subcommand_cli_from_dict(
        commands, prog="lipsrl", description=f"Smoothness of learned controllers, measured and proven. {TRUST}",
        args=arguments,
    )  # fmt: skip
    try:
        chosen.run(Console())
    except (ValueError, FileNotFoundError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
