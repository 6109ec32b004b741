"""The ``lipsrl`` command, on any SB3 zip or run folder."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

from lipsrl._commands import COMMANDS
from lipsrl._validation import unknown_name
from lipsrl._version import __version__

HELP = """usage: lipsrl COMMAND [OPTIONS]

Measure and prove the smoothness of learned controllers.

{commands}

lipsrl COMMAND --help  shows the options of a command
lipsrl --version       prints the version

SB3 zips and VecNormalize files are pickles. lipsrl loads only known classes; --trust loads any.
Exit status: 0 success, 1 negative verdict (check, doctor), 2 error, 130 interrupted."""


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return HELP.format(commands="\n".join(lines))


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help"):
        print(_help(), file=sys.stdout if given else sys.stderr)
        return 0 if given else 2
    if given[0] == "--version":
        print(f"lipsrl {__version__}")
        return 0
    if given[0] not in COMMANDS:
        print(f"error: {unknown_name('command', given[0], COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return _command(given)
    except BrokenPipeError:  # whoever reads (head, less) has seen enough
        # or the interpreter says so at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _command(given: list[str]) -> int:
    import tyro  # and the command: seconds that help and errors do not wait for

    try:
        chosen: Any = tyro.cli(COMMANDS[given[0]].load(), prog=f"lipsrl {given[0]}", args=given[1:])
    finally:
        sys.stdout.flush()  # of --help: now, not when nobody handles it any more
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        # classes and environments of the user's project, as `python -m` finds them; last: nothing there stands before
        # what is installed
        sys.path.append(here)
    with warnings.catch_warnings(record=True, action="always", category=UserWarning) as said:
        status = _run(chosen)
    if status in (0, 1):  # an error is one line, and there is no result to be warned of
        for warning in said:
            print(f"WARNING {warning.message}", file=sys.stderr)
    return status


def _run(command: Any) -> int:
    from rich.console import Console

    try:
        return command.run(Console()) or 0
    except BrokenPipeError:  # an OSError, but no error of the user's: main's
        raise
    except (ValueError, OSError, TypeError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        kept = getattr(command, "resume", None)
        go_on = (
            "" if kept is None else f"; finished episodes are in {str(kept)!r}. Continue with --resume {kept}"
        )
        print(str(error) or f"interrupted{go_on}", file=sys.stderr)
        return 130  # what a shell says of a process that SIGINT ended
    except Exception as error:  # not 1, which says that a criterion fails
        import traceback

        from gymnasium.error import Error

        if isinstance(error, Error):  # no such environment, a simulator that is not installed
            print(f"error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        return 2


if __name__ == "__main__":
    sys.exit(main())
