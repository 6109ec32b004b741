"""The mutations of `benchmarks.mutations` break what is there: each text occurs once in its file."""

from __future__ import annotations

import pytest

from benchmarks._mutation_list import MUTATIONS
from benchmarks.mutations import ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_is_replaced_is_there_once(mutation):
    assert (ROOT / "lipsrl" / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1
    assert mutation.old != mutation.new
    assert all((ROOT / "tests" / name).exists() for name in mutation.tests)


def test_each_name_is_given_once_and_the_docs_say_how_many_there_are():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    said = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"breaks {len(MUTATIONS)} invariants" in said
