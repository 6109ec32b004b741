"""Names that people chose, made fit for W&B's titles, tables and project paths."""

from __future__ import annotations

import html
import re
import unicodedata

#: W&B refuses a saved view whose name has a character of these categories ("Emojis are not allowed").
_SYMBOLS = ("So", "Sk", "Sm", "Sc", "Cs")
_TITLE_LENGTH = 128  # W&B's own limit of a report's title
_PROJECT_LENGTH = 128
_NOT_IN_A_PROJECT = "/\\#?%:"


def title(text: str, limit: int = _TITLE_LENGTH) -> str:
    """``text`` as the name of a saved view or report: without symbols and line breaks, cut at ``limit``.

    Example:
        >>> title("agent 🚀 of <b>mine</b>")
        'agent of bmine/b'
    """
    kept = "".join(c for c in text if not unicodedata.category(c).startswith((*_SYMBOLS, "Cc", "Cf")))
    words = " ".join(
        kept.replace("\ufe0f", "").split()
    )  # what an emoji leaves behind: its variation selector
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"


def cell(text: str) -> str:
    """``text`` as one cell of a Markdown table: shown as it is, never as markup.

    Example:
        >>> cell("<script>|*x*")
        '&lt;script&gt;&#124;&#42;x&#42;'
    """
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"[\\`*_{}\[\]()#!|~$]", lambda found: f"&#{ord(found[0])};", escaped)


def check_project(project: str) -> str:
    """``project`` if W&B takes it as the name of a project.

    Raises:
        ValueError: empty, too long, or with a character that W&B refuses.
    """
    return _check_path_part("project", project)


def check_entity(entity: str) -> str:
    """``entity`` if it can be the name of a W&B user or team; empty stands for one's own.

    Raises:
        ValueError: too long, or with a character that W&B refuses.
    """
    return _check_path_part("entity", entity) if entity else entity


def _check_path_part(argument: str, name: str) -> str:
    wrong = sorted({c for c in name if c in _NOT_IN_A_PROJECT or unicodedata.category(c).startswith("C")})
    if not name.strip() or len(name) > _PROJECT_LENGTH or wrong:
        raise ValueError(
            f"{argument} must be 1 to {_PROJECT_LENGTH} characters without {' '.join(_NOT_IN_A_PROJECT)}, as W&B has "
            f"it; received {name[:140]!r}" + (f" with {' '.join(map(repr, wrong))}." if wrong else ".")
        )
    return name
