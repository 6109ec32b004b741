"""A W&B run of each job type, offline, read back from its file."""

import dataclasses
import os
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecNormalize

from agents import AGENTS
from experiments import compare, train
from lipsrl._commands.attack import AttackCommand
from lipsrl._commands.distill import Distill
from lipsrl._commands.evaluate import Evaluate
from lipsrl._commands.frontier import FrontierCommand
from lipsrl.tracking import SmoothnessCallback, WandbWriter, workspace
from lipsrl.tracking.names import NAMES, STEP, name_of
from tests.tracking.dashboard_keys import empty_panels, unknown_columns
from tests.tracking.offline import base, runs_in

SECRET = "0123456789abcdef" * 3


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("jobs")
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            patch.delenv(name)
    patch.setenv("WANDB_API_KEY", SECRET)
    patch.setenv("WANDB_DATA_DIR", str(folder / "staging"))
    patch.chdir(folder)
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def trained(place):
    """Run folders of a constrained and a stock agent, trained with tracking in offline mode."""
    folders = []
    for agent in ("ppo-sandwich", "ppo"):
        recipe = AGENTS[agent]
        settings = recipe.settings["pendulum"]
        quick = {**settings.algorithm, "n_steps": 64, "batch_size": 64, "n_epochs": 1}
        small = dataclasses.replace(
            settings,
            algorithm=quick,
            n_envs=2,
            policy={**settings.policy, "net_arch": [8]},
            max_episode_steps=20,
        )
        tiny = dataclasses.replace(recipe, settings={"pendulum": small})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "get_agent", lambda _, tiny=tiny: tiny)
            output = place / "runs" / f"{agent}-pendulum-0"
            train.train(
                train.Args(agent=agent, timesteps=128, output=output, track="offline", progress=False)
            )
        folders.append(output)
    return folders


def of(kind, **parts):
    """Keys of the scheme without a star in them, of one job type."""
    keys = [n.of(**parts) for n in NAMES if kind in n.jobs and "*" not in n.key]
    return {key for key in keys if "<" not in key}


def check(run, job):
    """Steps, names and privacy: the same of every run."""
    assert run.info["job_type"] == job
    for key in run.keys:
        entry = name_of(key)
        assert entry is not None, f"{key} is not of the scheme"
        assert job in entry.jobs, key
        if entry.kind == "curve" and entry.step:
            defined = run.metrics.get(key) or run.metrics[re.sub("[^/]+$", "*", key)]
            step = entry.step.replace("<disturbance>", key.split("/")[1])
            assert defined["step_metric"] == step
            if entry.step == STEP or step in run.keys:
                assert all(step in row for row in run.history if key in row), key
    for key in run.summary:
        assert key.startswith("_") or key == "status" or name_of(base(key)), key
    config = str(run.config)
    assert SECRET not in run.raw
    assert not re.search(r"'/\w|~/", config), config
    # no model in it; W&B keeps the definition of each chart here, and there is one per disturbance
    assert len(config) < 6000
    assert socket.gethostname() not in config
    assert "environment" not in run.kinds  # program, host, arguments, git remote
    here = str(Path.cwd())
    # W&B itself must find, when it uploads, where the artifacts' files lie; nothing else names a place
    text = re.sub(r'"local_path":"[^"]*"', "", run.raw)
    assert here not in text
    assert str(Path.home()) not in text
    names = {"task", "git_revision", "env_id"}
    if not run.info["run_group"].endswith(("/comparison", "/frontier")):
        names |= {"agent", "seed", "algorithm", "layer", "lipschitz_bound", "history"}
    assert names <= set(run.config)
    assert any(key.startswith("versions") for key in run.config)


