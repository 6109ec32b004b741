"""The loaded policy as a caller meets it: shapes, types, errors, SB3's and lipsrl's evaluation, threads."""

import copy
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from torch import nn

import lipsrl
from lipsrl.deployment._activations import ACTIVATIONS, activation
from lipsrl.deployment._describe import describe_network
from lipsrl.deployment._network import chain, run
from lipsrl.disturbances import GaussianNoise
from lipsrl.layers import ACTIVATIONS as BY_NAME
from lipsrl.layers._plain import plain_linear
from lipsrl.layers.activations import make_activation


@pytest.fixture
def small(small_file):
    return lipsrl.load_policy(small_file)


def test_predict_has_the_form_of_sb3(small):
    observation = np.array([0.1, -2.0, 3.0], np.float32)
    action, state = small.predict(observation, state=None, episode_start=np.ones(1, bool), deterministic=True)
    assert state is None
    np.testing.assert_array_equal(action, small(observation))
    with pytest.raises(ValueError, match="deterministic=False"):
        small.predict(observation, deterministic=False)


def test_sb3_evaluates_it_as_the_model(exported):
    model, policy = exported("sac-lipschitz")

    def returns(agent):
        env = Monitor(gym.make("Pendulum-v1"))
        env.reset(seed=7)
        return evaluate_policy(agent, env, n_eval_episodes=2, return_episode_rewards=True)[0]

    np.testing.assert_allclose(returns(policy), returns(model), rtol=1e-3)


def test_lipsrl_evaluates_it_as_the_model(exported):
    model, policy = exported("ppo-lipschitz")
    frame = lipsrl.evaluate(
        {"exported": policy},
        "Pendulum-v1",
        disturbances=GaussianNoise(1.0),
        strengths=(0.0, 0.1),
        n_episodes=2,
        n_envs=2,
    ).frame
    reference = lipsrl.evaluate(
        {"exported": model},
        "Pendulum-v1",
        disturbances=GaussianNoise(1.0),
        strengths=(0.0, 0.1),
        n_episodes=2,
        n_envs=2,
    ).frame
    np.testing.assert_allclose(frame["return"], reference["return"], rtol=1e-3)


@pytest.mark.parametrize("convert", [list, tuple, lambda x: x.astype(np.float64), lambda x: x[::-1][::-1]])
def test_observations_of_any_numeric_form(small, convert):
    observation = np.array([0.5, -2.0, 3.0], np.float32)
    np.testing.assert_array_equal(small(convert(observation)), small(observation))
    np.testing.assert_array_equal(small([1, 2, 3]), small(np.array([1.0, 2.0, 3.0])))


def test_actions_and_observations_are_the_callers_own(small):
    observation = np.full(3, 0.5, np.float32)
    first = small(observation)
    kept = first.copy()
    first[:] = 99.0
    np.testing.assert_array_equal(small(observation), kept)
    small(-observation)
    np.testing.assert_array_equal(observation, np.full(3, 0.5, np.float32))


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (np.zeros(4), r"shape \(3,\) or \(n, 3\), received \(4,\)"),
        (np.zeros((3, 1)), r"received \(3, 1\)\. Reshape it to \(3,\)"),
        (np.zeros((2, 2, 3)), r"received \(2, 2, 3\)"),
        (0.0, r"received \(\)"),
        (np.zeros(0), r"received \(0,\)"),
        (["a", "b", "c"], "array of real numbers, received"),
        ((np.zeros(3), {}), "give the first"),
        (np.zeros(3, complex), "array of real numbers, received array"),
        (np.array([0.0, np.nan, 1.0]), r"observation\[1\] is nan, so there is no action"),
        (np.array([[0.0, 0.0, 1.0], [0.0, np.nan, 1.0]]), r"observation\[1, 1\] is nan"),
    ],
)
def test_bad_observations_are_named(small, observation, words):
    with pytest.raises(ValueError, match=words):
        small(observation)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_numbers_that_overflow_are_named(exported):
    _, policy = exported("td3")
    with pytest.raises(ValueError, match=r"observation\[0\] is inf|observation .* overflows"):
        policy(np.array([np.inf, -np.inf, 0.0]))
    with pytest.raises(ValueError, match="overflows float32"):
        policy(np.array([[1.0, 1.0, 1.0], [1e300, 1.0, 1.0]]))


@pytest.fixture(scope="module")
def plain_policy(tmp_path_factory):
    """Of an activation function, without normalisation."""
    folder = tmp_path_factory.mktemp("plain")

    def make(activation_fn):
        kwargs = {"net_arch": [8], "activation_fn": activation_fn}
        model = PPO(
            "MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, seed=0, device="cpu", policy_kwargs=kwargs
        )
        model.policy.action_net.weight.data.mul_(1e4)  # SB3 begins with hardly an action
        file = lipsrl.export(model, folder / f"{activation_fn.__name__}.safetensors", vec_normalize="none")
        return lipsrl.load_policy(file)

    return {activation_fn: make(activation_fn) for activation_fn in (nn.Tanh, nn.ReLU)}


