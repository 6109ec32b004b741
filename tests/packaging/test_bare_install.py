"""The wheel without extras, in an environment of its own: every command works, and says what it lacks."""

from __future__ import annotations

import email
import importlib.metadata
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lipsrl.cli import COMMANDS

ROOT = Path(__file__).parents[2]
TRAIN = """
import torch
from stable_baselines3 import PPO
import lipsrl
model = PPO("LipschitzMlpPolicy", "Pendulum-v1", policy_kwargs=dict(lipschitz_bound=5.0, net_arch=[8]), device="cpu",
            n_steps=64, batch_size=64, n_epochs=1)
model.learn(64)
model.save("agent.zip")
"""

#: Each line a command; after it its exit status.
COMMAND_LINES = """
import sys
from lipsrl.cli import main
for line in sys.argv[1:]:
    try:
        status = main(line.split())
    except SystemExit as stop:
        status = stop.code
    print(f"\\f{line}\\t{status}")
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


def wheel_of(folder):
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    made = run([*pip, "--no-deps", "--wheel-dir", str(folder), str(ROOT)], folder)
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("lipsrl-*.whl")
    return wheel


def declared(wheel):
    """The distributions that the wheel asks for, and those that they ask for, without any extra."""
    (metadata,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("METADATA"))
    asked = email.message_from_bytes(zipfile.ZipFile(wheel).read(metadata)).get_all("Requires-Dist")
    found = {}
    while asked:
        requirement = Requirement(asked.pop())
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if canonicalize_name(requirement.name) not in found:
            distribution = importlib.metadata.distribution(requirement.name)
            found[canonicalize_name(requirement.name)] = distribution
            asked += distribution.requires or []
    return found.values()


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """(bin folder, folder with agent.zip): an environment of the wheel and links to what it declares, nothing else.

    The slow test below has pip install all of it.
    """
    folder = tmp_path_factory.mktemp("bare")
    wheel = wheel_of(folder)
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"lipsrl"}
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    binaries = folder / "venv" / "bin"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(binaries / "python"),
        "install",
        "--quiet",
        "--no-deps",
    ]
    made = run([*pip, "--no-index", "--disable-pip-version-check", str(wheel)], folder)
    assert made.returncode == 0, made.stderr
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    for distribution in declared(wheel):
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    made = run([str(binaries / "python"), "-c", TRAIN], folder)
    assert made.returncode == 0, made.stderr
    return binaries, folder


LINES = {
    "check": "check agent.zip --env Pendulum-v1 --episodes 1 --max-episode-steps 9 --output card.html --max-chatter 9 "
    "--max-move 99 --min-return -999 --min-kept 0 --min-kept-attacked 0",
    "doctor": "doctor",
    "completion": "completion bash",
    "pack": "pack agent.zip --env Pendulum-v1 --output packed",
    "certify": "certify agent.zip",
    "evaluate": "evaluate agent.zip --env Pendulum-v1 --episodes 2 --strengths 0 0.1",
    "attack": "attack agent.zip --env Pendulum-v1 --episodes 1 --attack mad --epsilon 0.1 --steps 1",
    "export": "export agent.zip --output agent.safetensors",
    "report": "report agent.zip --env Pendulum-v1 --episodes 2 --output report.html",
    "runs": "runs .",
    "distill": "distill agent.zip --env Pendulum-v1 --lipschitz-bound 4 --rounds 1 --steps 10 --episodes 2",
    "frontier": "frontier agent.zip --env Pendulum-v1 --bounds 4 --rounds 1 --steps 10 --episodes 2 --strengths 0 "
    "--workers 1",
}


@pytest.mark.timeout(600)
def test_every_command_works_and_has_help(bare):
    binaries, folder = bare
    assert set(LINES) == set(COMMANDS)
    assert run([str(binaries / "lipsrl"), "--help"], folder).returncode == 0
    lines = [
        *(f"{command} --help" for command in COMMANDS),
        *LINES.values(),
        "export agent.zip --output agent.onnx",
    ]
    found = run([str(binaries / "python"), "-c", COMMAND_LINES, *lines], folder)
    status = dict(line.split("\t") for line in re.findall(r"\f(.*)", found.stdout))
    *ours, onnx = (line for line in lines if line != LINES["check"])
    assert status.pop(LINES["check"]) in ("0", "1"), "its verdict"
    assert status == dict.fromkeys(ours, "0") | {onnx: "2"}, found.stderr
    for command in COMMANDS:
        assert f"usage: lipsrl {command}" in found.stdout
    assert "Traceback" not in found.stderr
    # what an extra is needed for names it
    assert run([str(binaries / "python"), "-c", "import onnx"], folder).returncode != 0
    assert "pip install 'lipsrl[onnx]'" in found.stderr
    assert not (folder / "agent.onnx").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pip_installs_the_wheel_and_what_it_declares(tmp_path):
    wheel = wheel_of(tmp_path)
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    made = run([str(binaries / "pip"), "install", "--quiet", *constraints, str(wheel)], tmp_path)
    assert made.returncode == 0, made.stderr
    for command in (["python", "-c", TRAIN], ["lipsrl", "certify", "agent.zip"]):
        made = run([str(binaries / command[0]), *command[1:]], tmp_path)
        assert made.returncode == 0, made.stderr
