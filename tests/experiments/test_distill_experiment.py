"""`experiments.distill`: which students it makes, keeps and compares."""

import json
import warnings
from pathlib import Path

import pytest
import tyro

import lipsrl
from experiments import _distill_settings
from experiments import distill as experiment
from experiments.distill import Args
from experiments.launchers import Options
from lipsrl.distillation import InterruptedWarning
from lipsrl.tracking import RunFolder

MADE = {"rounds": 12, "steps": 7200, "net_arch": []}
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


class Certified:
    lower_bound = 12.0
    network = property(lambda self: self)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 20}, "was made with steps=7200, and 20 is asked for"),
        ({"rounds": 1}, "was made with rounds=12, and 1 is asked for"),
        ({"net_arch": [8]}, "was made with net_arch=[], and [8] is asked for"),
        ({}, "was made with teacher_fingerprint='theirs', and 'ours' is asked for"),
    ],
)
def test_a_student_of_other_lessons_or_another_teacher_is_not_taken(
    teacher, tmp_path, arguments, message, monkeypatch
):
    monkeypatch.setattr(RunFolder, "load", lambda self: (None, None))
    monkeypatch.setattr(_distill_settings, "model_fingerprint", lambda model, statistics: "ours")
    output = tmp_path / "students"
    student = a_run(
        output / "ppo-0", **STUDENT, **MADE, teacher_fingerprint="ours" if arguments else "theirs"
    )
    a_run(output / "ppo-0-tuned", **STUDENT, **MADE, teacher_fingerprint="ours", fine_tuned_timesteps=50)
    with pytest.raises(ValueError) as error:
        experiment.distil(Args([teacher], output=output, **arguments))
    assert f"{str(student)!r} {message}" in str(error.value)


def test_a_student_says_how_it_was_made(teacher, tmp_path, monkeypatch):
    said = {}
    monkeypatch.setattr(RunFolder, "load", lambda self: (None, None))
    monkeypatch.setattr(experiment, "certify_run", lambda folder: Certified())
    monkeypatch.setattr(experiment, "model_fingerprint", lambda model, statistics: "ours")
    monkeypatch.setattr(lipsrl, "distill", lambda *_, **options: said.update(K=options["lipschitz_bound"]))
    monkeypatch.setattr(experiment, "save", lambda *_, **more: said.update(more))
    args = Args([teacher], output=tmp_path, steps=20, rounds=1, net_arch=[8])
    experiment.make_student(args, RunFolder(teacher))
    made = {"steps": 20, "rounds": 1, "net_arch": [8], "teacher_fingerprint": "ours", "K": 6.0}
    assert {key: said[key] for key in made} == made


@pytest.mark.parametrize(
    ("slope", "bound"), [(12.345, 6.17), (0.345, 0.17), (0.0107, 0.0053), (1e-4, 5e-5), (2.46e-5, 1.2e-5)]
)
def test_a_small_k_keeps_its_digits(slope, bound):
    assert _distill_settings.bound_of(Args([]), slope) == pytest.approx(bound, rel=1e-12)
    with pytest.raises(ValueError, match="steepest slope, which must be > 0, received 0"):
        _distill_settings.bound_of(Args([]), 0.0)


def test_a_student_of_an_earlier_version_has_the_two_decimals_of_then(teacher, tmp_path):
    a_run(tmp_path / "ppo-0", **{**STUDENT, "teacher_slope": 0.0398, "lipschitz_bound": 0.01})
    assert experiment.is_complete(Args([teacher], output=tmp_path), RunFolder(teacher))


def test_the_launchers_options_are_not_those_of_its_commands(teacher, tmp_path):
    """Which run where they are put."""
    given = ["--launcher", "ray", "--address", "a:1"]
    launch = Options("ray", 2, "a:1")
    command = experiment._job(
        Args([teacher], output=tmp_path, launch=launch), RunFolder(teacher), given
    ).command
    assert tyro.cli(Args, args=list(command[3:])).launch == Options(workers=1)


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


def test_a_run_that_is_called_like_another_value_is_refused(teacher, tmp_path, monkeypatch):
    """Each command would have lost that value."""
    monkeypatch.chdir(tmp_path)
    runs = [
        a_run(Path(name), task="pendulum", agent="ppo", seed=seed) for seed, name in enumerate(("5", "6"))
    ]
    monkeypatch.setattr(experiment.sys, "argv", ["distill", "5", "6", "--rounds", "5"])
    with pytest.raises(ValueError, match="give the absolute paths"):
        experiment.distil(Args(runs, rounds=5, output=tmp_path / "students"))


def test_teachers_that_would_count_twice_are_refused(teacher, tmp_path):
    twin = a_run(tmp_path / "more" / "ppo-2", task="pendulum", agent="ppo", seed=0)
    with pytest.raises(ValueError, match="are both agent 'ppo' with training seed 0"):
        experiment.distil(Args([teacher, twin], output=tmp_path / "students"))


def test_an_interrupted_student_is_not_compared(teacher, tmp_path, monkeypatch):
    def cut_short(*args, **kwargs):
        warnings.warn("cut short", InterruptedWarning, stacklevel=2)

    monkeypatch.setattr(RunFolder, "load", lambda self: (None, None))
    monkeypatch.setattr(experiment, "certify_run", lambda folder: Certified())
    monkeypatch.setattr(lipsrl, "distill", cut_short)
    with pytest.raises(KeyboardInterrupt):
        experiment.make_student(Args([teacher], output=tmp_path / "students"), RunFolder(Path(teacher)))
    assert not (tmp_path / "students").exists()
