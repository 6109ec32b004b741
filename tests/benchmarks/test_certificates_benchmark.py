"""`benchmarks.certificates`: what is no run folder is refused before the minutes that the random networks take."""

from __future__ import annotations

import sys

import pytest

from benchmarks import certificates


def test_something_else_among_the_runs_is_refused_at_once(monkeypatch, capsys, tmp_path):
    """``runs/pendulum/*`` holds the report that `experiments.compare` wrote beside them."""
    (tmp_path / "report.html").write_text("<html></html>")
    monkeypatch.setattr(sys, "argv", ["certificates", str(tmp_path / "report.html")])
    monkeypatch.setattr(certificates, "random_networks", lambda repeats: pytest.fail("first the runs"))
    with pytest.raises(SystemExit) as ended:
        certificates.main()
    assert ended.value.code == 2
    assert "report.html' is not a run folder" in capsys.readouterr().err
