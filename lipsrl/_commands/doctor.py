"""``lipsrl doctor``."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import lipsrl

#: extra → what it is for
EXTRAS = {
    "mujoco": "Hopper, Reacher and other MuJoCo tasks",
    "box2d": "LunarLander, BipedalWalker",
    "contrib": "TQC, TRPO, CrossQ, RecurrentPPO, MaskablePPO",
    "onnx": "lipsrl export …onnx",
    "figures": "figures of a report as files for papers",
    "dashboards": "a W&B workspace from code",
    "ray": "sweeps on a Ray cluster",
    "search": "sweeps that search for K with Optuna",
}


@dataclass(frozen=True)
class Finding:
    """One line: the name, what was found, and whether it is correct (None: optional and absent)."""

    what: str
    found: str
    well: bool | None


@dataclass
class Doctor:
    """Show what is installed, what is missing, and where files are written.

    Exit status: 0 everything required is installed, 1 something is missing or too old.
    Example: lipsrl doctor
    """

    def run(self, console: Console) -> int:
        found = [*machine(), *requirements(), *optional(), *accelerator(), *registered(), *tracking()]
        table = Table(box=box.SIMPLE_HEAD, show_header=False)
        for finding in found:
            mark = {True: "ok", False: "PROBLEM", None: "absent"}[finding.well]
            table.add_row(Text(mark), Text(finding.what), Text(finding.found))
        console.print(table)
        bad = [finding.what for finding in found if finding.well is False]
        console.print(
            Text("All that is needed is there." if not bad else f"Please repair: {', '.join(bad)}.")
        )
        return 1 if bad else 0


def machine() -> list[Finding]:
    """The library and what it runs on."""
    here = Path(lipsrl.__file__).parent
    return [
        Finding("lipsrl", f"{lipsrl.__version__} in {here}", True),
        Finding("Python", f"{platform.python_version()} ({sys.executable})", sys.version_info >= (3, 11)),
        Finding("machine", f"{platform.platform()}, {os.cpu_count()} cores", True),
    ]


def _declared() -> list[Requirement]:
    try:
        return [Requirement(text) for text in metadata.requires("lipsrl") or []]
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        return []


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _judged(requirement: Requirement, *, optional: bool) -> Finding:
    version = _version(requirement.name)
    if version is None:
        return Finding(requirement.name, "not installed", None if optional else False)
    fits = requirement.specifier.contains(version, prereleases=True)
    text = version if fits else f"{version}, and {requirement.specifier} is needed"
    return Finding(requirement.name, text, fits)


def requirements() -> list[Finding]:
    """What lipsrl cannot be without."""
    needed = [r for r in _declared() if r.marker is None or r.marker.evaluate({"extra": ""})]
    if not needed:
        return [Finding("requirements", "unknown: lipsrl is not installed (pip install -e .)", False)]
    return [_judged(requirement, optional=False) for requirement in needed]


def optional() -> list[Finding]:
    """The extras: there, or how to get them."""
    found = []
    for extra, purpose in EXTRAS.items():
        own = [
            r
            for r in _declared()
            if r.marker is not None
            and r.marker.evaluate({"extra": extra})
            and not r.marker.evaluate({"extra": ""})
        ]
        parts = [_judged(requirement, optional=True) for requirement in own]
        # gymnasium[mujoco]: what the extra itself asks for
        modules = {"mujoco": "mujoco", "box2d": "Box2D"}
        there = all(part.well for part in parts) and bool(parts)
        if extra in modules:
            there = importlib.util.find_spec(modules[extra]) is not None
        wrong = [f"{part.what} {part.found}" for part in parts if part.well is False]
        text = purpose if there else f"{purpose}: pip install 'lipsrl[{extra}]'"
        found.append(
            Finding(f"[{extra}]", "; ".join([text, *wrong]), False if wrong else True if there else None)
        )
    return found


def accelerator() -> list[Finding]:
    """What torch can compute on, and on how many threads."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        return [Finding("torch", f"cannot be imported: {error}", False)]
    threads = torch.get_num_threads()
    cuda = (
        torch.cuda.get_device_name(0)
        if torch.cuda.is_available()
        else "none (CPU is faster for small networks)"
    )
    return [
        Finding("GPU", str(cuda), True if torch.cuda.is_available() else None),
        Finding(
            "torch threads", f"{threads}; for small networks 1 is fastest: torch.set_num_threads(1)", True
        ),
    ]


def registered() -> list[Finding]:
    """Whether SB3 knows the policies' names."""
    try:
        importlib.import_module("lipsrl.policies")
        ppo = importlib.import_module("stable_baselines3").PPO
    except ImportError as error:
        return [Finding("policies", f"cannot be imported: {error}", False)]
    there = "LipschitzMlpPolicy" in ppo.policy_aliases
    return [
        Finding(
            "policies", '"LipschitzMlpPolicy" is known to stable-baselines3' if there else "not known", there
        )
    ]


def tracking() -> list[Finding]:
    """Where W&B writes, and in which mode; the key itself is never read."""
    mode = (
        os.environ.get("WANDB_MODE")
        or "as --track says (experiments.train: offline; lipsrl commands: disabled)"
    )
    folder = os.environ.get("WANDB_DIR") or "wandb/ (experiments.train: in the run folder)"
    return [Finding("W&B", f"mode {mode}; files in {folder}", True)]
