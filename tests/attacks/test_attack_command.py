"""``lipsrl attack``: on a zip, with and without its normalisation."""

from __future__ import annotations

import re

import pytest
from attack_models import make_normalized

from lipsrl.cli import main
from lipsrl.evaluation import Evaluation


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The arguments that name a model with its normalisation."""
    folder = tmp_path_factory.mktemp("saved")
    model = make_normalized()
    model.save(folder / "model.zip")
    model.get_vec_normalize_env().save(str(folder / "vecnormalize.pkl"))
    return [
        str(folder / "model.zip"),
        "--env",
        "Pendulum-v1",
        "--vec-normalize",
        str(folder / "vecnormalize.pkl"),
        "--episodes",
        "2",
    ]


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_the_table(saved, capsys, tmp_path):
    output = tmp_path / "attacks.parquet"
    arguments = ["--attack", "mad", "critic", "--epsilon", "0.05", "0.2", "--output", str(output)]
    assert main(["attack", *saved, *arguments]) == 0
    text = capsys.readouterr().out
    assert "model: return under attack, ε in linf, normalized units" in " ".join(text.split())
    for name in ("no attack", "random", "mad", "critic", "minimum"):
        assert re.search(rf"^ *{name} +−?[\d,]+\.\d \[−?[\d,]+\.\d, −?[\d,]+\.\d\]", text, re.MULTILINE)
    evaluation = Evaluation.load(output)
    assert evaluation.frame["disturbance"].unique().tolist() == ["random", "mad", "critic"]
    assert sorted(evaluation.frame["strength"].unique()) == [0.0, 0.05, 0.2]
    described = evaluation.metadata["disturbances"]["mad"]
    assert (described["norm"], described["units"], described["epsilon"]) == ("linf", "normalized", 1.0)


def test_units_norm_and_steps_reach_the_attacks(saved, capsys, tmp_path):
    output = tmp_path / "attacks.parquet"
    arguments = ["--attack", "mad", "--epsilon", "0.1", "--norm", "l2", "--units", "raw", "--steps", "2"]
    assert (
        main(["attack", *saved, *arguments, "--restarts", "2", "--workers", "2", "--output", str(output)])
        == 0
    )
    assert "ε in l2, raw units" in " ".join(capsys.readouterr().out.split())
    disturbances = Evaluation.load(output).metadata["disturbances"]
    assert {d["units"] for d in disturbances.values()} == {"raw"}
    assert (disturbances["mad"]["steps"], disturbances["mad"]["restarts"]) == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attack", "madd"], "attack='madd' is not known. Did you mean 'mad'?"),
        (["--norm", "l1"], "norm='l1' is not known"),
        (["--epsilon", "0"], "epsilon must hold at least one radius > 0"),
        (["--epsilon", "-0.1"], "strengths must be finite numbers >= 0"),
        (["--output", "attacks.csv"], "path must end in .parquet"),
        (["--attack", "mad", "mad"], "a name of its own"),
    ],
)
def test_bad_input(saved, capsys, arguments, message):
    assert main(["attack", *saved, *arguments]) == 2
    assert message in capsys.readouterr().err
