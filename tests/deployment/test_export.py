"""What is exported acts as the model does, under the certificate that travels with it."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

import lipsrl
from lipsrl.certificates import Certificate
from lipsrl.deployment._activations import ACTIVATIONS
from lipsrl.deployment._describe import describe_network
from lipsrl.layers import ACTIVATIONS as BY_NAME
from lipsrl.layers import max_slope
from lipsrl.layers._plain import Residual
from lipsrl.layers.activations import make_activation

N = 2000
CONTINUOUS = [
    "ppo", "ppo-relu", "ppo-lipschitz", "ppo-gsde", "a2c-lipschitz-scaled", "sac", "sac-gsde", "sac-lipschitz", "td3",
    "ppo-residual", "ppo-householder",
]  # fmt: skip


def raw_observations(model, n=N):
    """(n, dim) float32: the whole space, or from typical to far beyond the clip of the normalisation."""
    rng = np.random.default_rng(0)
    statistics, space = model.get_vec_normalize_env(), model.observation_space
    if statistics is None:
        return rng.uniform(space.low.clip(-8), space.high.clip(max=8), (n, *space.shape)).astype(np.float32)
    spread = rng.choice([0.3, 1.0, 3.0, 12.0], (n, 1)) * rng.standard_normal((n, *space.shape))
    return (statistics.obs_rms.mean + spread * np.sqrt(statistics.obs_rms.var)).astype(np.float32)


def predict(model, raw):
    statistics = model.get_vec_normalize_env()
    return model.predict(raw if statistics is None else statistics.normalize_obs(raw), deterministic=True)[0]


@pytest.mark.parametrize("name", CONTINUOUS)
def test_acts_as_predict_does(exported, name):
    model, policy = exported(name)
    raw = raw_observations(model)
    expected = predict(model, raw)
    scale = (model.action_space.high - model.action_space.low) / 2
    together, alone = policy(raw), np.stack([policy(observation) for observation in raw])
    assert together.dtype == alone.dtype == expected.dtype
    assert together.shape == alone.shape == expected.shape
    assert np.ptp(expected) > 0.02  # the model does something
    np.testing.assert_allclose(together / scale, expected / scale, rtol=0, atol=1e-6)
    np.testing.assert_allclose(alone / scale, expected / scale, rtol=0, atol=1e-6)
    assert (together >= model.action_space.low).all()
    assert (together <= model.action_space.high).all()


def test_discrete_actions_are_those_of_predict(exported):
    model, policy = exported("dqn")
    raw = raw_observations(model)
    expected = predict(model, raw)
    together, alone = policy(raw), np.stack([policy(observation) for observation in raw])
    assert together.dtype == alone.dtype == expected.dtype
    assert set(expected) == {0, 1}
    with torch.no_grad():
        values = np.sort(model.q_net(torch.as_tensor(raw)).numpy(), axis=1)
    clear = values[:, -1] - values[:, -2] > 1e-5  # nearer ones may round either way
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(together[clear], expected[clear])
    np.testing.assert_array_equal(alone[clear], expected[clear])


@pytest.mark.parametrize(
    "action_space", [spaces.MultiDiscrete([2, 3, 4]), spaces.MultiBinary(3), spaces.Discrete(5)]
)
def test_other_discrete_spaces(action_space, spaces_env, tmp_path):
    env = spaces_env(spaces.Box(-1.0, 1.0, (4,), np.float64), action_space)
    model = PPO(
        "MlpPolicy", env, seed=0, device="cpu", n_steps=8, batch_size=8, policy_kwargs={"net_arch": [8]}
    )
    policy = lipsrl.load_policy(lipsrl.export(model, tmp_path / "p.safetensors"))
    raw = np.random.default_rng(0).standard_normal((500, 4))
    expected = predict(model, raw)
    assert len(np.unique(expected, axis=0)) > 1
    np.testing.assert_array_equal(policy(raw), expected)
    for observation in raw[:20]:
        action, reference = policy(observation), predict(model, observation)
        assert (action.shape, action.dtype) == (reference.shape, reference.dtype)
        np.testing.assert_array_equal(action, reference)


def test_observations_and_actions_that_are_no_vectors(spaces_env, tmp_path):
    high = np.array([[0.4, 3.0]], np.float64)
    env = spaces_env(
        spaces.Box(-2.0, 2.0, (2, 3), np.float32), spaces.Box(-0.1 * high, high, dtype=np.float64)
    )
    model = PPO("MlpPolicy", env, seed=0, device="cpu", n_steps=8, batch_size=8)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(1e3)  # reach the limits
    policy = lipsrl.load_policy(lipsrl.export(model, tmp_path / "p.safetensors"))
    raw = np.random.default_rng(0).standard_normal((50, 2, 3)).astype(np.float32)
    expected = predict(model, raw)
    np.testing.assert_allclose(policy(raw), expected, rtol=0, atol=1e-4)
    assert policy(raw).dtype == expected.dtype == np.float64
    limit = expected == high
    assert limit.any()
    assert (policy(raw)[limit] == expected[limit]).all()  # the limit itself, not its float32 neighbour
    assert policy(raw[0]).shape == expected[0].shape == (1, 2)
    assert policy(raw[:0]).shape == (0, 1, 2)


def test_the_normalisation_of_the_models_environment_is_never_left_out(exported, tmp_path):
    model, policy = exported("ppo")
    statistics = model.get_vec_normalize_env()
    statistics.save(tmp_path / "vecnormalize.pkl")
    for given in (statistics, tmp_path / "vecnormalize.pkl"):
        again = lipsrl.export(model, tmp_path / "again.safetensors", vec_normalize=given)
        raw = raw_observations(model, 100)
        np.testing.assert_array_equal(lipsrl.load_policy(again)(raw), policy(raw))
    assert policy.description["observation"] == {
        "kind": "box",
        "shape": [3],
        "dtype": "float32",
        "image": False,
        "frames": 1,
        "normalised": True,
        "folded": False,
    }
    np.testing.assert_array_equal(policy._tensors["observation.clip"], np.full(3, 10.0))
    assert policy.certificate["factors"][0]["name"] == "vec_normalize"


def test_a_normalisation_of_rewards_only_changes_no_observation(tmp_path):
    venv = VecNormalize(make_vec_env("Pendulum-v1", 1, seed=0), norm_obs=False)
    model = PPO("MlpPolicy", venv, seed=0, device="cpu", n_steps=8, batch_size=8)
    policy = lipsrl.load_policy(lipsrl.export(model, tmp_path / "p.safetensors"))
    raw = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32) * 50
    np.testing.assert_allclose(policy(raw), model.predict(raw, deterministic=True)[0], rtol=0, atol=2e-6)


def test_a_normalisation_without_clip(tmp_path):
    venv = VecNormalize(make_vec_env("Pendulum-v1", 1, seed=0), clip_obs=np.inf)
    model = PPO("MlpPolicy", venv, seed=0, device="cpu", n_steps=8, batch_size=8)
    policy = lipsrl.load_policy(lipsrl.export(model, tmp_path / "p.safetensors"))
    raw = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32) * 50
    np.testing.assert_allclose(policy(raw), predict(model, raw), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["ppo", "sac-lipschitz"])
def test_the_certificate_travels_along(exported, name):
    model, policy = exported(name)
    certificate = lipsrl.certify(model)
    carried = Certificate.from_dict(policy.certificate)
    assert carried.upper_bound == certificate.upper_bound
    assert carried.weights_sha256 == certificate.weights_sha256
    assert carried.promise == (8.0 if "lipschitz" in name else None)


@pytest.mark.parametrize("name", ["ppo-relu", "ppo-lipschitz", "ppo-householder", "sac", "sac-lipschitz"])
def test_no_pair_of_observations_is_steeper_than_certified(exported, name):
    model, policy = exported(name)
    rng = np.random.default_rng(1)
    a = raw_observations(model).astype(np.float64)
    b = a + rng.standard_normal(a.shape) * 10.0 ** rng.uniform(-3, 1, (N, 1))
    distance = np.linalg.norm(b - a, axis=1)
    moved = np.linalg.norm(policy(b).astype(np.float64) - policy(a), axis=1)
    rounding = 1e-5  # the certificate is of real arithmetic
    assert (moved <= policy.certificate["upper_bound"] * distance + rounding).all()
    assert (moved / distance).max() > 0.05 * policy.certificate["upper_bound"]


def test_the_same_model_gives_the_same_bytes(small_model, small_file, tmp_path):
    again = lipsrl.export(small_model, str(tmp_path / "new" / "folder" / "policy.safetensors"))
    assert again == tmp_path / "new" / "folder" / "policy.safetensors"
    assert again.read_bytes() == small_file.read_bytes()


def test_every_activation_that_can_be_certified_can_be_exported():
    names = set(nn.modules.activation.__all__) - {"MultiheadAttention", "Threshold"}  # they need arguments
    modules = [getattr(nn, name)() for name in sorted(names)]
    modules = [module for module in modules if max_slope(module) is not None]
    modules += [
        make_activation(name, 3) for name, cls in BY_NAME.items() if cls.__module__.startswith("lipsrl")
    ]
    assert {type(module).__name__ for module in modules} == {*ACTIVATIONS, "Householder"}
    layers, tensors = describe_network(nn.Sequential(nn.Identity(), nn.Linear(2, 3, bias=False), *modules))
    assert [layer["kind"] for layer in layers] == ["Linear", *(type(module).__name__ for module in modules)]
    assert list(tensors) == ["network.1.weight", f"network.{len(modules) + 1}.angle"]


def test_residual_blocks_are_described_by_their_parts(exported):
    _, policy = exported("ppo-residual")
    first, second, householder, third, last = policy.description["layers"]
    assert first == {
        "kind": "Residual",
        "skip": "network.0.skip.weight",
        "branch": [
            {"kind": "Linear", "weight": "network.0.branch.0.weight", "bias": "network.0.branch.0.bias"},
            {"kind": "ReLU"},
            {"kind": "Linear", "weight": "network.0.branch.2.weight", "bias": None},
        ],
    }
    assert second["branch"][0]["branch"][1] == {"kind": "GroupSort"}
    assert second["branch"][0]["skip"] == "network.2.branch.0.skip.weight"
    assert householder == {"kind": "Householder", "angle": "network.3.angle"}
    assert [layer["kind"] for layer in (third, last)] == ["Residual", "Linear"]
    assert "16 → 5" not in repr(policy)
    assert repr(policy).startswith(
        "NumpyPolicy(PPO, observation (3,), action (1,), 3 → 5 → 5 → 5 → 1, at most "
    )


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Dropout(), r"Dropout in the actor cannot be exported\. Supported: .*ReLU"),
        (nn.Linear(2, 2).double(), "float64, expected float32"),
        (make_activation("householder", 2).double(), "float64, expected float32"),
        (type("MaxMin", (nn.ReLU,), {})(), "MaxMin in the actor cannot be exported"),
    ],
)
def test_what_cannot_be_written_is_named(module, words):
    with pytest.raises(ValueError, match=words):
        describe_network(nn.Sequential(module))


def test_batch_normalisation_in_a_residual_block_is_folded(tmp_path):
    model = PPO(
        "MlpPolicy",
        "Pendulum-v1",
        n_steps=8,
        batch_size=8,
        policy_kwargs={"net_arch": []},
        device="cpu",
        seed=0,
    )
    normalisation = nn.BatchNorm1d(3)
    with torch.no_grad():
        normalisation.running_mean.uniform_(-1, 1)
        normalisation.running_var.uniform_(0.5, 2)
        normalisation.weight.uniform_()
        model.policy.action_net.weight.mul_(50)
    model.policy.mlp_extractor.policy_net.append(Residual([normalisation], torch.eye(3)))
    policy = lipsrl.load_policy(lipsrl.export(model, tmp_path / "p.safetensors"))
    raw = raw_observations(model, 200)
    np.testing.assert_allclose(policy(raw), predict(model, raw), rtol=0, atol=2e-6)
    assert np.ptp(policy(raw)) > 0.1


class Tenfold(Residual):
    def forward(self, x):
        return 10 * super().forward(x)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (Tenfold([nn.Linear(3, 3)], torch.eye(3)), "it contains Tenfold"),
        (Residual([nn.LayerNorm(3)], torch.eye(3)), "it contains LayerNorm"),
        (
            Residual([nn.Linear(3, 3), nn.Dropout()], torch.eye(3)),
            "Dropout in the actor has no known Lipschitz",
        ),
    ],
)
def test_residual_blocks_of_unknown_parts_are_refused(block, words, tmp_path):
    model = PPO(
        "MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, policy_kwargs={"net_arch": []}, device="cpu"
    )
    model.policy.mlp_extractor.policy_net.append(block)
    with pytest.raises(ValueError, match=words):
        lipsrl.export(model, tmp_path / "p.safetensors")


@pytest.mark.parametrize("name", ["policy.pkl", "policy.zip", "policy"])
def test_another_suffix_is_refused(small_model, tmp_path, name):
    with pytest.raises(ValueError, match=r"expected '\.safetensors' or '\.onnx'"):
        lipsrl.export(small_model, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(TypeError, match="Stable-Baselines3 model, received str"):
        lipsrl.export("model.zip", tmp_path / "p.safetensors")


class Squares(FlattenExtractor):
    def forward(self, observations):
        return super().forward(observations) ** 2


def test_an_actor_without_a_plain_form_is_refused(tmp_path):
    model = PPO(
        "MlpPolicy", "Pendulum-v1", device="cpu", n_steps=8, batch_size=8,
        policy_kwargs={"features_extractor_class": Squares},
    )  # fmt: skip
    with pytest.raises(ValueError, match="plain feed-forward network"):
        lipsrl.export(model, tmp_path / "p.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_normalisation_of_another_task_is_refused(small_model, tmp_path):
    other = VecNormalize(make_vec_env("CartPole-v1", 1))
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        lipsrl.export(small_model, tmp_path / "p.safetensors", vec_normalize=other)
    assert not list(tmp_path.iterdir())


def test_a_diverged_model_leaves_the_old_file_alone(spaces_env, tmp_path):
    env = spaces_env(spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Box(-1.0, 1.0, (1,), np.float32))
    model = PPO("MlpPolicy", env, seed=0, device="cpu", n_steps=8, batch_size=8)
    path = lipsrl.export(model, tmp_path / "p.safetensors")
    before = path.read_bytes()
    with torch.no_grad():
        model.policy.action_net.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        lipsrl.export(model, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_alone(small_model, small_file, tmp_path, monkeypatch):
    path = tmp_path / "p.safetensors"
    path.write_bytes(small_file.read_bytes())
    write = type(path).write_bytes

    def half(self, data):
        write(self, data[: len(data) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", half)
    with pytest.raises(OSError, match="No space"):
        lipsrl.export(small_model, path)
    assert path.read_bytes() == small_file.read_bytes()
    assert list(tmp_path.iterdir()) == [path]
