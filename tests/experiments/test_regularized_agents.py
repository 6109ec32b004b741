"""Recipes of regularised agents: each builds and learns, with the same trials for every method."""

from __future__ import annotations

import dataclasses
import math

import pytest

from agents import AGENTS, get_agent
from agents.regularized import REGULARIZED_AGENTS, TRIALS, chosen_scale
from envs import get_task
from experiments import train
from lipsrl.regularizers import CAPS, regularized

QUICK = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}


def small(recipe):
    """The recipe with a training of moments."""
    settings = recipe.settings["pendulum"]
    options = QUICK if recipe.algorithm.__name__ == "PPO" else {"learning_starts": 8, "batch_size": 8}
    policy = {**settings.policy, "net_arch": [8]}
    algorithm = {**settings.algorithm, **options}
    quick = dataclasses.replace(settings, algorithm=algorithm, n_envs=1, policy=policy, max_episode_steps=16)
    return dataclasses.replace(recipe, settings={"pendulum": quick})


@pytest.mark.parametrize("name", [recipe.name for recipe in REGULARIZED_AGENTS])
def test_builds_and_learns(name):
    recipe, task = small(get_agent(name)), get_task("pendulum")
    model = recipe.build(train.make_training_env(recipe, task), task, seed=100)
    model.learn(40)
    assert [m.plain() for m in regularized(model)] == recipe.methods("pendulum")
    if recipe.regularizers:
        assert model.regularizers_state["updates"] > 0


@pytest.mark.parametrize("name", ["ppo-lipsnet", "ppo-fir-sandwich", "ppo-sandwich-ramp", "sac-caps"])
def test_a_training_leaves_a_run_folder(name, tmp_path, monkeypatch, capsys):
    recipe = small(get_agent(name))
    monkeypatch.setattr(train, "get_agent", lambda _: recipe)
    args = train.Args(
        agent=name, seed=100, timesteps=64, output=tmp_path / "run", track="disabled", progress=False
    )
    folder = train.train(args)
    config = folder.read_config()
    assert config["status"] == "finished"
    said = capsys.readouterr().out
    assert ("no certificate" in said) == (name == "ppo-lipsnet")
    model, _ = folder.load()
    if name == "ppo-sandwich-ramp":
        assert config["lipschitz_bound"] == model.policy.options.lipschitz_bound == pytest.approx(5.0)
        again = train.Args(**{**vars(args), "resume": True})
        assert train.train(again).path == folder.path  # finished, kept
        with pytest.raises(ValueError, match="it ends at 5 whatever that is"):
            train.train(train.Args(agent=name, lipschitz_bound=12.0, output=tmp_path / "other"))
    if name == "ppo-fir-sandwich":
        assert model.frame_stack == config["history"] == 8
    if name == "sac-caps":
        assert config["hyperparameters"]["policy_kwargs"]["regularizers"][0]["name"] == "CAPS"


def test_scale_is_on_every_weight():
    assert CAPS(0.1, 0.5).scaled(3.0) == CAPS(0.1 * 3.0, 0.5 * 3.0)
    assert CAPS((0.0, 0.5)).scaled(2.0).temporal == (0.0, 1.0)
    with pytest.raises(ValueError, match="is a function"):
        CAPS(lambda remaining: 0.1).scaled(2.0)
    recipe, task = get_agent("ppo-caps"), get_task("pendulum")
    assert recipe.policy_kwargs(task, regularizer_scale=10.0)["regularizers"][0]["spatial"] == pytest.approx(
        0.5
    )
    assert recipe.policy_kwargs(task)["lipschitz_bound"] == math.inf
    with pytest.raises(ValueError, match="has no soft regulariser"):
        AGENTS["ppo"].policy_kwargs(task, regularizer_scale=2.0)
    with pytest.raises(ValueError, match="regularizer_scale must be a finite number >= 0"):
        recipe.policy_kwargs(task, regularizer_scale=-1.0)


def test_the_rule_for_weights():
    trials = {
        0.1: (-150.0, 0.6),
        0.3: (-155.0, 0.5),
        1.0: (-160.0, 0.3),
        3.0: (-400.0, 0.1),
        10.0: (-900.0, 0.0),
    }
    assert chosen_scale(trials, plain=-150.0, floor=-1200.0) == 1.0  # -255 is the worst that counts as kept
    assert chosen_scale(trials, plain=1000.0, floor=-1200.0) == 0.1
    assert set(trials) == set(TRIALS)
    with pytest.raises(ValueError, match="every method is tried with the scales"):
        chosen_scale({1.0: (0.0, 0.0)}, 0.0, -1.0)
