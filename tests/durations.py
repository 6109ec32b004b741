"""Which tests `make test-quick` leaves out. (Where the suite's time goes: ``python -m benchmarks.suite_time``.)

    make test PYTEST="--junitxml=durations.xml"
    python -m tests.durations durations.xml            # how many they are, and what the others take
    python -m tests.durations durations.xml --write    # tests/long.txt anew

A test function is long if one of its cases takes more than --over seconds (with what it sets up).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
#: One test function per line: path of its file :: [class ::] name.
LONG = ROOT / "tests" / "long.txt"


def functions(junit: Path) -> dict[str, list[float]]:
    """Test function → seconds of each of its cases."""
    found: dict[str, list[float]] = defaultdict(list)
    for case in ElementTree.parse(junit).iter("testcase"):
        parts = case.get("classname", "").split(".")
        # classes are at the end of the dotted name, and no file of the tests has a capital
        classes = [part for part in parts if part[:1].isupper()]
        file = "/".join(parts[: len(parts) - len(classes)]) + ".py"
        name = re.sub(r"\[.*", "", case.get("name", ""), flags=re.DOTALL)
        found["::".join([file, *classes, name])].append(float(case.get("time", 0.0)))
    return found


def base(nodeid: str) -> str:
    """Of a test case, that of its function."""
    return nodeid.split("[", 1)[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("junit", type=Path, help="what pytest's --junitxml wrote")
    parser.add_argument("--over", type=float, default=0.6, help="seconds")
    parser.add_argument("--write", action="store_true", help="write tests/long.txt")
    options = parser.parse_args()
    try:
        found = functions(options.junit)
    except (OSError, ElementTree.ParseError) as error:
        sys.exit(f"error: {options.junit} cannot be read as pytest's XML: {error}")
    long = sorted(name for name, times in found.items() if max(times) > options.over)
    rest = [second for name, times in found.items() if name not in set(long) for second in times]
    print(f"{len(long)} functions are long; without them {len(rest)} tests, {sum(rest):.0f} s")
    if options.write:
        LONG.write_text("".join(f"{name}\n" for name in long), encoding="utf-8")


if __name__ == "__main__":
    main()
