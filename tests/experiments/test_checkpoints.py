"""Trainings that are cut off, and go on."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import CSVOutputFormat, TensorBoardOutputFormat

from experiments import _checkpoint, train
from experiments._checkpoint import CheckpointCallback, Unfinished, is_finished
from experiments._locks import BusyError, exclusive, lock_file
from lipsrl.actors.normalization import load_vec_normalize
from lipsrl.policies import AutoLipschitz
from lipsrl.tracking import RunFolder, SmoothnessCallback
from tests.experiments import miniature
from tests.tracking.offline import runs_in


class Killed(BaseException):
    """Nothing catches it."""


def quick(patch):
    """Small recipes, without what costs a second each time."""
    patch.setattr(train, "get_agent", miniature.small)
    patch.setattr(train, "certified", lambda *_: None)
    patch.setattr(train, "floor_of", lambda task: None)
    patch.setattr(train, "live_smoothness", lambda *_: SmoothnessCallback(every=32))


@pytest.fixture(autouse=True)
def small_recipes(monkeypatch):
    quick(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The run folder of a training of 32 steps; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        output = tmp_path_factory.mktemp("finished") / "run"
        return train.train(miniature.args(output, "ppo-sandwich", timesteps=32))


def rows(folder):
    """progress.csv without what is time."""
    with (folder / "progress.csv").open() as file:
        found = list(csv.DictReader(file))
    clocks = ("time/fps", "time/time_elapsed")
    return [{key: value for key, value in row.items() if key not in clocks} for row in found]


def steps(folder):
    return [int(row["time/total_timesteps"]) for row in rows(folder)]


def cut_off(monkeypatch, output, name, at, **options):
    """A training that stops dead after ``at`` steps."""
    with monkeypatch.context() as patch:

        def stop(self):
            if self.num_timesteps >= at:
                raise Killed
            return True

        patch.setattr(CheckpointCallback, "_on_step", stop)
        with pytest.raises(Killed):
            train.train(miniature.args(output, name, **options))


def tensors(value, path=""):
    """All numbers of a state dict, by where they are."""
    if isinstance(value, torch.Tensor):
        return {path: value}
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {key: one for name, part in pairs for key, one in tensors(part, f"{path}/{name}").items()}


def learned(folder):
    """Networks and optimizers of model.zip."""
    with zipfile.ZipFile(folder.model_file) as file:
        parts = {
            name: torch.load(io.BytesIO(file.read(name))) for name in file.namelist() if name.endswith(".pth")
        }
    return tensors(parts)


@pytest.mark.parametrize("name", ["ppo-noise", "ppo-sandwich-ramp", "ppo-fir-sandwich", "sac-sandwich-caps"])
def test_goes_on_as_if_only_new_episodes_had_begun(name, tmp_path, monkeypatch, capsys):
    """Bit for bit the training that was not cut off, whose environments were reset where the checkpoint is."""
    options = {"timesteps": 128, "checkpoint_every": 80}
    cut_off(monkeypatch, tmp_path / "run", name, 100, **options)
    saved = pickle.loads((tmp_path / "run" / ".training" / "checkpoint").read_bytes())
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    folder = train.train(miniature.args(tmp_path / "run", name, **options))
    assert f"goes on after {saved['steps']} of 128 steps" in capsys.readouterr().out

    save = CheckpointCallback.save

    def save_and_reset(self):
        save(self)
        model = self.model
        model._last_obs = model.env.reset()
        model._last_episode_starts = np.ones(1, dtype=bool)
        model._last_original_obs = model.get_vec_normalize_env().get_original_obs()

    monkeypatch.setattr(CheckpointCallback, "save", save_and_reset)
    whole = train.train(miniature.args(tmp_path / "whole", name, **options))

    assert {p.name for p in folder.path.iterdir()} == {p.name for p in whole.path.iterdir()}
    ours, theirs = learned(folder), learned(whole)
    assert ours.keys() == theirs.keys()
    assert any("exp_avg" in key for key in ours)
    assert [key for key, value in ours.items() if not torch.equal(value, theirs[key])] == []
    mine, other = (load_vec_normalize(run.normalization_file).obs_rms for run in (folder, whole))
    assert np.array_equal(mine.mean, other.mean)
    assert mine.count == other.count
    assert rows(folder.path) == rows(whole.path)
    assert folder.read_config()["resumed_at"] == [saved["steps"]]
    assert whole.read_config()["resumed_at"] == []


def test_a_search_for_k_goes_on(tmp_path, monkeypatch, capsys):
    """The search lives in the model, so its checkpoint has it."""
    monkeypatch.setattr(
        train, "search_for_bound", lambda *_: AutoLipschitz(target_return=-1e9)
    )  # always kept
    options = {"timesteps": 960, "checkpoint_every": 64, "lipschitz_bound": "auto"}
    cut_off(monkeypatch, tmp_path / "run", "ppo-sandwich", 480, **options)
    folder = train.train(miniature.args(tmp_path / "run", "ppo-sandwich", **options))
    said = capsys.readouterr().out
    whole = train.train(miniature.args(tmp_path / "whole", "ppo-sandwich", **options))
    config, other = folder.read_config(), whole.read_config()
    assert config["resumed_at"]
    start = config["hyperparameters"]["policy_kwargs"]["lipschitz_bound"]
    assert config["lipschitz_bound"] == pytest.approx(other["lipschitz_bound"], rel=1e-9)
    assert 0 < config["lipschitz_bound"] < start / 8
    assert f"K = {config['lipschitz_bound']:.3g} [" in said
    assert config["lipschitz_search"]["target"] == -1e9
    assert folder.load()[0].policy.options.lipschitz_bound == config["lipschitz_bound"]


def test_killed_at_several_moments(tmp_path):
    """kill -9 before the first checkpoint, between two, while one is written: the same call goes on, each time."""
    output = tmp_path / "run"
    options = {"timesteps": 384, "checkpoint_every": 64}
    unfinished = Unfinished(output)

    def progress_of(count):
        return lambda: (output / "progress.csv").is_file() and len(steps(output)) >= count

    started = miniature.process(output, before=miniature.slow_steps, **options)
    miniature.killed(started, lambda: (output / "progress.csv").is_file())
    assert not unfinished.checkpoint_file.exists()
    assert not (output / "model.zip").exists()

    # no checkpoint: from the start; then beyond the checkpoint at 64 steps
    started = miniature.process(output, before=miniature.slow_steps, **options)
    miniature.killed(started, progress_of(3))
    reached, saved = steps(output)[-1], unfinished.load()["steps"]
    assert 0 < saved <= reached <= saved + 64

    partial = lambda: list((output / ".training").glob(".*.partial*"))  # noqa: E731
    started = miniature.process(output, before=miniature.half_checkpoint, **options)
    miniature.killed(started, lambda: partial() and partial()[0].stat().st_size == 5000)
    again = unfinished.load()["steps"]
    assert again > saved
    assert not partial()  # swept up

    folder = train.train(miniature.args(output, **options))
    assert folder.read_config()["resumed_at"] == [saved, again]
    assert folder.read_config()["trained_timesteps"] == 384
    found = steps(output)
    # none is missing, none there twice; the last weights have a row of their own
    assert found == [*(32 * n for n in range(1, 13)), 384]
    iterations = [int(row["time/iterations"]) for row in rows(output) if row["time/iterations"]]
    assert iterations == list(range(1, 13))
    assert not unfinished.path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_lost_steps_are_at_most_those_asked_for(tmp_path, monkeypatch):
    """Wherever it stops."""
    for at in (64, 65, 160):
        output = tmp_path / str(at)
        cut_off(monkeypatch, output, "ppo", at, timesteps=192, checkpoint_every=64)
        assert at - (Unfinished(output).load() or {"steps": 0})["steps"] <= 64


def test_a_wandb_run_goes_on(tmp_path, monkeypatch):
    output = tmp_path / "run"
    options = {"timesteps": 128, "checkpoint_every": 64, "track": "offline"}
    cut_off(monkeypatch, output, "ppo", 100, **options)
    train.train(miniature.args(output, **options))
    first, second = runs_in(output)
    assert first.info["run_id"] == second.info["run_id"]
    assert second.history[0]["time/total_timesteps"] == 96
    assert max(row["time/total_timesteps"] for row in second.history) == 128
    boards = list((output / "tensorboard").iterdir())
    assert len(boards) == 2


def test_an_interrupted_training_goes_on(tmp_path, monkeypatch):
    options = {"timesteps": 128, "checkpoint_every": 64}
    with monkeypatch.context() as patch:
        patch.setattr(train, "learn", lambda model, timesteps, *rest: interrupted(model, *rest))
        folder = train.train(miniature.args(tmp_path / "run", **options))
    assert folder.read_config()["status"] == "interrupted"
    assert not is_finished(folder)
    folder = train.train(miniature.args(tmp_path / "run", **options))
    assert folder.read_config()["status"] == "finished"
    assert folder.read_config()["resumed_at"] == [64]
    assert is_finished(folder)


def interrupted(model, label, progress, watching):
    model.learn(96, callback=watching)
    return False


def test_resume_is_content_with_what_is_finished(tmp_path, capsys):
    options = {"timesteps": 32, "resume": True}
    folder = train.train(miniature.args(tmp_path / "run", **options))
    before = folder.model_file.stat().st_mtime_ns
    train.train(miniature.args(tmp_path / "run", **options))
    assert "finished, kept" in capsys.readouterr().out
    assert folder.model_file.stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="Pass --overwrite"):
        train.train(miniature.args(tmp_path / "run", timesteps=32))
    with pytest.raises(ValueError, match="Choose one"):
        train.train(miniature.args(tmp_path / "run", overwrite=True, **options))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"seed": 7}, "a finished training with seed=0; seed=7 is asked for"),
        ({"timesteps": 64}, "with timesteps=32; timesteps=64 is asked for. What is finished does not go on"),
        ({"lipschitz_bound": 3.0}, "with lipschitz_bound=5.0; lipschitz_bound=3.0 is asked for"),
        ({"lipschitz_bound": "auto"}, "with lipschitz_bound=5.0, budget="),
        ({"name": "ppo"}, 'with agent="ppo-sandwich", recipe="ppo-sandwich"'),
    ],
)
def test_what_is_finished_is_not_taken_for_another_training(finished, other, message):
    before = finished.config_file.read_bytes()
    with pytest.raises(ValueError) as error:
        train.train(
            miniature.args(
                finished.path, **{"name": "ppo-sandwich", "timesteps": 32, "resume": True, **other}
            )
        )
    assert message in str(error.value)
    assert finished.config_file.read_bytes() == before


def test_what_is_finished_by_an_older_version_is_kept(finished, tmp_path, capsys):
    folder = RunFolder(shutil.copytree(finished.path, tmp_path / "run"))
    less = {
        key: value
        for key, value in folder.read_config().items()
        if key not in ("recipe", "history", "disturbance")
    }
    folder.write_config(less)
    train.train(miniature.args(folder.path, "ppo-sandwich", timesteps=32, resume=True))
    assert "finished, kept" in capsys.readouterr().out


def test_a_search_for_k_is_the_same_training_whatever_it_found():
    start = {"hyperparameters": {"policy_kwargs": {"lipschitz_bound": 25.0}}}
    asked = {"lipschitz_bound": 25.0, "lipschitz_search": None, **start}
    found = {"lipschitz_bound": 3.7, "lipschitz_search": {"bound": 3.7}, **start}
    assert _checkpoint.differing(found, asked) == ("", "")
    fixed = {"lipschitz_bound": 25.0, **start}
    assert _checkpoint.differing(found, fixed) == ('lipschitz_bound="auto"', "lipschitz_bound=25.0")


@pytest.mark.parametrize("every", [1000, 0])
def test_interrupted_before_its_first_checkpoint(every, tmp_path, monkeypatch, capsys):
    """In the middle of a rollout."""
    options = {"timesteps": 96, "checkpoint_every": every}
    with monkeypatch.context() as patch:

        def stop(self):
            if self.num_timesteps == 40:
                raise KeyboardInterrupt
            return True

        patch.setattr(CheckpointCallback, "_on_step", stop)
        folder = train.train(miniature.args(tmp_path / "run", **options))
    assert folder.read_config()["trained_timesteps"] == 40
    says = "the same command goes on after 40 steps" if every else "there is no checkpoint to go on from"
    assert (
        f"Interrupted after 40 of 96 steps; the model so far is kept, and {says}" in capsys.readouterr().out
    )
    folder = train.train(miniature.args(tmp_path / "run", **options))
    assert folder.read_config()["resumed_at"] == ([40] if every else [])
    assert folder.read_config()["trained_timesteps"] >= 96


def test_another_training_is_not_gone_on_with(tmp_path, monkeypatch):
    output = tmp_path / "run"
    cut_off(monkeypatch, output, "ppo", 100, timesteps=128, checkpoint_every=64)
    with pytest.raises(
        ValueError, match="unfinished training with timesteps=128; timesteps=256 is asked for"
    ):
        train.train(miniature.args(output, timesteps=256))
    with pytest.raises(ValueError, match="seed=0; seed=1 is asked for"):
        train.train(miniature.args(output, timesteps=128, seed=1))
    assert Unfinished(output).load()["steps"] == 64
    folder = train.train(miniature.args(output, timesteps=64, seed=1, overwrite=True))
    assert folder.read_config()["resumed_at"] == []


def test_what_is_replaced_is_kept_until_there_is_a_new_model(tmp_path, monkeypatch):
    output = tmp_path / "run"
    old = train.train(miniature.args(output, timesteps=32)).model_file.read_bytes()
    cut_off(monkeypatch, output, "ppo", 100, timesteps=128, checkpoint_every=64, overwrite=True)
    assert (tmp_path / ".run.previous" / "model.zip").read_bytes() == old
    with pytest.raises(ValueError, match="layer"):
        train.train(miniature.args(output, timesteps=128, layer="sandwich"))
    train.train(miniature.args(output, timesteps=128))
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_full_disk_costs_rows_of_the_curve_and_not_the_training(tmp_path, monkeypatch, capsys):
    """A real ENOSPC, from the kernel, where SB3's own writers would end it."""

    def full(*_):
        with open("/dev/full", "wb", buffering=0) as device:  # noqa: PTH123
            device.write(b"x")

    for kind in (CSVOutputFormat, TensorBoardOutputFormat):
        monkeypatch.setattr(kind, "write", full)
    folder = train.train(miniature.args(tmp_path / "run", timesteps=128))
    assert folder.read_config()["status"] == "finished"
    said = capsys.readouterr().err
    assert said.count("progress.csv cannot be written: No space left on device.") == 1
    assert said.count("tensorboard/ cannot be written: No space left on device.") == 1


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(tmp_path, monkeypatch, capsys):
    """A real ENOSPC, from the kernel."""
    output, dump = tmp_path / "run", _checkpoint.cloudpickle.dump

    def full(state, file, **options):
        if state["steps"] > 64:
            with open("/dev/full", "wb", buffering=0) as device:  # noqa: PTH123
                device.write(b"x")
        dump(state, file, **options)

    monkeypatch.setattr(_checkpoint.cloudpickle, "dump", full)
    cut_off(monkeypatch, output, "ppo", 180, timesteps=192, checkpoint_every=64)
    said = capsys.readouterr().err
    assert said.count("No checkpoint at 128 steps: No space left on device") == 1
    assert [p.name for p in (output / ".training").iterdir() if "partial" in p.name] == []
    assert Unfinished(output).load()["steps"] == 64
    monkeypatch.setattr(_checkpoint.cloudpickle, "dump", dump)
    assert train.train(miniature.args(output, timesteps=192)).read_config()["resumed_at"] == [64]


