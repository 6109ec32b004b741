"""AutoLipschitz: K goes down while the return is kept, up while it is not, and never below the floor."""

from __future__ import annotations

import math
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
from stable_baselines3 import PPO

import lipsrl
from lipsrl.policies import AutoLipschitz
from tests.policies.zoo import build

STEPS = 64 * 100


class Earned(AutoLipschitz):
    """A world whose return is a known function of K (and of how long was learned)."""

    def __init__(self, world, **options):
        super().__init__(**options)
        self.world, self.bounds = world, []

    def _update(self):
        options = self.model.policy.options
        self.bounds.append(options.lipschitz_bound)
        earned = self.world(options.lipschitz_bound, self._progress())
        self.model.ep_info_buffer = deque([{"r": earned, "l": 1}] * 20)
        super()._update()


def needs(least):
    """100 once it has learned, which takes a fifth of the training; less where K is below ``least``."""
    return lambda bound, progress: 100.0 * min(1.0, 5 * progress) - 40.0 * max(0.0, math.log2(least / bound))


@pytest.fixture
def train(monkeypatch):
    """`learn` without learning: rollouts and clocks only, 100 of them."""

    def run(callback, algorithm="PPO", bound=64.0, **options):
        model = build(algorithm, lipschitz_bound=bound, **options)
        network = model.policy.lipschitz_network
        monkeypatch.setattr(network, "lipschitz_bound", lambda: network.bound)  # weights that use all of K
        if algorithm == "PPO":

            def collect(env, callback, buffer, n_rollout_steps):
                callback.on_rollout_start()
                model.num_timesteps += 64
                callback.on_rollout_end()
                return True

            monkeypatch.setattr(model, "collect_rollouts", collect)
            monkeypatch.setattr(model, "train", lambda: None)
        return model.learn(STEPS, callback=callback)

    return run


@pytest.mark.parametrize("least", [10.0, 16.0])
def test_finds_the_smallest_k_that_keeps_the_return(train, least):
    callback = Earned(needs(least))
    model = train(callback)
    found = callback.found
    # a return 5 % below is allowed: an eighth of a halving
    assert least / 1.3 <= found.bound <= least * 1.3
    assert found.low <= found.bound <= found.high
    assert found.target == pytest.approx(95.0, abs=0.5)
    assert not found.at_floor
    assert model.policy.options.lipschitz_bound == found.bound
    assert callback.bounds[:45] == [64.0] * 45  # nothing moves while it learns
    assert str(found).startswith("K = ")


def test_a_target_of_ones_own_needs_no_part_without_a_search(train):
    callback = Earned(needs(8.0), target_return=60.0)  # a halving below 8 costs 40
    train(callback)
    assert 4.0 / 1.4 <= callback.found.bound <= 4.0 * 1.4
    assert callback.found.target == 60.0


def test_too_small_a_start_goes_up(train):
    callback = Earned(needs(32.0), target_return=95.0)
    train(callback, bound=4.0)
    assert callback.found.bound > 20.0


def test_the_floor_holds_and_says_so(train):
    callback = Earned(needs(1.0), floor=6.0)
    with pytest.warns(UserWarning, match="went below the floor 6 and was held there"):
        train(callback, bound=32.0)
    assert min(callback.bounds) == 6.0
    assert callback.found.bound == pytest.approx(6.0, rel=0.2)
    assert callback.found.at_floor


def test_a_floor_that_moves_is_asked_for_whenever_k_moves(train):
    """As in units of VecNormalize, whose statistics are not known before."""
    asked = []

    def floor(model):
        asked.append(4.0 + 4.0 * model.num_timesteps / STEPS)
        return asked[-1]

    callback = Earned(needs(1.0), floor=floor)
    with pytest.warns(UserWarning, match="went below the floor .* and was held there"):
        train(callback, bound=32.0)
    found = callback.found
    assert found.at_floor
    assert found.floor == asked[-1] > 7.5
    assert found.bound >= found.floor
    assert all(bound >= 4.0 + 4.0 * (at - 1) / 100 for at, bound in enumerate(callback.bounds[50:], 50))
    assert len(asked) > 20


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_floor_that_is_none_is_refused_at_the_start_and_not_after_hours(train, value):
    with pytest.raises(ValueError, match="floor must be a finite number >= 0"):
        train(Earned(needs(1.0), floor=lambda model: value), bound=32.0)
    callback = Earned(needs(8.0), floor=lambda model: 2.0 if model.num_timesteps < STEPS * 0.7 else value)
    with pytest.warns(UserWarning, match="which is no K; the search keeps the floor before, 2"):
        train(callback, bound=32.0)
    assert callback.found.floor == 2.0


