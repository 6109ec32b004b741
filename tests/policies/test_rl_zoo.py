"""rl-baselines3-zoo, unchanged, on our aliases: the commands of docs/policies.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from stable_baselines3 import PPO

from lipsrl.regularizers import CAPS, regularized

pytest.importorskip("rl_zoo3", reason="pip install rl_zoo3 to check the commands of docs/policies.md")

DOCS = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")


def train(folder, *arguments):
    command = [sys.executable, "-m", "rl_zoo3.train", "--algo", "ppo", "--env", "Pendulum-v1", "-f", "logs"]
    command += ["--gym-packages", "lipsrl", "-n", "600", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return PPO.load(folder / "logs" / "ppo" / "Pendulum-v1_1" / "Pendulum-v1.zip")


def test_the_command_line(tmp_path):
    policy = train(
        tmp_path, "--hyperparams", "policy:'LipschitzMlpPolicy'", "policy_kwargs:dict(lipschitz_bound=8.0)",
        "n_envs:1", "n_steps:256",
    ).policy  # fmt: skip
    assert type(policy).__module__ == "lipsrl.policies.ppo"
    assert policy.lipschitz_network.lipschitz_bound() <= policy.options.lipschitz_bound == 8.0


def test_the_yaml_of_the_docs(tmp_path):
    (yaml,) = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    (tmp_path / "lipschitz.yml").write_text(yaml, encoding="utf-8")
    policy = train(tmp_path, "--conf-file", "lipschitz.yml").policy
    assert policy.lipschitz_network.lipschitz_bound() <= policy.options.lipschitz_bound == 4.0


def test_the_yaml_of_the_page_on_regularisers(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "regularizers.md").read_text(encoding="utf-8")
    (yaml,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "lipschitz.yml").write_text(yaml, encoding="utf-8")
    model = train(tmp_path, "--conf-file", "lipschitz.yml")
    assert regularized(model) == (CAPS(temporal=0.01, spatial=0.05),)
    assert model.regularizers_state["updates"] > 0
