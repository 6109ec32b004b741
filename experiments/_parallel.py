"""Run commands side by side, printing each as it starts."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """A command that did not end well."""

    command: str
    status: int


def module_command(module: str, *arguments: object) -> list[str]:
    """``python -m module arguments…`` with this interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def as_typed(command: Sequence[str]) -> str:
    """``command`` as a person would type it."""
    return shlex.join(["python" if part == sys.executable else part for part in command])


def run_all(commands: Sequence[Sequence[str]], jobs: int) -> list[Failure]:
    """Run every command, at most ``jobs`` at a time, each on one thread; returns the failures.

    Ctrl-C reaches the running commands too; they get the time to keep what they have, and no further one starts.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    stop = threading.Event()
    running: set[subprocess.Popen[bytes]] = set()

    def run(command: Sequence[str]) -> Failure | None:
        if stop.is_set():
            return None
        print(f"$ {as_typed(command)}", flush=True)
        # a group of its own: the terminal's Ctrl-C reaches this process alone, which passes it on once
        process = subprocess.Popen(command, env=environment, process_group=0)
        running.add(process)
        status = process.wait()
        running.discard(process)
        return Failure(as_typed(command), status) if status else None

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        futures = [pool.submit(run, command) for command in commands]
        try:
            return [failure for future in futures if (failure := future.result()) is not None]
        except KeyboardInterrupt:
            stop.set()
            for process in list(running):
                process.send_signal(signal.SIGINT)
            raise
