"""``lipsrl pack``."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import tyro
from rich.console import Console

from lipsrl._commands._frames import frames_said
from lipsrl._commands._source import in_environment, open_source
from lipsrl.actors.run_folder import RunFolder, are_switches


@dataclass
class Pack:
    """Make a run folder that contains a zip, its statistics and the name of its environment.

    All commands accept this folder without further arguments. The files are copied unchanged.
    """

    path: tyro.conf.Positional[Path]
    """SB3 zip file, or a folder with one (rl-zoo's)."""
    statistics: tyro.conf.Positional[str] = "auto"
    """File with the VecNormalize statistics. auto: use the file beside the zip. none: the model was trained without
    VecNormalize."""
    env: str | None = None
    """Gymnasium id of the environment. Required if no configuration file states it."""
    env_kwargs: list[str] = field(default_factory=list)
    """Arguments of the environment, KEY:VALUE, such as g:9.81; numbers, True or False."""
    name: str | None = None
    """Name of the agent in tables. Default: the name of the zip file."""
    seed: int | None = None
    """Training seed, if known."""
    frame_stack: int | None = None
    """Number of stacked observations, if the policy was trained with a VecFrameStack."""
    trust: bool = False
    """Also open files that contain custom code, and run this code. Use it only for files from a source that you
    trust."""
    output: Path = Path("run")
    """The folder to make."""

    def run(self, console: Console) -> None:
        if self.output.exists():
            raise ValueError(f"output={str(self.output)!r} exists already. Use another name, or remove it.")
        source = open_source(self.path, self.statistics, trust=self.trust, env=self.env)
        agent = source.agent
        assert agent is not None
        (source,) = in_environment([source], self.env, self.env_kwargs)
        env_id = str(source.env_id)
        if env_id not in gym.registry and ":" not in env_id:
            raise ValueError(
                f"env={env_id!r} is not registered with gymnasium. Import what registers it: MODULE:ID."
            )
        if not are_switches(source.env_kwargs):
            raise ValueError(
                f"env_kwargs must be numbers, True or False in a run folder, received {source.env_kwargs}. Register an "
                "environment with these arguments under an id of its own."
            )
        config: dict[str, Any] = {
            "agent": self.name or source.name,
            "env_id": env_id,
            **({"env_kwargs": source.env_kwargs} if source.env_kwargs else {}),
            **{name: str(said) for name, said in agent.unmade.items() if name != "env_kwargs"},
            "seed": self.seed if self.seed is not None else source.seed,
            "vec_normalize": agent.statistics is not None,
            "frame_stack": frames_said(self.frame_stack, source.frame_stack),
            "packed_from": str(agent.file),
        }
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.output.parent, prefix=f".{self.output.name}-") as temporary:
            folder = RunFolder(Path(temporary) / "run")
            folder.path.mkdir()
            shutil.copyfile(agent.file, folder.model_file)
            if agent.statistics is not None:
                shutil.copyfile(agent.statistics, folder.normalization_file)
            folder.write_config(config)
            folder.path.rename(self.output)
        console.print(f"{self.output}: {agent.described}", highlight=False, soft_wrap=True, markup=False)
