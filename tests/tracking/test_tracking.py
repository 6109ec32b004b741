"""Run folders, W&B offline, and live smoothness."""

from __future__ import annotations

import csv
import os
import time

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import CSVOutputFormat, Logger
from stable_baselines3.common.vec_env import VecNormalize

import lipsrl
from lipsrl.actors.algorithms import ALGORITHMS, algorithm_of
from lipsrl.actors.loading import load_model
from lipsrl.certificates import feasibility_floor
from lipsrl.tracking import RunFolder, SmoothnessCallback, WandbWriter


def logged(tmp_path, model, timesteps, *, feasibility=None):
    model.set_logger(Logger(str(tmp_path), [CSVOutputFormat(str(tmp_path / "progress.csv"))]))
    model.learn(timesteps, callback=SmoothnessCallback(every=64, feasibility=feasibility))
    model.logger.close()
    with (tmp_path / "progress.csv").open() as file:
        return [row for row in csv.DictReader(file) if row.get("smoothness/lipschitz_bound")]


@pytest.mark.parametrize("policy", ["MlpPolicy", "LipschitzMlpPolicy"])
def test_smoothness_is_logged_in_policy_units(tmp_path, policy):
    venv = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=0))
    kwargs = {"lipschitz_bound": 4.0} if policy.startswith("L") else {}
    model = PPO(policy, venv, n_steps=128, policy_kwargs=kwargs, seed=0, device="cpu", learning_rate=3e-3)
    rows = logged(tmp_path, model, 1024)
    assert len(rows) >= 2
    for row in rows:
        values = {key.split("/")[1]: float(row[key]) for key in row if key.startswith("smoothness/")}
        assert 0 < values["sensitivity"] <= values["max_sensitivity"] <= values["lipschitz_bound"]
        assert values["tightness"] == pytest.approx(
            values["max_sensitivity"] / values["lipschitz_bound"], rel=1e-3
        )
        assert values["raw_lipschitz_bound"] > 0
        assert values["action_fluctuation"] >= 0
        if kwargs:
            assert values["lipschitz_bound"] <= 4.0


def test_observation_scale_is_part_of_the_logged_bound(tmp_path):
    model = PPO("LipschitzMlpPolicy", "Pendulum-v1", n_steps=128, seed=0, device="cpu",
                policy_kwargs={"lipschitz_bound": 4.0, "observation_scale": [1.0, 1.0, 8.0]})  # fmt: skip
    row = logged(tmp_path, model, 256)[-1]
    assert float(row["smoothness/max_sensitivity"]) <= float(row["smoothness/lipschitz_bound"])
    assert float(row["smoothness/raw_lipschitz_bound"]) == pytest.approx(
        float(row["smoothness/lipschitz_bound"]), rel=1e-3
    )


def pendulum_floor():
    env = gym.make("Pendulum-v1")
    env.reset(seed=0)
    return feasibility_floor(env, [0, 0], [0])


def lipschitz_ppo(bound, normalised, **policy):
    venv = make_vec_env("Pendulum-v1", n_envs=2, seed=0)
    return PPO("LipschitzMlpPolicy", VecNormalize(venv) if normalised else venv, n_steps=64, batch_size=128, seed=0,
               device="cpu", policy_kwargs={"lipschitz_bound": bound, "net_arch": [8], **policy})  # fmt: skip


def test_a_bound_below_the_floor_warns_once_in_the_policys_units(tmp_path):
    model = lipschitz_ppo(1.0, normalised=True)
    with pytest.warns(UserWarning, match="lipschitz_bound=1 is below the feasibility floor") as caught:
        rows = logged(tmp_path, model, 512, feasibility=pendulum_floor())
    assert len(caught) == 1
    gain = 1 / np.sqrt(model.get_vec_normalize_env().obs_rms.var[1] + 1e-8)  # of sin θ
    assert float(rows[-1]["smoothness/feasibility_floor"]) == pytest.approx(5 / gain, rel=0.1)


def test_a_bound_above_the_floor_does_not_warn(tmp_path):
    rows = logged(tmp_path, lipschitz_ppo(20.0, normalised=True), 256, feasibility=pendulum_floor())
    assert 0 < float(rows[-1]["smoothness/feasibility_floor"]) < 20


def test_where_the_units_are_fixed_the_warning_comes_before_training():
    model = lipschitz_ppo(4.0, normalised=False, observation_scale=[1.0, 0.5, 8.0])  # 5 · 0.5 = 2.5 would do
    callback = SmoothnessCallback(feasibility=pendulum_floor())
    callback.init_callback(model)
    model = lipschitz_ppo(2.4, normalised=False, observation_scale=[1.0, 0.5, 8.0])
    with pytest.warns(
        UserWarning, match=r"after 0 steps.*lipschitz_bound=2.4 is below the feasibility floor 2\.5"
    ):
        SmoothnessCallback(feasibility=pendulum_floor()).init_callback(model)


