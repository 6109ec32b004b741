"""`lipsrl distill` and `lipsrl frontier`, from a zip or a run folder to files and a table on the terminal."""

import io
import shutil
import warnings
import zipfile
from pathlib import Path

import gymnasium as gym
import pytest
from rich.console import Console
from stable_baselines3 import PPO, SAC

import lipsrl
from lipsrl import cli
from lipsrl._commands import distill as distill_command
from lipsrl._commands import frontier as frontier_command
from lipsrl._commands.frontier import FrontierCommand
from lipsrl.actors.normalization import load_vec_normalize
from lipsrl.distillation import _frontier
from lipsrl.evaluation import Evaluation, NonFiniteError
from lipsrl.reporting.figures import frontier_plots
from lipsrl.tracking import RunFolder

ENDED = {KeyboardInterrupt: 130, NonFiniteError: 2}
BUDGET = ["--net-arch", "8", "--rounds", "1", "--steps", "40", "--episodes", "4"]


@pytest.fixture(scope="module", autouse=True)
def registered(cart):
    gym.register("Cart-v0", entry_point=cart)
    yield
    del gym.registry["Cart-v0"]


@pytest.fixture(scope="module")
def files(normalized_teacher, tmp_path_factory):
    """The teacher's zip and its VecNormalize."""
    folder = tmp_path_factory.mktemp("teacher")
    normalized_teacher.save(folder / "model.zip")
    normalized_teacher.get_vec_normalize_env().save(str(folder / "vecnormalize.pkl"))
    return [
        str(folder / "model.zip"),
        "--vec-normalize",
        str(folder / "vecnormalize.pkl"),
        "--env",
        "Cart-v0",
    ]


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_distill_writes_a_student_that_loads_and_prints_both(files, tmp_path, capsys):
    output = tmp_path / "small.zip"
    bound = ["--lipschitz-bound", 4, "--disturbance", "gaussian:0.1", "--layer", "orthogonal"]
    assert run("distill", *files, *bound, "--output", output, *BUDGET) == 0
    said = capsys.readouterr().out
    for words in ("teacher", "student", "tightness", "K raw", "gaussian:0.1", "small.vecnormalize.pkl"):
        assert words in said
    student = PPO.load(output, device="cpu")
    assert student.policy.lipschitz_network.lipschitz_bound() <= 4.0
    assert student.policy.lipschitz_network.layer_name == "orthogonal"
    statistics = load_vec_normalize(tmp_path / "small.vecnormalize.pkl")
    assert not statistics.training
    assert lipsrl.certify(student, vec_normalize=statistics).network.upper_bound <= 4.0
    assert run("certify", output, "--vec-normalize", tmp_path / "small.vecnormalize.pkl") == 0
    with pytest.raises(ValueError, match="made to act behind a VecNormalize, but its environment has none"):
        lipsrl.certify(student)
    assert lipsrl.certify(student, vec_normalize="none").network.upper_bound <= 4.0


def test_a_bound_far_above_the_teachers_slope_is_said(normalized_teacher, monkeypatch):
    command = distill_command.Distill(path=Path("x.zip"), lipschitz_bound=1.0)
    certificate = lipsrl.certify(normalized_teacher)
    slope = certificate.network.lower_bound
    for factor, said in ((10.0, 1), (2.0, 0)):
        command.lipschitz_bound = factor * slope
        with warnings.catch_warnings(record=True, action="always") as found:
            command._doubt_bound(certificate)
        assert len(found) == said
    command._doubt_bound(None)


def test_distill_takes_a_run_folder(normalized_teacher, tmp_path, capsys):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.save_model(normalized_teacher)
    folder.write_config({"agent": "ppo", "seed": 0, "env_id": "Cart-v0", "vec_normalize": True})
    assert run("distill", folder.path, "--lipschitz-bound", 4, "--output", tmp_path / "s.zip", *BUDGET) == 0
    assert (tmp_path / "s.vecnormalize.pkl").is_file()


