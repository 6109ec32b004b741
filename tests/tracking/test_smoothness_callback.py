"""SmoothnessCallback on all kinds of spaces and algorithms, and that training does not notice it."""

import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

import lipsrl
from lipsrl.disturbances import GaussianNoise
from lipsrl.tracking import SmoothnessCallback
from lipsrl.tracking._live import bounds, read
from lipsrl.tracking.names import name_of


class Rows(KVWriter):
    """What SB3 dumped."""

    def __init__(self):
        self.rows = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append({"step": step, **key_values})

    def close(self):
        pass


def watched(model, steps, **options):
    """The rows with smoothness in them."""
    rows = Rows()
    model.set_logger(Logger(None, [rows]))
    model.learn(steps, callback=SmoothnessCallback(**{"every": 32, **options}))
    found = [row for row in rows.rows if any(key.startswith("smoothness/") for key in row)]
    for row in found:
        assert all(name_of(key) is not None for key in row if key.startswith(("smoothness/", "robustness/")))
    return found


def small(algorithm, policy, env, **kwargs):
    sizes = (
        {"n_steps": 32, "batch_size": 32, "n_epochs": 1}
        if algorithm is PPO
        else {"learning_starts": 16, "buffer_size": 100}
    )
    return algorithm(policy, env, seed=0, device="cpu", **{**sizes, **kwargs})


class Seen(gym.Env):
    """Observations of a space, random; episodes of 10 steps; the reward is not finite where asked for."""

    render_mode = None

    def __init__(self, observation, action, reward=1.0):
        self.observation_space, self.action_space, self.reward = observation, action, reward

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), self.reward, self.steps == 10, False, {}


BOX = spaces.Box(-1, 1, (2,), np.float32)
KINDS = {
    "vector": (BOX, "MlpPolicy"),
    "image": (spaces.Box(0, 255, (36, 36, 1), np.uint8), "CnnPolicy"),
    "dict": (spaces.Dict({"a": BOX, "b": spaces.Discrete(3)}), "MultiInputPolicy"),
    "discrete": (spaces.Discrete(4), "MlpPolicy"),
}
ACTIONS = {
    "box": spaces.Box(-2, 2, (2,), np.float32),
    "discrete": spaces.Discrete(3),
    "multi": spaces.MultiDiscrete([2, 3]),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_observation_and_action(kind, action):
    observation, policy = KINDS[kind]
    model = small(PPO, policy, Seen(observation, ACTIONS[action]))
    row = watched(model, 32)[-1]
    found = {key.removeprefix("smoothness/") for key in row if key.startswith("smoothness/")}
    expected = {"action_fluctuation", "lipschitz_bound", "raw_lipschitz_bound", "layer_norm/0"}
    slopes = {"sensitivity", "max_sensitivity", "tightness"}
    expected |= slopes if kind != "discrete" else set()
    expected |= {"saturation"} if action == "box" else {"action_changes"}
    assert expected <= found
    if kind == "discrete":
        assert not found & (slopes | {"certified_radius"})
    else:
        assert 0 < row["smoothness/sensitivity"] <= row["smoothness/max_sensitivity"]
        assert row["smoothness/max_sensitivity"] <= row["smoothness/lipschitz_bound"]


@pytest.mark.parametrize("policy", ["MlpPolicy", "LipschitzMlpPolicy"])
@pytest.mark.parametrize(("algorithm", "task"), [(SAC, "Pendulum-v1"), (DQN, "CartPole-v1")])
def test_off_policy_records_by_steps(algorithm, task, policy):
    kwargs = {"net_arch": [8], **({"lipschitz_bound": 4.0} if policy.startswith("L") else {})}
    rows = watched(small(algorithm, policy, task, policy_kwargs=kwargs), 100)
    assert rows[-1]["step"] == 100  # what belongs to the last weights is dumped in the end
    if policy.startswith("L"):
        assert rows[-1]["smoothness/lipschitz_bound"] <= rows[-1]["smoothness/promise"] == 4.0
        assert 0 < rows[-1]["smoothness/layer_share/1"] <= 1 + 1e-6


def test_one_method_bounds_stock_and_constrained_agents(tmp_path):
    """Weights of a constrained agent in a stock one: the same number, which the construction bound is not below."""
    kwargs = {"net_arch": [16, 16], "activation_fn": torch.nn.ReLU}
    model = small(PPO, "LipschitzMlpPolicy", "Pendulum-v1", policy_kwargs={"lipschitz_bound": 4.0, **kwargs})
    stock = small(PPO, "MlpPolicy", "Pendulum-v1", policy_kwargs=kwargs)
    linears = [m for m in lipsrl.actor_network(model) if isinstance(m, torch.nn.Linear)]
    own = [m for m in stock.policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        for mine, theirs in zip([*own, stock.policy.action_net], linears, strict=True):
            mine.weight.copy_(theirs.weight)
            mine.bias.copy_(theirs.bias)
    from lipsrl.tracking._live import bounds, read

    constrained, plain = bounds(read(model)), bounds(read(stock))
    promise = model.policy.lipschitz_network.lipschitz_bound()
    assert constrained["lipschitz_bound"] == pytest.approx(min(promise, plain["lipschitz_bound"]), rel=1e-6)


def test_windows_are_measured_as_the_policy_sees_them():
    venv = VecNormalize(VecFrameStack(make_vec_env("Pendulum-v1", n_envs=2, seed=0), 3))
    rows = watched(
        small(PPO, "MlpPolicy", venv), 128, eval_env="Pendulum-v1", disturbance="gaussian:0.1",
        evaluate_every=64, n_episodes=1,
    )  # fmt: skip
    assert rows[-1]["smoothness/tightness"] <= 1
    assert np.isfinite(rows[-1]["robustness/noisy_return"])


def rng_states():
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


@pytest.mark.parametrize("algorithm", [PPO, SAC])
@pytest.mark.parametrize("policy", ["MlpPolicy", "LipschitzMlpPolicy"])
def test_training_does_not_notice(algorithm, policy):
    """Weights, statistics, environment and random numbers after learn() are bit-identical with and without."""

    def run(callback):
        venv = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=0))
        kwargs = {"net_arch": [16], **({"lipschitz_bound": 4.0} if policy.startswith("L") else {})}
        model = small(algorithm, policy, venv, policy_kwargs=kwargs)
        model.learn(256, callback=callback)
        return model, venv, rng_states()

    watch = SmoothnessCallback(
        every=32, eval_env="Pendulum-v1", disturbance=GaussianNoise(0.1), evaluate_every=64, n_episodes=1
    )
    (plain, its_env, its_rng), (seen, env, rng) = run(None), run(watch)
    for name, value in plain.policy.state_dict().items():
        assert torch.equal(value, seen.policy.state_dict()[name]), name
    assert plain.policy.training == seen.policy.training
    np.testing.assert_array_equal(its_env.obs_rms.mean, env.obs_rms.mean)
    assert its_env.obs_rms.count == env.obs_rms.count
    np.testing.assert_array_equal(its_env.step(np.zeros((2, 1)))[0], env.step(np.zeros((2, 1)))[0])
    assert its_rng[0] == rng[0]
    assert torch.equal(its_rng[2], rng[2])
    np.testing.assert_array_equal(its_rng[1][1], rng[1][1])


