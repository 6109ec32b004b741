"""The worst of several attacks, model by model, over whole episodes."""

from __future__ import annotations

import gymnasium as gym
import pandas as pd
import pytest

from lipsrl.attacks import (
    CriticAttack,
    MADAttack,
    MinimumOverAttacks,
    RandomAttack,
    minimum_rows,
    robust_sarsa_scan,
    worst_attacks,
)
from lipsrl.evaluation import Evaluation, evaluate


def short():
    return gym.make("Pendulum-v1", max_episode_steps=20)


@pytest.fixture(scope="module")
def attacks():
    return MinimumOverAttacks([RandomAttack(None, 1.0), MADAttack(None, 1.0), CriticAttack(None, 1.0)])


@pytest.fixture(scope="module")
def evaluation(models, attacks):
    agents = {("a", 0): models["ppo"], ("a", 1): models["ppo-gsde"], "b": models["lipschitz-ppo"]}
    return evaluate(agents, short, disturbances=attacks, strengths=(0, 0.1, 0.5), n_episodes=3)


def test_it_says_which_attack_is_worst_for_whom(evaluation, attacks):
    worst = attacks.worst(evaluation.frame)
    assert list(worst.columns) == ["agent", "seed", "strength", "attack", "return", "n_episodes"]
    assert len(worst) == 3 * 2
    for row in worst.itertuples(index=False):
        rows = evaluation.frame[
            (evaluation.frame["agent"] == row.agent)
            & (evaluation.frame["seed"] == row.seed)
            & (evaluation.frame["strength"] == row.strength)
        ]
        means = rows.groupby("disturbance")["return"].mean()
        assert row.attack == means.idxmin()
        assert row[4] == pytest.approx(means.min(), abs=1e-12)
        assert row.n_episodes == 3


def test_the_minimum_is_one_more_disturbance(evaluation):
    rows = minimum_rows(evaluation.frame)
    table = Evaluation(pd.concat([evaluation.frame, rows]), evaluation.metadata)
    summary = table.summary(["return"]).set_index(["agent", "disturbance", "strength"])["return"]
    for strength in (0.1, 0.5):
        lowest = min(summary["b", name, strength] for name in ("random", "mad", "critic"))
        assert summary["b", "minimum", strength] == pytest.approx(lowest, abs=1e-12)
        # of several seeds each has its own worst attack
        assert summary["a", "minimum", strength] <= min(
            summary["a", name, strength] for name in ("random", "mad", "critic")
        )


def test_models_without_a_training_seed(evaluation):
    frame = evaluation.frame[evaluation.frame["agent"] == "b"].copy()
    frame["seed"] = pd.array([pd.NA] * len(frame), dtype="Int64")
    assert len(worst_attacks(frame)) == 2
    assert len(minimum_rows(frame)) == 2 * 3


def test_an_attack_that_breaks_the_episode_is_the_worst(evaluation):
    frame = evaluation.frame[evaluation.frame["agent"] == "b"].reset_index(drop=True)
    broken = frame[(frame["disturbance"] == "random") & (frame["strength"] == 0.1)].index[1]
    frame.loc[broken, "return"] = float("nan")
    worst = worst_attacks(frame).set_index("strength")
    assert worst.loc[0.1, "attack"] == "random"
    assert pd.isna(worst.loc[0.1, "return"])
    assert worst.loc[0.5, "attack"] == worst_attacks(evaluation.frame).query("agent == 'b'").iloc[1]["attack"]


def test_a_part_of_the_attacks(evaluation):
    assert set(worst_attacks(evaluation.frame, ["random"])["attack"]) == {"random"}
    with pytest.raises(ValueError, match=r"attack='madd' is not known. Did you mean 'mad'\?"):
        worst_attacks(evaluation.frame, ["madd"])
    with pytest.raises(ValueError, match="name='mad' is a disturbance of the table already"):
        minimum_rows(evaluation.frame, name="mad")


def test_members_join_and_have_names():
    scan = robust_sarsa_scan(None, 1.0, env="Pendulum-v1", train_epsilons=[0.1, 0.3], weights=[1])
    joined = MinimumOverAttacks([RandomAttack(None, 1.0), scan])
    assert list(joined) == ["random", "robust-sarsa(0.1, 1)", "robust-sarsa(0.3, 1)"]
    assert joined["robust-sarsa(0.3, 1)"].train_epsilon == 0.3
    assert list(MinimumOverAttacks({"here": MADAttack(None, 1.0), "there": MADAttack(None, 2.0)})) == [
        "here",
        "there",
    ]


def test_bad_members():
    with pytest.raises(ValueError, match=r"a name of its own, received \['mad', 'mad'\]"):
        MinimumOverAttacks([MADAttack(None, 1.0), MADAttack(None, 2.0)])
    with pytest.raises(ValueError, match="at least one"):
        MinimumOverAttacks([])
    with pytest.raises(TypeError, match="attacks must be lipsrl attacks, received 3"):
        MinimumOverAttacks([3])
