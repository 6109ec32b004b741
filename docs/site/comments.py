"""`#:` comments above a public constant are its documentation on the reference pages."""

from __future__ import annotations

from typing import Any

import griffe


class Comments(griffe.Extension):
    """Read what stands above an assignment."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Give the attribute a docstring, where it has none."""
        if attr.docstring is not None or attr.lineno is None:
            return
        lines = attr.filepath.read_text(encoding="utf-8").splitlines()  # type: ignore[union-attr]
        said: list[str] = []
        for line in reversed(lines[: attr.lineno - 1]):
            if not line.strip().startswith("#:"):
                break
            said.insert(0, line.strip().removeprefix("#:").strip())
        if said:
            attr.docstring = griffe.Docstring("\n".join(said), parent=attr)