def test_train(trained):
    run = runs_in(trained[0])[0]
    check(run, "train")
    assert run.info["run_group"] == "pendulum/ppo-sandwich"
    wanted = of("train") - {key for key in of("evaluate") if key.startswith("robustness/")}
    # of discrete actions; of windows
    wanted = {key for key in wanted if not re.search("action_changes|certified_radius|window_", key)}
    missing = wanted - run.keys - set(run.summary)
    assert not missing
    assert {"rollout/ep_rew_mean", "train/loss", "time/fps", "smoothness/layer_share/1"} <= run.keys
    assert {
        f"robustness/{k}_{c}" for k in ("clean", "noisy") for c in ("return", "action_fluctuation")
    } <= run.keys
    assert run.metrics["rollout/ep_rew_mean"]["summary"] == {"max": True}
    assert run.summary["certificate/upper_bound"] >= run.summary["certificate/lower_bound"] > 0
    assert run.summary["smoothness/lipschitz_bound"] <= run.config["lipschitz_bound"]
    assert (run.config["layer"], run.config["history"], run.config["algorithm"]) == ("sandwich", 1, "PPO")
    assert run.agents() == [("pendulum-ppo-sandwich-0", "made", {"model.zip", "vecnormalize.pkl"})]


def test_stock_and_constrained_agents_have_the_same_curves(trained):
    mine, stock = (runs_in(folder)[0] for folder in trained)
    only = {key for key in mine.keys ^ stock.keys if key.startswith("smoothness/")}
    assert only == {"smoothness/promise", "smoothness/layer_share/0", "smoothness/layer_share/1"}


def test_evaluate(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    compare.compare(compare.Args(run=trained, episodes=2, track="offline", project="p"))
    runs = {run.info["run_group"]: run for run in runs_in(tmp_path)}
    assert list(runs) == ["pendulum/ppo-sandwich", "pendulum/ppo", "pendulum/comparison"]
    for run in runs.values():
        check(run, "evaluate")
        assert {"tables/degradation", "tables/robustness", "tables/certificate", "tables/sensors"} <= run.keys
        assert {"actions/trace", "actions/spectrum", "curves/gaussian"} <= run.keys
    run = runs["pendulum/ppo-sandwich"]
    wanted = {"strength", "return", "return_low", "return_high", "action_fluctuation"}
    assert {f"robustness/gaussian/{key}" for key in wanted} <= run.keys
    curve = [
        row["robustness/gaussian/strength"] for row in run.history if "robustness/gaussian/strength" in row
    ]
    assert len(curve) > 2
    assert curve == sorted(curve)
    assert run.metrics["robustness/gaussian/return"]["step_metric"] == "robustness/gaussian/strength"
    numbers = {
        key
        for key in of("evaluate", disturbance="gaussian")
        if key.startswith(("robustness/", "certificate/"))
    }
    numbers = {key for key in numbers if "window_" not in key and name_of(key).kind in ("number", "text")}
    numbers -= {"robustness/gaussian/breakdown"}  # two untrained agents: not reached
    assert numbers | {"robustness/clean_return"} <= set(run.summary)
    assert "robustness/gaussian/return" not in run.summary
    columns, rows = run.table("tables/certificate")
    assert columns == ["agent", "seed", "name", "value", "detail"]
    assert {"network", "action", "upper_bound"} <= {row[2] for row in rows}
    assert [row[2] for row in run.table("tables/sensors")[1]] == [f"observation[{i}]" for i in range(3)]
    files = {"model.zip", "vecnormalize.pkl"}
    learned = {"certificate.json", "evaluation.parquet", "evaluation.json"}
    name = "pendulum-ppo-sandwich-0"
    assert run.agents() == [(name, "used", files), (name, "made", files | learned)]
    # the version that was used is the one that the training made: W&B tells them by their digest
    trained_run = runs_in(trained[0])[0]
    digests = [next(a["digest"] for a in r.artifacts if a["type"] == "agent") for r in (run, trained_run)]
    assert digests[0] == digests[1]
    both = runs["pendulum/comparison"]
    assert {row[0] for row in both.table("tables/degradation")[1]} == {"ppo-sandwich", "ppo"}
    assert not [key for key in both.summary if key.startswith("robustness/")]
    (clip,) = (both.folder / "files" / "media" / "videos" / "actions").glob("*.gif")
    from PIL import Image

    with Image.open(clip) as picture:
        assert picture.n_frames > 10
        assert picture.width == 2 * picture.height
    assert clip.stat().st_size < 1_000_000


def discrete_training(folder):
    """The run of a short training whose actions are discrete."""
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, device="cpu", seed=0)
    writer = WandbWriter(folder, {"agent": "cartpole"}, name="cartpole", job_type="train", mode="offline")
    model.set_logger(Logger(folder=None, output_formats=[writer]))
    model.learn(64, callback=SmoothnessCallback(every=32))
    writer.close()
    (run,) = runs_in(folder)
    return run


