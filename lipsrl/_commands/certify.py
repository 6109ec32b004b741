"""``lipsrl certify``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from lipsrl._commands._source import open_source
from lipsrl.certificates import certify


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
