"""rl-baselines3-zoo, unchanged, on our aliases: the commands of docs/policies.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stable_baselines3 import PPO

from lipsrl.regularizers import CAPS, regularized

pytest.importorskip("rl_zoo3", reason="pip install rl_zoo3 to check the commands of docs/policies.md")

DOCS = Path(__file__).parents[2] / "docs"


DOCUMENTED = ["--conf-file", "lipschitz.yml"]
#: Folder → arguments, and the page whose settings are in its file.
RUNS = {
    "line": (["--hyperparams", "policy:'LipschitzMlpPolicy'", "policy_kwargs:dict(lipschitz_bound=8.0)",
              "n_envs:1", "n_steps:256"], None),
    "policies": (DOCUMENTED, "policies.md"),
    "regularizers": (DOCUMENTED, "regularizers.md"),
}  # fmt: skip

#: ``python -m rl_zoo3.train`` in each folder, one after another: its imports alone take seconds.
TRAIN = """
import json, os, sys
from rl_zoo3.train import train
for folder, arguments in json.loads(sys.argv[1]).items():
    os.chdir(folder)
    sys.argv = ["train", "--algo", "ppo", "--env", "Pendulum-v1", "-f", "logs", "--gym-packages", "lipsrl", "-n", "600"]
    sys.argv += arguments
    train()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Name of a run → its model."""
    top = tmp_path_factory.mktemp("zoo")
    for name, (_, page) in RUNS.items():
        (top / name).mkdir()
        if page is not None:
            (yaml,) = re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
            (top / name / "lipschitz.yml").write_text(yaml, encoding="utf-8")
    given = json.dumps({str(top / name): arguments for name, (arguments, _) in RUNS.items()})
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, given], cwd=top, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {name: PPO.load(top / name / "logs/ppo/Pendulum-v1_1/Pendulum-v1.zip") for name in RUNS}


def test_the_command_line(trained):
    policy = trained["line"].policy
    assert type(policy).__module__ == "lipsrl.policies.ppo"
    assert policy.lipschitz_network.lipschitz_bound() <= policy.options.lipschitz_bound == 8.0


def test_the_yaml_of_the_docs(trained):
    policy = trained["policies"].policy
    assert policy.lipschitz_network.lipschitz_bound() <= policy.options.lipschitz_bound == 4.0


def test_the_yaml_of_the_page_on_regularisers(trained):
    model = trained["regularizers"]
    assert regularized(model) == (CAPS(temporal=0.01, spatial=0.05),)
    assert model.regularizers_state["updates"] > 0
