"""What the scripts share at the command line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import tyro

from experiments._locks import BUSY, BusyError
from lipsrl.tracking import RunFolder

T = TypeVar("T")


def parse(args: type[T], description: str | None, epilog: str = "", default: T | None = None) -> T:
    """Read ``sys.argv`` into the dataclass ``args``, on top of ``default``."""
    text = "\n\n".join(part for part in (description, epilog) if part)
    return (
        tyro.cli(args, description=text)
        if default is None
        else tyro.cli(args, description=text, default=default)
    )


def command_line(module: str) -> str:
    """The command that is running, as one would type it."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def open_runs(paths: list[Path]) -> list[RunFolder]:
    """The run folders at ``paths``; a training that was cut off is pointed out.

    Raises:
        ValueError: there are none, or one that `lipsrl pack` made, whose task is not known.
    """
    if not paths:
        raise ValueError("run is missing: give at least one run folder, as `experiments.train` leaves them.")
    folders = [RunFolder.open(path) for path in paths]
    for folder in folders:
        config = folder.read_config()
        missing = [name for name in ("task", "agent", "seed") if name not in config]
        if missing:
            raise ValueError(
                f"{folder.path} says nothing of its {missing[0]} in config.json: `experiments.train` did not make it. "
                "Use `lipsrl evaluate` or `lipsrl report`, which take any agent."
            )
        if config.get("status", "finished") != "finished":
            done, wanted = config.get("trained_timesteps"), config.get("timesteps")
            print(
                f"note: {folder.path} was not trained to its end ({done} of {wanted} steps).", file=sys.stderr
            )
    return folders


@contextmanager
def fail() -> Iterator[None]:
    """Print the errors that a user can mend as one line, without a traceback.

    Exit status 2; 75 («try again later») where another process has the folder.
    """
    try:
        yield
    except (ValueError, OSError, TypeError, BusyError) as error:
        print(f"error: {said(error)}", file=sys.stderr)
        raise SystemExit(BUSY if isinstance(error, BusyError) else 2) from error


def said(error: Exception) -> str:
    """In words; of the system's own errors (a full disk) without their number."""
    if isinstance(error, OSError) and error.strerror is not None:
        return f"{error.strerror}: {error.filename}" if error.filename else f"{error.strerror}."
    return str(error)
