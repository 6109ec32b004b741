"""``lipsrl report``."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lipsrl._commands._source import unique_keys
from lipsrl._commands.evaluate import Measurement, keeping
from lipsrl.certificates import certify
from lipsrl.disturbances import parse_disturbance
from lipsrl.evaluation import rollout_trace
from lipsrl.reporting import comparison_table, write_report


@dataclass
class Report(Measurement):
    """Write one self-contained HTML page that sets models side by side."""

    output: Path = Path("report.html")
    """The page."""

    def run(self, console: Console) -> None:
        if self.output.is_dir() or self.output.suffix.lower() not in (".html", ".htm"):
            raise ValueError(
                f"output={str(self.output)!r} must be the page to write, with the ending .html; it is a folder or "
                "has another ending."
            )
        sources = self.sources()
        with keeping(self.output.with_suffix(".parquet")):
            evaluation = self.measure(sources)
        certificates, traces = [], {}
        disturbance = parse_disturbance(self.disturbance)
        shown = min((s for s in self.strengths if s > 0), default=0.0)
        for (agent, seed), source in zip(unique_keys(sources), sources, strict=True):
            certificate = certify(
                source.model, vec_normalize=source.normalization, frame_stack=source.frame_stack
            )
            certificates.append({"agent": agent, "seed": seed, **certificate.to_dict()})
            if agent not in traces:
                traces[agent] = rollout_trace(
                    source.model,
                    source.env,
                    disturbance=disturbance,
                    strength=shown,
                    seed=self.seed,
                    vec_normalize=source.vec_normalize,
                    max_episode_steps=self.max_episode_steps,
                ) | {"disturbance": disturbance.name, "strength": shown}
        command = shlex.join(["lipsrl", *sys.argv[1:]])
        path = write_report(
            self.output, evaluation=evaluation, certificates=certificates, traces=traces, commands=[command]
        )
        console.print(comparison_table(evaluation, certificates))
        console.print(f"Report: {path}")