def test_returns_are_those_of_evaluate():
    model = small(PPO, "LipschitzMlpPolicy", "Pendulum-v1", policy_kwargs={"lipschitz_bound": 4.0})
    rows = watched(
        model, 32, eval_env="Pendulum-v1", disturbance="gaussian:0.2", evaluate_every=32, n_episodes=2, seed=3
    )
    table = lipsrl.evaluate(
        model, "Pendulum-v1", disturbances=GaussianNoise(0.2), strengths=(0, 1), n_episodes=2, seed=3
    )
    means = table.frame.groupby("strength")[["return", "action_fluctuation"]].mean()
    for strength, kind in enumerate(("clean", "noisy")):
        for column in ("return", "action_fluctuation"):
            assert rows[-1][f"robustness/{kind}_{column}"] == pytest.approx(means.loc[strength, column])


def test_returns_that_are_not_finite_are_nan_and_training_goes_on():
    env = Seen(BOX, ACTIONS["box"])
    rows = watched(
        small(PPO, "MlpPolicy", env), 64, eval_env=lambda: Seen(BOX, ACTIONS["box"], reward=float("nan")),
        evaluate_every=32, n_episodes=1,
    )  # fmt: skip
    assert np.isnan(rows[-1]["robustness/clean_return"])
    assert "robustness/noisy_return" not in rows[-1]


def test_weights_that_are_not_finite_end_the_records_not_the_training():
    model = small(DQN, "MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [4]})
    callback = SmoothnessCallback(every=16)
    callback.init_callback(model)
    rows = Rows()
    model.set_logger(Logger(None, [rows]))
    with torch.no_grad():
        model.policy.q_net.q_net[0].weight.fill_(float("nan"))
    for _ in range(3):
        callback._recent.append(np.zeros(4, np.float32))
        callback._ends.append(False)
    with pytest.warns(UserWarning, match="smoothness is not recorded any more"):
        callback._record()
    callback._record()  # says it once: another warning would be an error here


def test_what_does_not_fit_is_refused_before_the_first_step():
    model = small(PPO, "MlpPolicy", "Pendulum-v1")
    with pytest.raises(TypeError, match="A VecEnv is not needed"):
        SmoothnessCallback(eval_env=make_vec_env("Pendulum-v1"))
    with pytest.raises(ValueError, match="eval_env=, which is missing"):
        SmoothnessCallback(disturbance="gaussian:0.1")
    with pytest.raises(ValueError, match="was trained on observations"):
        model.learn(32, callback=SmoothnessCallback(eval_env="CartPole-v1"))
    pictures = small(PPO, "CnnPolicy", Seen(*KINDS["image"][:1], ACTIONS["box"]))
    watch = SmoothnessCallback(eval_env=lambda: Seen(KINDS["image"][0], ACTIONS["box"]), disturbance="bias:1")
    with pytest.raises(ValueError, match="disturbances act on vectors"):
        pictures.learn(32, callback=watch)


@pytest.mark.parametrize("n_envs", [1, 2])
def test_a_gain_that_is_not_counted_is_in_no_raw_bound(n_envs):
    """NormalizeObservation inside two environments has two gains."""
    env = make_vec_env(lambda: gym.wrappers.NormalizeObservation(gym.make("Pendulum-v1")), n_envs, seed=0)
    model = PPO(
        "MlpPolicy", env, n_steps=8, batch_size=8, policy_kwargs={"net_arch": [8]}, device="cpu"
    ).learn(8)
    assert ("raw_lipschitz_bound" in bounds(read(model))) == (n_envs == 1)
