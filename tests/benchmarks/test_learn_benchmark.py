"""`benchmarks.learn` in miniature: what it records. Never how fast anything is."""

from __future__ import annotations

import pytest
from stable_baselines3 import DQN, PPO, SAC

from benchmarks import learn
from benchmarks.learn import CASES, STOCK, Args, Case, measure, table


@pytest.mark.parametrize(
    "case",
    [Case(SAC, 2, (8, 8)), Case(DQN, 8, (8, 8)), Case(PPO, 8, (8,), n_steps=8)],
    ids=lambda case: case.algorithm.__name__,
)
def test_every_layer_learns_in_every_round(monkeypatch, case):
    monkeypatch.setitem(CASES, "tiny", case)
    args = Args(cases=("tiny",), layers=("spectral", "sandwich"), repeats=2)
    rows = measure("tiny", args)
    assert [row["layer"] for row in rows] == [STOCK, "spectral", "sandwich"]
    for row in rows:
        assert len(row["cpu_seconds"]) == len(row["wall_seconds"]) == 2
        assert min(row["cpu_seconds"]) > 0
    assert rows[0]["cpu_ratio"] == [1.0, 1.0, 1.0]
    assert rows[0]["bound_over_K"] is None
    assert all(0 < row["bound_over_K"] <= 1 for row in rows[1:])
    assert table(rows, args.layers).row_count == 1


def test_cases_are_sb3s_own_sizes():
    for name in ("PPO", "A2C", "SAC", "TD3", "TQC", "DQN"):
        assert CASES[name].net_arch is None
        assert CASES[name].algorithm.__name__ == name


@pytest.mark.parametrize(
    ("argument", "value"), [("cases", ("SAQ",)), ("layers", ("sandwhich",)), ("repeats", 0), ("bound", -1.0)]
)
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=argument):
        learn.Args(**{argument: value}).check()
