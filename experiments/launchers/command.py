"""One command, with its output in a log. Standard library only: Ray sends this file's functions to its workers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

#: Exit status of a command whose folder another process has (experiments/_locks.py).
BUSY = 75
#: Seconds until a busy one is tried again.
PATIENCE = 5.0


def run_command(
    command: Sequence[str],
    log: str,
    directory: str,
    environment: Mapping[str, str],
    stopped: Callable[[], bool] = lambda: False,
    patience: float = PATIENCE,
) -> int:
    """The exit status of ``command``; where another process has its folder, of a later try.

    Ctrl-C (in Ray: a cancelled task) is passed on once, and the command gets the time to keep what it has.

    Args:
        log: appended to.
        stopped: asked before a command is started (again).
    """
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    while not stopped():
        with Path(log).open("ab") as output:
            # a group of its own: the terminal's Ctrl-C reaches the head alone
            process = subprocess.Popen(
                list(command), stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=directory,
                env={**os.environ, **environment}, process_group=0,
            )  # fmt: skip
            try:
                status = _wait(process, stopped)
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                process.wait()
                raise
        if status != BUSY:
            return status
        time.sleep(patience)
    return 130


def _wait(process: subprocess.Popen[bytes], stopped: Callable[[], bool]) -> int:
    """Until it ends; told once to stop."""
    told = False
    while True:
        try:
            return process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if not told and stopped():
                process.send_signal(signal.SIGINT)
                told = True


def tail(log: str | Path, lines: int = 12) -> str:
    """The end of a log."""
    try:
        with Path(log).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 20_000))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.rstrip().splitlines()[-lines:]) or "(empty log)"
