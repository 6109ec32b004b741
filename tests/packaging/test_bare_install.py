"""The wheel without extras, in an environment of its own: every command works, and says what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "attack", "certify", "check", "completion", "distill", "doctor", "evaluate", "export", "frontier", "report", "runs",
]  # fmt: skip
TRAIN = """
import torch
from stable_baselines3 import PPO
import lipsrl
model = PPO("LipschitzMlpPolicy", "Pendulum-v1", policy_kwargs=dict(lipschitz_bound=5.0, net_arch=[8]), device="cpu",
            n_steps=64, batch_size=64, n_epochs=1)
model.learn(64)
model.save("agent.zip")
"""

HELP = """
import sys
from lipsrl.cli import main
for i, command in enumerate(sys.argv[1:]):
    print("\\f" if i else "", end="")
    try:
        main([command, "--help"])
    except SystemExit as stop:
        assert stop.code == 0
"""


def run(command, folder, **variables):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"COLUMNS": "200"} | variables,
    )


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """(bin folder, folder with agent.zip)."""
    folder = tmp_path_factory.mktemp("bare")
    pip = [sys.executable, "-m", "pip"]
    quiet = ["--quiet", "--disable-pip-version-check"]
    made = run([*pip, "wheel", *quiet, "--no-deps", "--wheel-dir", str(folder), str(ROOT)], folder)
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("lipsrl-*.whl")
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"lipsrl"}
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    binaries = folder / "venv" / "bin"
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    made = run([str(binaries / "pip"), "install", *quiet, *constraints, str(wheel)], folder)
    assert made.returncode == 0, made.stderr
    made = run([str(binaries / "python"), "-c", TRAIN], folder)
    assert made.returncode == 0, made.stderr
    return binaries, folder


@pytest.mark.timeout(600)
def test_every_command_has_help(bare):
    binaries, folder = bare
    assert run([str(binaries / "lipsrl"), "--help"], folder).returncode == 0
    found = run([str(binaries / "python"), "-c", HELP, *COMMANDS], folder)
    for command, said in zip(COMMANDS, found.stdout.split("\f"), strict=True):
        assert f"usage: lipsrl {command}" in said


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "arguments",
    [
        "certify agent.zip",
        "check agent.zip --env Pendulum-v1 --episodes 1 --max-episode-steps 9 --output card.html --max-chatter 9 "
        "--max-move 99 --min-return -999 --min-kept 0 --min-kept-attacked 0",
        "doctor",
        "completion bash",
        "evaluate agent.zip --env Pendulum-v1 --episodes 2 --strengths 0 0.1",
        "attack agent.zip --env Pendulum-v1 --episodes 1 --attack mad --epsilon 0.1 --steps 1",
        "export agent.zip --output agent.safetensors",
        "report agent.zip --env Pendulum-v1 --episodes 2 --output report.html",
        "runs .",
        "distill agent.zip --env Pendulum-v1 --lipschitz-bound 4 --rounds 1 --steps 10 --episodes 2",
        "frontier agent.zip --env Pendulum-v1 --bounds 4 --rounds 1 --steps 10 --episodes 2 --strengths 0 --workers 1",
    ],
    ids=lambda line: line.split()[0],
)
def test_every_command_works(bare, arguments):
    binaries, folder = bare
    found = run([str(binaries / "lipsrl"), *arguments.split()], folder)
    assert found.returncode == 0, found.stderr
    assert "Traceback" not in found.stderr


def test_what_an_extra_is_needed_for_names_it(bare):
    binaries, folder = bare
    assert run([str(binaries / "python"), "-c", "import onnx"], folder).returncode != 0
    found = run([str(binaries / "lipsrl"), "export", "agent.zip", "--output", "agent.onnx"], folder)
    assert found.returncode == 2
    assert "pip install 'lipsrl[onnx]'" in found.stderr
    assert not (folder / "agent.onnx").exists()
