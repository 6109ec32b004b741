"""`lipsrl runs`: one line per folder, whatever is in it."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lipsrl._commands.runs import Runs, read_run, run_folders
from lipsrl.evaluation import Evaluation, evaluate


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(
        {("ppo", 3): lambda o: 0 * o[:, :1]},
        "Pendulum-v1",
        disturbances="gaussian",
        strengths=[0, 0.1],
        n_episodes=2,
        floor=-2000.0,
    )


@pytest.fixture
def folder(tmp_path, evaluation):
    """runs/whole with every part that is listed; the model is never opened."""
    whole = tmp_path / "runs" / "whole"
    whole.mkdir(parents=True)
    config = {
        "agent": "ppo-sandwich",
        "task": "pendulum",
        "seed": 3,
        "lipschitz_bound": 5.0,
        "status": "finished",
    }
    (whole / "config.json").write_text(json.dumps(config))
    (whole / "model.zip").write_bytes(b"not opened")
    (whole / "certificate.json").write_text(json.dumps({"tightness": 0.9051, "promise": 5.0}))
    evaluation.save(whole / "evaluation.parquet")
    return whole


def listed(folder):
    text = io.StringIO()
    Runs(folder).run(Console(file=text))
    return text.getvalue().splitlines()


def test_the_numbers_are_those_of_the_files(folder, evaluation):
    run = read_run(folder, folder.parent)
    assert (run.name, run.agent, run.task, run.seed, run.bound, run.state) == (
        "whole", "ppo-sandwich", "pendulum", "3", "5", "finished",
    )  # fmt: skip
    clean = (
        Evaluation(evaluation.frame[evaluation.frame["strength"] == 0.0])
        .summary(["return"])["return"]
        .iloc[0]
    )
    assert float(run.earned.replace("−", "-").replace(",", "")) == pytest.approx(clean, abs=1.0)
    area = evaluation.normalized_auc()["normalized_auc"].iloc[0]
    assert float(run.kept) == pytest.approx(area, abs=5e-4)
    assert run.tightness == "90.5 %"  # rounded down: what was found is at least that


def test_broken_and_foreign_folders_are_lines_too(folder):
    runs = folder.parent
    unreadable = runs / "unreadable"
    unreadable.mkdir()
    (unreadable / "config.json").write_text("{half")
    (unreadable / "certificate.json").write_text("[]")
    (unreadable / "evaluation.parquet").write_bytes(b"no parquet")
    training = runs / "training"
    training.mkdir()
    pd.DataFrame({"time/total_timesteps": [2048, 4096], "rollout/ep_rew_mean": [-9.0, -7.5]}).to_csv(
        training / "progress.csv", index=False
    )
    lost = runs / "lost"
    lost.mkdir()
    (lost / "config.json").write_text(
        json.dumps({"agent": "[red]a", "vec_normalize": True, "lipschitz_bound": np.inf})
    )
    (runs / "letters").mkdir()
    lines = listed(runs)
    assert len(lines) == 1 + 5
    by_name = {line.split()[0]: line for line in lines[1:]}
    assert (
        "broken: config.json cannot be read, broken: evaluation.parquet cannot be read"
        in by_name["unreadable"]
    )
    assert "training, or broken off, 4,096 steps so far" in by_name["training"]
    assert "−7.50 (training)" in by_name["training"]
    assert "broken: no model.zip" in by_name["lost"]
    assert "[red]a" in by_name["lost"]
    assert "∞" in by_name["lost"]
    assert "no run folder" in by_name["letters"]
    assert by_name["whole"].split()[1] == "ppo-sandwich"


def test_folders_of_folders_and_a_run_itself(folder):
    nested = folder.parent / "study" / "seed-0"
    nested.mkdir(parents=True)
    folder.rename(nested / "whole")
    assert [p.name for p in run_folders(folder.parent)] == ["whole"]
    assert listed(nested / "whole")[1].split()[0] == "whole"


def test_where_there_are_none_the_error_says_so(tmp_path):
    with pytest.raises(ValueError, match="holds no run folder"):
        listed(tmp_path)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        listed(tmp_path / "nowhere")
