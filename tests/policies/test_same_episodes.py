"""AutoLipschitz(eval_env=…): paired evaluations that leave the training as it is; agents that fall are put back."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from lipsrl.policies import AutoLipschitz
from lipsrl.policies._same_episodes import SEED, SameEpisodes, Snapshot


def pendulum(n_envs=1):
    return make_vec_env("Pendulum-v1", n_envs=n_envs, seed=7)


def model_in(venv, bound=8.0):
    return PPO(
        "LipschitzMlpPolicy", venv, policy_kwargs={"lipschitz_bound": bound, "net_arch": [8]}, seed=0, device="cpu",
        n_steps=64, batch_size=64, n_epochs=1,
    )  # fmt: skip


def test_the_same_starts_every_time_and_the_statistics_of_the_training():
    venv = VecNormalize(pendulum())
    model = model_in(venv)
    episodes = SameEpisodes(model, pendulum(4), 4)
    model.learn(512)
    venv.training = False
    beside = VecNormalize(pendulum(4), training=False, norm_reward=False)
    beside.obs_rms = venv.obs_rms
    beside.seed(SEED)
    expected = evaluate_policy(model, beside, n_eval_episodes=4)[0]
    assert episodes.mean_return(model) == pytest.approx(expected)
    counted = venv.obs_rms.count
    assert episodes.mean_return(model) == pytest.approx(expected)
    assert venv.obs_rms.count == counted, "evaluations are no training data"


def test_an_environment_that_is_normalised_already_is_given_the_statistics_of_the_training():
    venv = VecNormalize(pendulum())
    model = model_in(venv)
    own = VecNormalize(pendulum(2))
    episodes = SameEpisodes(model, own, 2)
    before = episodes.mean_return(model)
    model.learn(256)
    assert episodes.mean_return(model) != before
    assert own.obs_rms.mean == pytest.approx(venv.obs_rms.mean)
    assert not own.training
    assert not own.norm_reward


class Until(BaseCallback):
    """Stops a training."""

    def _on_step(self):
        return self.num_timesteps < 384


def test_a_training_with_evaluations_is_the_training_without():
    """Up to where the search begins: at seven rollouts of ten."""
    plain = model_in(VecNormalize(pendulum()))  # seeds torch's generator
    plain.learn(640, callback=Until())
    search = AutoLipschitz(explore=0.7, eval_env=pendulum(2), n_eval_episodes=2)
    evaluated = model_in(VecNormalize(pendulum()))
    evaluated.learn(640, callback=[search, Until()])
    assert "first" in search._state
    for one, other in zip(plain.policy.parameters(), evaluated.policy.parameters(), strict=True):
        assert torch.equal(one, other)


class Measured(AutoLipschitz):
    """In place of episodes: ``world(model, K, how many times it was asked)``."""

    def __init__(self, world, **options):
        super().__init__(eval_env=pendulum(), **options)
        self.world, self.asked = world, []

    def _return(self):
        self.asked.append(self._bound())
        return self.world(self.model, self._bound(), len(self.asked))


@pytest.fixture
def searched(monkeypatch):
    """A training of 200 rollouts without learning, in which weights drift."""

    def run(callback, bound=32.0):
        model = model_in(pendulum(), bound=bound)
        network = model.policy.lipschitz_network
        monkeypatch.setattr(network, "lipschitz_bound", lambda: network.bound)

        def collect(env, callback, buffer, n_rollout_steps):
            callback.on_rollout_start()
            model.num_timesteps += 64
            callback.on_rollout_end()
            return True

        def train():
            with torch.no_grad():
                model.policy.value_net.bias.add_(1.0)

        monkeypatch.setattr(model, "collect_rollouts", collect)
        monkeypatch.setattr(model, "train", train)
        return model.learn(64 * 200, callback=callback)

    return run


def test_an_agent_that_falls_is_put_back_and_goes_on_more_slowly(searched):
    def cliff(model, bound, times):
        """Whoever was below 20 falls, and would not get up by K alone."""
        if bound < 20.0:
            with torch.no_grad():
                model.policy.value_net.bias.fill_(-1e6)
        fallen = float(model.policy.value_net.bias.detach()) < -1e5
        return -500.0 if fallen else 0.0 if times == 1 else 100.0

    callback = Measured(cliff)
    model = searched(callback)
    assert callback._state["falls"] >= 1
    assert float(model.policy.value_net.bias.detach()) > 0.0, "the weights are those that kept the return"
    assert callback.found.bound >= 20.0
    assert callback.found.bound <= 32.0


def test_an_agent_that_falls_in_the_end_is_put_back_too(searched):
    def late(model, bound, times):
        with torch.no_grad():
            if model.num_timesteps >= 64 * 199:
                model.policy.value_net.bias.fill_(-1e6)
        return -500.0 if float(model.policy.value_net.bias.detach()) < 0 else 0.0 if times == 1 else 100.0

    model = searched(callback := Measured(late))
    assert float(model.policy.value_net.bias.detach()) > 0.0
    assert callback.found.bound == model.policy.options.lipschitz_bound


def uneven(noise, least=16.0):
    """100 once it has learned, with a standard deviation of ``noise``; 10 less for a halving of K below ``least``."""

    def world(model, bound, times):
        if times == 1:
            return 0.0
        return 100.0 - 10.0 * max(0.0, np.log2(least / bound)) + noise * np.random.default_rng(times).normal()

    return world


def test_the_return_that_may_be_given_up_is_the_noise_of_learning(searched):
    for noise in (0.1, 0.4):
        searched(callback := Measured(uneven(noise)))
        assert callback._state["tolerance"] == pytest.approx(2 * noise / 100.0, rel=0.3)  # of 15 evaluations
        assert 16.0 / 1.25 <= callback.found.bound <= 16.0 * 1.25


def test_even_returns_give_up_a_little_and_wild_ones_not_all(searched):
    searched(even := Measured(uneven(0.0)))
    assert even._state["tolerance"] == 0.001
    searched(wild := Measured(uneven(30.0)))
    assert wild._state["tolerance"] == 0.01


def test_the_return_at_first_is_no_noise(searched):
    searched(callback := Measured(uneven(0.25), explore=0.1))
    assert callback._state["tolerance"] == pytest.approx(0.005, rel=0.3)


def test_an_agent_that_is_worse_just_when_the_search_begins_is_none_to_go_back_to(searched):
    """A dip of four evaluations that learning itself mends."""

    def dip(model, bound, times):
        learned = float(model.policy.value_net.bias.detach())  # one per rollout
        return 0.0 if times == 1 else 50.0 if 97 < learned <= 106 else 100.0

    model = searched(callback := Measured(dip))
    assert float(model.policy.value_net.bias.detach()) > 195, "and not that of the hundredth rollout"
    assert callback._state["falls"] == 0
    assert callback.found.bound < 16.0


def test_an_agent_that_stays_below_the_target_gets_no_k_that_it_does_not_need(searched):
    """It loses 3 % at K = 20, and more K would not bring them back."""

    def slip(model, bound, times):
        if bound < 20.0:
            with torch.no_grad():
                model.policy.value_net.bias.fill_(-1e6)
        slipped = float(model.policy.value_net.bias.detach()) < -1e5
        return 0.0 if times == 1 else 97.0 if slipped else 100.0

    model = searched(callback := Measured(slip))
    assert float(model.policy.value_net.bias.detach()) > 0.0
    assert 20.0 <= callback.found.bound <= 32.0


def test_returns_that_are_not_finite_end_no_training(searched):
    for bad in (np.nan, -np.inf, np.inf):

        def world(model, bound, times, bad=bad):
            if times in (1, 20, 40):
                return bad
            return 0.0 if times == 2 else uneven(0.0)(model, bound, times)

        with pytest.warns(UserWarning, match="takes no notice of it"):
            searched(callback := Measured(world, explore=0.5))
        assert 16.0 / 1.1 <= callback.found.bound <= 16.0 * 1.15


def test_a_single_lucky_or_unlucky_evaluation_decides_nothing(searched):
    """At the hundredth rollout: below the return at first; the search begins all the same."""

    def world(model, bound, times):
        learned = float(model.policy.value_net.bias.detach())
        return 0.0 if times == 1 else -1.0 if learned == 99 else 100.0

    searched(callback := Measured(world))
    assert callback.found is not None
    assert callback.found.bound < 16.0


def test_another_tolerance_later_is_another_search_from_the_same_first_return(searched):
    model = searched(first := Measured(uneven(0.0)))
    other = Measured(uneven(0.0), tolerance=0.02)
    other.asked = [0.0]  # not the first time
    model.learn(64 * 200, callback=other, reset_num_timesteps=False)
    assert other._state["first"] == first._state["first"] == 0.0
    assert other.found.target == pytest.approx(98.0)


def test_a_search_that_an_earlier_version_began_goes_on(searched):
    """It wrote its tolerance of 0.01 where nothing stands now, and no evaluations."""
    model = searched(first := Measured(uneven(0.0)))
    model.lipschitz_auto["asked"][1] = 0.01
    for key in ("newest", "tolerance"):
        model.lipschitz_auto.pop(key)
    later = Measured(uneven(0.0))
    model.learn(64 * 20, callback=later, reset_num_timesteps=False)
    assert later.found.bound == first.found.bound


def test_a_tolerance_of_ones_own_is_taken(searched):
    searched(callback := Measured(uneven(0.0), tolerance=0.03))
    assert "tolerance" not in callback._state
    assert callback.found.target == pytest.approx(97.0)


def test_a_snapshot_is_weights_optimizer_and_statistics():
    venv = VecNormalize(pendulum())
    model = model_in(venv)
    model.learn(64)
    episodes, snapshot = SameEpisodes(model, pendulum(2), 2), Snapshot(model)
    before, moments = (
        episodes.mean_return(model),
        model.policy.optimizer.state_dict()["state"][0]["step"].clone(),
    )
    for _ in range(2):  # a snapshot serves again
        model.learn(640, reset_num_timesteps=False)
        assert episodes.mean_return(model) != before
        snapshot.restore(model)
        assert episodes.mean_return(model) == before
        assert model.policy.optimizer.state_dict()["state"][0]["step"] == moments


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda venv: "Pendulum-v1", TypeError, "received str"),
        (lambda venv: venv, ValueError, "is the training's environment"),
        (lambda venv: venv.envs[0], ValueError, "is the training's environment"),
        (lambda venv: make_vec_env("CartPole-v1"), ValueError, "with the training's observation_space"),
        (lambda venv: VecFrameStack(pendulum(), 2), ValueError, "with the training's observation_space"),
    ],
)
def test_wrong_environments(make, error, said):
    venv = pendulum()
    with pytest.raises(error, match=said):
        model_in(venv).learn(64, callback=AutoLipschitz(eval_env=make(venv)))


def test_statistics_of_other_observations_are_refused():
    model = model_in(VecNormalize(pendulum()))
    with pytest.raises(ValueError, match="with the training's observation_space"):
        SameEpisodes(model, make_vec_env("CartPole-v1"), 2)


def test_an_environment_alone_will_do():
    model = model_in(pendulum())
    episodes = SameEpisodes(model, gym.make("Pendulum-v1"), 2)
    assert episodes.mean_return(model) == episodes.mean_return(model)
    assert np.isfinite(episodes.mean_return(model))
