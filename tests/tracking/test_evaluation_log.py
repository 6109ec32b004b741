"""What log_evaluation makes of a table, and what a config may say."""

import math
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack

import lipsrl
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import COLUMNS, Evaluation
from lipsrl.tracking import define_metrics, log_evaluation
from lipsrl.tracking.actions import log_actions, log_clip, power_spectrum
from lipsrl.tracking.artifacts import agent_artifact, artifact_name
from lipsrl.tracking.config import plain
from lipsrl.tracking.jobs import Subject, Tracked
from lipsrl.tracking.names import NAMES, name_of


class Run:
    """As much of a W&B run as is used, and it keeps what it is given."""

    def __init__(self):
        self.rows, self.summary, self.metrics = [], {}, {}

    def log(self, row):
        self.rows.append(row)

    def define_metric(self, name, **options):
        assert "*" not in name[:-1]  # W&B takes a star at the end only
        self.metrics[name] = options

    @property
    def keys(self):
        return {key for row in self.rows for key in row}


def table(agents=("a",), disturbances=("gaussian",), strengths=(0.0, 0.1, 0.2), returns=None, floor=-10.0):
    rows = []
    for agent in agents:
        for disturbance in disturbances:
            for strength in strengths:
                for episode in range(3):
                    value = (
                        -1 - 10 * strength - episode / 10 if returns is None else returns(strength, episode)
                    )
                    row = dict.fromkeys(COLUMNS, 0.1) | {
                        "agent": agent, "seed": 0, "disturbance": disturbance, "strength": strength,
                        "episode": episode, "env_seed": episode, "length": 5, "return": value,
                        "nonfinite": "" if math.isfinite(value) else "reward",
                    }  # fmt: skip
                    rows.append(row)
    return Evaluation(pd.DataFrame(rows), {"floor": floor})


def test_one_agent_has_numbers_and_curves():
    run = Run()
    log_evaluation(table(disturbances=("gaussian", "ar1:0.9")), run=run)
    assert all(name_of(key) for key in run.keys | set(run.summary))
    assert run.summary["robustness/clean_return"] == pytest.approx(-1.1)
    assert run.summary["robustness/noisy_return"] == pytest.approx(-2.1)
    assert run.summary["robustness/noisy_strength"] == 0.1
    assert 0 < run.summary["robustness/ar1-0_9/auc"] < 1
    curve = [(row["robustness/gaussian/strength"], row["robustness/gaussian/return"])
             for row in run.rows if "robustness/gaussian/strength" in row]  # fmt: skip
    np.testing.assert_allclose(curve, [(0, -1.1), (0.1, -2.1), (0.2, -3.1)])
    step = {"step_metric": "robustness/ar1-0_9/strength", "summary": "none"}
    assert run.metrics["robustness/ar1-0_9/return"] == step


def test_several_agents_have_tables_and_no_numbers():
    run = Run()
    log_evaluation(table(agents=("a", "<b>" * 30)), run=run)
    assert not run.summary
    (row,) = run.rows
    assert {"tables/degradation", "tables/robustness", "curves/gaussian"} == set(row)
    assert len(row["tables/degradation"].data) == 6
    named = Run()
    log_evaluation(table(agents=("a", "b")), run=named, agent="b")
    assert "robustness/clean_return" in named.summary
    with pytest.raises(ValueError, match="agent"):
        log_evaluation(table(), run=Run(), agent="c")


def test_episodes_that_were_not_finite_leave_gaps():
    run = Run()
    log_evaluation(table(returns=lambda s, e: float("nan") if s > 0.1 and e == 1 else -1.0), run=run)
    returns = {
        row["robustness/gaussian/strength"]: row.get("robustness/gaussian/return") for row in run.rows[1:]
    }
    assert returns == {0.0: -1.0, 0.1: -1.0}
    assert "robustness/gaussian/auc" not in run.summary
    assert all(math.isfinite(v) for v in run.summary.values() if not isinstance(v, str))
    cells = [cell for line in run.rows[0]["tables/degradation"].data for cell in line]
    assert not any(isinstance(cell, float) and not math.isfinite(cell) for cell in cells)
    nothing = Run()
    log_evaluation(table(returns=lambda s, e: float("nan")), run=nothing)
    assert nothing.keys == {"tables/degradation", "tables/robustness"}


