"""What is kept is of the same settings, environment and model; what stands in one line of a table is of one setting."""

from __future__ import annotations

import json
import os

import pandas as pd
import pytest
from stable_baselines3 import PPO

import lipsrl
from envs import get_task
from experiments import compare, evaluate, memory
from experiments._conditions import Episodes, kept
from experiments._console import open_runs
from experiments._memory_agents import AGENTS
from experiments._pooling import refuse_mixtures
from experiments._stored import holds, of_model
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import model_fingerprint
from lipsrl.tracking import RunFolder

TASK = get_task("pendulum")
CONFIG = {
    "task": "pendulum", "agent": "ppo", "recipe": "ppo", "seed": 0, "status": "finished", "timesteps": 64, "history": 1,
    "layer": None, "lipschitz_bound": None, "hyperparameters": {"n_steps": 64, "policy_kwargs": {}},
}  # fmt: skip


def run(folder, seed=0, **config):
    made = RunFolder(folder)
    folder.mkdir(parents=True)
    made.save_model(PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [4]}, device="cpu", seed=seed))
    made.write_config(CONFIG | config)
    return made


def played(model, **options):
    return lipsrl.evaluate(
        {("ppo", 0): model}, "Pendulum-v1", disturbances=GaussianNoise(1.0), strengths=(0.0, 0.1), n_episodes=2,
        progress=False, **{"max_episode_steps": 3} | options,
    )  # fmt: skip


def test_what_was_measured_of_a_model_is_measured_anew_of_another(tmp_path):
    folder = run(tmp_path / "run")
    file, calls = folder.path / "trial.json", []

    def make():
        calls.append(1)
        return pd.DataFrame([{"return": len(calls)}])

    assert (
        kept(file, Episodes(3), make)["return"].item() == kept(file, Episodes(3), make)["return"].item() == 1
    )
    PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [4]}, device="cpu", seed=1).save(
        folder.model_file
    )
    assert kept(file, Episodes(3), make)["return"].item() == 2
    old = json.loads(file.read_text())
    del old["files"]  # as earlier releases left it: taken while the model is no younger
    file.write_text(json.dumps(old))
    assert kept(file, Episodes(3), make)["return"].item() == 2
    os.utime(folder.model_file, (2e9, 2e9))
    assert kept(file, Episodes(3), make)["return"].item() == 3


def test_an_evaluation_holds_what_is_asked_for_only_in_the_same_environment():
    model = PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [4]}, device="cpu", seed=0)
    noise = {"gaussian": GaussianNoise(1.0)}
    same = played(model, max_episode_steps=None)
    data = same.metadata
    assert holds(data, TASK, noise, (0.0, 0.1), 2, 0)
    assert holds(data, TASK, noise, (0.0, 0.1), 1, 0)
    assert not holds(data, TASK, noise, (0.0, 0.1), 3, 0)
    assert not holds(data, TASK, noise, (0.0, 0.2), 2, 0)
    assert not holds(data, TASK, noise, (0.0, 0.1), 2, 1)
    assert not holds(data, TASK, {"gaussian": GaussianNoise(2.0)}, (0.0, 0.1), 2, 0)
    assert not holds(played(model).metadata, TASK, noise, (0.0, 0.1), 2, 0)  # episodes of three steps
    spec = data["env_spec"] | {"kwargs": {"g": 3.0}}
    assert not holds(data | {"env_spec": spec}, TASK, noise, (0.0, 0.1), 2, 0)
    assert not holds(data | {"sensitivity_std": 0.1}, TASK, noise, (0.0, 0.1), 2, 0)
    assert of_model(same, model_fingerprint(model))
    assert not of_model(same, "0" * 64)
    assert of_model(same, None)


def test_attacks_on_another_model_are_left_out(tmp_path, capsys):
    folder = run(tmp_path / "run")
    played(folder.load()[0]).save(folder.path / "attacks.parquet")
    assert compare.attacks_of([folder]) is not None
    PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [4]}, device="cpu", seed=1).save(
        folder.model_file
    )
    assert compare.attacks_of([folder]) is None
    assert "is of another model" in capsys.readouterr().err


def test_trainings_that_differ_are_no_seeds_of_one_agent(tmp_path):
    folders = [RunFolder(tmp_path / name) for name in "ab"]
    other = CONFIG | {"seed": 1}
    refuse_mixtures(folders, [CONFIG, other])
    with pytest.raises(ValueError, match="were trained with lipschitz_search=false and true"):
        refuse_mixtures(folders, [CONFIG, other | {"lipschitz_search": {"bound": 3.3}}])
    for name, value in {"recipe": "ppo-noise", "status": "interrupted", "disturbance": "gaussian:1"}.items():
        with pytest.raises(ValueError, match=f"were trained with {name}="):
            refuse_mixtures(folders, [CONFIG | {name: "ppo"}, other | {name: value}])
    refuse_mixtures(folders, [CONFIG, other | {"agent": "ppo-2", "timesteps": 9}])
    refuse_mixtures(
        folders, [CONFIG, {"task": "pendulum", "agent": "ppo", "seed": 1}]
    )  # of an earlier release
    with pytest.raises(ValueError, match="trained with timesteps=64 and 128"):
        refuse_mixtures(folders, [CONFIG, other | {"timesteps": 128}])
    deeper = {"n_steps": 64, "policy_kwargs": {"lipschitz_bound": 5.0}}
    refuse_mixtures(folders, [CONFIG, other | {"hyperparameters": {"n_steps": 64}}])
    with pytest.raises(ValueError, match=r"n_steps=64 and 32"):
        refuse_mixtures(folders, [CONFIG, other | {"hyperparameters": deeper | {"n_steps": 32}}])


def test_folders_of_another_kind_and_unfinished_ones(tmp_path, capsys):
    half = run(tmp_path / "half", status="interrupted", trained_timesteps=32)
    assert [folder.path for folder in open_runs([half.path])] == [half.path]
    assert "not trained to its end (32 of 64 steps)" in capsys.readouterr().err
    packed = run(tmp_path / "packed")
    packed.write_config({"agent": "ppo", "seed": 0, "env_id": "Pendulum-v1"})
    with pytest.raises(ValueError, match="says nothing of its task"):
        open_runs([packed.path])


def test_an_agent_without_a_constant_has_no_certificate(tmp_path):
    folder = run(tmp_path / "run", recipe="ppo-lipsnet")
    assert evaluate.certificate_of(folder) is None
    assert evaluate.records([CONFIG], [None]) == []


def test_a_seed_counts_once(tmp_path):
    with pytest.raises(ValueError, match="seeds must differ"):
        memory.study(memory.Args(seeds=[0, 0], agents=list(AGENTS)[:1], output=tmp_path))
