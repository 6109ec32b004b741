"""One process at a time per folder. A lock is the kernel's (flock): it is gone with its process, however that ended."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

#: Exit status of a command that found its folder in use: EX_TEMPFAIL of sysexits.h, «try again later».
BUSY = 75


class BusyError(RuntimeError):
    """Another process works in that folder."""


def lock_file(folder: Path) -> Path:
    """Beside the folder: what is in it may be moved away while it is locked."""
    return folder.with_name(f".{folder.name}.lock")


def _is(handle: int, path: Path) -> bool:
    """Whether ``path`` is still the file that ``handle`` has open: its last holder removes it."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), now)


def _try(path: Path) -> tuple[int | None, str]:
    """A locked handle, or None and what the holder wrote of itself."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 200).decode(errors="replace").strip()
            os.close(handle)
            return None, holder or "another process"
        if _is(handle, path):
            return handle, ""
        os.close(handle)


@contextlib.contextmanager
def exclusive(folder: Path, lock: Path | None = None) -> Iterator[None]:
    """Keep ``folder``, which need not exist, to this process.

    Args:
        lock: the file; beside the folder if not given.

    Raises:
        BusyError: another process has it; says which.
    """
    path = lock or lock_file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, holder = _try(path)
    if handle is None:
        raise BusyError(f"{folder} is in use by {holder}. Wait for it, or end it; nothing was changed.")
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock holds, it only has no name
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {now}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def is_busy(folder: Path) -> bool:
    """Whether another process has ``folder`` at this moment."""
    path = lock_file(folder)
    if not path.is_file():
        return False
    handle, _ = _try(path)
    if handle is None:
        return True
    path.unlink(missing_ok=True)
    os.close(handle)
    return False
