"""One contract for every Lipschitz policy: algorithm × layer, through SB3's own doors."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import CombinedExtractor
from stable_baselines3.common.vec_env import VecNormalize

import lipsrl
from lipsrl.layers import LAYERS
from lipsrl.layers._plain import Residual
from tests.families import FAMILIES, open_gains

K = 3.0
OPTIONS = {
    PPO: {"n_steps": 64, "batch_size": 32, "n_epochs": 3, "learning_rate": 1e-2},
    A2C: {"learning_rate": 1e-2},
    SAC: {"learning_starts": 20, "batch_size": 16, "learning_rate": 1e-2, "buffer_size": 500},
}
ALGORITHMS = sorted(OPTIONS, key=lambda cls: cls.__name__)


class Box2D(gym.Env):
    """Two actions of unequal and shifted range: what a scaling mistake would show on."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._t = 0
        return self._draw(), {}

    def step(self, action):
        self._t += 1
        return self._draw(), -float(np.sum(np.square(action - 1.0))), False, self._t >= 20, {}

    def _draw(self):
        return self.np_random.normal(size=3).astype(np.float32)


def build(algorithm, layer="sandwich", env=None, seed=0, **policy_kwargs):
    norm = LAYERS[layer].norm if layer in LAYERS else "l2"
    kwargs = {"lipschitz_bound": K, "layer": layer, "norm": norm, "net_arch": [16, 16], **policy_kwargs}
    return algorithm(
        "LipschitzMlpPolicy",
        env or Monitor(Box2D()),
        policy_kwargs=kwargs,
        seed=seed,
        device="cpu",
        **OPTIONS[algorithm],
    )


def observations(n=256, dim=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32) * 2


def act(model, obs):
    return model.predict(obs, deterministic=True)[0]


def worst_slope(model, n=4000, seed=0):
    """Steepest pair of predictions over random pairs at many distances, clip and scaling included."""
    rng = np.random.default_rng(seed)
    network = lipsrl.actor_network(model).double()
    obs = rng.normal(size=(n, 3)) * 2
    moved = obs + rng.normal(size=(n, 3)) * np.logspace(-3, 1, n)[:, None]
    with torch.no_grad():
        a, b = (network(torch.as_tensor(o)).numpy() for o in (obs, moved))
    order = 2 if model.policy.lipschitz_network.norm == "l2" else np.inf
    return float((np.linalg.norm(a - b, order, axis=1) / np.linalg.norm(obs - moved, order, axis=1)).max())


class BoundCallback(BaseCallback):
    """Check the promise each time the policy has acted."""

    def __init__(self):
        super().__init__()
        self.checks = 0

    def _on_step(self):
        self.checks += 1
        if self.checks % 16 == 0:
            assert self.model.policy.lipschitz_network.lipschitz_bound() <= K
        return True


#: Every layer with one of the algorithms, and those that are projected in three ways with all of them.
PAIRS = [
    (a, layer)
    for i, a in enumerate(ALGORITHMS)
    for j, layer in enumerate(FAMILIES)
    if i == j % len(ALGORITHMS) or layer in ("orthogonal", "sandwich", "spectral")
]


@pytest.fixture(scope="module", params=PAIRS, ids=lambda p: f"{p[0].__name__}-{p[1]}")
def trained(request):
    """Trained once for the tests below, of which the first goes on with it."""
    algorithm, layer = request.param
    model = build(algorithm, layer)
    callback = BoundCallback()
    model.learn(128, callback=callback)
    assert callback.checks >= 64
    return model