@pytest.mark.parametrize("activation_fn", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_an_activation_would_hide_is_refused(plain_policy, activation_fn, bad):
    policy, row = plain_policy[activation_fn], np.array([0.0, bad, 1.0])
    for given, place in ((row, "[1]"), (np.array([np.zeros(3), row]), "[1, 1]")):
        for act in (policy, policy.predict, policy.stateless):
            with pytest.raises(
                ValueError, match=re.escape(f"observation{place} is {bad}, so there is no action")
            ):
                act(given)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("shape", [3, (2, 3)])
def test_a_network_that_overflows_is_named(plain_policy, shape):
    with pytest.raises(ValueError, match="overflows float32"):
        plain_policy[nn.ReLU](np.full(shape, 3e38, np.float32))


def test_an_infinite_reading_is_clipped_as_in_training(exported):
    model, policy = exported("ppo")
    raw = np.array([np.inf, 0.0, -np.inf], np.float32)
    expected = model.predict(model.get_vec_normalize_env().normalize_obs(raw), deterministic=True)[0]
    np.testing.assert_allclose(policy(raw), expected, rtol=0, atol=1e-6)


def test_threads_share_a_policy(exported):
    _, policy = exported("ppo")
    observations = np.random.default_rng(0).standard_normal((400, 3)).astype(np.float32)
    alone = [policy(observation) for observation in observations]
    with ThreadPoolExecutor(8) as pool:
        shared = list(pool.map(policy, np.tile(observations, (5, 1))))
    np.testing.assert_array_equal(shared, alone * 5)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))])
def test_copies_act_alike(exported, how):
    _, policy = exported("sac-lipschitz")
    observations = np.random.default_rng(0).standard_normal((10, 3))
    np.testing.assert_array_equal(how(policy)(observations), policy(observations))


def test_it_says_what_it_is(exported):
    _, policy = exported("dqn")
    assert repr(policy).startswith("NumpyPolicy(DQN, observation (4,), action (), 4 → 24 → 16 → 2, at most ")


MODULES = {
    **{kind: [{}] for kind in ACTIVATIONS if hasattr(nn, kind)},
    "LeakyReLU": [{"negative_slope": 0.3}],
    "Hardtanh": [{"min_val": -0.5, "max_val": 2.0}],
    "ELU": [{"alpha": 1.0}, {"alpha": 0.4}],
    "CELU": [{"alpha": 1.0}, {"alpha": 0.4}],
    "Softplus": [{"beta": 1.0, "threshold": 20.0}, {"beta": 2.0, "threshold": 1.0}],
}


@pytest.mark.parametrize(
    ("kind", "parameters"), [(kind, parameters) for kind, cases in MODULES.items() for parameters in cases]
)
def test_activations_are_those_of_torch(kind, parameters):
    x = np.concatenate([np.linspace(-30, 30, 6001), [-1e4, -0.0, 1e4, np.nan]]).astype(np.float32)
    expected = getattr(nn, kind)(**parameters)(torch.as_tensor(x)).numpy()
    result = activation(kind, parameters)(x)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_activations_of_the_layers_on_any_width(name):
    for width in [1, 2, 3, 4, 7, 8, 13]:
        torch.manual_seed(0)
        module = make_activation(name, width)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.uniform_(-20, 20)
        x = (torch.randn(200, width) * torch.logspace(-3, 2, 200).unsqueeze(1)).numpy()
        network = nn.Sequential(plain_linear(torch.eye(width), None), module)
        layers, outputs = chain(*describe_network(network), (width,))
        assert outputs == (width,)
        with torch.no_grad():
            expected = module(torch.as_tensor(x)).numpy()
        size = np.maximum(
            1.0, np.abs(x).max(axis=1, keepdims=True)
        )  # numbers of this size cancel in a reflection
        for result in (run(layers, x), np.stack([run(layers, row) for row in x])):
            assert result.dtype == np.float32
            np.testing.assert_allclose(result / size, expected / size, rtol=0, atol=1e-6)
        assert run(layers, x[:0]).shape == (0, width)
        assert not np.isfinite(run(layers, np.full(width, np.nan, np.float32))).any(), (
            "no action, not a wrong one"
        )


def test_an_unknown_activation_is_named():
    with pytest.raises(ValueError, match="Did you mean 'LeakyReLU'"):
        activation("LeakyRelu", {"negative_slope": 0.1})