def test_an_agent_that_is_put_back_is_held_above_the_floor_of_then(train, monkeypatch):
    with pytest.raises(ValueError, match="is below floor=4"):
        train(Earned(needs(1.0), floor=lambda model: 4.0), bound=3.0)
    callback = Earned(needs(1.0), floor=lambda model: 2.0 + 6.0 * model.num_timesteps / STEPS)
    with pytest.warns(UserWarning, match="was held there"):
        model = train(callback, bound=3.0)  # which the floor overtakes before the search
    assert callback.found.bound >= callback.found.floor == 8.0
    monkeypatch.setattr(callback, "_good", (3.0, SimpleNamespace(restore=lambda model: None)))
    callback._put_back()
    assert model.policy.options.lipschitz_bound == 8.0


def test_a_training_that_learns_nothing_is_told(train):
    callback = Earned(lambda bound, progress: -5.0)
    with pytest.warns(UserWarning, match="nothing that could be kept"):
        model = train(callback)
    assert callback.found is None
    assert model.policy.options.lipschitz_bound == 64.0
    silent = AutoLipschitz()
    with pytest.warns(UserWarning, match="fewer than 10 episodes ended in 80%"):
        train(silent)
    assert silent.found is None


@pytest.mark.filterwarnings("ignore:the search for K went below")
def test_a_real_training_keeps_the_bound_and_its_zip_knows_it(tmp_path):
    model = PPO(
        "LipschitzMlpPolicy", "CartPole-v1", policy_kwargs={"lipschitz_bound": 9.0, "net_arch": [8]}, seed=0,
        device="cpu", n_steps=64, batch_size=64, n_epochs=1,
    )  # fmt: skip
    callback = AutoLipschitz(target_return=0.0, floor=1.0)  # always kept: K goes down
    model.learn(1280, callback=callback)
    bound = model.policy.options.lipschitz_bound
    assert 1.0 <= bound < 3.0
    assert callback.found.bound == bound
    assert lipsrl.certify(model).network.upper_bound <= bound * (1 + 1e-6)
    model.save(tmp_path / "model.zip")
    loaded = PPO.load(tmp_path / "model.zip", env=model.env)
    assert loaded.policy.options.lipschitz_bound == bound
    again = AutoLipschitz(target_return=0.0, floor=1.0)  # what was found stays found
    loaded.learn(64, callback=again, reset_num_timesteps=False)
    assert again.found == callback.found


def test_off_policy_targets_move_too():
    model = build("SAC", lipschitz_bound=9.0)
    model.learn(16)
    callback = Earned(lambda bound, progress: 1.0, target_return=0.0)
    model.learn(32, callback=callback)
    bound = model.policy.options.lipschitz_bound
    assert bound < 9.0
    networks = [model.policy.lipschitz_network, *model.policy.lipschitz_targets()]
    assert all(network.bound == bound for network in networks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_return": math.nan}, "target_return must be a finite number"),
        ({"tolerance": 0.0}, "tolerance is a share"),
        ({"explore": 0.9}, "explore must be in"),
        ({"floor": -1.0}, "floor must be a finite number >= 0"),
        ({"floor": None}, "floor must be a number >= 0"),
        ({"target_return": "abc"}, "target_return must be a finite number"),
        ({"target_return": True}, "target_return must be a finite number"),
        ({"tolerance": "a"}, "tolerance is a share"),
        ({"n_eval_episodes": 0}, "n_eval_episodes"),
        ({"explore": "0.5"}, "explore must be in"),
        ({"target_return": 1.0, "explore": 0.3}, "expected explore or target_return"),
    ],
)
def test_wrong_use(options, message):
    with pytest.raises(ValueError, match=message):
        AutoLipschitz(**options)


