"""Ways around the promise that SB3 leaves open: every door through which weights or copies come and go."""

from __future__ import annotations

import copy
import io
import warnings

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

import lipsrl
from lipsrl.layers import Spectral
from lipsrl.networks import LipschitzMLP
from lipsrl.policies import LipschitzNatureCNN
from tests.families import open_gains
from tests.policies.test_matrix import CRITIC_K, Watch, check, jacobian_norm, promised_extractors
from tests.policies.zoo import ALGORITHMS, OBSERVATIONS, Tiny, build, sample

K = 3.0
ONE_NETWORK = ("DQN", "QRDQN")


class Own(BaseFeaturesExtractor):
    """Bare constrained layers: nothing but the policy can project them."""

    bound = 2.0

    def __init__(self, observation_space):
        super().__init__(observation_space, 6)
        self.first = Spectral(3, 6, "relu")
        self.second = Spectral(6, 6, "relu", bound=self.bound)

    def forward(self, observations):
        return self.second(self.first(observations))

    def lipschitz_bound(self):
        return self.first.lipschitz_bound() * self.second.lipschitz_bound()

    def merge(self):
        plain = []
        for layer in (self.first, self.second):
            linear = nn.Linear(layer.in_features, layer.out_features)
            linear.load_state_dict({"weight": layer.weight, "bias": layer.bias})
            plain += [linear, nn.ReLU()]
        return nn.Sequential(*plain)


class Extractors(BaseCallback):
    """Extractors of everything that acts or is a target with a promise, at every step."""

    def __init__(self):
        super().__init__()
        self.checks = 0

    def _on_step(self):
        for extractor in promised_extractors(self.model.policy):
            self.checks += 1
            assert extractor.lipschitz_bound() <= extractor.bound
        return True


EXTRACTOR_CASES = [
    (algorithm, share, critic)
    for algorithm in ALGORITHMS
    if algorithm != "ARS"
    for share in ((None,) if algorithm in ONE_NETWORK else (True, False))
    for critic in ((None,) if algorithm in (*ONE_NETWORK, "CrossQ") else (None, CRITIC_K))
    # every combination of the two where a policy class is the first of its kind
    if algorithm in ("PPO", "SAC", "TD3") or share is None or bool(share) != bool(critic)
]


@pytest.mark.parametrize(("algorithm", "share", "critic"), EXTRACTOR_CASES)
def test_an_own_extractor_of_bare_layers_is_projected_wherever_it_counts(algorithm, share, critic):
    shared = {} if share is None else {"share_features_extractor": share}
    model = build(
        algorithm, features_extractor_class=Own, lipschitz_bound=K, critic_lipschitz_bound=critic, **shared,
        optimizer_class=torch.optim.SGD, arguments={"learning_rate": 0.05},
    )  # fmt: skip
    watch = Extractors()
    model.learn(40, callback=[watch, Watch()])
    assert watch.checks >= 40
    model.predict(sample(model.observation_space))
    for extractor in promised_extractors(model.policy):
        assert extractor.lipschitz_bound() <= extractor.bound
    x = torch.as_tensor(sample(model.observation_space), dtype=torch.float64)
    assert 0 < jacobian_norm(lipsrl.actor_network(model).double(), x, 2) <= K


def test_own_layers_are_projected_when_saved_loaded_and_written_as_a_vector():
    model = build("PPO", features_extractor_class=Own)
    policy = model.policy
    with torch.no_grad():
        policy.features_extractor.second.weight.mul_(100)
    model.save(io.BytesIO())  # in training mode, as in the middle of train()
    assert policy.features_extractor.lipschitz_bound() <= 2.0
    state = copy.deepcopy(policy.state_dict())
    loose = {k: 50 * v if "second.weight" in k else v for k, v in state.items()}
    policy.set_training_mode(False)
    with pytest.warns(UserWarning, match="projected back") as caught:
        policy.load_state_dict(loose)
    assert caught[0].filename == __file__
    assert policy.features_extractor.lipschitz_bound() <= 2.0
    policy.load_from_vector(100 * policy.parameters_to_vector())
    assert policy.features_extractor.lipschitz_bound() <= 2.0
    check_promise(policy)


