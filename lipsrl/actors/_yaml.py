"""Settings that rl-baselines3-zoo wrote as YAML, read without running what they may name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML without code: the zoo's ``!!python/object/apply:collections.OrderedDict`` is read as the mapping it is."""


def _plain(loader: Any, suffix: str, node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return str(loader.construct_scalar(node)) or suffix
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    values = loader.construct_sequence(node, deep=True)
    if suffix.endswith("OrderedDict"):
        return {str(key): value for key, value in (values[0] if values else [])}
    return values


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)


def mapping_of(path: Path) -> dict[str, Any]:
    """A mapping; an empty one where the file is missing.

    Raises:
        ValueError: the file is no such mapping.
    """
    if not path.is_file():
        return {}
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as YAML: {error}") from error
    return found if isinstance(found, dict) else {}