def test_a_floor_of_other_observations_is_refused():
    model = lipschitz_ppo(4.0, normalised=False)
    with pytest.raises(ValueError, match="must be a floor in raw units"):
        SmoothnessCallback(feasibility=pendulum_floor().in_units(2.0)).init_callback(model)
    cart = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu")
    with pytest.raises(ValueError, match=r"of observations \(4,\)"):
        SmoothnessCallback(feasibility=pendulum_floor()).init_callback(cart)


def test_wandb_offline_needs_no_account(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    writer = WandbWriter(tmp_path, {"agent": "ppo"}, name="test")
    writer.write({"rollout/return": np.float32(-3.0), "text": "skipped"}, {}, step=5)
    writer.summary({"upper_bound": 2.0})
    writer.close()
    (log,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    for _ in range(300):  # W&B's own process writes it; on a busy machine that takes a moment longer
        if b"rollout/return" in log.read_bytes():
            return
        time.sleep(0.1)
    pytest.fail("the offline log does not hold what was written")


def test_wandb_mode_of_the_environment_is_honoured(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    writer = WandbWriter(tmp_path, {}, name="test")
    assert writer.run.disabled
    writer.close()
    with pytest.raises(ValueError, match="Did you mean 'offline'"):
        WandbWriter(tmp_path, {}, name="test", mode="ofline")


def test_run_folder_round_trip_and_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such directory"):
        RunFolder.open(tmp_path / "nothing")
    folder = RunFolder(tmp_path / "run")
    folder.write_config({"agent": "ppo"})
    with pytest.raises(FileNotFoundError, match=r"model\.zip is missing"):
        RunFolder.open(tmp_path / "run")
    venv = VecNormalize(make_vec_env("Pendulum-v1"))
    model = PPO("LipschitzMlpPolicy", venv, n_steps=64, policy_kwargs={"lipschitz_bound": 4.0}, device="cpu")
    model.learn(64)
    folder.save_model(model)
    assert sorted(p.name for p in folder.path.iterdir()) == ["config.json", "model.zip", "vecnormalize.pkl"]
    loaded, statistics = RunFolder.open(tmp_path / "run").load()
    assert lipsrl.certify(loaded, vec_normalize=statistics).upper_bound == lipsrl.certify(model).upper_bound
    assert folder.read_config()["agent"] == "ppo"


def test_a_student_is_not_saved_or_opened_without_its_statistics(tmp_path):
    venv = VecNormalize(make_vec_env("Pendulum-v1"))
    model = PPO("MlpPolicy", venv, n_steps=64, policy_kwargs={"net_arch": [8]}, device="cpu")
    model.needs_vec_normalize = True  # as lipsrl.distill leaves it
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.save_model(model)
    folder.write_config({"agent": "window"})
    loaded, statistics = folder.load()
    other = RunFolder(tmp_path / "other")
    other.path.mkdir()
    with pytest.raises(ValueError, match="made to act behind a VecNormalize"):
        other.save_model(loaded)
    assert not list(other.path.iterdir())
    other.save_model(loaded, statistics)
    assert other.load()[1] is not None
    folder.normalization_file.unlink()
    with pytest.raises(FileNotFoundError, match=r"vecnormalize\.pkl is missing"):
        folder.load()


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_the_algorithm_of_a_zip_is_recognised(tmp_path, name):
    env = "CartPole-v1" if name == "DQN" else "Pendulum-v1"
    ALGORITHMS[name]("MlpPolicy", env, device="cpu").save(tmp_path / "model.zip")
    assert algorithm_of(tmp_path / "model.zip").__name__ == name
    assert type(load_model(tmp_path / "model.zip")).__name__ == name


def test_damaged_zips_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a file"):
        load_model(tmp_path / "missing.zip")
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(ValueError, match="not a readable Stable-Baselines3 zip"):
        load_model(tmp_path / "text.zip")
    PPO("MlpPolicy", "Pendulum-v1", device="cpu").save(tmp_path / "model.zip")
    whole = (tmp_path / "model.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a readable Stable-Baselines3 zip"):
        load_model(tmp_path / "cut.zip")


def test_a_run_that_mirrored_tensorboard_does_not_mirror_the_next_one(tmp_path, monkeypatch):
    """W&B leaves TensorBoard's writers patched when such a run ends: our values would arrive twice."""
    import wandb

    monkeypatch.chdir(tmp_path)
    wandb.init(mode="offline", sync_tensorboard=True, dir=str(tmp_path)).finish()
    assert wandb.patched["tensorboard"]
    writer = WandbWriter(tmp_path / "run", {}, name="next", mode="offline")
    writer.close()
    assert not wandb.patched["tensorboard"]
