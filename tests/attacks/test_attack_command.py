"""``lipsrl attack``: on a zip, with and without its normalisation."""

from __future__ import annotations

import re

import pytest
from attack_models import make_normalized

from lipsrl.cli import main
from lipsrl.evaluation import Evaluation, NonFiniteError, evaluate


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
    arguments = ["--epsilon", "0.05", "0.2", "--output", str(output)]
    assert main(["attack", *saved, *arguments]) == 0
    text = capsys.readouterr().out
    assert "model: return under attack, ε in linf, normalized units" in " ".join(text.split())
    for name in ("no attack", "random", "mad", "critic", "bias", "minimum"):
        assert re.search(rf"^ *{name} +−?[\d,]+\.\d \[−?[\d,]+\.\d, −?[\d,]+\.\d\]", text, re.MULTILINE)
    evaluation = Evaluation.load(output)
    assert evaluation.frame["disturbance"].unique().tolist() == ["random", "mad", "critic", "bias"]
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


def test_epsilon_counts_tolerances(saved, capsys, tmp_path):
    output = tmp_path / "attacks.parquet"
    scale = ["--sensor-scale", "0.01"]  # one for all
    arguments = ["--attack", "mad", "--epsilon", "1", *scale, "--episodes", "1", "--output", str(output)]
    assert main(["attack", saved[0], *saved[1:], *arguments]) == 0
    assert "ε in linf, units of sensor-scale" in " ".join(capsys.readouterr().out.split())
    assert Evaluation.load(output).metadata["disturbances"]["mad"]["units"] == [0.01] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attack", "madd"], "attack='madd' is not known. Did you mean 'mad'?"),
        (["--norm", "l1"], "norm='l1' is not known"),
        (["--epsilon", "0"], "epsilon must hold at least one radius > 0"),
        (["--epsilon", "-0.1"], "each of epsilon must be a finite number >= 0"),
        (["--output", "attacks.csv"], "path must end in .parquet"),
        (["--attack", "mad", "mad"], "a name of its own"),
        (["--attack", "mad", "--scan"], "scan needs robust-sarsa, received --attack mad"),
    ],
)
def test_bad_input(saved, capsys, arguments, message):
    assert main(["attack", *saved, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_interrupted_run_goes_on(saved, capsys, tmp_path):
    arguments = ["--attack", "mad", "--epsilon", "0.1", "--steps", "1", "--resume", str(tmp_path / "partial")]
    for name in ("a", "b"):
        assert main(["attack", *saved, *arguments, "--output", str(tmp_path / f"{name}.parquet")]) == 0
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert Evaluation.load(tmp_path / "b.parquet").metadata["resumed_episodes"] == 6


def test_what_went_before_a_value_that_is_not_finite_is_kept(saved, capsys, tmp_path, monkeypatch):
    def broken(*arguments, **options):
        failure = NonFiniteError("an action of model 'model' is not finite")
        failure.evaluation = evaluate(*arguments, **options)
        raise failure

    monkeypatch.setattr("lipsrl._commands.attack.evaluate", broken)
    options = ["--attack", "--epsilon", "0.1", "--output", str(tmp_path / "table.parquet")]
    assert main(["attack", *saved, *options]) == 2
    assert "The 4 episodes before it are in" in capsys.readouterr().err
    assert len(Evaluation.load(tmp_path / "table-incomplete.parquet").frame) == 4
