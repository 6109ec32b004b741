"""Where a report may be written, asked before anything is measured."""

from __future__ import annotations

from pathlib import Path


def check_page(option: str, path: Path) -> None:
    """``ValueError`` unless ``path`` can be a page."""
    if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"{option}={str(path)!r} must be the page to write, with the ending .html; it is a folder or "
            "has another ending."
        )
    check_folder(option, path.parent)


def check_folder(option: str, folder: Path) -> None:
    """``ValueError`` where a file stands in the way of ``folder``."""
    for part in (folder, *folder.parents):
        if part.exists() and not part.is_dir():
            raise ValueError(f"{option} needs the folder {str(folder)!r}, but {str(part)!r} is a file.")
