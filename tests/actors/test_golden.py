"""Certificates, exports, attacks and evaluations say what they said before the readers of an agent became one room.

Bits depend on the processor, so sums and norms are compared; on the machine that made the record all bits were equal.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.actors.golden import record

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))
#: Of a digest or by their name.
BITS = ("bits", "witness", "per_sensor")


@pytest.fixture(scope="module")
def found(whole_effort):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lipsrl.certificates.deterministic._pairs._effort", whole_effort)
        return record()


def flat(value, path=()):
    if isinstance(value, dict):
        return {key: one for name, part in value.items() for key, one in flat(part, (*path, name)).items()}
    if isinstance(value, list):
        return {key: one for i, part in enumerate(value) for key, one in flat(part, (*path, i)).items()}
    return {path: value}


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_equal(found, name):
    now, then = flat(json.loads(json.dumps(found[name]))), flat(GOLDEN[name])
    assert now.keys() == then.keys()
    for key, value in then.items():
        if key[-1] in BITS:
            continue
        if isinstance(value, float):
            assert now[key] == pytest.approx(value, rel=1e-3, abs=1e-5, nan_ok=True), key
        else:
            assert now[key] == value, key