def test_a_damaged_checkpoint_is_said_to_be_one(tmp_path, monkeypatch):
    output = tmp_path / "run"
    cut_off(monkeypatch, output, "ppo", 100, timesteps=128, checkpoint_every=64)
    file = Unfinished(output).checkpoint_file
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="checkpoint cannot be read"):
        train.train(miniature.args(output, timesteps=128))
    assert file.is_file()


def test_two_trainings_in_one_folder(tmp_path):
    """The second is refused, by name, and leaves nothing; the lock of a killed one is free."""
    output = tmp_path / "run"
    started = miniature.process(output, before=miniature.slow_steps, timesteps=10_000)
    while not (output / "progress.csv").is_file():
        assert started.is_alive()
    with pytest.raises(BusyError, match=f"in use by process {started.pid}"):
        train.train(miniature.args(output, timesteps=10_000))
    miniature.killed(started, lambda: True)
    assert lock_file(output).is_file()  # stale
    with exclusive(output):
        pass
    assert not lock_file(output).exists()


def test_settings_are_plain(tmp_path, monkeypatch):
    output = tmp_path / "run"
    cut_off(monkeypatch, output, "sac-caps", 40, timesteps=64)
    settings = json.loads((output / ".training" / "settings.json").read_text())
    assert settings["agent"] == "sac-caps"
    assert str(os.getcwd()) not in json.dumps(settings)  # noqa: PTH109
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        RunFolder.open(output)


def test_errno_is_not_said():
    from experiments._console import said

    assert said(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device."
    assert said(OSError(errno.ENOSPC, "No space left on device", "a/b")) == "No space left on device: a/b"
    assert said(ValueError("K")) == "K"
