"""The linear-quadratic study: controllers cost what theory says; gains and bounds of agents are read right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from stable_baselines3 import PPO

import lipsrl
from envs.linear_quadratic import PLANT, START, STEPS
from envs.linear_quadratic_theory import expected_cost, optimal_gain
from experiments import theory
from experiments.theory import Args, KalmanRegulator, Linear, best_static_gain, gain_at_rest, played

WIDE = START**2 * np.eye(2)


def cost_of(gain, noise):
    return expected_cost(PLANT, np.atleast_2d(gain), steps=STEPS, start=WIDE, noise=noise)


def test_the_best_gain_without_memory_is_lower_in_noise():
    riccati = optimal_gain(PLANT)[0][0]
    before = np.linalg.norm(riccati)
    for noise in (0.02, 0.1):
        best = best_static_gain(noise)
        assert np.linalg.norm(best) < before
        before = np.linalg.norm(best)
        for move in 0.05 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]):
            assert cost_of(best + move, noise) > cost_of(best, noise)


def test_costs_of_linear_controllers_are_theirs_and_memory_is_cheaper():
    args, noise = Args([], episodes=150), 0.1
    best = best_static_gain(noise)
    cost, error = played("best", Linear(best), noise, args)
    assert cost == pytest.approx(cost_of(best, noise), abs=4 * error)
    with_memory, _ = played("kalman", KalmanRegulator(noise), noise, args)
    assert with_memory < 0.8 * cost


def test_another_gain_behind_the_filter_is_not_the_best_and_with_no_noise_needs_no_filter():
    args, noise, gain = Args([], episodes=60), 0.1, 0.6 * optimal_gain(PLANT)[0][0]
    worse, _ = played("soft", KalmanRegulator(noise, gain), noise, args)
    best, _ = played("kalman", KalmanRegulator(noise), noise, args)
    assert best < worse
    unseen, _ = played("soft", KalmanRegulator(1e-6, gain), 1e-6, args)
    assert unseen == pytest.approx(played("soft", Linear(gain), 1e-6, args)[0], rel=1e-4)


@pytest.fixture
def linear(tmp_path):
    """A stock policy without hidden layers, of the Riccati gain, as a run folder."""
    model = PPO("MlpPolicy", theory.TASK.make(), policy_kwargs={"net_arch": []}, device="cpu", seed=0)
    with torch.no_grad():
        model.policy.action_net.weight.copy_(-torch.as_tensor(optimal_gain(PLANT)[0]))
        model.policy.action_net.bias.zero_()
    folder = lipsrl.tracking.RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.save_model(model)
    folder.write_config(
        {
            "agent": "ppo", "task": "linear-quadratic", "env_id": "envs:LinearQuadratic-v0", "seed": 7,
            "algorithm": "PPO", "vec_normalize": False, "hyperparameters": {"policy_kwargs": {}},
        }
    )  # fmt: skip
    return folder


def test_gain_certificate_and_cost_of_a_linear_policy_are_its_weights(linear, tmp_path, capsys):
    riccati = optimal_gain(PLANT)[0][0]
    model, statistics = linear.load()
    assert gain_at_rest(model, statistics) == pytest.approx(riccati, rel=1e-5)
    found = theory.study(
        Args([linear.path], noise=[0.05], episodes=20, history=0, output=tmp_path / "theory.csv")
    )
    rows = found.set_index("agent")
    assert rows.loc["ppo", "cost"] == pytest.approx(rows.loc["Riccati regulator", "cost"], rel=1e-4)
    assert rows.loc["ppo", "theory"] == pytest.approx(cost_of(riccati, 0.05), rel=1e-4)
    assert rows.loc["ppo", "certified"] == pytest.approx(np.linalg.norm(riccati), rel=1e-3)
    assert "| ppo | 7 | 0.05 |" in capsys.readouterr().out
    written = pd.read_csv(tmp_path / "theory.csv", comment="#")
    assert list(written["agent"]) == list(found["agent"])


@pytest.mark.parametrize("bound", [None, 9.0])
def test_every_agent_of_one_observation_has_a_student_and_its_teachers_gain_behind_the_filter(
    linear, monkeypatch, bound
):
    teacher, _ = linear.load()
    monkeypatch.setattr(lipsrl, "distill", lambda *_, **__: teacher)
    config = linear.read_config()
    linear.write_config(config | {"hyperparameters": {"policy_kwargs": {"lipschitz_bound": bound}}})
    rows = theory.study(Args([linear.path], noise=[0.05], episodes=10)).set_index("agent")
    student = rows.loc["window of ppo"]
    assert student["cost"] == pytest.approx(rows.loc["ppo", "cost"])
    # the teacher has the Riccati gain
    assert student["theory"] == pytest.approx(rows.loc["Kalman filter and regulator", "cost"], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"noise": []}, "--noise"),
        ({"noise": [0.0]}, "noise"),
        ({"episodes": 0}, "episodes"),
        ({"history": -1}, "history"),
        ({"lipschitz_bound": 0.0}, "lipschitz_bound"),
        ({"run": []}, "run"),
    ],
)
def test_wrong_words(options, said):
    with pytest.raises(ValueError, match=said):
        theory.study(Args(**{"run": [Path("none")], **options}))


def test_a_run_of_another_task_is_refused(linear):
    linear.write_config(linear.read_config() | {"task": "pendulum"})
    with pytest.raises(ValueError, match="give runs of linear-quadratic"):
        theory.study(Args([linear.path]))