def test_a_collapse_is_said_and_the_student_is_written(files, tmp_path, capsys):
    output = tmp_path / "flat.zip"
    assert run("distill", *files, "--lipschitz-bound", 0.01, "--output", output, *BUDGET) == 0
    assert "WARNING The student's mean return" in capsys.readouterr().out
    assert output.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lipschitz-bound", "-1"], "lipschitz_bound must be a finite number > 0"),
        (["--lipschitz-bound", "4", "--output", "s.pkl"], "output must end in .zip"),
        (["--lipschitz-bound", "4", "--episodes", "0"], "episodes must be an integer > 0"),
        (["--lipschitz-bound", "4", "--disturbance", "gauss"], "disturbance='gauss' is not known"),
        (["--lipschitz-bound", "4", "--env", "Pendulum-v1"], "observations"),
    ],
)
def test_what_is_wrong_is_one_line(files, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run("distill", *files, *arguments, *(BUDGET if "--episodes" not in arguments else [])) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("disturbance", "message"),
    [
        ("critic:0.1", "cannot follow a model that learns"),
        ("robust-sarsa:0.1", "'robust-sarsa' is not known"),
    ],
)
def test_what_cannot_be_fine_tuned_is_refused_before_anything_is_learned(
    files, tmp_path, monkeypatch, capsys, disturbance, message
):
    monkeypatch.setattr(distill_command, "distill", None)
    options = ["--lipschitz-bound", 4, "--disturbance", disturbance, "--fine-tune", 100]
    assert run("distill", *files, *options, "--output", tmp_path / "a.zip") == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_off_policy_teacher_is_not_fine_tuned(make_teacher, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(distill_command, "distill", None)
    make_teacher(SAC).save(tmp_path / "sac.zip")
    options = ["--lipschitz-bound", 4, "--disturbance", "gaussian:0.1", "--fine-tune", 100]
    assert (
        run("distill", tmp_path / "sac.zip", "--env", "Cart-v0", *options, "--output", tmp_path / "a.zip")
        == 2
    )
    assert "must be trained on-policy" in capsys.readouterr().err


@pytest.mark.parametrize(("changed", "words"), [(True, "and kept"), (False, "found nothing better")])
def test_it_says_what_fine_tuning_came_to(files, tmp_path, monkeypatch, capsys, changed, words):
    monkeypatch.setattr(distill_command, "fine_tune", lambda *_, **__: changed)
    options = ["--lipschitz-bound", 4, "--disturbance", "gaussian:0.1", "--fine-tune", 100, "--history", 2]
    assert run("distill", *files, *options, "--output", tmp_path / "a.zip", *BUDGET) == 0
    assert words in capsys.readouterr().out


def test_a_student_is_not_overwritten_unasked(files, tmp_path, capsys):
    output = tmp_path / "s.zip"
    output.write_bytes(b"mine")
    command = ["distill", *files, "--lipschitz-bound", 4, "--output", output, *BUDGET]
    assert run(*command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert output.read_bytes() == b"mine"
    assert run(*command, "--overwrite") == 0
    assert zipfile.is_zipfile(output)


def test_a_zip_needs_an_environment(files, capsys):
    assert run("distill", files[0], "--lipschitz-bound", 4) == 2
    assert "Pass --env ID" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), NonFiniteError("an action of the teacher is nan")])
def test_what_stops_it_before_there_is_a_student(files, tmp_path, monkeypatch, capsys, error):
    def stopped(*args, **kwargs):
        raise error

    monkeypatch.setattr(distill_command, "distill", stopped)
    assert (
        run("distill", *files, "--lipschitz-bound", 4, "--output", tmp_path / "s.zip") == ENDED[type(error)]
    )
    said = capsys.readouterr().err
    assert (str(error) or "interrupted before the end of the first round") in said
    assert not list(tmp_path.iterdir())


