"""Disturbances by name: the registry, dictionaries, the command line."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest
from memory_families import Walk

from lipsrl.disturbances import (
    DISTURBANCES,
    Disturbance,
    GaussianNoise,
    disturbance_from_dict,
    parse_disturbance,
    register,
)


@pytest.mark.parametrize("module", ["gaussian", "_registry"])
def test_examples_run(module):
    results = doctest.testmod(importlib.import_module(f"lipsrl.disturbances.{module}"))
    assert results.attempted > 0
    assert results.failed == 0


def test_numpy_is_enough():
    """A robot has neither torch nor SB3."""
    code = (
        "import sys\n"
        "for name in ('torch', 'stable_baselines3', 'gymnasium', 'pandas'): sys.modules[name] = None\n"
        "from lipsrl.disturbances import GaussianNoise\n"
        "import numpy as np\n"
        "print(GaussianNoise(0.1)(np.zeros(3)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "(3,)", done.stderr


class TestParse:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("gaussian", GaussianNoise(1.0)),
            ("gaussian:0.2", GaussianNoise(0.2)),
            (" gaussian:2 ", GaussianNoise(2.0)),
            ("gaussian:1e-3", GaussianNoise(0.001)),
            ("gaussian:std=0.2", GaussianNoise(0.2)),
            ("gaussian:0.1,0,.5", GaussianNoise([0.1, 0.0, 0.5])),
        ],
    )
    def test_what_is_written_is_built(self, text, expected):
        assert parse_disturbance(text) == expected

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("gausian:0.2", "disturbance='gausian' is not known. Did you mean 'gaussian'"),
            ("", "disturbance='' is not known.*Accepted: .*'gaussian'"),
            ("gaussian:loud", "expected a number or numbers separated by commas, received 'loud'"),
            ("gaussian:", "expected a number or numbers separated by commas, received ''"),
            ("gaussian:0.1,", "expected a number"),
            ("gaussian:-0.2", r"std must be a finite number >= 0.*received -0\.2"),
            ("gaussian:nan", "std must be a finite number"),
            ("gaussian:0.1:0.2", r"has 2 values, 'gaussian' takes \['std'\]"),
            ("gaussian:sigma=0.1", r"'gaussian' takes \['std'\], received \{'sigma': 0.1\}"),
            (0.2, r"NAME\[:VALUE.*received 0.2"),
        ],
    )
    def test_what_cannot_be_read_is_named(self, text, message):
        with pytest.raises(ValueError, match=message):
            parse_disturbance(text)

    def test_arguments_by_position_and_by_name(self, monkeypatch):
        class TwoArguments(GaussianNoise):
            name = "test-two"

            def __init__(self, std=1.0, other=0.0):
                super().__init__(std)
                self.other = other

        monkeypatch.setitem(DISTURBANCES, "test-two", TwoArguments)
        assert parse_disturbance("test-two:0.5:other=3").other == 3
        assert parse_disturbance("test-two:0.5:3").other == 3
        assert type(parse_disturbance("test-two:0.5:3").other) is int
        with pytest.raises(ValueError, match="gives 'std' twice"):
            parse_disturbance("test-two:0.5:std=0.5")


class TestDictionary:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({"std": 0.1}, "a mapping with a 'name'.*'gaussian'.*received"),
            ("gaussian", "a mapping with a 'name'"),
            ({"name": "gaussain", "std": 0.1}, "Did you mean 'gaussian'"),
            ({"name": ["gaussian"]}, "is not known"),
            ({"name": "gaussian", "sigma": 0.1}, "'gaussian' takes"),
            ({"name": "gaussian", "std": -1}, "std must be a finite number >= 0"),
        ],
    )
    def test_what_describes_nothing_is_refused(self, data, message):
        with pytest.raises(ValueError, match=message):
            disturbance_from_dict(data)


class TestRegister:
    def test_a_new_family_is_known_by_its_name(self, monkeypatch):
        monkeypatch.setattr("lipsrl.disturbances._registry.DISTURBANCES", registry := dict(DISTURBANCES))
        assert register(Walk) is Walk
        assert register(Walk) is Walk
        assert registry["test-walk"] is Walk
        assert parse_disturbance("test-walk:0.5") == Walk(0.5)

    def test_a_name_belongs_to_one_class(self):
        class Impostor(Walk):
            name = "gaussian"

        with pytest.raises(ValueError, match=r"name='gaussian' already belongs to .*GaussianNoise"):
            register(Impostor)
        assert DISTURBANCES["gaussian"] is GaussianNoise

    def test_the_base_is_abstract(self):
        with pytest.raises(TypeError, match="abstract"):
            Disturbance()
