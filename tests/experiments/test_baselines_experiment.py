"""The reviewer's table: rows of certified and of uncertifiable agents, from run folders."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np

from agents import get_agent
from envs import get_task
from experiments import _conditions, _pooling, baselines, train
from tests.experiments.test_regularized_agents import small


def test_table_of_a_stock_a_regularised_and_an_uncertifiable_agent(tmp_path, monkeypatch, capsys):
    short = dataclasses.replace(get_task("pendulum"), env_kwargs={"max_episode_steps": 12})
    monkeypatch.setattr(_pooling, "get_task", lambda _: short)
    folders = []
    for name in ("ppo", "ppo-caps", "ppo-lipsnet"):
        recipe = dataclasses.replace(small(get_agent(name)), name=name)
        monkeypatch.setattr(train, "get_agent", lambda _, recipe=recipe: recipe)
        output = tmp_path / name
        train.train(train.Args(agent=name, timesteps=64, output=output, track="disabled", progress=False))
        folders.append(str(output))
    capsys.readouterr()
    csv = tmp_path / "means.csv"
    monkeypatch.setattr(sys, "argv", ["baselines", *folders, "--episodes", "1", "--output", str(csv)])
    assert not baselines.main()
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    cells = [[cell.strip() for cell in line.replace(r"\|", "").split("|")[1:-1]] for line in table]
    rows = {first: others for first, *others in cells}
    assert list(rows) == ["agent", "---", "ppo", "ppo + EMA", "ppo-caps", "ppo-lipsnet"]
    titles = rows["agent"]
    assert len({len(row) for row in rows.values()}) == 1
    bound, attack = titles.index("certified K, raw units"), titles.index("worst attack ε=0.2")
    assert float(rows["ppo-caps"][bound]) > 0
    assert rows["ppo-lipsnet"][bound] == "none"
    assert rows["ppo-lipsnet"][attack] == "–"
    assert csv.read_text().startswith("agent,seed,timesteps,episodes,disturbance,strength,return")
    clean, mad = titles.index("clean"), titles.index("MAD ε=0.1")
    assert all(
        np.isfinite(float(rows["ppo"][cell].split()[0].replace("−", "-"))) for cell in (clean, mad, attack)
    )
    monkeypatch.setattr(_conditions, "evaluate", None)  # what was measured is not measured again
    monkeypatch.setattr(sys, "argv", ["baselines", *folders, "--episodes", "1"])
    assert not baselines.main()
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")] == table
