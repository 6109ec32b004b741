"""CPU seconds of the test suite, by folder, file and test function: where the time goes, on a busy machine too.

    python -m benchmarks.suite_time                        # every folder, a table
    python -m benchmarks.suite_time tests/layers --by function

Each folder is run in a process of its own, one after another. A test's seconds are user and system time of the process
and of the processes that it started and waited for, fixtures included: a shared fixture counts with the test that came
first. The last column is what the folder's process needed altogether, with imports and collection.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Clock:
    """A pytest plugin that notes each test's CPU seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = sum(os.times()[:4])
        answer = yield
        self.seconds[item.nodeid] = sum(os.times()[:4]) - before
        return answer


def measured(folder: str, options: list[str]) -> dict[str, Any]:
    """One folder's tests in a process of its own: seconds by test, and altogether."""
    with tempfile.TemporaryDirectory() as out:
        path = Path(out, "seconds.json")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "benchmarks.suite_time", "--into", str(path), folder, *options]
        code = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if not path.exists():
            raise RuntimeError(f"expected the tests of {folder} to run, got: {code.stdout[-2000:]}")
        if code.returncode:
            print(code.stdout[-2000:], file=sys.stderr)
        whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"seconds": json.loads(path.read_text()), "whole": whole, "code": code.returncode}


def key(test: str, by: str) -> str:
    """What a test counts for: its folder, its file or its function (all of its parameters together)."""
    file, _, name = test.partition("::")
    parts = file.split("/")
    return {
        "folder": "/".join(parts[:2]) if len(parts) > 2 else "tests/*.py",
        "file": file,
        "function": f"{file}::{name.split('[')[0]}",
        "test": test,
    }[by]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", help="folders or files of tests (default: all)")
    parser.add_argument("--by", default="folder", choices=["folder", "file", "function", "test"])
    parser.add_argument("--least", type=float, default=0.0, help="leave out what takes fewer seconds")
    parser.add_argument("--json", type=Path, help="write every test's seconds there")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    args, options = parser.parse_known_args()
    if args.into:
        clock = Clock()
        code = pytest.main(["-q", "-p", "no:cacheprovider", *args.folders, *options], plugins=[clock])
        args.into.write_text(json.dumps(clock.seconds))
        sys.exit(int(code))
    tests = Path("tests")
    loose = [str(file) for file in sorted(tests.glob("test_*.py"))]
    every = sorted(str(f) for f in tests.iterdir() if f.is_dir() and list(f.glob("test_*.py")))
    seconds: dict[str, float] = {}
    whole: Counter[str] = Counter()
    failed = []
    for folder in args.folders or [*every, *loose]:
        got = measured(folder, options)
        seconds |= got["seconds"]
        whole[folder if Path(folder).is_dir() else key(folder, "folder")] += got["whole"]
        failed += [folder] * bool(got["code"])
        print(f"{folder}: {len(got['seconds'])} tests, {got['whole']:.0f} s", file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps(seconds))
    sums: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for test, spent in seconds.items():
        sums[key(test, args.by)] += spent
        count[key(test, args.by)] += 1
    print(f"| {args.by} | tests | CPU s |{' with imports |' if args.by == 'folder' else ''}")
    print("|---|---|---|" + "---|" * (args.by == "folder"))
    for name, spent in sums.most_common():
        if spent >= args.least:
            last = f" {whole[name]:.0f} |" if args.by == "folder" else ""
            print(f"| {name} | {count[name]} | {spent:.1f} |{last}")
    print(
        f"| all | {len(seconds)} | {sum(seconds.values()):.1f} |"
        + f" {sum(whole.values()):.0f} |" * (args.by == "folder")
    )
    if failed:
        sys.exit(f"tests failed in {', '.join(failed)}")


if __name__ == "__main__":
    main()
