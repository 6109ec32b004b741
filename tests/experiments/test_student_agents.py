"""Students and agents that average their actions: agents as any other, of `experiments.train` and all that follows."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import threading
import time

import numpy as np
import pytest

import lipsrl
from agents import AGENTS, Lesson, get_agent
from envs import TASKS, get_task
from experiments import _student, _teachers, _train_args, compare, table, train
from experiments._conditions import Episodes, filtered
from experiments._filters import SMOOTHING, shared_task, task_of
from experiments._locks import exclusive
from experiments._memory_agents import HISTORY, STUDIES
from experiments._plan import plan
from experiments._sweep_folder import SweepFolder
from experiments.distill import Args as DistillArgs
from experiments.distill import make_student, student_folder
from experiments.evaluate import evaluate_run
from experiments.theory import Args as TheoryArgs
from experiments.theory import of_agents
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import evaluate, model_fingerprint
from lipsrl.tracking import RunFolder, SmoothnessCallback
from tests.experiments import miniature

QUICK = Lesson(12.0, 0.3, rounds=1, steps=8)


def small(name):
    recipe = miniature.small(name)
    return dataclasses.replace(recipe, lessons={"pendulum": QUICK}) if recipe.teacher else recipe


@pytest.fixture(autouse=True)
def small_recipes(monkeypatch):
    quick(monkeypatch)


def quick(patch):
    short = dataclasses.replace(get_task("pendulum"), env_kwargs={"max_episode_steps": 12}, equilibrium=None)
    patch.setitem(TASKS, "pendulum", short)
    patch.setattr(train, "get_agent", small)
    patch.setattr(_student, "get_agent", small)
    patch.setattr(train, "live_smoothness", lambda *_: SmoothnessCallback(every=32))


def args(output, name="ppo-window", **options):
    return miniature.args(output, name, **{"timesteps": 64, "resume": True, **options})


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A student with its teacher beside it; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        return train.train(args(tmp_path_factory.mktemp("student") / "run", track="offline"))


@pytest.fixture(scope="module")
def averaging(tmp_path_factory):
    """An agent that averages its actions; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        return train.train(args(tmp_path_factory.mktemp("averaging") / "ppo-ema-pendulum-0", "ppo-ema"))


class TestRecipes:
    @pytest.mark.parametrize("plain", ["ppo", "sac", "td3", "tqc"])
    def test_they_differ_from_the_plain_agent_in_what_their_name_says(self, plain):
        if plain not in AGENTS:
            pytest.skip("without sb3-contrib")
        one = AGENTS[plain]
        window, ema = AGENTS[f"{plain}-window"], AGENTS[f"{plain}-ema"]
        assert (
            dataclasses.replace(
                window, name=plain, policy=one.policy, layer=None, frames=1, teacher=None, lessons={}
            )
            == one
        )
        assert window.teacher == plain
        assert dataclasses.replace(ema, name=plain, smoothing={}, settings=one.settings) == one
        assert ema.settings.items() <= one.settings.items()
        assert ema.settings.keys() == one.settings.keys() - {"cart-pole", "lunar-lander"}
        assert window.lessons.keys() >= window.settings.keys()

    def test_the_students_of_the_study_are_these(self):
        for task, study in STUDIES.items():
            lesson = AGENTS["ppo-window"].lessons[task]
            assert (lesson.lipschitz_bound, lesson.noise) == (study.bound, study.noise)
            assert (lesson.rounds, lesson.steps) == (study.rounds, study.steps)
        assert AGENTS["ppo-window"].frames == HISTORY

    def test_a_student_is_not_built(self):
        with pytest.raises(ValueError, match="it is distilled, not built"):
            AGENTS["ppo-window"].build(None, get_task("pendulum"), seed=0)


