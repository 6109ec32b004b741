"""The same commands as one Slurm array: a script, a list of commands, one `sbatch`."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from experiments.launchers.job import Job
from lipsrl._files import write_text

_SCRIPT = """\
#!/usr/bin/env bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}%{workers}
#SBATCH --cpus-per-task=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@60
#SBATCH --output=/dev/null
#SBATCH --chdir={directory}
# Written by `python -m experiments.sweep`; one command per task of the array. A task that is requeued goes on from its
# last checkpoint.
set -euo pipefail
{exports}
line=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {commands})
log=${{line%%$'\\t'*}}
command=${{line#*$'\\t'}}
exec >>"$log" 2>&1
eval "exec $command"
"""


def find_sbatch() -> str:
    """The path of sbatch; ``ValueError`` where there is none."""
    found = shutil.which("sbatch")
    if found is None:
        raise ValueError(
            "launcher='slurm' needs Slurm's sbatch, which is not in the PATH. Run it on a login node."
        )
    return found


def write_array(
    folder: Path,
    jobs: Sequence[Job],
    log_of: dict[str, Path],
    environment: dict[str, str],
    name: str,
    workers: int,
) -> Path:
    """Write ``commands.tsv`` (log, command) and ``array.sh`` into ``folder``; returns the script.

    Raises:
        ValueError: a path that a line of Slurm's cannot hold.
    """
    folder = folder.resolve()
    commands, directory = folder / "commands.tsv", Path.cwd()
    for path in (commands, directory):
        if any(character in str(path) for character in "\n\t"):
            raise ValueError(
                f"{str(path)!r} has a tab or a line break in its name, which Slurm's script cannot hold."
            )
    lines = [f"{log_of[job.name].resolve()}\t{shlex.join(job.command)}" for job in jobs]
    write_text(commands, "\n".join(lines) + "\n")
    for job in jobs:
        log_of[job.name].parent.mkdir(parents=True, exist_ok=True)
    exports = "\n".join(f"export {key}={shlex.quote(value)}" for key, value in environment.items())
    quoted = str(directory) if " " not in str(directory) else f'"{directory}"'
    script = _SCRIPT.format(
        name=name.replace(" ", "-"), last=len(jobs) - 1, workers=workers, directory=quoted, exports=exports,
        commands=shlex.quote(str(commands)),
    )  # fmt: skip
    return write_text(folder / "array.sh", script)


def still_queued(folder: Path) -> str | None:
    """The number of the array that was submitted from ``folder``, if Slurm still has tasks of it."""
    record, squeue = folder / "submitted.json", shutil.which("squeue")
    if squeue is None or not record.is_file():
        return None
    number = str(json.loads(record.read_text(encoding="utf-8"))["job"])
    done = subprocess.run(
        [squeue, "--noheader", "--jobs", number], capture_output=True, text=True, check=False
    )
    return number if done.returncode == 0 and done.stdout.strip() else None


def submit(
    folder: Path,
    jobs: Sequence[Job],
    log_of: dict[str, Path],
    environment: dict[str, str],
    name: str,
    workers: int,
    options: str,
) -> str:
    """Submit ``jobs``; returns the number of the array.

    Raises:
        ValueError: no sbatch, it refuses, or an array of this folder is still in the queue.
    """
    sbatch = find_sbatch()
    number = still_queued(folder)
    if number is not None:
        raise ValueError(
            f"this sweep is in Slurm's queue as job {number}. Wait for it, or `scancel {number}` first."
        )
    script = write_array(folder, jobs, log_of, environment, name, workers)
    done = subprocess.run(
        [sbatch, "--parsable", *shlex.split(options), str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ValueError(f"sbatch refuses: {' '.join(done.stderr.split()) or done.returncode} ({script})")
    number = done.stdout.strip().split(";")[0]
    write_text(
        folder / "submitted.json", json.dumps({"job": number, "runs": [job.name for job in jobs]}) + "\n"
    )
    return number