def test_the_worst_attack():
    harm = {"random": 1.0, "mad": 5.0, "bias": 2.0}
    parts = []
    for name, size in harm.items():
        parts.append(table(disturbances=(name,), returns=lambda s, e, size=size: -1 - size * s).frame)
    run = Run()
    described = {name: {"name": name, "epsilon": 1.0, "model": None} for name in harm}
    log_evaluation(Evaluation(pd.concat(parts), {"disturbances": described}), run=run)
    assert run.summary["robustness/worst_attack_name"] == "mad"
    assert run.summary["robustness/worst_attack_return"] == pytest.approx(-2.0)
    assert run.summary["robustness/worst_attack_epsilon"] == 0.2
    assert {f"robustness/attack-{name}/return" for name in (*harm, "minimum")} <= run.keys


def test_a_constant_bias_is_a_disturbance_and_an_attack_has_keys_of_its_own():
    bias = table(disturbances=("bias",), returns=lambda s, e: -1 - s)
    disturbed, attacked = Run(), Run()
    log_evaluation(
        Evaluation(bias.frame, {"disturbances": {"bias": {"name": "bias", "std": 1.0}}}), run=disturbed
    )
    attack = {"name": "bias", "epsilon": 1.0, "model": {"class": "PPO"}}
    log_evaluation(Evaluation(bias.frame, {"disturbances": {"bias": attack}}), run=attacked)
    assert "robustness/bias/return" in disturbed.keys
    assert not any("attack" in key for key in disturbed.keys | set(disturbed.summary))
    assert {"robustness/attack-bias/return", "robustness/attack-minimum/return"} <= attacked.keys
    assert attacked.summary["robustness/worst_attack_name"] == "bias"


def test_certificates_of_windows():
    venv = VecFrameStack(make_vec_env("Pendulum-v1"), 2)
    model = PPO("LipschitzMlpPolicy", venv, n_steps=8, batch_size=8, device="cpu",
                policy_kwargs={"lipschitz_bound": 4.0, "net_arch": [4]})  # fmt: skip
    run = Run()
    log_evaluation(table(), lipsrl.certify(model), run)
    wanted = {name.key for name in NAMES if name.key.startswith("certificate/")}
    assert wanted <= set(run.summary)
    assert run.summary["certificate/window_frames"] == 2
    with pytest.raises(TypeError, match="certificates must be"):
        log_evaluation(table(), [{"agent": "a"}], Run())


def test_no_run_is_active():
    with pytest.raises(ValueError, match="no W&B run is active"):
        log_evaluation(table())


def test_every_curve_has_its_step():
    run = Run()
    define_metrics(run, ["gaussian"], step="global_step")
    for name in NAMES:
        if name.kind == "curve" and name.step and "<disturbance>" not in name.key:
            assert run.metrics[name.key.replace("<i>", "*")]["step_metric"] == "global_step"
    assert run.metrics["robustness/gaussian/return"]["step_metric"] == "robustness/gaussian/strength"


def test_the_spectrum_adds_up_to_the_variance():
    for n in (1, 2, 7, 100):
        signal = np.random.default_rng(n).normal(size=n)
        frequency, power = power_spectrum(signal, 0.05)
        assert len(frequency) == len(power)
        assert power.sum() == pytest.approx(signal.var())


def test_actions_of_no_and_one_step(tmp_path):
    run = Run()
    traces = {"none": {"actions": np.zeros((0, 1))}, "one": {"actions": np.zeros((1, 1))}}
    log_actions(run, traces)
    assert run.keys == {"actions/trace"}
    said = log_clip(run, "Pendulum-v1", {"none": traces["none"]}, seed=0)
    assert "no clip" in said
    assert "no step" in said
    assert "no clip" in log_clip(run, lambda: 1 / 0, traces, seed=0)


