"""The ONNX file under onnxruntime: the same actions, the same certificate, and nothing changed unseen."""

import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from torch import nn

import lipsrl
from lipsrl.certificates import Certificate
from lipsrl.deployment import NumpyPolicy, verify_onnx
from lipsrl.deployment._activations import ACTIVATIONS
from lipsrl.deployment._describe import describe_network, describe_observation
from lipsrl.deployment._onnx import IR_VERSION, OPSET, write_onnx
from lipsrl.deployment._onnx_graph import ACTIVATIONS as ONNX_ACTIVATIONS
from lipsrl.deployment._onnx_graph import MIXING
from lipsrl.layers import ACTIVATIONS as BY_NAME
from lipsrl.layers._plain import Residual, plain_linear
from lipsrl.layers.activations import make_activation
from tests.deployment.conftest import MODELS
from tests.deployment.test_export import CONTINUOUS, predict, raw_observations
from tests.deployment.test_numpy_policy import MODULES

N = 2000


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def act(path, observations):
    (action,) = session(path).run(["action"], {"observation": observations})
    return action


@pytest.fixture(scope="module")
def written(exported, tmp_path_factory):
    """name → the model's ONNX file, from the description that the safetensors file has."""
    folder = tmp_path_factory.mktemp("onnx")

    def get(name):
        path = folder / f"{name}.onnx"
        if not path.exists():
            _, policy = exported(name)
            write_onnx(path, policy.description, policy._tensors)
        return path

    return get