def test_frontier_prints_recommends_and_writes(files, tmp_path, monkeypatch, capsys):
    found = []
    made = frontier_command.frontier
    monkeypatch.setattr(frontier_command, "frontier", lambda *a, **k: found.append(made(*a, **k)) or found[0])
    output = tmp_path / "out"
    wanted = ["--bounds", 0.01, 8, "--strengths", 0, 0.2, "--noise-levels", 0, 0.2, "--workers", 1]
    assert run("frontier", *files, *wanted, "--output", output, *BUDGET) == 0
    said = capsys.readouterr().out
    for words in ("K=0.01", "K=8", "Recommended clean", "Recommended at strength 0.2", "WARNING K=0.01"):
        assert words in said
    zips = ["K0.01-shown0.2.zip", "K0.01.zip", "K8-shown0.2.zip", "K8.zip"]
    assert sorted(p.name for p in output.glob("*.zip")) == zips
    assert PPO.load(output / "K8.zip").policy.lipschitz_network.lipschitz_bound() <= 8.0
    assert Evaluation.load(output / "evaluation.parquet").frame["agent"].nunique() == 5
    page = (output / "frontier.html").read_text()
    assert "Which K: students of one teacher on" in page  # the template of every report
    assert "Recommended clean" in page

    table = found[0].table()
    settings = {student.name: (student.lipschitz_bound, 1) for student in found[0].students}
    returns, _ = frontier_plots(found[0].evaluation.summary(), settings, "gaussian", "teacher")
    drawn = next(line for line in returns.series if line.label == "strength 0.2, shown 0.2")
    rows = table[(table["strength"] == 0.2) & (table["noise_level"] == 0.2)].sort_values("lipschitz_bound")
    assert list(drawn.x) == [0.01, 8.0]
    assert list(drawn.y) == list(rows["return"])
    assert list(drawn.high) == list(rows["return_high"])
    clean = next(line for line in returns.series if line.label == "clean, shown 0.2")
    assert clean.look.color != drawn.look.color  # a colour per strength
    assert clean.look.dash == drawn.look.dash  # a dash per kind
    (teacher,) = returns.levels
    assert teacher.value == table[(table["agent"] == "teacher") & (table["strength"] == 0)]["return"].iloc[0]


def test_frontier_says_when_no_k_is_enough(files, tmp_path, capsys):
    wanted = ["--bounds", 0.01, "--strengths", 0, "--workers", 1, "--output", tmp_path / "out"]
    assert run("frontier", *files, *wanted, *BUDGET) == 0
    assert "Recommended clean: none of these K keeps the return" in capsys.readouterr().out


@pytest.fixture
def instantly(monkeypatch, normalized_teacher):
    """The teacher comes back as its student at once."""

    def distill(*args, **kwargs):
        warnings.warn("The student's mean return is low.", stacklevel=2)
        return normalized_teacher

    monkeypatch.setattr(distill_command, "distill", distill)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), NonFiniteError("an action of the student is nan")])
def test_what_stops_the_measurement_says_that_the_student_is_there(
    instantly, files, tmp_path, monkeypatch, capsys, error
):
    def stopped(*args, **kwargs):
        raise error

    monkeypatch.setattr(distill_command, "evaluate", stopped)
    output = tmp_path / "s.zip"
    assert run("distill", *files, "--lipschitz-bound", 4, "--output", output) == ENDED[type(error)]
    said = capsys.readouterr()
    assert f"{error or 'interrupted before all was measured.'} Written: {output}, " in said.err
    assert "WARNING The student's mean return is low." in said.out
    assert PPO.load(output).get_parameters().keys()
    assert load_vec_normalize(tmp_path / "s.vecnormalize.pkl") is not None


def test_students_of_a_frontier_are_there_as_soon_as_they_are_made(files, tmp_path, monkeypatch, capsys):
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_frontier, "evaluate", stopped)
    output = tmp_path / "out"
    command = ["frontier", *files, "--bounds", 4, "--workers", 1, "--output", output, *BUDGET]
    assert run(*command) == 130
    assert f"interrupted before all was measured. Written: {output / 'K4.zip'}, " in capsys.readouterr().err
    assert sorted(path.name for path in output.iterdir()) == ["K4.vecnormalize.pkl", "K4.zip"]
    assert run(*command) == 2
    assert "exists already. Use another name, or pass --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["distill", "--lipschitz-bound", "4"], ["frontier"]])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_learned(
    files, tmp_path, monkeypatch, capsys, command
):
    for module, name in ((distill_command, "distill"), (frontier_command, "frontier")):
        monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("it learned"))
    (tmp_path / "file").write_text("mine")
    assert run(*command, *files, "--output", tmp_path / "file" / "s.zip") == 2
    assert "is not a folder that you may write to" in capsys.readouterr().err
    (tmp_path / "s.zip").mkdir()
    (tmp_path / "s.zip" / "mine").write_text("mine")
    assert run(*command, *files, "--output", tmp_path / "s.zip") == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_folder_is_not_replaced_by_a_student(files, tmp_path, capsys):
    (tmp_path / "s.zip").mkdir()
    output = ["--output", tmp_path / "s.zip", "--overwrite"]
    assert run("distill", *files, "--lipschitz-bound", 4, *output) == 2
    assert "is a folder" in capsys.readouterr().err


