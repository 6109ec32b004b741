"""``Certificate.window`` in files and in print."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from lipsrl import certify
from lipsrl.certificates import Certificate
from tests.certificates.test_window import FEW, model_of, shaken


@pytest.fixture(scope="module")
def certificate():
    return certify(shaken(model_of(3, place="inside", clip=1.0)), **FEW)


def test_survives_a_file(certificate, tmp_path):
    assert Certificate.load(certificate.save(tmp_path / "certificate.json")) == certificate


def test_older_files_have_none(certificate):
    data = certificate.to_dict()
    del data["window"]
    assert Certificate.from_dict(data) == dataclasses.replace(certificate, window=None)


def test_is_shown_rounded_up(certificate):
    window = dataclasses.replace(certificate.window, signal=1.2345671, bias=2.0, bias_unclipped=1.5)
    text = str(dataclasses.replace(certificate, window=window))
    assert "3 observations: newest" in text
    assert "signal 1.23457," in text
    assert "bias 2, bias, unclipped 1.5" in text
    assert "window" not in str(dataclasses.replace(certificate, window=None))
    table = io.StringIO()
    Console(file=table, width=80).print(dataclasses.replace(certificate, window=window))
    assert "The policy sees 3 observations" in table.getvalue()
    assert "1.23457" in table.getvalue()
