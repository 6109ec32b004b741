"""Agents whose classes live in the user's project folder."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "my_extractor.py").write_text(
        textwrap.dedent(
            """
            from stable_baselines3.common.torch_layers import FlattenExtractor
            from torch import nn
            class Mine(FlattenExtractor):
                def merge(self):
                    return nn.Sequential(nn.Flatten())
            """
        )
    )
    (folder / "train.py").write_text(
        textwrap.dedent(
            """
            from stable_baselines3 import PPO
            from my_extractor import Mine
            PPO("MlpPolicy", "Pendulum-v1", device="cpu", n_steps=8, batch_size=8,
                policy_kwargs=dict(features_extractor_class=Mine)).save("agent")
            """
        )
    )
    subprocess.run([sys.executable, "train.py"], cwd=folder, check=True)
    return folder


def run(folder, *arguments):
    script = Path(sys.executable).with_name("lipsrl")
    environment = {**os.environ, "PYTHONSAFEPATH": "", "COLUMNS": "200"}
    return subprocess.run(
        [str(script), *arguments], cwd=folder, capture_output=True, text=True, env=environment, check=False
    )


def test_the_console_script_finds_the_project_it_is_run_in(project):
    refused = run(project, "certify", "agent.zip")
    assert refused.returncode == 2
    assert "my_extractor.Mine" in refused.stderr
    assert "--trust" in refused.stderr
    found = run(project, "certify", "agent.zip", "--trust")
    assert found.returncode == 0, found.stderr
    assert "Upper bound" in found.stdout


def test_elsewhere_the_missing_module_is_named_and_nothing_is_called_damaged(project, tmp_path):
    found = run(tmp_path, "certify", str(project / "agent.zip"), "--trust")
    assert found.returncode == 2
    assert "needs the module 'my_extractor'" in found.stderr
    assert "PYTHONPATH" in found.stderr
    assert "damaged" not in found.stderr
