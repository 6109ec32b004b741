"""Run every tutorial as a reader would and write what its commands print into the page.

    python docs/site/outputs.py               # all pages; half an hour on a busy machine
    python docs/site/outputs.py deploy train  # these
    python docs/site/outputs.py --installed deploy extend sensor train  # with the installed lipsrl: that of a wheel

Each page runs in an empty temporary folder. Where a page has a marker after a code block,

    <!-- output -->          or          <!-- output, last 12 lines -->

the text block below the marker is replaced by what that block printed to standard output.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import types
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
OUTPUT = re.compile(
    r"\n<!-- output(?:, (?P<end>first|last) (?P<count>\d+) lines)? -->\n(?:\n```text\n(?P<text>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
#: a longer command of the page, and what is run for its output; the page must name the second one
BUDGETS = {"compare": {"--timesteps 100000": "--timesteps 30000"}}
#: width and colours of what is printed; the tests print with the same
ENVIRONMENT = {"COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"}


def main() -> None:
    """Run the pages that were named, or all."""
    known = sorted(page.stem for page in PAGES.glob("*.md"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", default=known)
    parser.add_argument(
        "--installed",
        action="store_true",
        help="lipsrl of this Python, not of the checkout; so no experiments/",
    )
    args = parser.parse_args()
    if unknown := sorted(set(args.pages) - set(known)):
        parser.error(f"expected pages of {known}, received {unknown}.")
    for name in args.pages:
        page = PAGES / f"{name}.md"
        outputs = run(page, args.installed)
        page.write_text(insert(page.read_text(encoding="utf-8"), outputs), encoding="utf-8")
        print(f"{page.relative_to(ROOT)}: {len(outputs)} blocks", flush=True)


def run(page: Path, installed: bool = False) -> list[str]:
    """What each block of a page prints, in order."""
    text = page.read_text(encoding="utf-8")
    for long, short in BUDGETS.get(page.stem, {}).items():
        text = text.replace(long, short)
    os.environ.update(ENVIRONMENT, PYTHONWARNINGS="ignore")
    if not installed:
        os.environ["PYTHONPATH"] = str(ROOT)
    module = types.ModuleType(f"tutorial_{page.stem}")
    sys.modules[module.__name__] = module  # dataclasses look theirs up
    outputs = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for language, code in BLOCK.findall(text):
            print(f"{page.stem}: {code.splitlines()[0]} …", file=sys.stderr, flush=True)
            outputs.append(shell(code) if language == "bash" else python(code, module))
    return outputs


def shell(code: str) -> str:
    """Standard output of shell commands; `python` and `lipsrl` are this interpreter and this checkout."""
    known = f'python() {{ "{sys.executable}" "$@"; }}\nlipsrl() {{ python -m lipsrl.cli "$@"; }}\nset -e\n'
    done = subprocess.run(["bash", "-c", known + code], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def python(code: str, module: types.ModuleType) -> str:
    """Standard output of a Python block that sees what the blocks before it defined."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, module.__name__, "exec"), vars(module))
    return said.getvalue()


def insert(text: str, outputs: list[str]) -> str:
    """The page with an output below each marker that follows a block."""
    parts, end = [], 0
    for block, printed in zip(BLOCK.finditer(text), outputs, strict=True):
        parts.append(text[end : block.end()])
        end = block.end()
        if marker := OUTPUT.match(text, end):
            parts.append(
                marker.group().split("\n```")[0].rstrip("\n") + f"\n\n```text\n{chosen(printed, marker)}```\n"
            )
            end = marker.end()
    return "".join(parts) + text[end:]


def chosen(printed: str, marker: re.Match[str]) -> str:
    """The lines that the marker asks for; "…" stands for the others."""
    lines = [line.rstrip() for line in printed.strip("\n").splitlines()]
    if marker["end"] and len(lines) > (count := int(marker["count"])):
        lines = [*lines[:count], "…"] if marker["end"] == "first" else ["…", *lines[-count:]]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
