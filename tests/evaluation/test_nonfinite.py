"""Values that are not finite are recorded where they come up, reported, and never averaged away."""

import copy

import numpy as np
import pytest
import torch

from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import Evaluation, evaluate

RECORDED = pytest.mark.filterwarnings("ignore:.*episodes ended at a value that was not finite")


def rest(observations):
    return np.zeros((len(observations), 1))


@pytest.fixture
def broken(countdown):
    """Longer episodes than 20 steps break 7 steps before their end, in the given quantity."""

    def make(what):
        class Broken(countdown):
            def step(self, action):
                results = list(super().step(action))
                if self.total > 20 and self.left == 7:
                    results[what] = results[what] * np.inf
                return tuple(results)

        return Broken

    return make


@RECORDED
@pytest.mark.parametrize(("what", "name"), [(0, "observation"), (1, "reward")])
@pytest.mark.parametrize("n_envs", [3, 64])
def test_an_environment_that_breaks(broken, countdown, what, name, n_envs):
    frame = evaluate(rest, broken(what), n_episodes=20, n_envs=n_envs).frame
    whole = evaluate(rest, countdown, n_episodes=20).frame
    ended = frame["nonfinite"] == name
    assert (frame.loc[~ended, "nonfinite"] == "").all()
    assert ended.tolist() == (whole["length"] > 20).tolist()
    assert frame.loc[ended, "length"].tolist() == (whole.loc[ended, "length"] - 7).tolist()
    assert frame.loc[ended, ["return", "jerk", "action_sensitivity"]].isna().all(axis=None)
    # the others are as if nothing had happened beside them
    assert frame[~ended].equals(whole[~ended])


def test_it_is_said(broken):
    with pytest.warns(RuntimeWarning, match=r"\d+ of 20 episodes ended .* \(\d+ at a reward\)"):
        evaluate(rest, broken(1), n_episodes=20)


def test_the_first_observation(countdown):
    class Dead(countdown):
        def reset(self, *, seed=None, options=None):
            observation, info = super().reset(seed=seed)
            return observation * (np.nan if self.total > 20 else 1), info

    with pytest.warns(RuntimeWarning, match="at a observation|at an observation"):
        frame = evaluate(rest, Dead, n_episodes=20, n_envs=2).frame
    assert set(frame["nonfinite"]) == {"", "observation"}
    assert (frame.loc[frame["nonfinite"] != "", "length"] == 0).all()


@RECORDED
def test_policies_that_break_change_nothing_beside_them(ppo):
    """torch refuses a batch with one nan row; the others must come out as they would have, to the last bit."""
    fragile = copy.deepcopy(ppo.policy)
    predict = fragile._predict

    def breaks(observation, deterministic=False):
        # θ̇ above 5 makes nan
        return predict(torch.where(observation[:, 2:] > 5, torch.nan, 1.0) * observation, deterministic)

    fragile._predict = breaks
    options = {"disturbances": GaussianNoise(1.0), "strengths": (0, 0.1), "n_episodes": 12}
    frame = evaluate({"a": fragile}, "Pendulum-v1", on_nonfinite_action="record", **options).frame
    whole = evaluate({"a": ppo.policy}, "Pendulum-v1", **options).frame
    ended = frame["nonfinite"] == "action"
    assert 2 < ended.sum() < 22
    assert (frame.loc[ended, "length"] < 200).all()
    assert frame[~ended].equals(whole[~ended])


@RECORDED
def test_summaries_do_not_average_it_away(broken, countdown):
    options = {"disturbances": GaussianNoise(1.0), "strengths": (0, 1.0), "n_episodes": 20}
    parts = [evaluate({"a": rest}, countdown, **options), evaluate({"b": rest}, broken(1), **options)]
    both = Evaluation.concat([Evaluation(p.frame, {**p.metadata, "env": "Countdown"}) for p in parts])
    bad = int((both.frame["nonfinite"] != "").sum()) // 2
    summary = both.summary(["return", "saturation"]).set_index(["agent", "strength"])
    assert summary["n_nonfinite"].tolist() == [0, 0, bad, bad]
    assert summary.loc["b", ["return", "saturation_low"]].isna().all(axis=None)
    assert summary.loc["a"].notna().all(axis=None)
    compared = both.compare("a", "b")
    assert compared[["difference", "ratio_low"]].isna().all(axis=None)
    assert compared["n_nonfinite"].tolist() == [bad, bad]
    curves = both.normalized_auc(floor=0.0).set_index("agent")
    assert np.isnan(curves.loc["b", "normalized_auc"])
    assert np.isfinite(curves.loc["a", "normalized_auc"])
    finite = Evaluation(both.frame[both.frame["nonfinite"] == ""], both.metadata)
    assert finite.summary(["return"]).notna().all(axis=None)
    assert finite.compare("a", "b")["n_unpaired"].tolist() == [bad, bad]
