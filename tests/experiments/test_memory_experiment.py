"""`experiments.memory`: the agents it makes, what it does not make again, and the filters beside a stock policy."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import lipsrl
from agents import get_agent
from envs import get_task
from experiments import clip, memory
from experiments._collect import collect
from experiments._filters import ConstantVelocity, Smoothed
from experiments._memory_agents import trained_recipe
from experiments._memory_tables import CHATTER, Measured, _beside_teachers
from experiments._scores import CLEAN, WORST, Scores
from experiments.memory import Args, Study


def identity(observations):
    return np.asarray(observations)


def test_the_smoother_averages_actions_and_starts_anew_with_an_episode():
    smoother = Smoothed(identity, 0.5)
    action, state = smoother.predict(np.array([[4.0], [2.0]]))
    assert action.tolist() == [[2.0], [1.0]]
    action, state = smoother.predict(np.array([[4.0], [2.0]]), state, np.array([False, True]))
    assert action.tolist() == [[3.0], [1.0]]


def test_the_filter_follows_a_ramp_without_lag_and_starts_anew_with_an_episode():
    filtered, state = ConstantVelocity(identity, 0.5), None
    for step in range(60):
        estimate, state = filtered.predict(np.array([[0.1 * step]]), state)
    assert estimate[0, 0] == pytest.approx(5.9, abs=1e-3)
    again, _ = filtered.predict(np.array([[-3.0]]), state, np.array([True]))
    assert again[0, 0] == -3.0


def test_the_filter_removes_noise():
    rng = np.random.default_rng(0)
    filtered, state, errors = ConstantVelocity(identity, 0.3), None, []
    for _ in range(500):
        estimate, state = filtered.predict(rng.normal(size=(1, 1)), state)
        errors.append(estimate[0, 0])
    assert np.std(errors[50:]) < 0.7


@pytest.fixture
def args(tmp_path, monkeypatch):
    """One seed with a teacher that was hardly trained, and a study of seconds."""
    monkeypatch.setitem(
        memory.STUDIES,
        "pendulum",
        Study(8.0, 6.0, 0.3, 0.2, (0.1,), rounds=1, steps=40, attacked_steps=40, episodes=2),
    )
    for attack in (memory.RobustSarsaAttack, memory.ConstantBiasAttack):  # which search for seconds
        monkeypatch.setattr(attack, "_aim", memory.RandomAttack._aim)
        monkeypatch.setattr(
            attack, "displacements", lambda self, o, e, n, p, u=None: e * np.ones_like(o, dtype=np.float64)
        )
    short = dataclasses.replace(get_task("pendulum"), env_kwargs={"max_episode_steps": 15})
    monkeypatch.setattr(memory, "get_task", lambda name: short)
    args = Args(seeds=[3], output=tmp_path, jobs=1, agents=["teacher", "filtered", "window"])
    venv = VecNormalize(DummyVecEnv([get_task("pendulum").make]))
    model = PPO("MlpPolicy", venv, n_steps=64, policy_kwargs={"net_arch": [8]}, device="cpu", seed=3)
    model.learn(64)
    folder = memory.place(args, 3, "teacher")
    folder.path.mkdir(parents=True)
    folder.save_model(model)
    folder.write_config({"task": "pendulum", "agent": "ppo", "seed": 3, "vec_normalize": True})
    return args


@pytest.mark.filterwarnings("ignore:The student's mean return")
def test_a_study_is_made_measured_and_not_made_again(args, capsys, monkeypatch):
    memory.study(args)
    said = capsys.readouterr().out
    for words in (
        "| window | 1 |",
        "| filtered | 1 |",
        "σ = 0.4",
        "worst attack, ε = 0.1",
        "agent / teacher",
    ):
        assert words in said
    student = memory.place(args, 3, "window")
    assert json.loads(student.config_file.read_text())["frame_stack"] == 8
    model, statistics = student.load()
    assert lipsrl.certify(model, vec_normalize=statistics).network.upper_bound <= 8.0
    assert statistics.obs_rms.mean.shape == (3,)
    found = Measured.of(student, get_task("pendulum"))
    assert set(found.frames) == {"noise", "faults", "attacks"}
    assert found.auc("white") <= 1.0 - get_task("pendulum").floor
    assert "attacks" not in Measured.of(memory.place(args, 3, "filtered"), get_task("pendulum")).frames

    made, left_out = collect(args.output, "miniature")
    assert left_out == []
    assert [one.name for one in made.runs] == [
        f"{agent} of pendulum, seed 3" for agent in ("teacher", "filtered", "window")
    ]
    assert Scores(made).raw("pendulum", "window", CLEAN)[3] == pytest.approx(found.mean("white", 0.0))
    assert Scores(made).raw("pendulum", "window", WORST)[3] == pytest.approx(found.worst(0.1))

    for name in ("student", "fine_tuned", "run_all"):
        monkeypatch.setattr(memory, name, lambda *_: pytest.fail("made again"))
    monkeypatch.setattr(lipsrl, "evaluate", lambda *_, **__: pytest.fail("measured again"))
    memory.study(args)
    assert capsys.readouterr().out.splitlines()[-1] == said.splitlines()[-1]


def test_a_training_of_another_length_is_none_of_the_study(args):
    folder = memory.place(args, 3, "teacher")
    config = folder.read_config()
    for other in ({"timesteps": 2_000}, {"timesteps": 300_000, "status": "interrupted"}, {"timesteps": None}):
        folder.write_config(config | other)
        with pytest.raises(ValueError, match=r"was to have .* those of this study on 'pendulum' have 300000"):
            memory.make(args, 3, "teacher")
    for other in ({"seed": 5}, {"recipe": "sac"}, {"hyperparameters": {"gamma": 0.5}}, {"task": "hopper"}):
        folder.write_config(config | {"timesteps": 300_000, "status": "finished"} | other)
        with pytest.raises(ValueError, match=r"holds a finished training with .* is asked for"):
            memory.make(args, 3, "teacher")
    folder.write_config(config | {"timesteps": 300_000, "status": "finished"})
    memory.make(args, 3, "teacher")


@pytest.mark.filterwarnings("ignore:The student's mean return")
def test_a_student_of_another_lesson_is_none_of_the_study(args, monkeypatch):
    memory.make(args, 3, "window")
    monkeypatch.setitem(
        memory.STUDIES, "pendulum", dataclasses.replace(memory.STUDIES["pendulum"], memoryless_bound=1.0)
    )
    memory.make(args, 3, "window")  # not its own setting
    monkeypatch.setitem(
        memory.STUDIES, "pendulum", dataclasses.replace(memory.STUDIES["pendulum"], bound=9.0)
    )
    with pytest.raises(ValueError, match=r"was made with \{'bound': 8.0\}; the study has \{'bound': 9.0\}"):
        memory.make(args, 3, "window")


def test_a_filter_of_which_it_cannot_be_told_whose_it_is_is_measured_again(args, capsys):
    args = dataclasses.replace(args, agents=["filtered"])
    memory.study(args)
    file = memory.place(args, 3, "filtered").path / "noise.json"
    file.write_text(re.sub(r'"fingerprint": "[^"]*"', '"fingerprint": null', file.read_text()))
    capsys.readouterr()
    memory.study(args)
    assert "filtered/noise.parquet: of other settings or another model" in capsys.readouterr().out
    assert "null" not in file.read_text().split('"fingerprint": ')[1][:6]


@pytest.mark.filterwarnings("ignore:The student's mean return")
def test_the_student_and_the_filter_of_a_teacher_that_was_trained_again_are_not_counted(args, capsys):
    memory.study(args)
    certificate = memory.place(args, 3, "teacher").certificate_file.read_text()
    venv = VecNormalize(DummyVecEnv([get_task("pendulum").make]))
    other = PPO("MlpPolicy", venv, n_steps=64, policy_kwargs={"net_arch": [8]}, device="cpu", seed=4)
    other.learn(64)
    memory.place(args, 3, "teacher").save_model(other)
    with pytest.raises(ValueError, match=r"window was made of another model than the one in .*teacher now"):
        memory.study(args)
    said = capsys.readouterr().out
    for agent in ("teacher", "filtered"):
        assert f"{agent}/noise.parquet: of other settings or another model; measured again" in said
    assert memory.place(args, 3, "teacher").certificate_file.read_text() != certificate
    shutil.rmtree(memory.place(args, 3, "window").path)
    memory.study(args)


def test_an_agent_below_the_floor_has_no_area_and_the_others_keep_theirs():
    def measured(clean):
        rows = [
            {"disturbance": name, "strength": strength, "return": clean, CHATTER: 1.0}
            for name in ("white", "ar1", "bias")
            for strength in get_task("pendulum").strengths
        ]
        return Measured(get_task("pendulum"), {"noise": pd.DataFrame(rows)}, math.nan)

    table = _beside_teachers(
        {"teacher": [measured(-150.0)], "good": [measured(-200.0)], "lost": [measured(-1500.0)]}
    )
    good, lost = (next(line for line in table.splitlines() if name in line) for name in ("good", "lost"))
    assert "0.9" in good
    assert lost.count("–") >= 3


def test_each_seed_is_a_command_of_its_own(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(memory, "run_all", lambda given, jobs: commands.extend(given))
    monkeypatch.setattr(memory, "tables", lambda *_: "")
    memory.study(Args(seeds=[0, 1], output=tmp_path, agents=["window"]))
    assert [command[-3:] for command in commands] == [["--seeds", "0", "--only"], ["--seeds", "1", "--only"]]


def test_stacked_ppo_is_trained_behind_a_stack(args, monkeypatch):
    recipe = memory.get_agent("ppo")
    settings = recipe.settings["pendulum"]
    short = type(settings)(64, 1, {**settings.algorithm, "n_steps": 64, "batch_size": 64}, settings.policy)
    monkeypatch.setitem(recipe.settings, "pendulum", short)
    memory.make(args, 3, "stacked")
    model, statistics = memory.place(args, 3, "stacked").load()
    assert model.observation_space.shape == (24,)
    assert statistics.obs_rms.mean.shape == (3,)
    assert len(lipsrl.evaluate(model, "Pendulum-v1", n_episodes=1, vec_normalize=statistics).frame) == 1


@pytest.mark.parametrize(
    ("wrong", "text"), [({"task": "pendulun"}, "pendulum"), ({"agents": ["windows"]}, "window")]
)
def test_what_is_not_known_is_refused(tmp_path, wrong, text):
    with pytest.raises(ValueError, match=text):
        memory.study(Args(output=tmp_path, **wrong))


def test_a_failed_training_is_said(tmp_path, monkeypatch):
    failure = memory.run_all.__globals__["Failure"]("python -m experiments.train", 1)
    monkeypatch.setattr(memory, "run_all", lambda *_: [failure])
    with pytest.raises(ValueError, match="training failed"):
        memory.make(Args(output=tmp_path), 0, "teacher")


@pytest.mark.filterwarnings("ignore:The student's mean return", "ignore:fine_tune")
def test_every_agent_of_the_study_can_be_made(args, monkeypatch):
    settings = dataclasses.replace(
        get_agent("ppo").for_task("pendulum"),
        timesteps=64,
        n_envs=1,
        algorithm={"n_steps": 32, "batch_size": 32},
    )
    short = dataclasses.replace(get_agent("ppo"), settings={"pendulum": settings})
    monkeypatch.setattr(memory, "get_agent", lambda name: short)
    study = dataclasses.replace(memory.STUDIES["pendulum"], fine_tune_steps=64)
    monkeypatch.setitem(memory.STUDIES, "pendulum", study)
    trained = []
    monkeypatch.setattr(memory, "run_all", lambda commands, jobs: trained.extend(commands))
    for agent in memory.AGENTS:
        memory.make(args, 3, agent)
        folder = memory.place(args, 3, agent)
        if agent in ("smoothed", "filtered", "scratch", "regularised", "noise-trained"):
            assert not folder.config_file.is_file()
            continue
        model, statistics = folder.load()
        assert statistics is not None, "without it the agent is another controller"
        assert folder.read_config().get("vec_normalize") is True
        windows = {"teacher": 1, "memoryless": 1, "recurrent": 1}
        assert (getattr(model, "frame_stack", None) or 1) == windows.get(agent, 8)
        bound = getattr(getattr(model.policy, "options", None), "lipschitz_bound", None)
        expected = {"memoryless": 6.0} if agent == "memoryless" else dict.fromkeys(
            ("window", memory.ATTACKED, memory.FINE_TUNED, "window-dropout"), 8.0
        )  # fmt: skip
        assert bound == expected.get(agent, math.inf if agent == "window-free" else None)
    assert [command[command.index("--agent") + 1] for command in trained] == [
        "ppo-sandwich",
        "ppo-lcp",
        "ppo-noise",
    ]
    assert trained[1][-5:] == ["--regularizer-scale", "0.1", "--track", "disabled", "--resume"]


def test_agents_that_need_no_teacher_are_made_without_one(args, monkeypatch):
    made = []
    monkeypatch.setattr(memory, "make", lambda args, seed, agent: made.append(agent))
    monkeypatch.setattr(memory, "measure", lambda *_: None)
    memory.one_seed(dataclasses.replace(args, agents=["noise-trained", "regularised"]), 3)
    assert made == ["noise-trained", "regularised"]
    memory.one_seed(dataclasses.replace(args, agents=["noise-trained", "window"]), 3)
    assert made[2:] == ["teacher", "noise-trained", "window"]


def test_the_soft_twin_of_each_teacher():
    assert trained_recipe("regularised", "ppo", "hopper") == ["ppo-lcp", "--regularizer-scale", "1"]
    assert trained_recipe("regularised", "sac", "pendulum") == ["sac-caps", "--regularizer-scale", "1"]
    assert trained_recipe("noise-trained", "sac", "pendulum") == ["sac-noise"]
    assert trained_recipe("window", "ppo", "hopper") is None
    with pytest.raises(ValueError, match="teacher"):
        trained_recipe("regularised", "td3", "pendulum")


def test_a_recurrent_agent_is_measured_and_neither_attacked_nor_certified(args, monkeypatch):
    venv = DummyVecEnv([get_task("pendulum").make])
    model = RecurrentPPO("MlpLstmPolicy", venv, n_steps=8, batch_size=8, device="cpu", seed=0)
    folder = memory.place(args, 3, "recurrent")
    folder.path.mkdir(parents=True)
    folder.save_model(model)
    folder.write_config({"task": "pendulum", "agent": "recurrent", "seed": 3, "vec_normalize": False})
    memory.measure(args, 3, "recurrent")
    assert set(Measured.of(folder, get_task("pendulum")).frames) == {"noise", "faults"}
    assert not folder.certificate_file.is_file()


def test_a_clip_of_the_same_episode(args, monkeypatch, capsys, tmp_path):
    """`experiments.clip`: one column per run, the same start, the same noise."""
    from PIL import Image

    short = memory.get_task("pendulum")
    monkeypatch.setattr(clip, "task_of", lambda _: dataclasses.replace(short, env_id="Pendulum-v1"))
    teacher, output = str(memory.place(args, 3, "teacher").path), tmp_path / "clip.gif"
    command = ["clip", teacher, teacher, "--names", "a", "b", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", command)
    clip.main()
    first, second = capsys.readouterr().out.splitlines()
    assert first.removeprefix("a") == second.removeprefix("b")
    with Image.open(output) as image:
        assert image.n_frames > 1
        assert image.width == 2 * image.height
    monkeypatch.setattr(sys, "argv", [*command[:3], "--names", "a", "a"])
    with pytest.raises(SystemExit):
        clip.main()
    assert "names must be 2 different ones" in capsys.readouterr().err