def test_learns_under_its_bound_and_survives_every_door(trained, tmp_path):
    model, obs = trained, observations()
    copied = copy.deepcopy(model.policy)  # right after learn(): SB3's own policies refuse
    actions = act(model, obs)
    assert np.ptp(actions) > 0
    assert worst_slope(model) <= model.policy.lipschitz_network.lipschitz_bound() <= K
    np.testing.assert_array_equal(copied.predict(obs, deterministic=True)[0], actions)

    # save, load: the same bits, and training goes on under the bound
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", env=model.get_env())
    np.testing.assert_array_equal(act(loaded, obs), actions)
    loaded.learn(96, callback=BoundCallback(), reset_num_timesteps=False)
    with torch.no_grad():  # before the clip, which may hold both where they were
        before, after = (lipsrl.actor_network(m)(torch.as_tensor(obs)) for m in (model, loaded))
    assert not torch.equal(before, after)
    assert loaded.policy.lipschitz_network.lipschitz_bound() <= K
    np.testing.assert_array_equal(act(model, obs), actions)

    # policy.save/load, set_env, several environments
    model.policy.save(tmp_path / "policy.pth")
    policy = type(model.policy).load(tmp_path / "policy.pth", device="cpu")
    np.testing.assert_array_equal(policy.predict(obs, deterministic=True)[0], actions)
    model.set_env(Monitor(Box2D()))
    model.learn(64)


def test_plain_network_equals_predict(trained):
    network = lipsrl.actor_network(trained)
    assert all(isinstance(m, Residual) or type(m).__module__.startswith("torch.nn") for m in network)
    obs = observations(1000)
    space = trained.action_space
    with torch.no_grad():
        plain = network(torch.as_tensor(obs)).numpy().clip(space.low, space.high)
    np.testing.assert_allclose(plain, act(trained, obs), rtol=0, atol=2e-6)


def test_trained_copy_of_the_policy_is_projected(trained):
    """deepcopy of an optimizer drops torch's hooks; a copy that trains must still be constrained."""
    twin = copy.deepcopy(trained.policy)
    optimizer = twin.actor.optimizer if isinstance(trained, SAC) else twin.optimizer
    network = twin.lipschitz_network
    assert optimizer.checked_modules[0] is network.layers[0]
    assert optimizer.projected_layers[-1] is network.head
    twin.set_training_mode(True)
    for _ in range(20):
        optimizer.zero_grad()
        (-network(torch.randn(32, 3)).square().mean()).backward()
        optimizer.step()
    twin.set_training_mode(False)
    assert network.lipschitz_bound() <= K


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_several_environments_vec_normalize_and_callbacks(algorithm, tmp_path):
    venv = VecNormalize(make_vec_env(Box2D, n_envs=2, seed=0))
    model = build(algorithm, env=venv)
    callbacks = [
        CheckpointCallback(50, str(tmp_path), save_vecnormalize=True),
        EvalCallback(
            VecNormalize(make_vec_env(Box2D), training=False), n_eval_episodes=1, eval_freq=50, verbose=0
        ),
    ]
    model.learn(128, callback=callbacks)
    assert list(tmp_path.glob("*.zip"))
    model.policy.set_training_mode(False)  # as predict does; learn() ends in training, with cheap updates
    assert model.policy.lipschitz_network.lipschitz_bound() <= K


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_gsde_keeps_the_promise(algorithm):
    kwargs = {"squash_output": True} if algorithm is PPO else {}
    env = Monitor(gym.make("Pendulum-v1"))
    model = algorithm(
        "LipschitzMlpPolicy", env, use_sde=True, seed=0, device="cpu",
        policy_kwargs={"lipschitz_bound": K, "net_arch": [16], **kwargs}, **OPTIONS[algorithm],
    )  # fmt: skip
    model.learn(128)
    assert worst_slope(model) <= K
    copy.deepcopy(model.policy)


def test_tanh_and_rescaling_are_inside_the_promise():
    """SAC actions of range 4 and 10: a bound on the mean alone would be off by the half range."""
    model = build(SAC)
    network = model.policy.lipschitz_network
    with torch.no_grad():
        network.head.weight.copy_(torch.randn_like(network.head.weight))
        model.policy.set_training_mode(False)
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.zero_()
    network.project()
    assert network.lipschitz_bound() > 0.99 * K
    assert 0.3 * K < worst_slope(model, 20_000) <= K


