"""The ``lipsrl`` command, on any SB3 zip or run folder."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

import lipsrl
from lipsrl._commands.attack import AttackCommand
from lipsrl._commands.certify import Certify
from lipsrl._commands.distill import Distill
from lipsrl._commands.evaluate import Evaluate
from lipsrl._commands.export import Export
from lipsrl._commands.frontier import FrontierCommand
from lipsrl._commands.pack import Pack
from lipsrl._commands.report import Report
from lipsrl._commands.runs import Runs
from lipsrl._validation import unknown_name

TRUST = "SB3 zips and VecNormalize files are pickles: opened through an allow-list; --trust opens any."

COMMANDS: dict[str, Callable[..., Any]] = {
    "attack": AttackCommand,
    "certify": Certify,
    "distill": Distill,
    "evaluate": Evaluate,
    "export": Export,
    "frontier": FrontierCommand,
    "pack": Pack,
    "report": Report,
    "runs": Runs,
}


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["--version"]:
        print(f"lipsrl {lipsrl.__version__}")
        return 0
    if given and not given[0].startswith("-") and given[0] not in COMMANDS:
        print(f"error: {unknown_name('command', given[0], COMMANDS)}", file=sys.stderr)
        return 2
    chosen: Any = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="lipsrl", description=f"Smoothness of learned controllers, measured and proven. {TRUST}",
        args=arguments,
    )  # fmt: skip
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        # classes and environments of the user's project, as `python -m` finds them; last: nothing there stands before
        # what is installed
        sys.path.append(here)
    with warnings.catch_warnings(record=True, action="always", category=UserWarning) as said:
        status = _run(chosen)
    if status == 0:  # an error is one line, and there is no result to be warned of
        for warning in said:
            print(f"WARNING {warning.message}", file=sys.stderr)
    return status


def _run(command: Any) -> int:
    try:
        command.run(Console())
    except BrokenPipeError:  # whoever reads (head, less) has seen enough
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or the interpreter says so at its end
        return 0
    except (ValueError, OSError, TypeError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = getattr(command, "resume", None)
        go_on = "" if kept is None else f"; what is finished is in {str(kept)!r}: go on with --resume {kept}"
        print(f"interrupted{go_on}", file=sys.stderr)
        return 130  # what a shell says of a process that SIGINT ended
    return 0


if __name__ == "__main__":
    sys.exit(main())
