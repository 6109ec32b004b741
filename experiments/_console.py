"""What the scripts share at the command line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import tyro

from lipsrl.tracking import RunFolder

T = TypeVar("T")


def parse(args: type[T], description: str | None, epilog: str = "") -> T:
    """Read ``sys.argv`` into the dataclass ``args``."""
    text = "\n\n".join(part for part in (description, epilog) if part)
    return tyro.cli(args, description=text)


def command_line(module: str) -> str:
    """The command that is running, as one would type it."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def open_runs(paths: list[Path]) -> list[RunFolder]:
    """The run folders at ``paths``; ``ValueError`` if there are none."""
    if not paths:
        raise ValueError("run is missing: give at least one run folder, as `experiments.train` leaves them.")
    return [RunFolder.open(path) for path in paths]


@contextmanager
def fail() -> Iterator[None]:
    """Print the errors that a user can mend as one line, without a traceback; exit status 2."""
    try:
        yield
    except (ValueError, FileNotFoundError, FileExistsError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