def test_observation_scale_states_the_promise_per_datasheet_unit():
    scale = np.array([0.1, 1.0, 10.0])
    model = build(PPO, observation_scale=scale)
    network = model.policy.lipschitz_network
    open_gains(network)
    with torch.no_grad():
        network.head.weight.copy_(torch.randn_like(network.head.weight))
    model.policy.set_training_mode(False)
    plain = lipsrl.actor_network(model).double()
    rng = np.random.default_rng(0)
    a = rng.normal(size=(5000, 3)) * scale
    b = a + rng.normal(size=(5000, 3)) * scale * np.logspace(-3, 0, 5000)[:, None]
    with torch.no_grad():
        moved = (plain(torch.as_tensor(a)) - plain(torch.as_tensor(b))).norm(dim=1).numpy()
    slope = (moved / np.linalg.norm((a - b) / scale, axis=1)).max()
    assert 0.3 * K < slope <= network.lipschitz_bound() <= K


def test_first_ppo_minibatch_has_ratio_one():
    """Rollouts with stale weights would show here."""
    model = build(PPO)
    model.learn(64)
    model.policy.set_training_mode(False)
    model.rollout_buffer.reset()
    model.collect_rollouts(model.env, _NullCallback(model), model.rollout_buffer, model.n_steps)
    model.policy.set_training_mode(True)
    batch = next(model.rollout_buffer.get(64))
    with torch.no_grad():
        _, log_prob, _ = model.policy.evaluate_actions(batch.observations, batch.actions)
    ratio = torch.exp(log_prob - batch.old_log_prob)
    assert float((ratio - 1).abs().max()) <= 1e-5


class _NullCallback(BaseCallback):
    def __init__(self, model):
        super().__init__()
        self.init_callback(model)

    def _on_step(self):
        return True


def test_predict_materialises_once_per_training_phase():
    model = build(PPO)
    model.predict(observations(1)[0])
    network = model.policy.lipschitz_network
    cached = network._kept
    assert cached is not None
    model.predict(observations(1)[0])
    assert network._kept is cached
    model.policy.set_training_mode(True)
    assert network._kept is None


def test_set_parameters_of_unconstrained_weights_is_projected_and_said():
    model, loose = build(PPO), build(PPO, lipschitz_bound=300.0)
    with torch.no_grad():
        loose.policy.lipschitz_network.head.weight.mul_(1000)
    with pytest.warns(UserWarning, match="projected back") as caught:
        model.set_parameters({"policy": loose.policy.state_dict()}, exact_match=False)
    assert caught[0].filename == __file__, "the user's line, behind SB3's and torch's"
    assert worst_slope(model) <= K


def test_activation_fn_and_dict_net_arch():
    model = build(PPO, activation_fn=torch.nn.Tanh, net_arch={"pi": [8, 12], "vf": [20]})
    assert model.policy.lipschitz_network.activation_name == "tanh"
    assert model.policy.lipschitz_network.hidden == (8, 12)
    assert model.policy.value_net.in_features == 20
    assert build(PPO, net_arch=[]).policy.lipschitz_network.hidden == ()
    assert build(SAC, net_arch={"pi": [8], "qf": [9]}).policy.lipschitz_network.hidden == (8,)


def test_discrete_actions_bound_the_logits():
    model = PPO(
        "LipschitzMlpPolicy",
        "CartPole-v1",
        n_steps=32,
        batch_size=32,
        policy_kwargs={"lipschitz_bound": 2.0},
        device="cpu",
    )
    model.learn(64)
    assert lipsrl.actor_network(model)[-1].out_features == 2


def test_policy_kwargs_of_the_caller_are_left_alone():
    kwargs = {"lipschitz_bound": K, "net_arch": {"pi": [8], "vf": [8]}}
    before = copy.deepcopy(kwargs)
    PPO("LipschitzMlpPolicy", Box2D(), policy_kwargs=kwargs, n_steps=8, batch_size=8)
    assert kwargs == before


