"""The tests with the oldest and with the newest packages that pyproject.toml allows.

    python -m tests.versions lowest
    python -m tests.versions highest --tests tests/policies

An environment of its own per row, in FOLDER/ROW. torch is the version of constraints.txt in both: it is the only one of
which every machine of ours has a build without CUDA. Warnings are no errors here: old packages warn beside new ones.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

#: Whose packages the tests below import.
EXTRAS = ("contrib", "dashboards", "onnx", "search")

#: What tests need beside the package itself; the newest.
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")

#: Where packages of others are used most: algorithms, environments, files, tables.
TESTS = (
    "tests/actors", "tests/commands", "tests/deployment", "tests/disturbances", "tests/evaluation", "tests/policies",
    "tests/tracking", "tests/wrappers", "tests/test_networks.py",
)  # fmt: skip


def requirements(row: str) -> list[str]:
    """What pip is asked for: each dependency, and those of the extras that the tests import, in its row's version.

    Raises:
        ValueError: a dependency has no lower limit.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [Requirement(text) for text in project["dependencies"]]
    asked += [Requirement(text) for extra in EXTRAS for text in extras[extra]]
    found = []
    for each in asked:
        if each.name == "torch":
            found.append(pinned("torch"))
        elif row == "highest":
            found.append(str(each))
        else:
            lower = [bound.version for bound in each.specifier if bound.operator == ">="]
            if len(lower) != 1:
                raise ValueError(f"{each} has no lower limit of the form >=.")
            found.append(f"{each.name}=={lower[0]}")
    return [
        *found,
        "gymnasium[mujoco,classic-control]",
        "box2d",
    ]  # gymnasium 1.0 asks for a box2d-py that wants a compiler


def pinned(name: str) -> str:
    """The line of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{name}=="))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("row", choices=("lowest", "highest"))
    parser.add_argument("--folder", type=Path, help="keep the environments there")
    parser.add_argument("--tests", nargs="+", default=TESTS)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="lipsrl-versions-"))
    place = folder / options.row
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    wanted = requirements(options.row)
    print("\n".join(wanted), flush=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted, *TOOLS], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", ROOT], check=True)
    subprocess.run([python, "-m", "pip", "freeze"], check=True)
    return subprocess.run(
        [python, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "-W", "default", *options.tests],
        cwd=ROOT,
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
