"""What a training is asked to be."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lipsrl.tracking import Mode


@dataclass
class Args:
    """Train one agent on one task. All results are in one run folder."""

    agent: str = "ppo-sandwich"
    """Name of the agent (see agents/)."""
    task: str = "pendulum"
    """Name of the task (see envs/)."""
    seed: int = 0
    """Training seed: network, environments and exploration."""
    timesteps: int | None = None
    """Environment steps. Default: the agent's own number."""
    lipschitz_bound: float | Literal["auto"] | None = None
    """The bound K. auto: search for the smallest K that keeps the return (lipsrl.policies.AutoLipschitz). Default: the
    agent's own."""
    layer: str | None = None
    """Layer type (see lipsrl.layers.LAYERS). Default: the agent's own."""
    history: int | None = None
    """Number of observations that the policy sees at once. Default: the agent's own number."""
    teacher: Path | None = None
    """Run folder of the teacher of a student (ppo-window), a training with the same options. Default: the one beside
    the student's run folder, if it is finished; else it is trained first, inside of the student's run folder."""
    budget: str | None = None
    """How K is divided among the layers (see lipsrl.layers.BUDGETS). Default: the agent's own, output."""
    regularizer_scale: float = 1.0
    """Factor on the weights of the agent's soft regularisers (see agents/regularized.py)."""
    label: str | None = None
    """Name of the agent in tables. Default: the name after --agent."""
    output: Path | None = None
    """Run folder. Default: runs/AGENT-TASK-SEED (in a W&B sweep: runs/sweeps/SWEEP/AGENT-TASK-SEED-RUN)."""
    overwrite: bool = False
    """Start from the beginning and replace an existing run folder."""
    resume: bool = False
    """Continue an interrupted training, or start it. If it is finished already, do nothing and exit with status 0."""
    checkpoint_every: int | None = None
    """Environment steps between checkpoints. A killed training loses at most these steps, or one rollout. Default: a
    twentieth of the training. 0: no checkpoints."""
    track: Mode | None = None
    """Weights & Biases mode: online, offline (stored in the run folder) or disabled. Default: the environment variable
    WANDB_MODE, or offline."""
    project: str | None = None
    """W&B project. Default: the environment variable WANDB_PROJECT, or lipsrl."""
    progress: bool = True
    """Show a progress bar with the remaining time."""
    threads: int = 1
    """torch threads; one is fastest for small networks."""
    list_: Annotated[bool, tyro.conf.arg(name="list"), tyro.conf.FlagCreatePairsOff] = False
    """List all tasks and agents and exit."""


def default_output(args: Args) -> Path:
    """Where a run goes if nobody says. A W&B sweep runs one agent, task and seed with many options: one folder each."""
    name = f"{args.label or args.agent}-{args.task}-{args.seed}"
    sweep, run = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    return Path("runs/sweeps") / sweep / f"{name}-{run}" if sweep and run else Path("runs") / name
