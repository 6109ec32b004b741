"""The certificate as an object: what it prints is still a bound, and it survives a file."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lipsrl._digits import rounded_down, rounded_up
from lipsrl.certificates import Certificate, Factor, LocalBounds, NetworkBound
from lipsrl.certificates.deterministic._rendering import labelled

CERTIFICATE = Certificate(
    upper_bound=2.00000049,
    lower_bound=1.99999951,
    norm="l2",
    method="lipsdp",
    factors=(
        Factor("vec_normalize", 2.0, "1/sqrt(var + ε) of observation[1], the steepest sensor"),
        Factor(
            "network", 1.0, "product of float64 operator norms and activation slopes, which is a long detail"
        ),
    ),
    network=NetworkBound(1.0, 0.9),
    per_sensor=(0.5, 2.00000049, 0.0),
    promise=1.5,
    algorithm="PPO",
    policy="stable_baselines3.common.policies.ActorCriticPolicy",
    witness={"observation": [0.0]},
    assumptions=("deterministic actions",),
    weights_sha256="0123456789abcdef" * 4,
    versions={"torch": "2.13.0"},
)


def shown(certificate, width=80):
    stream = io.StringIO()
    Console(file=stream, width=width).print(certificate)
    return stream.getvalue()


@given(st.floats(1e-300, 1e300))
def test_what_is_printed_is_still_a_bound(value):
    down, up = float(rounded_down(value)), float(rounded_up(value))
    assert down <= value <= up
    assert up - down <= 1e-5 * value


def test_round_numbers_stay_round():
    assert [rounded_up(x) for x in (0.0, 0.2, 5.0, 123456789.0, np.inf)] == [
        "0",
        "0.2",
        "5",
        "1.23457e+08",
        "inf",
    ]
    assert rounded_down(123456789.0) == "1.23456e+08"


@pytest.mark.parametrize("text", [str, shown])
def test_both_forms_are_sound_and_complete(text):
    words = text(dataclasses.replace(CERTIFICATE, warnings=("observation[2] hardly varied",)))
    for part in ("2.00001", "1.99999", "PPO", "vec_normalize", "raw observation", "deterministic actions", "1.5",
                 "observation[2] hardly varied", "lipsdp"):  # fmt: skip
        assert part in words
    assert "2.0000 " not in words


def test_nothing_is_cut_at_80_columns():
    words = shown(CERTIFICATE)
    assert max(map(len, words.splitlines())) <= 80
    assert "…" not in words
    flat = " ".join(words.split())
    assert "which is a long detail" in flat
    assert all(f"observation[{i}]" in words for i in range(3))
    assert words.count("█") == 24 + 6


def test_without_vec_normalize_it_says_so():
    bare = dataclasses.replace(CERTIFICATE, factors=CERTIFICATE.factors[1:])
    for words in (str(bare), shown(bare)):
        assert "no VecNormalize given" in " ".join(words.split())


def test_units_and_balls_are_shown():
    full = dataclasses.replace(
        CERTIFICATE, sensor_scale=(0.01, 0.125, 1.0), local=LocalBounds(0.05, (0.75, 1.25, 1.0))
    )
    words = shown(full)
    for part in ("0.125", "sensor_scale", "Near 3 given states", "0.05", "0.75", "1.25"):
        assert part in words
    assert Certificate.from_dict(json.loads(json.dumps(full.to_dict()))) == full


@pytest.mark.parametrize("text", [str, shown])
@pytest.mark.parametrize("count", [40, 41])
def test_of_many_sensors_the_steepest_are_shown(text, count):
    many = dataclasses.replace(CERTIFICATE, per_sensor=tuple(float(i) for i in range(count)))
    words = text(many)
    assert (f"the steepest 10 of {count}" in words) == (count > 40)
    if count > 40:
        assert [index for index, _ in many.sensors_shown()] == list(range(count - 1, count - 11, -1))


def test_sensors_have_their_names():
    named = dataclasses.replace(CERTIFICATE, sensors=("camera (image)", "speed[0]", "speed[1]"))
    for words in (
        str(dataclasses.replace(named, per_sensor=(1.0,) * 41, sensors=("camera",) * 41)),
        shown(named),
    ):
        assert "camera" in words
    assert "speed[1]" in shown(named)
    old = named.to_dict()
    del old["sensors"]
    assert Certificate.from_dict(old).sensor_name(1) == "observation[1]"


def test_stages_that_change_the_unit_are_in_it():
    stacked = dataclasses.replace(CERTIFICATE, factors=(*CERTIFICATE.factors, Factor("frame_stack", 2.0, "")))
    assert stacked.unit == "raw observation in each stacked frame"
    inner = dataclasses.replace(CERTIFICATE, factors=(Factor("normalize_observation", 2.0, ""),))
    assert inner.unit == "raw observation"


def test_a_constant_policy_has_no_bars():
    still = dataclasses.replace(CERTIFICATE, upper_bound=0.0, lower_bound=0.0, per_sensor=(0.0, 0.0, 0.0))
    assert "█" not in shown(still)
    assert still.tightness == 1.0


def test_words_are_continued_below_themselves():
    text = "Heading\n  assumes      " + "word " * 20 + "\n    free text " + "more " * 20
    lines = shown(labelled(text)).splitlines()
    assert lines[1].startswith("  assumes      word")
    assert lines[2].startswith(" " * 15 + "word")
    assert lines[-1].startswith("    more")


class TestFiles:
    def test_round_trip(self, tmp_path):
        assert Certificate.load(CERTIFICATE.save(tmp_path / "certificate.json")) == CERTIFICATE

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "is not the JSON of certificate"),
            ("[]", "it holds a list"),
            ("{}", "schema_version=None, expected 2"),
            ('{"schema_version": 2}', "has no 'upper_bound'"),
            (json.dumps(CERTIFICATE.to_dict() | {"factors": None}), "holds something else"),
            (json.dumps(CERTIFICATE.to_dict() | {"network": [1]}), "holds something else"),
            (json.dumps(CERTIFICATE.to_dict() | {"factors": [{"colour": 1}]}), "holds something else"),
        ],
    )
    def test_errors(self, tmp_path, text, message):
        (tmp_path / "certificate.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            Certificate.load(tmp_path / "certificate.json")
        with pytest.raises(FileNotFoundError):
            Certificate.load(tmp_path / "none.json")