class TestStudents:
    def test_a_student_is_what_distill_makes_of_its_teacher(self, student):
        config = student.read_config()
        teacher = RunFolder.open(student.path / config["teacher"])
        assert config["teacher"] == "../ppo-pendulum-0"
        assert config["lipschitz_bound"] == 12.0
        assert config["history"] == HISTORY
        model, statistics = teacher.load()
        twin = lipsrl.distill(
            model, get_task("pendulum").make, lipschitz_bound=12.0, history=8, disturbance=GaussianNoise(0.3),
            strength=(0.0, 1.0), vec_normalize=statistics, rounds=1, steps=8,
        )  # fmt: skip
        own, own_statistics = student.load()
        assert model_fingerprint(own, own_statistics) == model_fingerprint(twin)
        assert config["made_of"] == model_fingerprint(model, statistics)

    def test_it_is_certified_and_evaluated_like_any_other(self, student):
        model, statistics = student.load()
        certificate = lipsrl.certify(model, vec_normalize=statistics)
        assert certificate.network.upper_bound <= 12.0
        stored = json.loads(student.certificate_file.read_text())
        assert stored["network"]["upper_bound"] == pytest.approx(certificate.network.upper_bound)
        frame = evaluate_run(student, episodes=2, seed=0).frame
        assert np.isfinite(frame["return"]).all()
        assert set(frame["agent"]) == {"ppo-window"}

    def test_its_run_folder_is_whole(self, student):
        assert student.read_config()["status"] == "finished"
        assert (student.path / "wandb").is_dir()
        assert sorted(path.name for path in student.path.parent.iterdir()) == ["ppo-pendulum-0", "run"]

    def test_the_same_command_keeps_it_and_another_one_is_refused(self, student, capsys):
        train.train(args(student.path))
        assert "finished, kept" in capsys.readouterr().out
        for other in ({"lipschitz_bound": 6.0}, {"timesteps": 96}, {"budget": "growing"}, {"history": 4}):
            with pytest.raises(ValueError, match="holds a finished training with"):
                train.train(args(student.path, **other))
        with pytest.raises(FileNotFoundError, match="is not a run folder"):
            train.train(args(student.path, teacher=student.path / "nowhere"))

    def test_students_share_the_teacher_beside_them(self, student, tmp_path, capsys):
        teacher = tmp_path / "ppo-pendulum-0"
        shutil.copytree(student.path.parent / teacher.name, teacher)
        before = (teacher / "model.zip").read_bytes()
        folder = train.train(args(tmp_path / "run", lipschitz_bound=6.0))
        assert folder.read_config()["teacher"] == "../ppo-pendulum-0"
        assert "its teacher is" in capsys.readouterr().out
        assert (teacher / "model.zip").read_bytes() == before

    def test_another_training_in_its_teachers_place_is_refused(self, student, tmp_path):
        shutil.copytree(student.path.parent / "ppo-pendulum-0", tmp_path / "ppo-pendulum-0")
        with pytest.raises(
            ValueError, match="is a training with timesteps=64, and the teacher of this student has"
        ):
            train.train(args(tmp_path / "run", timesteps=96))
        assert not (tmp_path / "run").exists()
        with pytest.raises(ValueError, match="is where the teacher is trained"):
            train.train(args(tmp_path / "ppo-pendulum-0", overwrite=True, resume=False))

    def test_a_student_of_a_teacher_that_was_trained_again_is_refused(self, student, tmp_path):
        for name in ("ppo-pendulum-0", "run"):
            shutil.copytree(student.path.parent / name, tmp_path / name)
        teacher = RunFolder(tmp_path / "ppo-pendulum-0")
        train.train(args(tmp_path / "run"))
        other(teacher)
        with pytest.raises(ValueError, match="was made of another model"):
            train.train(args(tmp_path / "run"))

    def test_it_waits_for_a_teacher_that_is_being_trained(self, student, tmp_path, capsys):
        beside, begun = tmp_path / "ppo-pendulum-0", threading.Event()

        def other_process():
            with exclusive(beside):
                begun.set()
                time.sleep(0.5)
                shutil.copytree(student.path.parent / "ppo-pendulum-0", beside)

        thread = threading.Thread(target=other_process)
        thread.start()
        begun.wait()
        folder = train.train(args(tmp_path / "run"))
        thread.join()
        assert "waits for the training" in capsys.readouterr().out
        assert folder.read_config()["teacher"] == "../ppo-pendulum-0"

    def test_a_teacher_that_is_named(self, student, tmp_path):
        teacher = RunFolder(tmp_path / "elsewhere" / "mine")
        shutil.copytree(student.path.parent / "ppo-pendulum-0", teacher.path)
        teacher.write_config(teacher.read_config() | {"agent": "mine"})  # --label
        folder = train.train(args(tmp_path / "run", teacher=teacher.path))
        assert folder.read_config()["teacher"] == "../elsewhere/mine"
        assert train.train(args(tmp_path / "run", teacher=teacher.path)).path == folder.path
        with pytest.raises(ValueError, match="is a training with seed=0"):
            train.train(args(tmp_path / "other", teacher=teacher.path, seed=1))
        with pytest.raises(FileNotFoundError, match="is not a run folder"):
            train.train(args(tmp_path / "other", teacher=tmp_path / "nowhere"))
        other(teacher)
        with pytest.raises(ValueError, match="was made of another model"):
            train.train(args(tmp_path / "run", teacher=teacher.path))
        teacher.write_config(teacher.read_config() | {"status": "interrupted"})
        with pytest.raises(ValueError, match="is no finished training"):
            train.train(args(tmp_path / "other", teacher=teacher.path))
        assert not (tmp_path / "other").exists()

    def test_a_teacher_inside_of_what_is_replaced_is_refused(self, student, tmp_path):
        shutil.copytree(student.path, tmp_path / "run")
        shutil.copytree(student.path.parent / "ppo-pendulum-0", tmp_path / "run" / "teacher")
        options = {"teacher": tmp_path / "run" / "teacher", "overwrite": True, "resume": False}
        with pytest.raises(ValueError, match="which --overwrite removes"):
            train.train(args(tmp_path / "run", **options))
        assert (tmp_path / "run" / "teacher" / "model.zip").is_file()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"lipschitz_bound": "auto"}, "searches while an agent is trained"),
            ({"lipschitz_bound": -1.0}, "lipschitz_bound must be a finite number > 0"),
            ({"regularizer_scale": 3.0}, "no soft regulariser"),
            ({"budget": "nope"}, "budget='nope'"),
            ({"name": "ppo", "teacher": "x"}, "has no teacher"),
            ({"name": "ppo-ema", "history": 4}, "averages its actions"),
            ({"layer": "sandwhich"}, "Did you mean 'sandwich'"),
        ],
    )
    def test_what_it_cannot_be_is_said_before_anything_is_trained(self, tmp_path, options, message):
        with pytest.raises(ValueError, match=message):
            train.train(args(tmp_path / "run", **options))
        assert list(tmp_path.iterdir()) == []

    def test_k_is_half_of_the_teachers_slope_where_nobody_tried_another(self, student, tmp_path, monkeypatch):
        plain = dataclasses.replace(QUICK, lipschitz_bound=None)
        monkeypatch.setattr(
            train, "get_agent", lambda name: dataclasses.replace(small(name), lessons={"pendulum": plain})
        )
        teacher = RunFolder(student.path.parent / "ppo-pendulum-0")
        config = train.train(args(tmp_path / "run", teacher=teacher.path)).read_config()
        model, statistics = teacher.load()
        slope = lipsrl.certify(model, vec_normalize=statistics).network.lower_bound
        assert config["teacher_slope"] == pytest.approx(slope)
        assert slope / 2 * 0.9 <= config["lipschitz_bound"] <= slope / 2

    def test_the_teacher_has_a_wandb_run_of_its_own(self, tmp_path, monkeypatch):
        monkeypatch.setenv("WANDB_RUN_ID", "abcd1234")
        folder = train.train(args(tmp_path / "run"))
        assert folder.read_config()["wandb_id"] == "abcd1234"
        assert RunFolder(tmp_path / "ppo-pendulum-0").read_config()["wandb_id"] != "abcd1234"
        assert os.environ["WANDB_RUN_ID"] == "abcd1234"


