"""The whole house in miniature: train, certify, disturb, compare, report, and the command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pandas as pd
import pytest

from agents import AGENTS, get_agent
from envs import TASKS, get_task
from experiments import compare
from experiments._place import is_free
from experiments.evaluate import evaluate_run
from experiments.train import Args, train
from lipsrl import cli
from lipsrl.certificates import Certificate
from lipsrl.evaluation import Evaluation
from lipsrl.tracking import RunFolder

ROOT = Path(__file__).parents[2]


def run(*command, check=True, **kwargs):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    result = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        **kwargs,
    )
    if check:
        assert result.returncode == 0, result.stderr
    return result


def here(command, *arguments):
    """``python -m command`` in this process: what :func:`run` does without seconds of imports."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv, variables = [command, *map(str, arguments)], {"WANDB_MODE": "offline"}
    with (
        contextlib.chdir(ROOT), mock.patch.object(sys, "argv", argv), mock.patch.dict(os.environ, variables),
        contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings(),
    ):  # fmt: skip
        warnings.filterwarnings("ignore", message=".*found in sys.modules.*", category=RuntimeWarning)
        try:
            runpy.run_module(command, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            code = ended.code or 0
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """`make demo` with few steps."""
    output = tmp_path_factory.mktemp("demo")
    result = run("experiments.demo", "--timesteps", "2048", "--episodes", "10", "--output", output)
    return output, result


def test_demo_prints_its_commands_and_the_table(demo):
    output, result = demo
    assert result.stdout.count("$ python -m experiments.train") == 2
    assert "$ python -m experiments.compare" in result.stdout
    assert "Upper bound, sensor to action" in result.stdout
    for agent in ("ppo", "ppo-sandwich"):
        folder = output / f"{agent}-pendulum-0"
        names = {p.name for p in folder.iterdir()}
        assert {
            "config.json", "model.zip", "vecnormalize.pkl", "progress.csv", "certificate.json", "evaluation.parquet",
            "evaluation.json", "wandb", "tensorboard",
        } == names  # fmt: skip
        config = json.loads((folder / "config.json").read_text())
        assert config["status"] == "finished"
        assert config["trained_timesteps"] == 2048
        assert list(folder.glob("wandb/offline-run-*/*.wandb"))
        header = (folder / "progress.csv").read_text().splitlines()[0]
        assert "rollout/ep_rew_mean" in (folder / "progress.csv").read_text()
        assert header
    certificate = Certificate.load(output / "ppo-sandwich-pendulum-0" / "certificate.json")
    assert certificate.network.upper_bound <= certificate.promise == 5.0
    assert [f.name for f in certificate.factors][:3] == ["vec_normalize", "network", "action"]
    page = (output / "report.html").read_text()
    assert "ppo-sandwich" in page
    assert "hardly beats random actions" in page  # 2048 steps
    last = result.stdout.splitlines()[-2:]
    assert (output / "report.html").resolve().as_uri() in last[0]
    assert "python -m experiments.dashboard --project" in last[1]
    assert "experiments.train --agent ppo-sandwich" in page


def test_evaluations_are_paired_and_complete(demo):
    output, _ = demo
    parts = [
        Evaluation.load(output / f"{a}-pendulum-0" / "evaluation.parquet") for a in ("ppo", "ppo-sandwich")
    ]
    pooled = Evaluation.concat(parts)
    assert len(pooled.frame) == 2 * 3 * 5 * 10
    assert list(pooled.frame["disturbance"].unique()) == ["gaussian", "ar1", "bias"]
    assert pooled.metadata["env"] == "Pendulum-v1"
    first, second = (p.frame.set_index(["disturbance", "strength", "episode"])["env_seed"] for p in parts)
    assert (first == second).all()


def test_lipsrl_command_on_run_folder_and_zip(demo, tmp_path, capsys):
    output, _ = demo
    folder = output / "ppo-sandwich-pendulum-0"
    assert cli.main(["certify", str(folder), "--json"]) == 0
    from_folder = json.loads(capsys.readouterr().out)
    assert from_folder["upper_bound"] == Certificate.load(folder / "certificate.json").upper_bound
    zipped = str(folder / "model.zip")  # knows the folder that it is in
    assert cli.main(["certify", zipped, "--output", str(tmp_path / "c.json")]) == 0
    assert Certificate.load(tmp_path / "c.json").upper_bound == from_folder["upper_bound"]
    capsys.readouterr()
    lone = shutil.copy(zipped, tmp_path / "lone.zip")
    assert cli.main(["certify", str(lone), "--output", str(tmp_path / "c.json")]) == 0
    assert "no VecNormalize was given" in capsys.readouterr().out
    assert Certificate.load(tmp_path / "c.json").upper_bound < from_folder["upper_bound"]
    options = ["--episodes", "2", "--strengths", "0", "0.1"]
    assert cli.main(["evaluate", str(folder), *options, "--output", str(tmp_path / "e.parquet")]) == 0
    assert len(Evaluation.load(tmp_path / "e.parquet").frame) == 4
    both = [str(output / f"{a}-pendulum-0") for a in ("ppo", "ppo-sandwich")]
    assert cli.main(["report", *both, *options, "--output", str(tmp_path / "r.html")]) == 0
    assert 50_000 < (tmp_path / "r.html").stat().st_size < 1_500_000
    capsys.readouterr()
    figures = ["--figures", str(tmp_path / "figures"), "--formats", "svg", "--reference", "ppo-sandwich"]
    assert cli.main(["report", *both, *options, *figures]) == 0
    said = capsys.readouterr().out
    assert "Certified bound" in said
    assert (tmp_path / "figures" / "disturbance-bias.svg").is_file()
    assert cli.main(["runs", str(output)]) == 0
    assert "ppo-sandwich-pendulum-0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["certify", "nowhere"], "is not a file"),
        (["evaluate"], "path is missing"),
        (["evaluate", "{folder}", "--output", "table.csv"], "path must end in .parquet"),
        (["certify", "{folder}", "--norm", "l7"], "norm='l7'"),
        (["evaluate", "{lone}"], "env is missing"),
        (["evaluate", "{folder}", "--disturbance", "gausian"], "Did you mean 'gaussian'"),
        (["evaluate", "{folder}", "--strengths", "-1"], "strengths"),
        (["evaluate", "{zip}", "--env", "CartPole-v1"], "was trained on observations"),
        (["report", "{folder}", "--env", "Pendulum-v9"], "Pendulum-v9"),
        (["report", "{folder}", "--output", "page.pdf"], "with the ending .html"),
        (["report", "{folder}", "--reference", "sac"], "reference='sac' is not known"),
        (["report", "{folder}", "--formats", "jpg"], "formats='jpg'"),
        (["report"], "path is missing"),
        (["runs", "nowhere"], "is no folder"),
    ],
)
def test_lipsrl_command_errors(demo, tmp_path, capsys, arguments, message, monkeypatch):
    output, _ = demo
    monkeypatch.chdir(tmp_path)
    folder = output / "ppo-pendulum-0"
    lone = output.parent / "lone.zip"
    shutil.copy(folder / "model.zip", lone)
    filled = [a.format(folder=folder, zip=folder / "model.zip", lone=lone) for a in arguments]
    assert cli.main(filled) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--agent", "ppo-sandwhich"], "Did you mean 'ppo-sandwich'"),
        (["--task", "pendulun"], "Did you mean 'pendulum'"),
        (["--lipschitz-bound", "-1"], "lipschitz_bound must be a finite number > 0, received -1.0"),
        (["--agent", "ppo", "--lipschitz-bound", "3"], "is a plain SB3 agent and takes no lipschitz_bound"),
        (["--timesteps", "0"], "timesteps must be an integer > 0"),
        (["--threads", "0"], "threads must be an integer > 0"),
    ],
)
def test_train_errors_leave_nothing_behind(tmp_path, arguments, message):
    result = here("experiments.train", *arguments, "--output", tmp_path / "run")
    assert result.returncode == 2
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_compare_errors(demo, tmp_path):
    output, _ = demo
    assert "run is missing" in here("experiments.compare").stderr
    result = here("experiments.compare", tmp_path)
    assert result.returncode == 2
    assert "config.json is missing" in result.stderr
    folder = output / "ppo-pendulum-0"
    result = here("experiments.compare", folder, folder, "--report", tmp_path / "r.html")
    assert "training seed 0" in result.stderr
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"report": "page.txt"}, r"report='page\.txt' must be the page to write, with the ending \.html"),
        ({"figures": "file"}, r"figures needs the folder 'file', but 'file' is a file"),
        ({"track": "offline", "project": "a/b"}, "project"),
    ],
)
def test_what_compare_cannot_write_is_said_before_anything_is_measured(
    options, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    monkeypatch.setattr(compare, "open_runs", lambda runs: pytest.fail("opened"))
    paths = {name: Path(value) if name in ("report", "figures") else value for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        compare.compare(compare.Args(run=[tmp_path], **paths))


def test_fewer_episodes_are_the_first_of_those_that_were_measured(demo):
    folder = RunFolder.open(demo[0] / "ppo-pendulum-0")
    before = folder.evaluation_file.read_bytes()
    few = evaluate_run(folder, episodes=2, seed=0)
    whole = Evaluation.load(folder.evaluation_file)
    assert folder.evaluation_file.read_bytes() == before
    assert few.metadata["n_episodes"] == 2
    pd.testing.assert_frame_equal(few.frame, whole.frame[whole.frame["episode"] < 2].reset_index(drop=True))


def test_existing_run_is_not_overwritten(demo):
    output, _ = demo
    folder = output / "ppo-pendulum-0"
    before = (folder / "model.zip").read_bytes()
    result = here("experiments.train", "--agent", "ppo", "--output", folder)
    assert "--overwrite" in result.stderr
    assert (folder / "model.zip").read_bytes() == before


def test_overwrite_removes_run_folders_only(tmp_path):
    """Of a folder that no training left behind nothing is removed."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("all of it")
    with pytest.raises(FileExistsError, match="thesis is no run folder"):
        train(Args(agent="ppo", output=tmp_path / "thesis", overwrite=True, track="disabled", timesteps=2048))
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "all of it"
    (tmp_path / "thesis" / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(FileExistsError, match=r"neither model\.zip nor progress\.csv"):
        is_free(RunFolder(tmp_path / "thesis"), True, False)
    begun = tmp_path / "run" / ".training"
    begun.mkdir(parents=True)
    (begun / "settings.json").write_text("")
    with pytest.raises(ValueError, match=r"settings\.json is damaged .* Pass --overwrite"):
        is_free(RunFolder(tmp_path / "run"), False, True)
    assert is_free(RunFolder(tmp_path / "run"), True, False)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_training_keeps_the_model(tmp_path, how):
    output = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.train", "--track", "disabled", "--output", str(output)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where this runs in the background
    )  # fmt: skip
    progress = output / "progress.csv"
    for _ in range(600):
        if progress.is_file() and progress.read_text().count("\n") >= 2:
            break
        time.sleep(0.1)
    process.send_signal(how)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted after" in text
    assert str(output) in text
    assert json.loads((output / "config.json").read_text())["status"] == "interrupted"
    assert Certificate.load(output / "certificate.json").upper_bound > 0


def test_failed_overwrite_brings_the_old_run_back(demo, tmp_path, monkeypatch):
    output, _ = demo
    folder = shutil.copytree(output / "ppo-pendulum-0", tmp_path / "run")
    before = (folder / "model.zip").read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("experiments.train.learn", fail)
    with pytest.raises(OSError, match="disk full"):
        train(Args(agent="ppo", output=folder, overwrite=True, track="disabled", timesteps=2048))
    assert (folder / "model.zip").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_sweep_resumes(demo):
    output, _ = demo
    result = here("experiments.sweep", "--seeds", "1", "--timesteps", "2048", "--output", output)
    assert result.stdout.count("finished, kept") == 2
    assert "$" not in result.stdout
    result = here("experiments.sweep", "--seeds", "1", "--timesteps", "4096", "--output", output)
    assert result.returncode == 2
    assert "timesteps=2048, not timesteps=4096" in result.stderr
    assert "seeds must be an integer > 0" in here("experiments.sweep", "--seeds", "0").stderr


def test_run_folder_that_lost_its_statistics_is_refused(demo, tmp_path, capsys):
    """It would be certified, and measured, as another controller."""
    output, _ = demo
    copied = shutil.copytree(output / "ppo-sandwich-pendulum-0", tmp_path / "run")
    (copied / "vecnormalize.pkl").unlink()
    assert cli.main(["certify", str(copied)]) == 2
    assert "vecnormalize.pkl is missing" in capsys.readouterr().err


def test_statistics_are_given_to_one_zip_only(demo, capsys):
    output, _ = demo
    folder = output / "ppo-sandwich-pendulum-0"
    statistics = ["--vec-normalize", str(folder / "vecnormalize.pkl")]
    assert cli.main(["certify", str(folder), *statistics]) == 2
    assert "has its own" in capsys.readouterr().err
    zips = [str(folder / "model.zip"), str(output / "ppo-pendulum-0" / "model.zip")]
    assert cli.main(["evaluate", *zips, "--env", "Pendulum-v1", *statistics]) == 2
    assert "belongs to one model" in capsys.readouterr().err


def test_every_agent_builds_on_every_task_it_names():
    for agent in AGENTS.values():
        for task in agent.settings:
            if agent.teacher is not None:  # it is distilled
                assert task in agent.lessons
                agent = get_agent(agent.teacher)
            assert get_agent(agent.name).policy_kwargs(get_task(task))
            assert agent.layer is None or agent.lipschitz_bound[task] > 0


def test_tasks_describe_their_environment():
    for task in TASKS.values():
        env = task.make()
        assert env.observation_space.shape == (len(task.sensors),) == (len(task.sensor_scale),)
        assert task.strengths[0] == 0
        assert task.chatter_strength in task.strengths
        assert task.floor < task.reference_return
        env.close()


@pytest.mark.parametrize("script", ["train", "evaluate", "compare", "sweep", "frontier", "demo"])
def test_help_names_every_option(script):
    text = here(f"experiments.{script}", "--help").stdout
    assert "--" in text
    assert "usage" in text
