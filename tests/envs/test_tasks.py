"""Every task: what it says of its environment, and that its agents can be built on it."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from rich.console import Console

from agents import AGENTS
from envs import TASKS, get_task
from envs.task import noise_levels
from experiments import _list, train
from experiments._setup import floor_of

#: Whose published tables were measured with other levels.
OLDER = ("pendulum", "pendulum-without-velocity", "inverted-double-pendulum", "hopper")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_what_its_environment_is(name):
    task = get_task(name)
    env = task.make()
    space = env.action_space
    said = task.actions.split()
    if isinstance(space, gym.spaces.Discrete):
        assert said == [str(space.n), "choices"]
    else:
        assert int(said[0]) == space.shape[0]
        assert float(said[2].removeprefix("±")) == space.high[0] == -space.low[0]
    assert len(set(task.sensors)) == len(task.sensors) == env.observation_space.shape[0]
    assert all(scale > 0 for scale in task.sensor_scale)
    assert task.reference_source
    if name not in OLDER:
        assert task.strengths == noise_levels(task.sensor_scale)
        assert task.chatter_strength == task.strengths[1]
    env.close()


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.equilibrium is not None])
def test_a_task_stands_where_it_says_that_it_does(name):
    """Every training begins with this floor: a state that moves by itself would end it."""
    floor = floor_of(get_task(name))
    assert floor is not None
    assert 0.0 < floor.floor <= floor.found * (1 + 1e-6)


def test_noise_levels():
    assert noise_levels([1.0]) == (0.0, 0.01, 0.02, 0.05, 0.1)
    assert noise_levels([2.0, 2.0]) == (0.0, 0.02, 0.04, 0.1, 0.2)
    assert noise_levels([0.1]) == (0.0, 0.001, 0.002, 0.005, 0.01)
    assert noise_levels([100.0, 0.81]) == (0.0, 0.1, 0.2, 0.5, 1.0)  # of 0.09


@pytest.mark.filterwarnings("ignore:.*symmetric and normalized")
@pytest.mark.parametrize("name", ["linear-quadratic", "pendulum-without-velocity"])
def test_our_own_environments_pass_gymnasiums_checks(name):
    env = gym.make(get_task(name).env_id).unwrapped
    env.spec = gym.spec(get_task(name).env_id.split(":")[1])
    check_env(env, skip_render_check=True)


def test_the_pendulum_shows_its_angle_alone():
    plain, blind = gym.make("Pendulum-v1"), get_task("pendulum-without-velocity").make()
    first, second = plain.reset(seed=3)[0], blind.reset(seed=3)[0]
    for _ in range(5):
        assert np.array_equal(first[:2], second)
        (first, reward, *_), (second, other, *_) = (env.step(np.array([1.0])) for env in (plain, blind))
        assert reward == other


BUILT = [
    (agent, task)
    for agent in ("ppo-sandwich", "sac-sandwich", "td3-orthogonal", "tqc-sandwich")
    for task in AGENTS[agent].settings
    if task not in ("hopper", "reacher", "inverted-double-pendulum", "lunar-lander-continuous", "walker2d")
]


@pytest.mark.parametrize(("agent", "task"), BUILT)
def test_hyperparameters_are_ones_of_the_algorithm(agent, task, monkeypatch):
    recipe = AGENTS[agent]
    settings = recipe.for_task(task)
    monkeypatch.setitem(settings.algorithm, "buffer_size", 10) if agent[:3] != "ppo" else None
    plain = AGENTS[agent.split("-")[0]]
    assert plain.settings is recipe.settings  # the twin has the same
    model = recipe.build(train.make_training_env(recipe, get_task(task)), get_task(task), seed=0)
    assert model.policy.options.lipschitz_bound == recipe.lipschitz_bound[task]


def test_the_list():
    console = Console(width=400, record=True)
    console.print(_list.tables())
    text = console.export_text()
    for name in (*TASKS, *AGENTS):
        assert name in text
