"""The smallest K that costs no return, by training."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from experiments import frontier, train
from experiments.frontier import Args, Trained
from experiments.launchers import Options
from lipsrl.evaluation import Evaluation, evaluate
from tests.experiments import miniature


@pytest.fixture(scope="module")
def like():
    """An evaluation of two strengths to write other returns into."""
    return evaluate(
        {("a", 0): lambda o: np.zeros((len(o), 1))}, "Pendulum-v1", disturbances="gaussian:1",
        strengths=(0.0, 0.2), n_episodes=2, seed=0, max_episode_steps=3,
    )  # fmt: skip


def trained(like, returns):
    """Agents whose mean returns by seed are known: name → strength → one per seed."""
    parts = []
    for agent, levels in returns.items():
        for strength, values in levels.items():
            for seed, value in enumerate(values):
                rows = like.frame[like.frame["strength"] == strength].assign(agent=agent, seed=seed)
                parts.append(rows.assign(**{"return": value}))
    frame = pd.concat(parts).astype({"seed": like.frame["seed"].dtype})
    data = {**like.metadata, "agents": {}}
    return Trained(Evaluation(frame, data), {"K2": 2.0, "K4": 4.0, "K8": 8.0}, "plain")


def test_the_smallest_k_that_costs_nothing(like):
    noise = [0.0, 0.1, -0.1, 0.05]
    found = trained(
        like,
        {
            "plain": {0.0: [10.0 + n for n in noise], 0.2: [5.0 + n for n in noise]},
            "K2": {0.0: [8.0 - n for n in noise], 0.2: [7.0 - n for n in noise]},  # costs when clean
            "K4": {0.0: [10.0 - n for n in noise], 0.2: [4.0 - n for n in noise]},
            "K8": {0.0: [10.5 - n for n in noise], 0.2: [4.0 - n for n in noise]},
        },
    )
    assert found.recommended() == "K4"
    assert found.recommended(0.2) == "K2"
    assert found.difference("K2", 0.0)["difference"] == pytest.approx(-2.1, abs=0.1)


def test_what_a_search_found_stands_beside_and_is_not_recommended(like):
    levels = {0.0: [10.0, 11.0, 9.0], 0.2: [5.0, 6.0, 4.0]}
    known = trained(like, dict.fromkeys(("plain", "K2", "K4", "K8", "Kauto"), levels))
    found = Trained(known.evaluation, known.bounds, "plain", {"Kauto": [1.0, 3.0, 1.5]})
    assert found.recommended() == "K2"
    said = frontier.beside_search(found)
    assert said.startswith(
        "Kauto: K = 1, 3, 1.5, 0.50 to 1.50 times the smallest K without noise; return minus"
    )
    certificates = {name: [proven()] for name in ("plain", "K2", "K4", "K8", "Kauto")}
    rows = frontier.table(found, certificates, [0.0, 0.2]).splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["plain", "2", "4", "8", "auto: 1, 3, 1.5"]


def proven():
    """Of a certificate what the table reads."""
    return SimpleNamespace(network=SimpleNamespace(tightness=0.9))


def test_no_k_may_be_small_enough(like):
    worse = {
        name: {0.0: [value] * 3, 0.2: [value] * 3} for name, value in (("K2", 1.0), ("K4", 2.0), ("K8", 3.0))
    }
    assert trained(like, {"plain": {0.0: [9.0] * 3, 0.2: [9.0] * 3}, **worse}).recommended() is None


def test_trains_evaluates_and_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "get_agent", miniature.small)
    monkeypatch.setattr(train, "floor_of", lambda task: None)
    asked = []

    def sweep(args):
        asked.append(args)
        names = [("ppo", None), *((args.agents[1], bound) for bound in args.lipschitz_bound)]
        return [
            train.train(
                miniature.args(
                    args.output / f"{name}-{bound}", name, timesteps=64, lipschitz_bound=bound,
                    label=name if bound is None else f"{name}-K{bound}",
                )
            ).path
            for name, bound in names
        ]  # fmt: skip

    monkeypatch.setattr(frontier, "sweep", sweep)
    with pytest.warns(UserWarning, match="no K was looked for"):  # too short
        found = frontier.frontier(
            Args(bounds=[2.0, "auto", 8.0], seeds=1, episodes=2, output=tmp_path, extend=True)
        )
    assert asked[0].agents == ["ppo", "ppo-sandwich"]
    assert asked[0].extend
    assert found.bounds == {"ppo-sandwich-K2.0": 2.0, "ppo-sandwich-K8.0": 8.0}
    assert list(found.searched) == ["ppo-sandwich-Kauto"]
    said, note = capsys.readouterr()
    assert "found no K and has the one that it began with" in note
    assert "ppo-sandwich-Kauto: K = " in said
    assert "| plain |" in said
    assert "| 2 |" in said
    assert "Smallest K whose return is not distinguishable from that of ppo without noise: " in said
    stored = Evaluation.load(tmp_path / "frontier.parquet")
    assert set(stored.frame["agent"]) == {"ppo", *found.bounds, *found.searched}


def test_what_is_in_slurms_queue_is_not_evaluated_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(frontier, "sweep", lambda args: [tmp_path / "ppo-pendulum-0"])
    assert frontier.frontier(Args(output=tmp_path, launch=Options("slurm"))) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plain": "ppo-sandwich"}, "expected a plain agent and a Lipschitz one"),
        ({"agent": "ppo"}, "expected a plain agent and a Lipschitz one"),
        ({"bounds": []}, "bounds must be at least one number"),
        ({"bounds": [2.0, 2.0]}, "all different"),
        ({"bounds": ["auto"]}, "bounds must be at least one number"),
        ({"bounds": [-1.0]}, "bounds must be a finite number > 0"),
    ],
)
def test_wrong_use(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        frontier.frontier(Args(output=tmp_path / "runs", **options))
    assert not (tmp_path / "runs").exists()