def test_it_needs_a_constrained_policy_above_the_floor():
    with pytest.raises(ValueError, match="AutoLipschitz needs a Lipschitz policy"):
        build("PPO", policy="MlpPolicy", lipschitz_bound=None).learn(8, callback=AutoLipschitz())
    with pytest.raises(ValueError, match="is below floor=6"):
        build("PPO", lipschitz_bound=5.0).learn(8, callback=AutoLipschitz(floor=6.0))


def test_what_it_moves_is_what_a_schedule_moves():
    model = build("TD3", lipschitz_bound=8.0)
    model._setup_learn(8)
    callback = AutoLipschitz()
    callback.init_callback(model)
    callback._move(2.0)
    networks = [model.policy.lipschitz_network, *model.policy.lipschitz_targets()]
    assert [network.bound for network in networks] == [2.0, 2.0]
    assert np.isclose(model.policy_kwargs["lipschitz_bound"], 2.0)


def test_a_floor_that_rounding_would_undercut_holds(train):
    for floor in (10.0, 13.56, 19.0):
        callback = Earned(lambda bound, progress: 1.0, target_return=0.0, floor=floor)
        with pytest.warns(UserWarning, match="went below the floor"):
            model = train(callback)
        assert model.policy.options.lipschitz_bound == callback.found.bound
        assert floor <= callback.found.bound <= floor * (1 + 1e-12)


def test_a_search_that_was_interrupted_goes_on(monkeypatch):
    def learn(*lengths, **options):
        model = build("PPO", lipschitz_bound=64.0)

        def collect(env, callback, buffer, n_rollout_steps):
            callback.on_rollout_start()
            model.num_timesteps += 64
            callback.on_rollout_end()
            return model.num_timesteps < lengths[i]

        monkeypatch.setattr(model, "collect_rollouts", collect)
        monkeypatch.setattr(model, "train", lambda: None)
        for i in range(len(lengths)):
            callback = Earned(needs(8.0), **options)
            model.learn(STEPS - model.num_timesteps, callback=callback, reset_num_timesteps=i == 0)
        return model, callback

    straight, whole = learn(STEPS)
    stopped, resumed = learn(round(0.7 * STEPS), STEPS)
    assert resumed.found.target == whole.found.target
    assert resumed.found.bound == pytest.approx(whole.found.bound, rel=1e-9)
    assert stopped.policy.options.lipschitz_bound == straight.policy.options.lipschitz_bound
    cut, early = learn(round(0.7 * STEPS))
    assert early.found.bound == cut.policy.options.lipschitz_bound, "whoever stops there has a K"


def test_another_target_is_another_search(train):
    callback = Earned(needs(8.0), target_return=60.0)
    model = train(callback)
    other = Earned(needs(8.0), target_return=20.0)
    model.learn(STEPS, callback=other, reset_num_timesteps=False)
    assert other.found.target == 20.0


def test_more_training_is_another_chance(train):
    with pytest.warns(UserWarning, match="nothing that could be kept"):
        model = train(Earned(lambda bound, progress: -5.0))
    later = Earned(lambda bound, progress: 100.0 * progress)
    model.learn(STEPS, callback=later, reset_num_timesteps=False)
    assert later.found is not None


def test_a_target_out_of_reach_does_not_end_the_training(train):
    model = train(Earned(lambda bound, progress: 0.0, target_return=1.0), bound=1e12)
    assert model.policy.options.lipschitz_bound <= 1e15


def test_too_few_rollouts_are_told():
    model = build("PPO", lipschitz_bound=20.0)
    with pytest.warns(UserWarning, match="before the search began"):
        model.learn(8, callback=AutoLipschitz())
    assert model.policy.options.lipschitz_bound == 20.0