def test_lipsrl_commands(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    console = Console(quiet=True)
    common = {"episodes": 2, "track": "offline", "max_episode_steps": 15}
    Evaluate(
        path=trained[:1], strengths=[0.0, 0.1], floor=-2000.0, disturbance=["gaussian", "bias:1"], **common
    ).run(console)
    AttackCommand(path=trained[:1], attack=["mad"], epsilon=[0.1], steps=2, **common).run(console)
    Distill(
        path=trained[1], lipschitz_bound=4.0, rounds=1, steps=20, output=Path("student.zip"), **common
    ).run(console)
    FrontierCommand(
        path=trained[1], bounds=[2.0, 4.0], strengths=[0.0], rounds=1, steps=20, workers=1, **common
    ).run(console)
    evaluated, attacked, distilled, frontier = runs_in(tmp_path)
    for run, job in zip(
        (evaluated, attacked, distilled, frontier), ("evaluate", "attack", "distill", "distill"), strict=True
    ):
        check(run, job)
    assert {f"robustness/{name}/return" for name in ("gaussian", "bias")} <= evaluated.keys
    assert {"robustness/bias/auc", "robustness/gaussian/breakdown"} & set(evaluated.summary)
    assert {"actions/trace", "actions/clip"} <= evaluated.keys

    assert attacked.info["run_group"] == "pendulum/ppo-sandwich"
    assert {f"robustness/attack-{name}/return" for name in ("mad", "random", "minimum")} <= attacked.keys
    assert attacked.summary["robustness/worst_attack_epsilon"] == 0.1
    assert attacked.summary["robustness/worst_attack_name"] in ("mad", "random")

    assert distilled.info["run_group"] == "pendulum/student"
    assert [name for name, *_ in distilled.agents()] == ["pendulum-ppo-0", "pendulum-student"]
    assert [how for _, how, _ in distilled.agents()] == ["used", "made"]
    assert distilled.config["teacher"] == "ppo-0"
    assert distilled.summary["certificate/promise"] == 4.0
    assert {row[0] for row in distilled.table("tables/degradation")[1]} == {"teacher", "student"}
    assert {"actions/trace", "actions/clip"} <= distilled.keys

    assert {"tables/frontier", "curves/frontier"} <= frontier.keys
    assert len(frontier.table("tables/frontier")[1]) == 3

    # every panel of the dashboard finds what it is of
    runs = [run for folder in trained for run in runs_in(folder)] + [evaluated, attacked, distilled, frontier]
    runs.append(discrete_training(tmp_path / "discrete"))
    view = workspace("p", disturbances=["gaussian", "bias"])
    assert empty_panels(view, runs) == []
    assert unknown_columns(view, runs) == []
    assert empty_panels(view, runs[:-1]) == [
        ("Steps at an action limit, or at which a discrete action changes", ["smoothness/action_changes"])
    ]
    assert len(empty_panels(view, runs[:1])) > 10
    trainings = workspace("p", jobs=["train"])
    assert empty_panels(trainings, [*runs[: len(trained)], runs[-1]]) == []


def test_what_is_disabled_writes_nothing(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Evaluate(path=trained[:1], strengths=[0.0], episodes=1, max_episode_steps=5).run(Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_a_zip_with_its_statistics(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    venv = VecNormalize(make_vec_env("Pendulum-v1"))
    model = PPO("MlpPolicy", venv, n_steps=32, batch_size=32, n_epochs=1, device="cpu", seed=3).learn(32)
    model.save("mine.zip")
    venv.save("mine.pkl")
    Evaluate(
        path=[Path("mine.zip")], env="Pendulum-v1", vec_normalize="mine.pkl", strengths=[0.0], episodes=1,
        track="offline", max_episode_steps=5,
    ).run(Console(quiet=True))  # fmt: skip
    (run,) = runs_in(tmp_path)
    check(run, "evaluate")
    assert run.info["run_group"] == "Pendulum-v1/mine"
    assert run.agents()[0] == ("Pendulum-v1-mine", "used", {"model.zip", "vecnormalize.pkl"})
    assert np.isfinite(run.summary["robustness/clean_return"])