def other(folder):
    """Another model where one was."""
    model, statistics = folder.load()
    for parameter in model.policy.parameters():
        parameter.data *= 1.5
    folder.save_model(model, statistics)


class TestInterruptions:
    @pytest.mark.parametrize("how", [KeyboardInterrupt, OSError("no space"), SystemExit(9)])
    @pytest.mark.parametrize("where", ["distill", "save"])
    def test_a_lesson_that_is_cut_off_costs_the_lesson_alone(self, tmp_path, monkeypatch, how, where):
        trained = []
        learn = train.learn
        monkeypatch.setattr(train, "learn", lambda *given: trained.append(1) or learn(*given))

        def stop(*_, **__):
            raise how

        kind = how if isinstance(how, type) else type(how)
        train.train(args(tmp_path / "ppo-pendulum-0", "ppo"))
        with monkeypatch.context() as patch:
            patch.setattr(*((lipsrl, "distill") if where == "distill" else (_student, "certified")), stop)
            with pytest.raises(kind):
                train.train(args(tmp_path / "run"))
        assert [path.name for path in tmp_path.iterdir()] == ["ppo-pendulum-0"]
        assert train.train(args(tmp_path / "run")).read_config()["status"] == "finished"
        assert len(trained) == 1

    @pytest.mark.parametrize("where", ["teacher", "student", "waiting"])
    def test_ctrl_c_keeps_what_is_whole_and_the_same_command_goes_on(
        self, tmp_path, monkeypatch, capsys, where
    ):
        def stop(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("sys.argv", ["train"])
        with monkeypatch.context() as patch, contextlib.ExitStack() as held:
            if where == "student":
                patch.setattr(lipsrl, "distill", stop)
            elif where == "teacher":
                patch.setattr(SmoothnessCallback, "_on_step", stop)
            else:
                held.enter_context(exclusive(tmp_path / "ppo-pendulum-0"))
                patch.setattr(_teachers.time, "sleep", stop)
            patch.setattr(train, "parse", lambda *_: args(tmp_path / "run"))
            assert train.main() == 130
        assert "Interrupted" in capsys.readouterr().out
        assert not (tmp_path / "run").exists()
        assert train.train(args(tmp_path / "run", resume=False)).read_config()["status"] == "finished"

    @pytest.mark.parametrize("how", [KeyboardInterrupt, ValueError])
    def test_what_was_to_be_replaced_stays_until_there_is_a_new_one(
        self, student, tmp_path, monkeypatch, how
    ):
        for name in ("ppo-pendulum-0", "run"):
            shutil.copytree(student.path.parent / name, tmp_path / name)
        before = (tmp_path / "run" / "model.zip").read_bytes()

        def stop(*_, **__):
            raise how

        options = {"overwrite": True, "resume": False, "lipschitz_bound": 6.0}
        with monkeypatch.context() as patch:
            patch.setattr(lipsrl, "distill", stop)
            with pytest.raises(how):
                train.train(args(tmp_path / "run", **options))
        assert (tmp_path / "run" / "model.zip").read_bytes() == before
        folder = train.train(args(tmp_path / "run", **options))
        assert folder.read_config()["lipschitz_bound"] == 6.0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["ppo-pendulum-0", "run"]


class TestSweeps:
    def test_their_ids_and_what_they_refuse(self):
        names = [c.name for c in plan(["ppo", "ppo-window"], ["pendulum"], [0], lipschitz_bound=[6])]
        assert names == ["ppo-pendulum-0", "ppo-window-K6-pendulum-0"]
        with pytest.raises(ValueError, match="searches while an agent is trained"):
            plan(["ppo-window"], ["pendulum"], [0], lipschitz_bound=["auto"])

    def test_one_of_another_lesson_is_not_taken_for_it(self, student, tmp_path, monkeypatch):
        monkeypatch.setattr("experiments._sweep_folder.get_agent", small)
        (config,) = plan(["ppo-window"], ["pendulum"], [0], timesteps=64)
        shutil.copytree(student.path, tmp_path / config.name)
        shutil.copytree(student.path.parent / "ppo-pendulum-0", tmp_path / "ppo-pendulum-0")
        SweepFolder(tmp_path).check([config])
        looser = dataclasses.replace(config, lipschitz_bound=6.0)
        shutil.copytree(student.path, tmp_path / looser.name)
        with pytest.raises(ValueError, match="is finished with lesson="):
            SweepFolder(tmp_path).check([looser])
        other(RunFolder(tmp_path / "ppo-pendulum-0"))
        with pytest.raises(ValueError, match="was made of another model"):
            SweepFolder(tmp_path).check([config])

    def test_the_live_table_counts_the_teachers_steps(self, student, tmp_path):
        (config,) = plan(["ppo-window"], ["pendulum"], [0], timesteps=64)
        job = SweepFolder(tmp_path).job(config, None, None)
        assert job.progress() == 0
        shutil.copytree(student.path.parent / "ppo-pendulum-0", tmp_path / "ppo-pendulum-0")
        assert job.progress() == 64
        assert job.seconds() is None

    def test_a_default_folder(self):
        assert str(_train_args.default_output(args(None))) == "runs/ppo-window-pendulum-0"


class TestAverages:
    def test_the_run_says_what_its_agent_stands_behind(self, averaging):
        config = averaging.read_config()
        assert config["env_wrapper"] == {SMOOTHING: {"weight": 0.5}}
        assert task_of(config).smoothing == 0.5
        with pytest.warns(UserWarning, match="behind env_wrapper"):
            lipsrl.load_agent(averaging.path)

    def test_it_is_evaluated_behind_its_filter_in_the_episodes_of_all(self, averaging):
        model, statistics = averaging.load()
        options = {
            "disturbances": GaussianNoise(1.0), "strengths": (0.0, 0.2), "n_episodes": 3, "progress": False,
            "vec_normalize": statistics,
        }  # fmt: skip
        behind = evaluate(model, task_of(averaging.read_config()).make, **options).frame
        alone = evaluate(model, get_task("pendulum").make, **options).frame
        stored = evaluate_run(averaging, episodes=3, seed=0)
        white = stored.frame[stored.frame["disturbance"] == "gaussian"]
        for column in ("return", "action_fluctuation", "saturation", "action_sensitivity"):
            for strength in (0.0, 0.2):
                found, inside, outside = (
                    frame[frame["strength"] == strength][column].to_numpy()
                    for frame in (white, behind, alone)
                )
                np.testing.assert_array_equal(found, inside)
                assert column != "action_fluctuation" or not np.allclose(found, outside, rtol=1e-2)
        plain = evaluate(model, get_task("pendulum").make, **options)
        assert stored.metadata["env_spec"] == plain.metadata["env_spec"]
        assert evaluate_run(averaging, episodes=3, seed=0).metadata["seconds"] == stored.metadata["seconds"]

    def test_it_stands_in_one_table_with_the_plain_agent(self, averaging, student, tmp_path, capsys):
        runs = [student.path.parent / "ppo-pendulum-0", averaging.path]
        page = tmp_path / "page.html"
        found = compare.compare(compare.Args(runs, episodes=2, report=page))
        assert set(found.frame["agent"]) == {"ppo", "ppo-ema"}
        assert "ppo-ema" in page.read_text()
        with pytest.raises(ValueError, match="cannot be shown in one environment"):
            compare.compare(compare.Args(runs, episodes=2, track="offline"))

    def test_runs_of_one_kind_share_their_task(self, averaging, student):
        config = averaging.read_config()
        assert shared_task([config, config]).smoothing == 0.5
        assert shared_task([student.read_config()]).smoothing is None

    def test_its_student_stands_behind_the_filter_too(self, averaging, tmp_path):
        options = DistillArgs([averaging.path], output=tmp_path, rounds=1, steps=8)
        make_student(options, averaging)
        config = student_folder(options, averaging).read_config()
        assert config["env_wrapper"] == {SMOOTHING: {"weight": 0.5}}

    def test_the_table_says_the_students_own_budget_and_what_failed(self, student, tmp_path):
        shutil.copytree(student.path, tmp_path / "run")
        run = RunFolder(tmp_path / "run")
        config = run.read_config()
        run.write_config(config | {"lesson": {**config["lesson"], "budget": "growing"}})
        rows = {}
        for threshold in (None, -1e9, 0.0):
            rows[threshold] = table.table(table.Args([run.path], episodes=2, threshold=threshold))
        assert "| ppo-window | 12 | growing | 1 |" in rows[None]
        assert "1 failed" in rows[0.0]
        assert "failed" not in rows[-1e9]

    def test_a_second_average_is_refused(self, averaging):
        with pytest.raises(ValueError, match="shown behind a second average"):
            filtered(averaging, get_task("pendulum"), Episodes(1), 0.5)

    def test_no_floor_is_named_for_what_has_a_memory(self, averaging):
        assert averaging.read_config()["feasibility_floor"] is None

    def test_a_checkpoint_is_of_that_filter(self, averaging, tmp_path):
        shutil.copytree(averaging.path, tmp_path / "run")
        folder = RunFolder(tmp_path / "run")
        config = folder.read_config() | {"env_wrapper": {SMOOTHING: {"weight": 0.25}}}
        folder.write_config(config)
        with pytest.raises(ValueError, match="weight"):
            train.train(args(folder.path, "ppo-ema"))


def test_theory_speaks_of_no_average(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.model_file.write_bytes(b"")
    folder.write_config(
        {
            "task": "linear-quadratic",
            "agent": "ppo-ema",
            "seed": 0,
            "env_wrapper": {SMOOTHING: {"weight": 0.5}},
        }
    )

    with pytest.raises(ValueError, match="no gain that theory could speak of"):
        of_agents(TheoryArgs([folder.path]))


def test_no_lesson_is_looser_than_half_a_slope_without_a_reason():
    """The rule holds where no study chose K."""
    for task, lesson in AGENTS["ppo-window"].lessons.items():
        assert (lesson.lipschitz_bound is None) == (task not in STUDIES)
        assert lesson.noise > 0
        assert math.isclose(_student.SHARE, 0.5)
    assert get_agent("ppo-window").teacher == "ppo"
