"""Does the test suite notice? Invariants broken on purpose, one at a time, and which test says so.

    python -m benchmarks.mutations                 # all, in about half an hour on one core
    python -m benchmarks.mutations psi frames      # those whose name contains one of the words
    python -m benchmarks.mutations --quick         # only with the tests of `make test-quick`
    python -m benchmarks.mutations --list

Works in a temporary git worktree of the last commit, so nothing here is touched. Each mutation replaces one exact
piece of text in one file (it fails loudly if the text is not there just once), then runs the test folders that are
concerned, up to the first failure. A mutation that no test notices is a hole in the suite: exit code 1.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks._mutation_list import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[1]


def apply(mutation: Mutation, tree: Path) -> str:
    """Break it; returns the file's text as it was.

    Raises:
        ValueError: the text is not there just once.
    """
    path = tree / "lipsrl" / mutation.file
    text = path.read_text(encoding="utf-8")
    found = text.count(mutation.old)
    if found != 1:
        raise ValueError(
            f"{mutation.name!r}: expected {mutation.old!r} once in lipsrl/{mutation.file}, found it {found} times. "
            "The code has changed: break the same invariant where it is now."
        )
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    return text


def verdict(mutation: Mutation, tree: Path, options: Sequence[str] = ()) -> tuple[bool, str]:
    """Run the tests; whether one of them failed, and which."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    command += [
        *options,
        *(["-k", mutation.only] if mutation.only else []),
        *(f"tests/{name}" for name in mutation.tests),
    ]
    done = subprocess.run(
        command,
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if done.returncode == 0:
        return False, "no test noticed"
    if done.returncode != 1 or failed is None:
        return False, f"the tests did not run: {done.stdout[-1500:]}"
    return True, failed[1].removeprefix("tests/")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="only mutations whose name contains one of these")
    parser.add_argument("--quick", action="store_true", help="leave out the long tests (tests/long.txt)")
    parser.add_argument("--list", action="store_true", help="say which there are")
    args = parser.parse_args()
    chosen = [m for m in MUTATIONS if not args.words or any(word in m.name for word in args.words)]
    if args.list or not chosen:
        print("\n".join(f"{m.name} ({', '.join(m.tests)})" for m in MUTATIONS))
        sys.exit(0 if args.list else "No mutation has such a name.")
    missed = 0
    print("| broken on purpose | caught by | CPU s |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), "HEAD"], check=True)
        try:
            for mutation in chosen:
                before = apply(mutation, tree)
                started = resource.getrusage(resource.RUSAGE_CHILDREN)
                caught, words = verdict(mutation, tree, ["--quick"] if args.quick else [])
                ended = resource.getrusage(resource.RUSAGE_CHILDREN)
                seconds = ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime
                (tree / "lipsrl" / mutation.file).write_text(before, encoding="utf-8")
                missed += not caught
                print(
                    f"| {mutation.name} | {words if caught else 'NOT CAUGHT: ' + words} | {seconds:.0f} |",
                    flush=True,
                )
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    print(f"\n{len(chosen) - missed} of {len(chosen)} caught")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
