"""`experiments.distill`: which students it makes, keeps and compares."""

import json
import warnings
from pathlib import Path

import pytest

import lipsrl
from experiments import distill as experiment
from experiments.distill import Args
from lipsrl.distillation import InterruptedWarning
from lipsrl.tracking import RunFolder

STUDENT = {
    "task": "pendulum",
    "layer": "sandwich",
    "noise_level": 0.05,
    "lipschitz_bound": 6.0,
    "teacher_slope": 12.0,
}


def a_run(path, **config):
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.zip").write_bytes(b"")
    return path


@pytest.fixture
def teacher(tmp_path):
    return a_run(tmp_path / "runs" / "ppo-0", task="pendulum", agent="ppo", seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0.25}, "was made with lipschitz_bound=6.0, and 3.0 is asked for"),
        ({"layer": "orthogonal"}, "was made with layer='sandwich', and 'orthogonal' is asked for"),
        ({"noise_level": 0.0}, "was made with noise_level=0.05, and 0.0 is asked for"),
        ({"fine_tune": 100}, "was made with fine_tuned_timesteps=50, and 100 is asked for"),
    ],
)
def test_a_student_of_other_settings_is_not_taken_for_the_one_asked_for(
    teacher, tmp_path, arguments, message
):
    output = tmp_path / "students"
    a_run(output / "ppo-0", **STUDENT)
    a_run(output / "ppo-0-tuned", **STUDENT, fine_tuned_timesteps=50)
    assert experiment.is_complete(Args([teacher], output=output, fine_tune=50), RunFolder(teacher))
    with pytest.raises(ValueError) as error:
        experiment.distil(Args([teacher], output=output, **arguments))
    assert message in str(error.value)


def test_teachers_of_one_name_would_share_a_student(teacher, tmp_path):
    other = a_run(tmp_path / "more" / "ppo-0", task="pendulum", agent="ppo", seed=0)
    with pytest.raises(ValueError, match="are not all different"):
        experiment.distil(Args([teacher, other], output=tmp_path / "students"))


def test_each_command_gets_one_run_however_its_path_is_written(teacher, tmp_path, monkeypatch):
    other = a_run(tmp_path / "runs" / "ppo-1", task="pendulum", agent="ppo", seed=1)
    commands = []
    monkeypatch.setattr(
        experiment, "launch", lambda jobs, *_: commands.extend(list(job.command) for job in jobs)
    )
    monkeypatch.setattr(experiment, "tables", lambda args: "")
    monkeypatch.setattr(experiment.sys, "argv", ["distill", f"{teacher}/", f"{other}/", "--steps", "40"])
    experiment.distil(Args([teacher, other], steps=40, output=tmp_path / "students"))
    assert [command[3:] for command in commands] == [
        [str(run), "--steps", "40", "--launcher", "local", "--workers", "1", "--only"]
        for run in (teacher, other)
    ]


def test_an_interrupted_student_is_not_compared(teacher, tmp_path, monkeypatch):
    class Certified:
        lower_bound = 12.0
        network = property(lambda self: self)

    def cut_short(*args, **kwargs):
        warnings.warn("cut short", InterruptedWarning, stacklevel=2)

    monkeypatch.setattr(RunFolder, "load", lambda self: (None, None))
    monkeypatch.setattr(experiment, "certify_run", lambda folder: Certified())
    monkeypatch.setattr(lipsrl, "distill", cut_short)
    with pytest.raises(KeyboardInterrupt):
        experiment.make_student(Args([teacher], output=tmp_path / "students"), RunFolder(Path(teacher)))
    assert not (tmp_path / "students").exists()