def test_zip_loads_where_only_sb3_was_imported(tmp_path):
    model = build(PPO)
    model.learn(64)
    obs = observations(64)
    model.save(tmp_path / "model.zip")
    np.save(tmp_path / "obs.npy", obs)
    code = (
        "import sys, numpy as np, stable_baselines3\n"
        f"model = stable_baselines3.PPO.load(r'{tmp_path / 'model.zip'}', device='cpu')\n"
        f"actions = model.predict(np.load(r'{tmp_path / 'obs.npy'}'), deterministic=True)[0]\n"
        "sys.stdout.buffer.write(actions.tobytes())\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert out == act(model, obs).tobytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lipschitz_bound": None}, "lipschitz_bound is missing"),
        ({"lipschitz_bound": 0}, "lipschitz_bound must be a finite number > 0, received 0"),
        ({"lipschitz_bound": -1.0}, "lipschitz_bound must be a finite number > 0, received -1"),
        ({"lipschitz_bound": float("nan")}, "lipschitz_bound must be a finite number > 0, received nan"),
        ({"lipschitz_bound": "8"}, "lipschitz_bound must be a finite number > 0, received '8' of type str"),
        ({"layer": "sandwhich"}, "layer='sandwhich' is not known. Did you mean 'sandwich'"),
        ({"activation": "tanhh"}, "activation='tanhh' is not known. Did you mean 'tanh'"),
        ({"activation_fn": torch.nn.SELU}, "SELU has slope"),
        ({"activation": "relu", "activation_fn": torch.nn.Tanh}, "contradict"),
        ({"norm": "l1"}, "norm='l1' is not known"),
        ({"net_arch": "64"}, "net_arch must be a list of integers"),
        ({"net_arch": [64, 0]}, "received the width 0"),
        ({"net_arch": {"actor": [3]}}, "received the key 'actor'"),
        ({"observation_scale": [1.0]}, "observation_scale must be one number > 0 or 3 of them, received 1"),
        (
            {"observation_scale": "abc"},
            "observation_scale must be one number > 0 or 3 of them, received 'abc'",
        ),
        ({"critic_lipschitz_bound": -3.0}, "critic_lipschitz_bound must be a finite number > 0, received -3"),
        (
            {"critic_lipschitz_bound": 3.0, "lipschitz_bound": float("inf")},
            "critic_lipschitz_bound=3.0 needs a finite lipschitz_bound",
        ),
    ],
)
def test_bad_input_is_named(arguments, message):
    for algorithm in ALGORITHMS:
        with pytest.raises(ValueError, match=message.replace("(", r"\(")):
            build(algorithm, **arguments)


def test_what_an_algorithm_has_not_is_refused():
    for argument in ("critic_lipschitz_bound", "log_std_lipschitz_bound"):
        with pytest.raises(ValueError, match=rf"{argument}=1\.0 is not supported"):
            DQN("LipschitzMlpPolicy", "CartPole-v1", policy_kwargs={"lipschitz_bound": K, argument: 1.0})
    kwargs = {"lipschitz_bound": K, "log_std_lipschitz_bound": 1.0}
    with pytest.raises(ValueError, match="without gSDE"):
        SAC("LipschitzMlpPolicy", Box2D(), use_sde=True, policy_kwargs=kwargs)


def test_uncovered_extractors_are_refused():
    with pytest.raises(ValueError, match="CombinedExtractor is inside the Lipschitz promise"):
        build(PPO, features_extractor_class=CombinedExtractor)


def test_ortho_init_is_accepted_with_a_word():
    with pytest.warns(UserWarning, match="value network only"):
        build(PPO, ortho_init=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(PPO)


def test_stock_policies_are_untouched():
    model = PPO("MlpPolicy", Box2D(), n_steps=8, batch_size=8)
    buffer = io.BytesIO()
    model.save(buffer)
    assert type(model.policy).__module__ == "stable_baselines3.common.policies"