def as_policy(path, network, width, outputs):
    """A file that is a network alone: unbounded actions, no normalisation."""
    layers, tensors = describe_network(network)
    tensors = tensors | {"action.low": np.full(outputs, -np.inf), "action.high": np.full(outputs, np.inf)}
    description = {
        "observation": describe_observation(spaces.Box(-np.inf, np.inf, (width,)), None)[0],
        "layers": layers,
        "action": {"kind": "box", "shape": [outputs], "dtype": "float32", "squash": False, "rescale": False},
        "certificate": {},
        "versions": {"lipsrl": "0"},
    }  # fmt: skip
    write_onnx(path, description, tensors)
    return NumpyPolicy(description, tensors)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_acts_as_predict_does(exported, written, name):
    model, _ = exported(name)
    raw = raw_observations(model, N)
    expected = predict(model, raw)
    action = act(written(name), raw)
    assert (action.shape, action.dtype) == (expected.shape, expected.dtype)
    scale = (model.action_space.high - model.action_space.low) / 2
    np.testing.assert_allclose(action / scale, expected / scale, rtol=0, atol=1e-6)
    assert (action >= model.action_space.low).all()
    assert (action <= model.action_space.high).all()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_batch_is_dynamic(exported, written, name):
    model, policy = exported(name)
    raw = raw_observations(model, 64)
    together = act(written(name), raw)
    alone = np.concatenate([act(written(name), raw[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(alone, together[:8], rtol=0, atol=1e-6)
    assert act(written(name), raw[:0]).shape == (0, *policy.action_shape)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_file_is_valid_onnx_of_a_named_opset(exported, written, name):
    _, policy = exported(name)
    model = onnx.load(written(name))
    onnx.checker.check_model(model, full_check=True)
    assert ([entry.version for entry in model.opset_import], model.ir_version) == ([OPSET], IR_VERSION)
    value_in, value_out = session(written(name)).get_inputs(), session(written(name)).get_outputs()
    assert [(v.name, v.shape, v.type) for v in value_in] == [
        ("observation", ["batch", *policy.observation_shape], "tensor(float)")
    ]
    assert [(v.name, v.shape) for v in value_out] == [("action", ["batch", *policy.action_shape])]


@pytest.mark.parametrize(
    "action_space", [spaces.MultiDiscrete([2, 3, 4]), spaces.MultiBinary(3), spaces.Discrete(5)]
)
def test_discrete_actions(action_space, spaces_env, tmp_path):
    env = spaces_env(spaces.Box(-1.0, 1.0, (4,), np.float64), action_space)
    model = PPO(
        "MlpPolicy", env, seed=0, device="cpu", n_steps=8, batch_size=8, policy_kwargs={"net_arch": [8]}
    )
    path = lipsrl.export(model, tmp_path / "p.onnx")
    raw = np.random.default_rng(0).standard_normal((500, 4))
    expected = predict(model, raw)
    assert len(np.unique(expected, axis=0)) > 1
    action = act(path, raw)
    np.testing.assert_array_equal(action, expected)
    assert action.shape == expected.shape


def test_observations_and_actions_that_are_no_vectors(spaces_env, tmp_path):
    high = np.array([[0.4, 3.0]], np.float64)
    env = spaces_env(
        spaces.Box(-2.0, 2.0, (2, 3), np.float32), spaces.Box(-0.1 * high, high, dtype=np.float64)
    )
    model = PPO("MlpPolicy", env, seed=0, device="cpu", n_steps=8, batch_size=8)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(1e3)  # reach the limits
    path = lipsrl.export(model, tmp_path / "p.onnx")
    raw = np.random.default_rng(0).standard_normal((50, 2, 3)).astype(np.float32)
    expected, action = predict(model, raw), act(path, raw)
    np.testing.assert_allclose(action, expected, rtol=0, atol=1e-4)
    assert action.dtype == expected.dtype == np.float64
    limit = expected == high
    assert limit.any()
    assert (action[limit] == expected[limit]).all()


def test_an_infinite_reading_is_clipped_as_in_training(exported, written):
    model, _ = exported("ppo")
    raw = np.array([[np.inf, 0.0, -np.inf]], np.float32)
    np.testing.assert_allclose(act(written("ppo"), raw), predict(model, raw), rtol=0, atol=1e-6)


def test_every_activation_has_its_onnx_form():
    assert {*ONNX_ACTIVATIONS, *MIXING} == set(ACTIVATIONS)


@pytest.mark.parametrize(("kind", "parameters"), [(k, p) for k, cases in MODULES.items() for p in cases])
def test_activations_are_those_of_torch(kind, parameters, tmp_path):
    module = getattr(nn, kind)(**parameters)
    as_policy(tmp_path / "p.onnx", nn.Sequential(module), 1, 1)
    x = np.concatenate([np.linspace(-30, 30, 6001), [-1e4, -0.0, 1e4]]).astype(np.float32)[:, None]
    np.testing.assert_allclose(
        act(tmp_path / "p.onnx", x), module(torch.as_tensor(x)).numpy(), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_activations_of_the_layers_on_any_width(name, tmp_path):
    for width in [1, 2, 3, 4, 7, 8]:
        torch.manual_seed(0)
        module = make_activation(name, width)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.uniform_(-20, 20)
        as_policy(
            tmp_path / "p.onnx", nn.Sequential(plain_linear(torch.eye(width), None), module), width, width
        )
        x = torch.randn(200, width) * torch.logspace(-3, 2, 200).unsqueeze(1)
        size = (
            x.abs().amax(dim=1, keepdim=True).clamp(min=1.0).numpy()
        )  # numbers of this size cancel in a reflection
        with torch.no_grad():
            expected = module(x).numpy()
        np.testing.assert_allclose(
            act(tmp_path / "p.onnx", x.numpy()) / size, expected / size, rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("padding", [0, 2, (1, 0)])
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions(padding, bias, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Unflatten(1, (2, 9, 8)), nn.Conv2d(2, 5, (4, 3), (2, 1), padding, bias=bias), nn.ReLU(),
        nn.Conv2d(5, 3, 2), nn.Tanh(), nn.Flatten(), nn.LazyLinear(4),
    )  # fmt: skip
    x = torch.randn(20, 144)
    with torch.no_grad():
        expected = network(x).numpy()
    policy = as_policy(tmp_path / "p.onnx", network, 144, 4)
    np.testing.assert_allclose(act(tmp_path / "p.onnx", x.numpy()), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(policy(x.numpy()), expected, rtol=0, atol=1e-6)


def test_residual_blocks_inside_each_other(tmp_path):
    torch.manual_seed(0)
    inner = Residual([nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 5)], torch.randn(5, 5))
    network = nn.Sequential(Residual([nn.Linear(3, 5), inner, nn.Tanh()], torch.randn(5, 3)))
    as_policy(tmp_path / "p.onnx", network, 3, 5)
    x = torch.randn(20, 3)
    with torch.no_grad():
        np.testing.assert_allclose(act(tmp_path / "p.onnx", x.numpy()), network(x).numpy(), rtol=0, atol=2e-6)


def test_the_certificate_travels_along(exported, tmp_path):
    model, policy = exported("ppo-lipschitz")
    path = lipsrl.export(model, tmp_path / "p.onnx")
    described = verify_onnx(path)
    assert Certificate.from_dict(described["certificate"]) == lipsrl.certify(model)
    assert described == policy.description
    metadata = session(path).get_modelmeta().custom_metadata_map
    assert set(metadata) == {"lipsrl.policy", "sha256"}


def test_the_same_model_gives_the_same_bytes(small_model, tmp_path):
    first, second = (
        lipsrl.export(small_model, tmp_path / name).read_bytes() for name in ("a.onnx", "b.onnx")
    )
    assert first == second


def test_the_hash_is_that_of_all_bytes_before_it(small_model, tmp_path):
    """What anyone can check with ``head -c -76 policy.onnx | sha256sum``."""
    import hashlib

    content = lipsrl.export(small_model, tmp_path / "p.onnx").read_bytes()
    assert content[-64:].decode() == hashlib.sha256(content[:-76]).hexdigest()
    assert (
        session(tmp_path / "p.onnx").get_modelmeta().custom_metadata_map["sha256"] == content[-64:].decode()
    )


def test_no_cut_or_flipped_bit_passes_unseen(small_model, tmp_path):
    content = lipsrl.export(small_model, tmp_path / "p.onnx").read_bytes()
    path = tmp_path / "damaged.onnx"
    rng = np.random.default_rng(0)
    for position in [*rng.permutation(len(content))[:300], *range(len(content) - 80, len(content))]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="does not end in its SHA-256"):
            verify_onnx(path)
    for length in [0, 1, 75, 76, 77, *range(100, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="does not end in its SHA-256"):
            verify_onnx(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match="does not end in its SHA-256"):
        verify_onnx(path)
    with pytest.raises(FileNotFoundError, match="is not a file"):
        verify_onnx(tmp_path / "missing.onnx")


def test_load_policy_says_what_reads_onnx(small_model, tmp_path):
    path = lipsrl.export(small_model, tmp_path / "p.onnx")
    with pytest.raises(ValueError, match=r"is an ONNX file: run it with onnxruntime"):
        lipsrl.load_policy(path)


def test_a_missing_onnx_package_is_named(small_model, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "lipsrl.deployment._onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'lipsrl\[onnx\]'"):
        lipsrl.export(small_model, tmp_path / "p.onnx")
    assert not list(tmp_path.iterdir())
