"""What commands say where a user has slipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stable_baselines3 import PPO, SAC

import lipsrl
from lipsrl import cli
from lipsrl.tracking import WandbWriter


@pytest.fixture(scope="module")
def zipped(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "agent.zip"
    PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, seed=0, device="cpu").save(path)
    return path


def test_a_misspelt_policy_is_answered_with_the_nearest():
    for algorithm in (PPO, SAC):
        with pytest.raises(ValueError, match="Did you mean 'LipschitzMlpPolicy'"):
            algorithm("LipschitzMLPPolicy", "Pendulum-v1")
        with pytest.raises(ValueError, match="Policy MyPolicy unknown"):  # SB3's own words
            algorithm("MyPolicy", "Pendulum-v1")


def test_a_report_without_attacks_has_no_use_for_their_size(zipped, capsys):
    assert cli.main(["report", str(zipped), "--env", "Pendulum-v1", "--epsilon", "0.2"]) == 2
    assert "Also pass --attack" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", ["folder/", "page.pdf"])
def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(
    zipped, name, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("lipsrl._commands.evaluate.evaluate", lambda *a, **k: pytest.fail("measured"))
    (tmp_path / "folder").mkdir()
    command = ["report", str(zipped), "--env", "Pendulum-v1", "--output", str(tmp_path / name)]
    assert cli.main(command) == 2
    assert "ending .html" in capsys.readouterr().err


def test_sensors_of_a_report_are_counted_before_anything_is_measured(zipped, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lipsrl._commands.evaluate.evaluate", lambda *a, **k: pytest.fail("measured"))
    assert cli.main(["report", str(zipped), "--env", "Pendulum-v1", "--sensors", "cos", "sin"]) == 2
    assert "needs 3 names, one per sensor, received 2 names (cos, sin)." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--attack", "foo"], "attack='foo' is not known"),
        (["--attack", "mad", "mad"], "a name of its own"),
        (["--attack", "mad", "--epsilon", "0"], "epsilon must hold at least one radius > 0"),
        (["--attack", "mad", "--epsilon", "-1"], "each of epsilon must be a finite number >= 0"),
    ],
)
def test_attacks_of_a_report_are_read_before_anything_is_opened(arguments, words, tmp_path, capsys):
    assert cli.main(["report", str(tmp_path / "none.zip"), "--env", "Pendulum-v1", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("frames", ["0", "-1"])
@pytest.mark.parametrize(
    "command", ["attack", "certify", "check", "distill", "evaluate", "export", "frontier", "pack", "report"]
)
def test_fewer_frames_than_one_are_refused(zipped, command, frames, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = [] if command in ("certify", "export") else ["--env", "Pendulum-v1"]
    env += ["--lipschitz-bound", "4"] if command == "distill" else []
    assert cli.main([command, str(zipped), *env, "--frame-stack", frames]) == 2
    said = capsys.readouterr().err
    assert f"frame_stack must be an integer > 0, received {frames}." in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_sensors_of_a_report_are_named(zipped, tmp_path, capsys):
    page = tmp_path / "page.html"
    command = ["report", str(zipped), "--env", "Pendulum-v1", "--output", str(page), "--episodes", "2"]
    small = [
        "--strengths",
        "0",
        "0.1",
        "--disturbance",
        "gaussian:1",
        "--floor",
        "-1300",
        "--max-episode-steps",
        "10",
    ]
    assert cli.main([*command, *small, "--sensors", "cosine", "sine", "spin"]) == 0
    assert "spin" in page.read_text()


@pytest.mark.parametrize("option", ["--output", "--figures"])
def test_a_file_in_the_way_of_a_report_is_named_before_anything_is_measured(
    zipped, option, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("lipsrl._commands.evaluate.evaluate", lambda *a, **k: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    command = ["report", str(zipped), "--env", "Pendulum-v1", option, str(tmp_path / "file" / "page.html")]
    assert cli.main(command) == 2
    assert f"{str(tmp_path / 'file')!r} is a file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "attack", "distill", "frontier"])
def test_a_project_that_wandb_refuses_is_named_before_anything_is_measured(zipped, command, tmp_path, capsys):
    given = [
        command,
        str(tmp_path / "none.zip"),
        "--env",
        "Pendulum-v1",
        "--track",
        "offline",
        "--project",
        "a/b",
    ]
    if command == "distill":
        given += ["--lipschitz-bound", "5"]
    assert cli.main(given) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: project must be 1 to 128 characters")
    assert said.count("\n") == 1


@pytest.mark.parametrize("arguments", ['certify "{zipped}" --json', "check --help"])
def test_a_reader_that_has_seen_enough_is_no_error(zipped, arguments):
    script = Path(sys.executable).with_name("lipsrl")
    command = f'"{script}" {arguments.format(zipped=zipped)} | head -n 1; exit ${{PIPESTATUS[0]}}'
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_interrupted_says_how_to_go_on(zipped, tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lipsrl._commands.evaluate.evaluate", interrupt)
    kept = str(tmp_path / "kept")
    assert cli.main(["evaluate", str(zipped), "--env", "Pendulum-v1", "--resume", kept]) == 130
    assert f"--resume {kept}" in capsys.readouterr().err


def test_arguments_of_the_environment(zipped, tmp_path, capsys):
    def returns(*more):
        path = tmp_path / "e.parquet"
        command = ["evaluate", str(zipped), "--env", "Pendulum-v1", "--episodes", "2", "--strengths", "0"]
        assert cli.main([*command, *more, "--output", str(path)]) == 0
        return lipsrl.Evaluation.load(path).frame["return"].tolist()

    assert returns("--env-kwargs", "g:1.0") != returns()
    assert returns("--env-kwargs", "g:10.0") == returns()
    command = ["evaluate", str(zipped), "--env", "Pendulum-v1", "--env-kwargs"]
    for given, words in (("g=1", "must be KEY:VALUE pairs"), ("mass:1", "cannot be made")):
        assert cli.main([*command, given]) == 2
        assert words in capsys.readouterr().err


def test_no_key_for_wandb_is_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", os.devnull)
    with pytest.raises(ValueError, match=r"(?i)API.key (not )?configured.*--track offline"):
        WandbWriter(tmp_path, {}, name="x", mode="online")
