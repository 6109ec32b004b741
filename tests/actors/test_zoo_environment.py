"""The environment that rl-baselines3-zoo wrote down: without its arguments it is another one, in silence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from stable_baselines3 import PPO

from lipsrl.actors import load_agent
from lipsrl.cli import main


@pytest.fixture
def folder(tmp_path):
    return saved(tmp_path / "one")


def saved(folder):
    folder.mkdir()
    PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, device="cpu").save(
        folder / "Pendulum-v1.zip"
    )
    (folder / "Pendulum-v1").mkdir()
    return folder


def write(folder, config, arguments):
    for name, given in (("config", config), ("args", {"algo": "ppo", "env": "Pendulum-v1", **arguments})):
        (folder / "Pendulum-v1" / f"{name}.yml").write_text(json.dumps(given))  # JSON is YAML


def evaluated(*arguments):
    """Arguments of the environment that ``lipsrl evaluate`` played in, by what it wrote."""
    output = Path(arguments[0]).parent / "evaluation.parquet"
    short = ["--episodes", "1", "--strengths", "0", "--output", str(output)]
    assert main(["evaluate", *map(str, arguments), *short]) == 0
    return json.loads(output.with_suffix(".json").read_text())["env_spec"]["kwargs"]


def test_its_arguments(folder):
    write(folder, {"env_kwargs": {"g": 4.0}}, {"env_kwargs": None})
    assert load_agent(folder).env_kwargs == {"g": 4.0}
    both = {"env_kwargs": {"g": 4.0}}, {"env_kwargs": {"g": 2.0}}
    write(folder, *both)  # the command line has precedence
    assert load_agent(folder).env_kwargs == {"g": 2.0}
    assert main(["pack", str(folder), "--output", str(folder / "packed")]) == 0
    assert load_agent(folder / "packed").env_kwargs == {"g": 2.0}
    assert evaluated(folder) == {"g": 2.0}


def test_they_hold_for_the_same_environment_and_beside_others(folder):
    write(folder, {}, {"env_kwargs": {"g": 2.0}})
    assert load_agent(folder, env="Pendulum-v1").env_kwargs == {"g": 2.0}
    assert load_agent(folder, env="CartPole-v1").env_kwargs == {}
    assert evaluated(folder, "--env", "Pendulum-v1") == {"g": 2.0}
    assert evaluated(folder, "--env-kwargs", "render_mode:rgb_array") == {
        "g": 2.0,
        "render_mode": "rgb_array",
    }
    assert evaluated(folder, "--env-kwargs", "g:7.0") == {"g": 7.0}


def test_results_say_them(folder, capsys):
    write(folder, {}, {"env_kwargs": {"g": 2.0}})
    evaluated(folder)
    assert "Pendulum-v1 (g=2.0): 1 episodes in all" in capsys.readouterr().out
    page = folder.parent / "report.html"
    short = ["--episodes", "1", "--strengths", "0", "--env-kwargs", "render_mode:rgb_array"]
    assert main(["report", str(folder), "--output", str(page), *short]) == 0
    assert "Pendulum-v1 (g=2.0, render_mode=&#39;rgb_array&#39;)" in page.read_text()


def test_agents_of_several(folder, tmp_path, capsys):
    other = saved(tmp_path / "two")
    write(folder, {}, {"env_kwargs": {"g": 2.0}})
    write(other, {}, {})
    assert main(["evaluate", str(folder), str(other), "--episodes", "1"]) == 2
    assert "ppo-Pendulum-v1: none said; ppo-Pendulum-v1: {'g': 2.0}" in capsys.readouterr().err
    assert evaluated(folder, other, "--env-kwargs", "g:3.0") == {"g": 3.0}


@pytest.mark.parametrize(
    "odd",
    [
        {"render_mode": "human"},
        {"g": math.nan},
        {"g": math.inf},
        {"g": [1]},
        {"g": 10**400},
        {"1": None},
        "\x1b[31mred",
    ],
)
def test_a_text_may_be_a_file_that_the_environment_opens(folder, capsys, odd):
    write(folder, {}, {"env_kwargs": odd})
    with pytest.warns(
        UserWarning, match="only finite numbers, true and false.*Name the environment yourself"
    ):
        agent = load_agent(folder)
    assert (agent.env_id, agent.env_kwargs) == (None, {})
    assert main(["evaluate", str(folder), "--episodes", "1"]) == 2
    said = capsys.readouterr().err
    assert "its env_kwargs are " in said
    assert "Pass --env ID" in said
    assert "\x1b" not in said
    with pytest.warns(UserWarning, match="They are left out; pass what matters as --env-kwargs"):
        assert load_agent(folder, env="Pendulum-v1").env_kwargs == {}


def test_its_wrappers(folder, recwarn):
    write(folder, {"env_wrapper": ["rl_zoo3.wrappers.MaskVelocityWrapper", "\x1b[31m" + 300 * "x"]}, {})
    match = r"behind env_wrapper \['rl_zoo3.wrappers.MaskVelocityWrapper', '.x1b.*…: wrappers of the training are not"
    for env in (None, "Pendulum-v1"):
        with pytest.warns(UserWarning, match=match):
            assert load_agent(folder, env=env).env_id == "Pendulum-v1"
    assert main(["pack", str(folder), "--output", str(folder / "packed")]) == 0
    with pytest.warns(UserWarning, match="MaskVelocityWrapper.*are not put"):
        load_agent(folder / "packed")


def test_an_environment_that_fails_in_its_own_way(folder, capsys):
    write(folder, {}, {"env_kwargs": {"render_mode": 1}})
    assert main(["evaluate", str(folder), "--episodes", "1"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: env='Pendulum-v1' with {'render_mode': 1} cannot be made: "
    )
