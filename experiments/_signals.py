"""Ctrl-C, and a polite kill, while something is made that is worth keeping."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def keyboard_interrupt_on_terminate() -> Iterator[None]:
    """Treat a polite kill like Ctrl-C: a batch system's time limit must not cost the model either."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore a second Ctrl-C while the model is being saved: it would lose what the first one kept."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
