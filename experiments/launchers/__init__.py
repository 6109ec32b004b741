"""Run many commands: on this machine, on a Ray cluster, or as a Slurm array; the same commands and folders for all."""

from __future__ import annotations

from experiments.launchers.job import Job, Options, Outcome
from experiments.launchers.launch import launch

__all__ = ["Job", "Options", "Outcome", "launch"]
