"""The list of long tests names tests that there are, and is read from what pytest writes."""

from __future__ import annotations

import pytest

from tests.durations import LONG, ROOT, base, functions


def test_every_long_test_exists():
    """Otherwise one that was renamed would be run again in `make test-quick`."""
    names = LONG.read_text(encoding="utf-8").split()
    assert names == sorted(set(names))
    for name in names:
        file, *_, function = name.split("::")
        assert f"def {function}(" in (ROOT / file).read_text(encoding="utf-8"), (
            f"{name} is gone: python -m tests.durations durations.xml --write"
        )


def test_cases_are_gathered_by_function(tmp_path):
    junit = tmp_path / "durations.xml"
    junit.write_text(
        '<testsuites><testsuite><testcase classname="tests.layers.test_a" name="test_b[1.5-x]" time="0.5"/>'
        '<testcase classname="tests.layers.test_a" name="test_b[2]" time="0.25"/>'
        '<testcase classname="tests.test_c.TestD" name="test_e" time="1"/></testsuite></testsuites>'
    )
    found = functions(junit)
    assert found == {"tests/layers/test_a.py::test_b": [0.5, 0.25], "tests/test_c.py::TestD::test_e": [1.0]}
    assert base("tests/layers/test_a.py::test_b[1.5-x]") in found


@pytest.mark.parametrize("quick", [False, True])
def test_the_option_leaves_them_out(quick):
    from tests.conftest import pytest_collection_modifyitems

    class Config:
        hook = type("Hook", (), {"pytest_deselected": lambda self, items: out.extend(items)})()

        def getoption(self, name):
            return quick

    class Item:
        def __init__(self, nodeid):
            self.nodeid = nodeid

    out, long = [], LONG.read_text(encoding="utf-8").split()[0]
    items = [Item(f"{long}[a]"), Item("tests/layers/test_families.py::test_x[b]")]
    pytest_collection_modifyitems(Config(), items)
    assert [item.nodeid for item in out] == ([f"{long}[a]"] if quick else [])
    assert len(items) == 2 - quick
