"""No file of the library imports itself by way of others: `TYPE_CHECKING` and a package's own `__init__` count."""

from __future__ import annotations

import graphlib
import itertools

import grimp
import pytest


def circle(imports: dict[str, set[str]]) -> list[str] | None:
    """The modules of one circle in ``imports`` (module → modules it imports), the first one repeated at the end."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        found: list[str] = error.args[1]
        return found[::-1]  # graphlib goes from the imported to the importer
    return None


@pytest.mark.parametrize("package", ["lipsrl", "agents", "envs", "experiments"])
def test_no_file_imports_itself_by_way_of_others(package):
    graph = grimp.build_graph(package, cache_dir=None)
    found = circle({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})
    assert found is None, "an import circle: " + " → ".join(found)


def test_a_circle_is_named_in_the_order_of_its_imports():
    found = circle(
        {"lipsrl": {"lipsrl.a"}, "lipsrl.a": {"lipsrl.b"}, "lipsrl.b": {"lipsrl"}, "lipsrl.c": {"lipsrl"}}
    )
    assert found is not None
    assert found[0] == found[-1]
    assert {f"{a} → {b}" for a, b in itertools.pairwise(found)} == {
        "lipsrl → lipsrl.a",
        "lipsrl.a → lipsrl.b",
        "lipsrl.b → lipsrl",
    }
