"""Controllers that remember: what SB3's own evaluate_policy makes of them is what evaluate must."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import lipsrl
from lipsrl.attacks import MADAttack
from lipsrl.certificates import visited_observations
from lipsrl.evaluation._seeding import environment_seed


class LowPass:
    """First-order filter behind a linear law; its memory is the state that SB3 hands back."""

    calls = handed_back = starts = 0

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        type(self).calls += 1
        type(self).handed_back += state is not None
        type(self).starts += bool(np.asarray(episode_start).any())
        assert len(observation) == 1
        wanted = -4.0 * observation[:, 1:2] - observation[:, 2:3]
        state = wanted if state is None else 0.9 * state + 0.1 * wanted
        return np.clip(state, -2, 2).astype(np.float32), state


class Integrator:
    """Keeps its memory in itself, and begins anew at the start of an episode."""

    total = 0.0

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        if episode_start is not None and episode_start[0]:
            self.total = 0.0
        self.total += float(observation[0, 1])
        return np.clip([[0.1 * self.total]], -2, 2).astype(np.float32), None


class Player:
    """Plays a trajectory whatever it sees."""

    def __init__(self):
        self.step = 0

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.step += 1
        return np.full((len(observation), 1), np.sin(0.05 * self.step), np.float32), None


class Solver(LowPass):
    """As a compiled one: cannot be copied."""

    def __deepcopy__(self, memo):
        raise TypeError("cannot pickle 'Solver' object")


class Stateless:
    """Answers many rows at once, and says that it remembers nothing."""

    rows = 0

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        type(self).rows = max(type(self).rows, len(observation))
        return -observation[:, 1:2], None


def stock_return(controller, episode=0, seed=0):
    """By SB3, from the state that evaluate gives this episode."""
    env = Monitor(gym.make("Pendulum-v1"))
    env.reset(seed=environment_seed(seed, episode))

    class Once(gym.Wrapper):
        def reset(self, **kwargs):
            return self.env.reset(seed=environment_seed(seed, episode))

    return evaluate_policy(controller, Once(env), n_eval_episodes=1, warn=False)[0]


@pytest.mark.parametrize("kind", [LowPass, Integrator, Player, Solver])
def test_a_memory_acts_as_under_sb3(kind):
    found = lipsrl.evaluate(kind(), "Pendulum-v1", n_episodes=3, strengths=[0], disturbances=["gaussian"])
    returns = found.frame.sort_values("episode")["return"].to_numpy()
    expected = [stock_return(kind(), episode) for episode in range(3)]
    np.testing.assert_allclose(returns, expected, rtol=1e-5)


def test_the_state_comes_back_at_every_step_but_the_first():
    LowPass.calls = LowPass.handed_back = LowPass.starts = 0
    lipsrl.evaluate(LowPass(), "Pendulum-v1", n_episodes=2, strengths=[0], disturbances=["gaussian"])
    tried_out = 3
    assert LowPass.calls == 2 * 200 + tried_out
    assert LowPass.handed_back == 2 * 199 + 2
    assert LowPass.starts == 2 + 1


def test_a_recorded_trajectory_is_as_smooth_as_it_is():
    found = lipsrl.evaluate(Player(), "Pendulum-v1", n_episodes=2, strengths=[0], disturbances=["gaussian"])
    steps = np.abs(np.diff(np.sin(0.05 * np.arange(1, 201)))).mean()
    np.testing.assert_allclose(found.frame["action_fluctuation"], steps, rtol=1e-4)


def test_noise_and_workers_change_nothing_of_it():
    once = lipsrl.evaluate(
        LowPass(), "Pendulum-v1", n_episodes=4, strengths=[0, 0.2], disturbances=["gaussian"]
    )
    more = lipsrl.evaluate(
        LowPass(), "Pendulum-v1", n_episodes=4, strengths=[0, 0.2], disturbances=["gaussian"], n_workers=2
    )
    np.testing.assert_array_equal(
        once.frame.sort_values(["strength", "episode"])["return"],
        more.frame.sort_values(["strength", "episode"])["return"],
    )


def test_who_says_that_it_remembers_nothing_is_asked_for_all_slots_at_once():
    lipsrl.evaluate(Stateless(), "Pendulum-v1", n_episodes=2, strengths=[0], disturbances=["gaussian"])
    assert Stateless.rows > 1


def test_an_attack_refuses_a_controller_with_a_state():
    with pytest.raises((TypeError, ValueError), match=r"controller with a state|differentiable|SB3"):
        lipsrl.evaluate(
            LowPass(), "Pendulum-v1", n_episodes=1, strengths=[0.1], disturbances=[MADAttack(None, 1.0)]
        )


# -- one environment in every slot ---------------------------------------------------------------------------


def test_a_factory_that_hands_out_one_environment_is_refused(ppo):
    env = gym.make("Pendulum-v1")
    with pytest.raises(ValueError, match=r"returned the same .* twice"):  # two slots
        lipsrl.evaluate(ppo, lambda: env, n_episodes=2, strengths=[0], disturbances=["gaussian"])
    with pytest.raises(ValueError, match=r"returned the same .* twice"):
        lipsrl.evaluate(ppo, lambda: env, n_episodes=4, strengths=[0], disturbances=["gaussian"])
    with pytest.raises(ValueError, match=r"returned the same .* twice"):
        lipsrl.distill(ppo, lambda: env, lipschitz_bound=5.0, rounds=1, steps=5)
    with pytest.raises(ValueError, match=r"returned the same .* twice"):
        visited_observations(ppo, lambda: env, None, n_episodes=2)
    wrapped = gym.wrappers.TimeLimit  # a new wrapper around the same simulator is no new environment
    with pytest.raises(ValueError, match=r"returned the same .* twice"):
        lipsrl.evaluate(ppo, lambda: wrapped(env, 50), n_episodes=4, strengths=[0], disturbances=["gaussian"])


def test_a_factory_of_new_ones_gives_whole_episodes(ppo):
    found = lipsrl.evaluate(
        ppo, lambda: gym.make("Pendulum-v1"), n_episodes=4, strengths=[0], disturbances=["gaussian"]
    )
    assert (found.frame["length"] == 200).all()


class Both(LowPass):
    """Called, it remembers across rows, as one robot's controller does; asked by ``predict``, each slot has a state."""

    def __call__(self, observation):
        raise AssertionError("its rows are not one robot's")


def test_what_can_be_called_and_hands_out_states_is_asked_by_predict():
    asked = {"n_episodes": 3, "n_envs": 3, "max_episode_steps": 30}
    found, expected = (
        lipsrl.evaluate({"x": c()}, "Pendulum-v1", **asked).frame["return"] for c in (Both, LowPass)
    )
    np.testing.assert_array_equal(found, expected)


class Keras:
    """Callable, with a ``predict`` of another kind."""

    def __call__(self, observations):
        return -observations[:, 2:]

    def predict(self, x, batch_size=None):
        raise AssertionError("not SB3's")


def test_a_predict_of_another_kind_is_left_alone():
    frame = lipsrl.evaluate(Keras(), "Pendulum-v1", n_episodes=1, max_episode_steps=5).frame
    assert np.isfinite(frame["return"]).all()
