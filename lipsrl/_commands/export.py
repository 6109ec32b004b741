"""``lipsrl export``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from lipsrl._commands._frames import frames_said
from lipsrl._commands._source import open_source
from lipsrl._digits import rounded_down, rounded_up
from lipsrl.deployment import export, load_policy
from lipsrl.deployment._export import check_onnx, check_suffix
from lipsrl.deployment._observations import shape_of
from lipsrl.deployment._window import has_window, holds_mean


@dataclass
class Export:
    """Write a model's deterministic policy, normalisation and certificate into one file without code.

    Running it needs neither torch nor Stable-Baselines3, and loading it cannot run code.
    """

    path: tyro.conf.Positional[Path]
    """Run folder, or any SB3 zip."""
    vec_normalize: str = "auto"
    """File with the VecNormalize statistics of the model. auto: use the file that SB3, rl-zoo or lipsrl saved beside
    it. none: the model was trained without VecNormalize."""
    trust: bool = False
    """Also open files that contain custom code, and run this code. Use it only for files from a source that you
    trust."""
    frame_stack: int | None = None
    """Number of stacked frames of the policy in a zip file."""
    output: Path = Path("policy.safetensors")
    """File to write: .safetensors (needs only NumPy to run) or .onnx."""
    folded: bool = False
    """Merge VecNormalize into the first layer."""
    overwrite: bool = False
    """Replace the output if it exists."""

    def run(self, console: Console) -> None:
        check_suffix(self.output)
        if self.output.suffix == ".onnx":
            check_onnx()
        if self.output.exists() and not self.overwrite:
            raise ValueError(
                f"output={str(self.output)!r} exists already. Use another name, or pass --overwrite to replace it."
            )
        source = open_source(self.path, self.vec_normalize, trust=self.trust)
        export(
            source.model,
            self.output,
            vec_normalize=source.normalization,
            frame_stack=frames_said(self.frame_stack, source.frame_stack),
            folded=self.folded,
        )
        if self.output.suffix == ".onnx":
            from lipsrl.deployment import verify_onnx  # onnx is an extra

            description = verify_onnx(self.output)
        else:
            description = load_policy(self.output).description
        content = self.output.read_bytes()
        console.print(
            _summary(self.output, content, description), highlight=False, soft_wrap=True, markup=False
        )


def _summary(path: Path, content: bytes, description: dict[str, Any]) -> str:
    """What was written, in words."""
    observation, action, certificate = (description[key] for key in ("observation", "action", "certificate"))
    normalisation = "not normalised"
    if observation["normalised"]:
        normalisation = f"normalisation {'in the first layer' if observation['folded'] else 'included'}"
    frames = f", {observation['frames']} frames" if has_window(description) else ""
    promise = certificate["promise"]
    lines = [
        f"{path}: {len(content):,} bytes",
        f"  SHA-256      {hashlib.sha256(content).hexdigest()}",
        f"  observation  {shape_of(observation)} {observation['kind']}{frames}, {normalisation}",
        f"  action       {tuple(action['shape'])} {action['kind']}, {description['algorithm']} policy, deterministic",
        f"  certificate  ‖Δaction‖ ≤ {rounded_up(certificate['upper_bound'])}·‖Δobservation‖ ({certificate['norm']}, "
        f"steepest pair found {rounded_down(certificate['lower_bound'])})"
        + ("" if promise is None else f"; promised lipschitz_bound={promise:g} in the policy's units"),
    ]
    if has_window(description):
        lines.append(f"  use          {_use(path, observation)}")
    return "\n".join([*lines, *(f"  WARNING      {text}" for text in certificate["warnings"])])


def _use(path: Path, observation: dict[str, Any]) -> str:
    """How a policy with memory is called."""
    frames, before = observation["frames"], observation["window"]["before"]
    if path.suffix == ".onnx":
        dtype = "float64" if holds_mean(observation) else observation["dtype"]
        return (
            f"the graph has no state: give it the {frames} newest observations as (n, {frames * len(before)}) {dtype}, "
            f"oldest first; for those before an episode's first, {before}"
        )
    return (
        f"policy(observation), one at a time: it keeps the {frames} newest itself; policy.reset() at every episode's "
        "start"
    )