def test_configs_are_plain(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_TOKEN", "sesame-sesame")
    model = PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, device="cpu")
    found = plain({
        "command": f"python -m x --output {tmp_path} --key=sesame-sesame --a=/etc/b ~/c/d C:\\users\\me\\e 3/4 a/b",
        "api_key": "x", "nested": {"password": 1, "fine": (1, 2.5, None)}, "model": model, "path": Path("/a/b"),
        "bound": math.inf, "array": np.arange(3), "large": np.zeros(1000), "function": plain, "n": np.int64(3),
    })  # fmt: skip
    assert found == {
        "command": f"python -m x --output {tmp_path.name} --key=*** --a=b d e 3/4 a/b",
        "nested": {"fine": [1, 2.5, None]}, "model": "PPO", "path": "b", "bound": "inf", "array": [0, 1, 2],
        "large": "array (1000,)", "function": "plain", "n": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/me/run:/home/me/stats.pkl", "run:stats.pkl"),
        ("runs/a:/home/me/stats.pkl", "runs/a:stats.pkl"),
        ("C:\\me\\run:D:\\me\\stats.pkl", "run:stats.pkl"),
        ("/home/me/my dir/x", "x"),
        ("/home/me/my dir/my file.zip", "my file.zip"),
        ("C:\\users\\my name\\my dir\\x", "x"),
        ("/home/me/my dir/run:/home/me/my dir/stats.pkl", "run:stats.pkl"),
        ("lipsrl attack '/home/me/my dir/x:/home/me/s.pkl' --env A-v0", "lipsrl attack 'x:s.pkl' --env A-v0"),
        ("lipsrl attack /home/me/a /home/me/b runs/c", "lipsrl attack a b runs/c"),
        ("/usr/bin/python -m x --a /home/me/b c/d", "python -m x --a b c/d"),
        ("/home/me/lr=0.1,seed=3/model.zip", "model.zip"),
        ("x --a=/home/me/lr=0.1/b;c=/home/me/d", "x --a=b;c=d"),
        ("/home/me/run/", "run"),
        ("~me/run", "run"),
        ("file:///home/me/x", "x"),
        ("https://wandb.ai/a/b", "https://wandb.ai/a/b"),
        ("3 / 4 of runs/a, gaussian:0.1", "3 / 4 of runs/a, gaussian:0.1"),
    ],
)
def test_absolute_paths_become_their_last_part(text, told):
    assert plain(text) == told
    assert plain([{text: text}]) == [{told: told}]


def test_keys_that_are_paths_stay_apart():
    assert plain({"/a/x": 1, "/b/x": 2, Path("/c/x"): 3, 4: "/d"}) == {"x": 1, "x-2": 2, "x-3": 3, "4": "d"}


def test_artifacts_are_told_by_their_files(tmp_path):
    (tmp_path / "a").write_text("x")
    one = agent_artifact("pendulum/ppo 0", {"model.zip": tmp_path / "a", "gone": tmp_path / "b"}, {"k": 1})
    two = agent_artifact("pendulum/ppo 0", {"model.zip": tmp_path / "a", "none": None}, {"k": 2})
    assert one.digest == two.digest
    assert one.name.startswith("pendulum-ppo-0")
    assert artifact_name("<>") == "agent"
    with pytest.raises(ValueError, match="would be empty"):
        agent_artifact("x", {"model.zip": None}, {})


def test_an_agent_that_cannot_be_shown_is_said(tmp_path):
    class Broken(gym.Env):
        observation_space = spaces.Box(-1, 1, (1,), np.float32)
        action_space = spaces.Box(-1, 1, (1,), np.float32)

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            return np.full(1, np.nan, np.float32), 0.0, False, False, {}

    job = Tracked("evaluate", "t", Broken, tmp_path, "disabled", disturbance=GaussianNoise(0.1))
    traces, said = job.traces([Subject("rest", 3, lambda o: 0 * o)])
    assert not traces
    assert len(said) == 1
    assert said[0].startswith("no actions of rest-3: ")
