"""What stands for a part of a file that was not restored, and the error where it is needed."""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


class Refused:
    """Stands for something that was not restored. It takes part in unpickling and does nothing."""

    #: ``module.name``.
    what = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Refused:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Whatever it is called with."""

    def __setstate__(self, state: Any) -> None:
        """Passed over."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Passed over."""

    def append(self, value: Any) -> None:
        """Passed over."""

    def extend(self, values: Any) -> None:
        """Passed over."""

    def add(self, value: Any) -> None:
        """Passed over."""

    def __hash__(self) -> int:
        return id(self)


class RefusedError(ValueError):
    """A needed part of a file names something that is not on the list.

    Attributes:
        names: what, as ``module.name``.
    """

    def __init__(self, what: str, names: list[str]) -> None:
        self.what, self.names = what, names
        shown = ", ".join(map(_printable, names))
        super().__init__(
            f"{what} needs {shown}, which is not among the classes that are opened unseen (NumPy, "
            "gymnasium's spaces, torch's modules, classes of Stable-Baselines3, sb3-contrib and lipsrl): a file may "
            "name any code there, and opening it would run that. If you or somebody you trust made it, open it with "
            "trust=True (--trust)."
        )


def _printable(name: str) -> str:
    """``name`` on one line."""
    return name if name.isprintable() else ascii(name)


def refused_in(value: Any) -> list[str]:
    """The names of all stand-ins in ``value``: containers, attributes and partial functions are followed."""
    return sorted({one.what for one in _walk(value, set())})


def _walk(value: Any, seen: set[int]) -> Iterator[Any]:
    if isinstance(value, Refused) or (isinstance(value, type) and issubclass(value, Refused)):
        yield value
        return
    if id(value) in seen or isinstance(value, (str, bytes, int, float, type, torch.Tensor, type(None))):
        return
    seen.add(id(value))
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        inner = list(value)
    elif isinstance(value, functools.partial):
        inner = [value.func, value.args, value.keywords]
    elif isinstance(value, np.ndarray):
        inner = value.reshape(-1).tolist() if value.dtype == object else []
    inner += list(getattr(value, "__dict__", {}).values())
    for one in inner:
        yield from _walk(one, seen)


def needed(value: Any, what: str) -> Any:
    """``value`` itself.

    Raises:
        RefusedError: there is a stand-in in it.
    """
    names = refused_in(value)
    if names:
        raise RefusedError(what, names)
    return value