def test_the_normalisation_beside_the_zip_is_used_and_that_is_said(
    instantly, files, tmp_path, monkeypatch, capsys
):
    shutil.copy(files[0], tmp_path / "t.zip")
    shutil.copy(files[2], tmp_path / "t.vecnormalize.pkl")
    monkeypatch.setattr(distill_command, "evaluate", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    command = ["distill", tmp_path / "t.zip", *files[3:], "--lipschitz-bound", 4, "--output"]
    run(*command, tmp_path / "s.zip")
    assert "statistics beside the zip are used" in capsys.readouterr().out
    run(*command, tmp_path / "s2.zip", "--vec-normalize", "none")
    assert "are used" not in capsys.readouterr().out


def test_no_normalisation_of_a_replaced_student_is_left(teacher, tmp_path):
    (tmp_path / "s.vecnormalize.pkl").write_bytes(b"of another")
    assert distill_command.save_student(teacher, tmp_path / "s.zip") == [tmp_path / "s.zip"]
    assert [path.name for path in tmp_path.iterdir()] == ["s.zip"]


def test_an_uncertifiable_teacher_is_a_row_without_bounds(files, tmp_path, monkeypatch):
    """Its network may hold what cannot be bounded; the student's never does."""
    monkeypatch.setattr(distill_command, "certificate_or_none", lambda *_: None)
    text = io.StringIO()
    command = distill_command.Distill(
        path=Path(files[0]), vec_normalize=Path(files[2]), env="Cart-v0", lipschitz_bound=4.0, net_arch=[8],
        rounds=1, steps=40, episodes=4, output=tmp_path / "s.zip",
    )  # fmt: skip
    command.run(Console(file=text, width=140))
    row = next(line for line in text.getvalue().splitlines() if line.strip().startswith("teacher"))
    assert row.count("–") >= 3


def test_the_defaults_of_the_frontier_are_six_bounds():
    assert FrontierCommand(path=Path("model.zip")).bounds == [2.0, 4.0, 6.0, 8.0, 12.0, 16.0]


def test_a_student_may_be_judged_without_its_normalisation(files, tmp_path, capsys):
    """As the error says that tells of a missing one."""
    output = tmp_path / "s.zip"
    assert run("distill", *files, "--lipschitz-bound", 4, "--output", output, *BUDGET) == 0
    options = ["--env", "Cart-v0", "--vec-normalize", "none", "--episodes", 1, "--max-episode-steps", 4]
    assert run("evaluate", output, *options, "--strengths", 0) == 0
    assert run("attack", output, *options, "--attack", "mad", "--epsilon", 0.1, "--steps", 1) == 0
    assert run("report", output, *options, "--strengths", 0, 0.1, "--output", tmp_path / "s.html") == 0
    assert run("export", output, "--vec-normalize", "none", "--output", tmp_path / "s.safetensors") == 0


def test_settings_that_were_not_opened_are_named(make_teacher, tmp_path, capsys):
    teacher = make_teacher(PPO)
    teacher.learning_rate = lambda progress: 1e-3 * progress
    teacher.save(tmp_path / "t.zip")
    arguments = [
        tmp_path / "t.zip",
        "--env",
        "Cart-v0",
        "--lipschitz-bound",
        4,
        "--output",
        tmp_path / "s.zip",
    ]
    assert run("distill", *arguments, *BUDGET) == 0
    assert "were not opened: learning_rate." in " ".join(capsys.readouterr().out.split())
