"""Disturbances by name: the registry, dictionaries, the command line."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

from lipsrl.disturbances import (
    DISTURBANCES,
    AutoregressiveNoise,
    Bias,
    Compose,
    Delay,
    Disturbance,
    Drift,
    Dropout,
    GaussianNoise,
    Jitter,
    Quantization,
    Spikes,
    UniformNoise,
    disturbance_from_dict,
    parse_disturbance,
    register,
)


class Loud(GaussianNoise):
    name = "test-loud"


@pytest.mark.parametrize(
    "module",
    [
        "_registry",
        "autoregressive",
        "bias",
        "compose",
        "delay",
        "drift",
        "dropout",
        "gaussian",
        "jitter",
        "quantization",
        "spikes",
        "statistics",
        "uniform",
    ],
)
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
            ("uniform:0.2", UniformNoise(0.2)),
            ("ar1:0.1:0.9", AutoregressiveNoise(0.1, 0.9)),
            ("ar1:0.1,0.2:correlation=-.5", AutoregressiveNoise([0.1, 0.2], -0.5)),
            ("bias", Bias(1.0)),
            ("drift:1e-3", Drift(0.001)),
            ("quantization:0.01", Quantization(0.01)),
            ("dropout:0.1", Dropout(0.1)),
            ("dropout:0.1:zero:frame", Dropout(0.1, "zero", "frame")),
            ("dropout:per=frame:probability=0.1", Dropout(0.1, per="frame")),
            ("spikes:0.01:5,6", Spikes(0.01, [5, 6])),
            ("delay:2", Delay(2)),
            ("jitter:3:sensor", Jitter(3, "sensor")),
            ("gaussian:1e+3+delay:2", Compose([GaussianNoise(1000.0), Delay(2)])),
            ("bias + quantization:0.5 + jitter", Compose([Bias(), Quantization(0.5), Jitter()])),
        ],
    )
    def test_what_is_written_is_built(self, text, expected):
        assert parse_disturbance(text) == expected

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("quantisation", "Did you mean 'quantization'"),
            ("gaussian+delya:2", "disturbance='delya' is not known. Did you mean 'delay'"),
            ("ar1:0.1", "'ar1' takes .*'correlation'"),
            ("ar1:0.1:1.0", "correlation must be a number strictly between"),
            ("dropout:0.1:held", "fill='held' is not known. Did you mean 'hold'"),
            ("dropout:0.1:fill=", "fill='' is not known"),
            ("compose", "'compose' has no text of its own. In text 'gaussian:0.1.delay:2' composes"),
            ("mixture:0.1", "'mixture' has no text of its own"),
            (
                "mixtur",
                r"disturbance='mixtur' is not known\. Did you mean 'jitter'\? Accepted: 'ar1', 'bias', 'delay'",
            ),
            ("gaussian:0.1+", "expected a number"),
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
        assert register(Loud) is Loud
        assert register(Loud) is Loud
        assert registry["test-loud"] is Loud
        assert parse_disturbance("test-loud:0.5") == Loud(0.5)

    def test_a_name_belongs_to_one_class(self):
        class Impostor(Loud):
            name = "gaussian"

        with pytest.raises(ValueError, match=r"name='gaussian' already belongs to .*GaussianNoise"):
            register(Impostor)
        assert DISTURBANCES["gaussian"] is GaussianNoise

    def test_the_base_is_abstract(self):
        with pytest.raises(TypeError, match="abstract"):
            Disturbance()
