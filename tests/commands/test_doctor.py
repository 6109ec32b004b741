"""`lipsrl doctor` and `lipsrl completion`."""

from __future__ import annotations

import shutil
import subprocess
from importlib import metadata

import pytest

from lipsrl._commands import doctor
from lipsrl._commands.completion import script
from lipsrl.cli import COMMANDS, main


def lines(capsys, status):
    assert main(["doctor"]) == status
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    return {(row[1], row[2].split(";")[0]): row[0] for row in rows}


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_all_is_well_here(capsys):
    found = lines(capsys, 0)
    assert found["torch", metadata.version("torch")] == "ok"
    assert found["[contrib]", "TQC,"] == "ok"


def test_what_is_missing_or_too_old_is_named(capsys, monkeypatch):
    versions = {"gymnasium": "0.29.1", "safetensors": None, "sb3-contrib": None, "onnx": "1.0"}
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: versions[name] if name in versions else real(name))
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "Please repair: gymnasium, safetensors, [onnx]." in said
    assert "0.29.1, and >=1.1 is needed" in said
    assert "pip install 'lipsrl[contrib]'" in said  # optional: absent is no problem


def test_no_key_of_wandb_is_read(capsys, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("WANDB_MODE", "online")
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "mode online" in said
    assert "0123456789abcdef" not in said


@pytest.fixture(scope="module")
def scripts():
    return {shell: script(shell) for shell in ("bash", "zsh", "fish")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_accept_it(scripts, shell, tmp_path):
    for name in COMMANDS:
        assert name in scripts[shell]
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    file = tmp_path / "lipsrl"
    file.write_text(scripts[shell])
    checked = subprocess.run([shell, "-n", str(file)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("lipsrl ce", ["certify"]),
        ("lipsrl check --min-k", ["--min-kept", "--min-kept-attacked"]),
        ("lipsrl report READ", ["README.md"]),
    ],
)
def test_bash_completes_commands_options_and_files(scripts, words, completed, tmp_path):
    (tmp_path / "README.md").touch()
    asked = (
        f"{scripts['bash']}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _lipsrl; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == completed
