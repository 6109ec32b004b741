"""``lipsrl evaluate`` on any zip."""

import json
import shutil

import pytest
import torch
from stable_baselines3 import PPO

from lipsrl._commands._source import Source, open_sources, unique_keys
from lipsrl._commands.evaluate import Evaluate
from lipsrl.cli import main
from lipsrl.evaluation import Evaluation, evaluate


@pytest.fixture
def zip_file(ppo, tmp_path):
    ppo.save(tmp_path / "model.zip")
    return str(tmp_path / "model.zip")


def run(*arguments):
    return main(["evaluate", *map(str, arguments)])


def test_a_zip_under_two_disturbances(ppo, zip_file, tmp_path, capsys):
    table = tmp_path / "table.parquet"
    options = [
        "--env",
        "Pendulum-v1",
        "--disturbance",
        "gaussian",
        "gaussian:0.1,0.1,0.5",
        "--strengths",
        0,
        0.1,
    ]
    status = run(zip_file, *options, "--episodes", 3, "--workers", 2, "--output", table)
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert "12 episodes" in printed.out
    frame = Evaluation.load(table).frame
    assert frame["disturbance"].unique().tolist() == ["gaussian", "gaussian:0.1,0.1,0.5"]
    by_hand = evaluate(
        {"model": ppo},
        "Pendulum-v1",
        disturbances=["gaussian", "gaussian:0.1,0.1,0.5"],
        strengths=(0, 0.1),
        n_episodes=3,
    )
    assert frame.drop(columns="seed").equals(by_hand.frame.drop(columns="seed"))
    # the same command, the same bytes; the second time from what the first one left
    for name in ("a", "b"):
        assert (
            run(
                zip_file,
                *options,
                "--episodes",
                3,
                "--resume",
                tmp_path / "kept",
                "--output",
                tmp_path / f"{name}.parquet",
            )
            == 0
        )
    contents = {(tmp_path / f"{name}.parquet").read_bytes() for name in ("a", "b", "table")}
    assert len(contents) == 1
    assert Evaluation.load(tmp_path / "b.parquet").metadata["resumed_episodes"] == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--env", "Pendulum-v1", "--disturbance", "gausian"], "Did you mean 'gaussian'"),
        (
            ["--env", "Pendulum-v1", "--disturbance", "gaussian:1,2"],
            "2 values, one per observation dimension",
        ),
        (["--env", "Pendulum-v1", "--strengths", "-0.1"], "strengths must be finite numbers >= 0"),
        (["--env", "Pendulum-v1", "--disturbance"], "at least one"),
        (["--env", "CartPole-v1"], "was trained on observations"),
        (["--env", "Pendulumm-v1"], "Pendulum"),
        ([], "env is missing"),
    ],
)
def test_bad_input(zip_file, arguments, said, capsys):
    assert run(zip_file, *arguments, "--episodes", "1") == 2
    assert said in capsys.readouterr().err


def test_a_broken_policy_keeps_what_went_before(ppo, tmp_path, capsys):
    ppo.save(tmp_path / "good.zip")
    broken = PPO.load(tmp_path / "good.zip")
    with torch.no_grad():
        broken.policy.action_net.bias.fill_(torch.nan)
    broken.save(tmp_path / "bad.zip")
    status = run(
        tmp_path / "good.zip",
        tmp_path / "bad.zip",
        *["--env", "Pendulum-v1", "--strengths", 0, "--episodes", 2, "--output", tmp_path / "table.parquet"],
    )
    assert status == 2
    error = capsys.readouterr().err
    assert "an action of model 'bad'" in error
    assert "The 2 episodes before it" in error
    assert Evaluation.load(tmp_path / "table-incomplete.parquet").frame["agent"].tolist() == ["good"] * 2


@pytest.mark.parametrize("seeds", [(None, 0), (0, None), (None, None)])
def test_a_model_without_a_seed_is_no_training_seed_of_another(seeds):
    sources = [Source("ppo", None, None, seed, None, None, None) for seed in seeds]
    assert [name for name, _ in unique_keys(sources)] == ["ppo", "ppo-2"]
    assert unique_keys([Source("ppo", None, None, seed, None, None, None) for seed in (0, 1)]) == [
        ("ppo", 0),
        ("ppo", 1),
    ]


def test_runs_of_two_studies_of_the_same_seeds_are_two_agents(zip_file, tmp_path):
    for study, seeds in {"a": (0, 1), "b": (1, 2)}.items():
        for seed in seeds:
            folder = tmp_path / study / f"ppo-{seed}"
            folder.mkdir(parents=True)
            shutil.copy(zip_file, folder / "model.zip")
            (folder / "config.json").write_text(
                json.dumps({"agent": "ppo", "seed": seed, "env_id": "Pendulum-v1"})
            )
    sources = open_sources([tmp_path / "a", tmp_path / "b"])
    assert unique_keys(sources) == [("ppo", 0), ("ppo", 1), ("ppo-2", 1), ("ppo-2", 2)]
    assert [name for name, _ in unique_keys(sources[:2] + sources[3:])] == ["ppo"] * 3


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_measured(zip_file, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    output = str(tmp_path / "file" / "e.parquet")
    assert main(["evaluate", str(zip_file), "--env", "Pendulum-v1", "--output", output]) == 2
    assert "is not a folder that you may write to" in capsys.readouterr().err


def test_an_environment_that_is_not_there_is_one_line(zip_file, capsys):
    assert main(["evaluate", str(zip_file), "--env", "Nope-v0"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Nope" in said


def test_a_defect_is_no_verdict(zip_file, monkeypatch, capsys):
    """1 says that a criterion fails."""
    monkeypatch.setattr(Evaluate, "run", lambda *_: {}["nothing"])
    assert main(["evaluate", str(zip_file), "--env", "Pendulum-v1"]) == 2
    assert "KeyError: 'nothing'" in capsys.readouterr().err