def check_promise(policy):
    for module in policy.modules():
        if isinstance(module, (LipschitzMLP, LipschitzNatureCNN)):
            assert module.lipschitz_bound() <= module.bound


@pytest.mark.parametrize(
    ("algorithm", "part"), [("SAC", "actor"), ("TD3", "actor"), ("DQN", "q_net"), ("QRDQN", "quantile_net")]
)
def test_a_part_of_the_policy_that_acts_alone_is_projected_too(algorithm, part):
    model = build(algorithm, features_extractor_class=Own)
    model.policy.set_training_mode(True)
    acting = getattr(model.policy, part)
    with torch.no_grad():
        acting.features_extractor.second.weight.mul_(100)
    acting.predict(sample(model.observation_space))
    assert acting.features_extractor.lipschitz_bound() <= Own.bound


class Lying(Own):
    def lipschitz_bound(self):
        return 7.0


class Learning(Own):
    """Honest about what it measures, but it does not keep its bound."""

    def __init__(self, observation_space):
        super().__init__(observation_space)
        self.first = nn.Linear(3, 6)
        with torch.no_grad():
            self.first.weight.mul_(0.5 / torch.linalg.matrix_norm(self.first.weight, 2))

    def forward(self, observations):
        return self.second(torch.relu(self.first(observations)))

    def lipschitz_bound(self):
        return (
            float(torch.linalg.matrix_norm(self.first.weight.detach().double(), 2))
            * self.second.lipschitz_bound()
        )


def test_an_extractor_that_lies_is_refused_and_one_that_learns_to_is_certified_as_it_is():
    with pytest.raises(ValueError, match=r"Lying states bound=2\.0, but its lipschitz_bound\(\) is 7\.0"):
        build("PPO", features_extractor_class=Lying)
    with pytest.warns(UserWarning, match="ortho_init"):  # which would draw the extractor's own layers anew
        model = build("PPO", features_extractor_class=Learning, ortho_init=False)
    open_gains(model.policy.lipschitz_network)
    with torch.no_grad():
        model.policy.features_extractor.first.weight.mul_(20)
        model.policy.lipschitz_network.head.weight.normal_()
    model.policy.lipschitz_network.project()
    promise = lipsrl.policies.actor_parts(model).constrained
    x = torch.randn(256, 3, dtype=torch.float64)
    slope = jacobian_norm(lipsrl.actor_network(model).double(), x, 2)
    assert K < slope <= promise.lipschitz_bound()


