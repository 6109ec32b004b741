"""Certificates as JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from lipsrl._files import write_text


class Saved:
    """``save`` and ``load`` of a class whose ``to_dict`` and ``from_dict`` are each other's inverse."""

    #: What an error calls the object.
    title: ClassVar[str]
    #: Raised whenever a key changes its meaning.
    schema_version: ClassVar[int]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; ``from_dict`` reads it back."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError: another schema version, or a key that is missing.
        """
        found = data.get("schema_version")
        if found != cls.schema_version:
            raise ValueError(
                f"{cls.title} has schema_version={found!r}, expected {cls.schema_version}. Certify the model again."
            )
        try:
            return cls._from_checked(data)
        except KeyError as error:
            raise ValueError(
                f"{cls.title} has no {error.args[0]!r}: it is not what {cls.__name__}.to_dict() returned."
            ) from error
        except (TypeError, AttributeError) as error:
            raise ValueError(
                f"{cls.title} holds something else than {cls.__name__}.to_dict() returned: {error}"
            ) from error

    @classmethod
    def _from_checked(cls, data: Mapping[str, Any]) -> Self:
        raise NotImplementedError

    def save(self, path: str | Path) -> Path:
        """Write JSON to ``path`` (whole or not at all) and return the path."""
        return write_text(path, json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no JSON, another schema version, or a key that is missing.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:  # JSON and UTF-8
            raise ValueError(f"{str(path)!r} is not the JSON of {cls.title}: {error}") from error
        if not isinstance(data, dict):
            raise ValueError(
                f"{str(path)!r} is not the JSON of {cls.title}: it holds a {type(data).__name__}."
            )
        return cls.from_dict(data)


def finite_or_none(values: NDArray[np.float64]) -> list[float | None]:
    """A vector for JSON, which knows no infinity."""
    return [float(value) if np.isfinite(value) else None for value in values]
