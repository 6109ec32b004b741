"""``python -m experiments.dashboard`` over folders of runs, and the sweep that W&B's own agents start."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tyro
import yaml

from agents import get_agent
from envs import get_task
from experiments import dashboard
from experiments.train import Args as TrainArgs
from experiments.train import default_output
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import Evaluation, evaluate
from lipsrl.tracking import RunFolder
from lipsrl.tracking.names import name_of

SWEEP = Path(dashboard.__file__).with_name("sweep.yaml")
ODD = "<img src=x onerror=alert(1)> 🚀 " + "n" * 50


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder, without an account; its exit status and what it printed."""
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_ENTITY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dashboard", *map(str, arguments)])
        try:
            status = dashboard.main()
        except SystemExit as exit_:
            status = exit_.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def still(obs):
    return np.zeros((len(obs), 1), dtype=np.float32)


@pytest.fixture(scope="module")
def measured():
    return evaluate({("a", 0): still}, "Pendulum-v1", disturbances=GaussianNoise(1.0), strengths=(0, 0.1),
                    n_episodes=2, floor=-1300.0, max_episode_steps=10)  # fmt: skip


def runs(folder, measured, count, *, broken=False):
    """Folders of ``count`` runs, seeds of two agents, the first of which has an odd name."""
    made = []
    for i, agent in zip(range(count), itertools.cycle([ODD, "ppo"]), strict=False):
        run = RunFolder(folder / f"run-{i}")
        run.path.mkdir(parents=True)
        run.model_file.write_bytes(b"a model")
        run.write_config(
            {"agent": agent, "task": "pendulum", "seed": i, "command": f"python -m experiments.train {i}"}
        )
        frame = measured.frame.assign(agent=agent, seed=i).astype({"seed": "Int64"})
        if broken:
            frame["return"], frame["nonfinite"] = np.nan, "reward"
        Evaluation(frame, measured.metadata | {"agents": [{"agent": agent, "seed": i}]}).save(
            run.evaluation_file
        )
        made.append(run.path)
    return made


@pytest.mark.parametrize("count", [0, 1, 2, 6, 50])
def test_any_number_of_runs(command, measured, tmp_path, count):
    folders = runs(tmp_path, measured, count)
    status, out, err = command(
        "--project", "p", "--spec", "d.json", *(["--runs", *folders] if folders else [])
    )
    assert (status, err) == (0, "")
    assert out == "d.json: what would be saved. Nothing was sent.\n"
    text = (tmp_path / "d.json").read_text(encoding="utf-8")
    document = json.loads(text)
    assert str(tmp_path) not in text
    colours = document["workspace"]["spec"]["section"]["customRunColors"]
    assert len(colours) == min(count, 2)
    assert ("In numbers" in text) == (count > 0)
    assert "<img" not in text.replace(json.dumps(ODD, ensure_ascii=False)[1:-1], "")  # as text it is escaped
    if count:
        assert "robustness/gaussian/return" in text
        assert "robustness/bias/return" not in text  # nobody measured it
        assert ("# and " in text) == (count > dashboard.MANY)


def test_runs_without_an_evaluation_are_named_and_nan_returns_are_said(command, measured, tmp_path):
    first, second = runs(tmp_path, measured, 2, broken=True)
    RunFolder(first).evaluation_file.unlink()
    status, out, _ = command("--project", "p", "--spec", "d.json", "--runs", first, second)
    assert status == 0
    assert "1 of 2 runs are not evaluated yet" in out
    assert "not finite" in (tmp_path / "d.json").read_text(encoding="utf-8")


def test_the_same_dashboard_is_the_same_file(command, tmp_path):
    command("--project", "p", "--spec", "d.json")
    first = (tmp_path / "d.json").read_bytes()
    command("--project", "p", "--spec", "d.json")
    assert (tmp_path / "d.json").read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--project", "a/b", "--spec", "d.json"], "project must be 1 to 128 characters"),
        (["--project", "p", "--spec", "d.json", "--runs", "nothing"], "'nothing' is not a run folder"),
        (["--project", "p", "--spec", ".."], ".. is a folder"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(command, tmp_path, arguments, says):
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {says}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_an_account_one_line_says_so(tmp_path):
    # a process of its own: W&B remembers the account that another test had
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"NETRC": str(tmp_path / "none"), "PYTHONPATH": str(SWEEP.parents[1])}
    result = subprocess.run(
        [sys.executable, "-m", "experiments.dashboard", "--project", "p"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr == (
        "error: W&B does not let us in: No API key configured. Log in (wandb login, or WANDB_API_KEY), or write the "
        "dashboard to a file: --spec FILE.\n"
    )
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_one_line_says_so(command, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "wandb_workspaces"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    status, _, err = command("--project", "p", "--spec", "d.json")
    assert status == 2
    assert (
        err == "error: W&B dashboards need the wandb-workspaces package: pip install 'lipsrl[dashboards]'.\n"
    )


def sweep_commands():
    """What ``wandb agent`` starts for each point of the grid, built by W&B's own code."""
    # seconds, which every process that collects tests would wait
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load(SWEEP.read_text(encoding="utf-8"))
    parameters = {name: p.get("values", [p.get("value")]) for name, p in sweep["parameters"].items()}
    for point in itertools.product(*parameters.values()):
        arguments = create_sweep_command_args(
            {"args": {name: {"value": v} for name, v in zip(parameters, point, strict=True)}}
        )
        macros = {"${env}": ["/usr/bin/env"], "${interpreter}": ["python"], "${args}": arguments["args"]}
        parts = create_sweep_command(list(sweep["command"]))
        yield (
            dict(zip(parameters, point, strict=True)),
            [x for part in parts for x in macros.get(part, [part])],
        )


def test_every_command_of_the_sweep_is_one_that_train_takes(monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep7")
    folders = set()
    for number, (point, parts) in enumerate(sweep_commands()):
        assert parts[:4] == ["/usr/bin/env", "python", "-m", "experiments.train"]
        args = tyro.cli(TrainArgs, args=parts[4:])
        assert {name: getattr(args, name) for name in point} == point
        assert args.track == "online"
        assert get_agent(args.agent).layer is not None  # a plain agent has no K, and refuses one
        get_task(args.task)
        monkeypatch.setenv("WANDB_RUN_ID", f"run{number}")
        folders.add(default_output(args))
    assert len(folders) == number + 1  # none overwrites, or is refused for, another
    assert {folder.parts[:3] for folder in folders} == {("runs", "sweeps", "sweep7")}


def test_the_sweep_looks_at_a_metric_that_a_training_logs():
    metric = yaml.safe_load(SWEEP.read_text(encoding="utf-8"))["metric"]["name"]
    entry = name_of(metric)
    assert entry is not None
    assert entry.key == metric
    assert "train" in entry.jobs


def test_outside_of_a_sweep_a_run_has_its_usual_folder(monkeypatch):
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert default_output(TrainArgs()) == Path("runs/ppo-sandwich-pendulum-0")
