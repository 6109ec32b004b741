"""``lipsrl export`` on zips and run folders."""

import hashlib

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

import lipsrl
from lipsrl.cli import main
from lipsrl.deployment import verify_onnx
from lipsrl.tracking import RunFolder
from tests.deployment.test_export import predict, raw_observations


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model, its zip and the file of its VecNormalize, without the environment."""
    folder = tmp_path_factory.mktemp("saved")
    venv = VecNormalize(make_vec_env("Pendulum-v1", 1, seed=0), norm_reward=False)
    model = PPO("LipschitzMlpPolicy", venv, seed=0, device="cpu", n_steps=64, batch_size=32,
                policy_kwargs={"lipschitz_bound": 4.0}).learn(64)  # fmt: skip
    model.save(folder / "model.zip")
    venv.save(folder / "vecnormalize.pkl")
    return model, folder / "model.zip", folder / "vecnormalize.pkl"


@pytest.mark.parametrize("options", [[], ["--folded"]])
def test_a_zip_and_its_normalisation(saved, tmp_path, capsys, options):
    model, file, statistics = saved
    path = tmp_path / "policy.safetensors"
    arguments = ["export", str(file), "--vec-normalize", str(statistics), "--output", str(path), *options]
    assert main(arguments) == 0
    policy, raw = lipsrl.load_policy(path), raw_observations(model, 1000)
    np.testing.assert_allclose(policy(raw) / 2, predict(model, raw) / 2, rtol=0, atol=1e-6)
    text = capsys.readouterr().out
    assert hashlib.sha256(path.read_bytes()).hexdigest() in text
    assert f"{path.stat().st_size:,} bytes" in text
    assert f"≤ {policy.certificate['upper_bound']:.6g}·‖Δobservation‖" in text
    assert "promised lipschitz_bound=4 " in text
    assert ("normalisation in the first layer" if options else "normalisation included") in text


def test_a_zip_alone(saved, tmp_path, capsys):
    _, file, _ = saved
    assert main(["export", str(file), "--vec-normalize", "none", "--output", str(tmp_path / "p.onnx")]) == 0
    assert "not normalised" in capsys.readouterr().out
    assert verify_onnx(tmp_path / "p.onnx")["observation"]["normalised"] is False


def test_a_run_folder(saved, tmp_path, capsys):
    model, _, _ = saved
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.save_model(model)
    folder.write_config({"agent": "ppo", "seed": 0, "env_id": "Pendulum-v1", "vec_normalize": True})
    assert main(["export", str(folder.path), "--output", str(tmp_path / "p.safetensors")]) == 0
    assert "normalisation included" in capsys.readouterr().out


def test_a_file_that_is_there_is_replaced_on_request_only(saved, tmp_path, capsys):
    _, file, _ = saved
    path = tmp_path / "p.safetensors"
    path.write_text("precious")
    assert main(["export", str(file), "--output", str(path)]) == 2
    assert "exists already. Use another name, or pass --overwrite to replace it." in capsys.readouterr().err
    assert path.read_text() == "precious"
    assert main(["export", str(file), "--output", str(path), "--overwrite"]) == 0
    lipsrl.load_policy(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--output", "p.zip"], "expected '.safetensors' or '.onnx'"),
        (
            ["--output", "p.safetensors", "--folded", "--vec-normalize", "none"],
            "no normalisation of observations",
        ),
    ],
)
def test_what_cannot_be_done_is_said(saved, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(saved[1]), *options]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_help_says_what_trust_does(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert text.count("Also open files that contain custom code, and run this code.") == 1
