"""What the site adds to the pages in docs/: reference pages, made of the code, and pages that live elsewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
#: pages of the repository that pages in docs/ link to
OUTSIDE = {"../benchmarks/README.md": "benchmarks.md"}
_ROLE = re.compile(r":(?:class|func|meth|data|attr|mod|obj):<code>~?([^<]*)</code>")


def on_files(files: Files, config: Any) -> Files:
    """Reference pages for what the navigation names, `lipsrl --help`, and the pages that live elsewhere."""
    listed = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    for page in listed:
        room = Path(page).name.removesuffix(".md")
        content = commands() if room == "commands" else reference(room)
        files.append(File.generated(config, page, content=content))
    for source, page in OUTSIDE.items():
        text = (ROOT / source.removeprefix("../")).read_text(encoding="utf-8")
        text = re.sub(r"\]\(\.\./docs/([^)]*)\)", r"](\1)", text)
        text = re.sub(r"\]\((?!#|[a-z-]+\.md)[^)]*\)", "]", text)  # files of the repository are not pages
        files.append(File.generated(config, page, content=text))
    return files


def reference(room: str) -> str:
    """The page of a public module; what it shares a name with one of its files is named in full."""
    name = "lipsrl" if room == "lipsrl" else f"lipsrl.{room}"
    module = importlib.import_module(name)
    parts = [f"# {name}\n\n::: {name}\n"]
    for public in module.__all__:
        found = getattr(module, public)
        if isinstance(found, ModuleType):
            parts.append(f"::: {name}.{public}\n    options:\n      show_root_heading: true\n")
        elif importlib.util.find_spec(f"{name}.{public}") is not None:  # lipsrl.assessment.assess
            parts.append(f"::: {name}.{public}.{public}\n    options:\n      show_root_heading: true\n")
    return "\n".join(parts)


_HELP = """
import sys
from lipsrl.cli import COMMANDS, main
for arguments in ["--help"], *([name, "--help"] for name in COMMANDS):
    try:
        main(arguments)
    except SystemExit:
        pass
    print("\\f", end="")
"""


def commands() -> str:
    """The page of the command line: what each `--help` prints."""
    from lipsrl.cli import COMMANDS

    plain = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _HELP], capture_output=True, text=True, check=True, env=plain
    )
    first, *others = (re.sub(r"\x1b\[[0-9;]*m", "", text).strip() for text in done.stdout.split("\f")[:-1])
    parts = [f"# Command line\n\n```text\n{first}\n```\n"]
    for (name, command), said in zip(COMMANDS.items(), others, strict=True):
        parts.append(f"## lipsrl {name}\n\n{command.summary.capitalize()}.\n\n```text\n{said}\n```\n")
    return "\n".join(parts)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to pages that live elsewhere, to where the site has them."""
    for source, target in OUTSIDE.items():
        markdown = markdown.replace(f"]({source}", f"]({target}")
    return markdown


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Docstrings name things as Sphinx does."""
    return _ROLE.sub(lambda match: f"<code>{match.group(1).split('.')[-1]}</code>", html)