#: Each twice among the algorithms, which differ in who steps and when.
OPTIMIZERS = [
    (torch.optim.AdamW, {"weight_decay": 0.5}),
    (torch.optim.RMSprop, {"momentum": 0.9}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (torch.optim.Adam, {"foreach": True, "amsgrad": True}),
    (torch.optim.Adam, {"fused": True}),
]


@pytest.mark.parametrize(
    ("algorithm", "optimizer", "options"),
    [
        (algorithm, *OPTIMIZERS[(i + shift) % 5])
        for i, algorithm in enumerate(["PPO", "SAC", "TD3", "DQN", "TRPO"])
        for shift in (0, 2)
    ],
)
def test_any_optimizer(algorithm, optimizer, options):
    critic = None if algorithm == "DQN" else CRITIC_K
    model = build(
        algorithm, optimizer_class=optimizer, optimizer_kwargs=options, critic_lipschitz_bound=critic,
        arguments={"learning_rate": 0.1},
    )  # fmt: skip
    model.learn(32, callback=Watch())
    model.predict(sample(model.observation_space))
    check(model.policy)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_copies_vectors_and_other_bounds(algorithm, tmp_path):
    model = build(algorithm, lipschitz_bound=50.0)
    rows = sample(model.observation_space)
    with torch.no_grad():
        model.policy.lipschitz_network.head.weight.normal_().mul_(100)
    model.learn(32)

    # a copy made in the middle of a training phase, and one in eval mode, are written and act
    for mode in (True, False):
        model.policy.set_training_mode(mode)
        twin = copy.deepcopy(model.policy)
        twin.load_from_vector(20 * model.policy.parameters_to_vector())
        check_promise(twin)
        twin.predict(rows)
        check_promise(twin)

    # loaded under another K
    model.save(tmp_path / "model.zip")
    parameters = model.get_parameters()
    tight = build(algorithm, lipschitz_bound=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "projected back", where it was steeper
        tight.set_parameters(
            parameters, exact_match=False
        ) if algorithm != "ARS" else tight.policy.load_state_dict(parameters["policy"])
    tight.predict(rows)
    check_promise(tight.policy)
    assert tight.policy.lipschitz_network.lipschitz_bound() <= 0.5

    # policy.save/load alone, then another vector
    model.policy.save(tmp_path / "policy.pth")
    policy = type(model.policy).load(tmp_path / "policy.pth", device="cpu")
    np.testing.assert_array_equal(
        policy.predict(rows, deterministic=True)[0], model.predict(rows, deterministic=True)[0]
    )
    policy.load_from_vector(20 * policy.parameters_to_vector())
    check_promise(policy)


@pytest.mark.parametrize(
    ("algorithm", "share"), [("SAC", True), ("SAC", False), ("TD3", True), ("TQC", False)]
)
def test_targets_of_constrained_critics_behind_images(algorithm, share):
    model = build(
        algorithm, observation="image", share_features_extractor=share, critic_lipschitz_bound=CRITIC_K,
        arguments={"learning_rate": 0.05},
    )  # fmt: skip
    watch = Extractors()
    model.learn(14, callback=[watch, Watch()])
    assert watch.checks >= 28
    for net in [model.critic_target, *([model.actor_target] if algorithm == "TD3" else [])]:
        assert net.features_extractor.lipschitz_bound() <= 1.0


@pytest.mark.parametrize("algorithm", ["PPO", "SAC", "DQN"])
def test_vec_normalize_and_loading_with_new_environments(algorithm):
    action = ALGORITHMS[algorithm][2][0]
    venv = VecNormalize(DummyVecEnv([lambda: Tiny("vector", action)] * 2))
    model = build(algorithm, env=venv)
    model.learn(48, callback=Watch())
    model.set_env(VecNormalize(DummyVecEnv([lambda: Tiny("vector", action)] * 2)))
    model.learn(16, callback=Watch())
    model.policy.set_training_mode(False)  # learn() ends in training, with cheap updates
    check(model.policy)


class FloatImage(Tiny):
    def __init__(self, scale):
        super().__init__()
        self.observation_space = spaces.Box(0, scale, (1, 36, 36), np.float32)


@pytest.mark.parametrize("algorithm", ["PPO", "TD3"])
def test_images_that_are_floats(algorithm):
    """As in SB3, ``normalize_images=False`` takes images of any dtype; K is then per unit of them."""
    kwargs = {"features_dim": 8}
    model = build(
        algorithm, env=FloatImage(1.0), policy="LipschitzCnnPolicy", normalize_images=False,
        features_extractor_kwargs=kwargs,
    )  # fmt: skip
    assert kwargs == {"features_dim": 8}
    model.learn(16, callback=Watch())
    x = torch.rand(4, 36 * 36, dtype=torch.float64)
    assert 0 < jacobian_norm(lipsrl.actor_network(model).double(), x, 2) <= K


def test_observation_scale_of_a_dict_is_by_key():
    scale = {"a": [0.1, 10.0], "b": 2.0}
    model = build("PPO", observation="dict", observation_scale=scale)
    network = model.policy.lipschitz_network
    with torch.no_grad():
        network.head.weight.normal_()
        for layer in network.layers:
            layer.bias.normal_().mul_(0.1)
    model.policy.set_training_mode(False)
    unit = torch.tensor([0.1, 10.0, 2.0, 2.0, 2.0], dtype=torch.float64)
    plain = lipsrl.actor_network(model).double()
    x = torch.randn(2000, 5, dtype=torch.float64)
    assert 0.3 * K < jacobian_norm(lambda x: plain(x * unit), x, 2) <= K
    with pytest.raises(ValueError, match=r"observation_scale has the keys \['c'\]"):
        build("PPO", observation="dict", observation_scale={"c": 1.0})
    with pytest.raises(ValueError, match=r"must be one number > 0 or a dict of scales by key, received list"):
        build("PPO", observation="dict", observation_scale=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"observation_scale\['a'\] must be one number > 0 or 2 of them"):
        build("PPO", observation="dict", observation_scale={"a": [1.0, 2.0, 3.0]})
    with pytest.raises(
        ValueError, match=r"must be one number > 0 or None for what goes through LipschitzNatureCNN"
    ):
        build("PPO", observation="dict with image", observation_scale={"camera": np.ones(36 * 36)})


def test_images_promise_per_grey_level():
    """Gradient search through the whole pipeline, SB3's division by 255 and a scale of the image included."""
    for scale in (None, 10.0):
        model = build("SAC", observation="image", lipschitz_bound=0.5, observation_scale=scale)
        network = model.policy.lipschitz_network
        open_gains(network)
        with torch.no_grad():
            network.head.weight.normal_()
        network.project()
        plain = lipsrl.actor_network(model).double()
        space = OBSERVATIONS["image"]
        rows = sample(space, 8)
        done = model.predict(rows, deterministic=True)[0]
        with torch.no_grad():
            ours = plain(torch.as_tensor(rows.reshape(8, -1), dtype=torch.float64)).numpy()
        np.testing.assert_allclose(ours, done, atol=1e-4)
        unit = 1.0 if scale is None else scale
        x = torch.rand(8, 36 * 36, dtype=torch.float64).mul_(255).requires_grad_(True)
        optimizer, best = torch.optim.Adam([x], lr=5.0), 0.0
        for _ in range(25):
            y = plain(x)
            rows_of_jacobian = [
                torch.autograd.grad(y[:, i].sum(), x, create_graph=True)[0] for i in range(y.shape[1])
            ]
            slope = torch.linalg.matrix_norm(torch.stack(rows_of_jacobian, 1), 2) * unit
            best = max(best, float(slope.detach().max()))
            optimizer.zero_grad()
            (-slope.sum()).backward()
            optimizer.step()
        assert 0.001 * 0.5 < best <= 0.5


def test_ars_keeps_squash_output_and_refuses_what_it_cannot_do(tmp_path):
    model = build("ARS", squash_output=False)
    model.policy.save(tmp_path / "policy.pth")
    loaded = type(model.policy).load(tmp_path / "policy.pth", device="cpu")
    rows = sample(model.observation_space)
    np.testing.assert_array_equal(loaded.predict(rows)[0], model.policy.predict(rows)[0])
    linear = build("ARS", policy="LipschitzLinearPolicy", net_arch=None)
    linear.policy.save(tmp_path / "linear.pth")
    type(linear.policy).load(tmp_path / "linear.pth", device="cpu")
    with pytest.raises(ValueError, match="with_bias=False is not supported"):
        build("ARS", with_bias=False)


@pytest.mark.parametrize("algorithm", [SAC, TD3])
def test_a_free_critic_has_its_own_free_extractor(algorithm):
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=False)
    options = {"lipschitz_bound": 1.0, "features_extractor_kwargs": {"features_dim": 8, "activation": "tanh"}}
    alone = algorithm(
        "LipschitzCnnPolicy", env, buffer_size=10, policy_kwargs={**options, "net_arch": [8]}
    ).policy
    assert type(alone.actor.features_extractor) is LipschitzNatureCNN
    assert type(alone.critic.features_extractor) is type(alone.critic_target.features_extractor) is NatureCNN
    shared = {**options, "net_arch": [8], "share_features_extractor": True}
    together = algorithm("LipschitzCnnPolicy", env, buffer_size=10, policy_kwargs=shared).policy
    assert together.critic.features_extractor is together.actor.features_extractor
