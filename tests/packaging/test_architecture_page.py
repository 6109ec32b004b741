"""docs/architecture.md: what each room asks `lipsrl.actors` for is what it imports."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import grimp

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


def written():
    """Room → modules of `lipsrl.actors`, as the page has them; rooms of one row share them."""
    section = PAGE.read_text(encoding="utf-8").split("Who asks for what", 1)[1].split("\n## ", 1)[0]
    found = {}
    for rooms, asked in re.findall(r"^\| (`.*?) \| (.*) \|$", section, re.M):
        for room in re.findall(r"`([\w/]+)/`", rooms):
            found[room] = set(re.findall(r"`([a-z_]+)`", asked)) - {"actor_parts"}
    return found


def imported():
    """The same from the imports; `actors` is the package itself. The root re-exports only."""
    graph = grimp.build_graph("lipsrl", cache_dir=None)
    found = defaultdict(set)
    for module in graph.modules:
        _, *path = module.split(".")
        if not path or path[0] == "actors":
            continue
        depth = 2 if path[0] == "certificates" and (len(path) > 2 or graph.find_children(module)) else 1
        for name in graph.find_modules_directly_imported_by(module):
            if name == "lipsrl.actors" or name.startswith("lipsrl.actors."):
                found["/".join(path[:depth])].add(name.split(".")[-1])
    return found


def test_the_table_of_what_is_asked_of_actors_is_that_of_the_imports():
    page, imports = written(), imported()
    shared = ("certificates/deterministic", "certificates/stochastic")  # one row
    together = imports[shared[0]] | imports[shared[1]]
    assert page == imports | dict.fromkeys(shared, together)
