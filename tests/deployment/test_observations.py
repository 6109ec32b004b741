"""Observations of every space: flattened as SB3 does, on NumPy and in ONNX."""

import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, preprocess_obs
from torch import nn

from lipsrl.deployment import NumpyPolicy
from lipsrl.deployment._describe import describe_network, describe_observation
from lipsrl.deployment._observations import flattener, shape_of, width_of
from lipsrl.deployment._onnx import write_onnx
from lipsrl.layers._plain import Parallel, Scale

FLAT = {
    "discrete": spaces.Discrete(5),
    "multi_discrete": spaces.MultiDiscrete([2, 3, 4]),
    "multi_binary": spaces.MultiBinary(6),
    "matrix": spaces.Box(-1.0, 1.0, (2, 3), np.float64),
    "dict": spaces.Dict(
        {
            "speed": spaces.Box(-3.0, 3.0, (2,), np.float32),
            "gear": spaces.Discrete(4),
            "lights": spaces.MultiBinary(3),
            "mode": spaces.MultiDiscrete([2, 2]),
        }
    ),
}
MIXED = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (2, 12, 14), np.uint8),
        "gear": spaces.Discrete(4),
        "mean": spaces.Box(-1, 1, (3,)),
    }
)


def samples(space, n=50):
    space.seed(0)
    rows = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([row[key] for row in rows]) for key in space}
    return np.stack(rows)


def row_of(batch, i):
    return {key: value[i] for key, value in batch.items()} if isinstance(batch, dict) else batch[i]


def as_sb3_flattens(space, batch):
    entries = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    values = batch if isinstance(space, spaces.Dict) else {"": batch}
    tensors = [
        preprocess_obs(torch.as_tensor(values[key]), entry, normalize_images=False).flatten(1)
        for key, entry in entries.items()
    ]
    return torch.cat(tensors, dim=1)


def policy_of(space, network, outputs):
    layers, tensors = describe_network(network)
    description = {
        "observation": describe_observation(space, None)[0],
        "layers": layers,
        "action": {"kind": "box", "shape": [outputs], "dtype": "float32", "squash": False, "rescale": False},
        "algorithm": "PPO",
        "certificate": {"upper_bound": 1.0},
        "versions": {"lipsrl": "0"},
    }
    limits = {f"action.{key}": np.full(outputs, sign * np.inf) for key, sign in (("low", -1), ("high", 1))}
    return NumpyPolicy(description, tensors | limits)


def onnx_actions(policy, batch, path):
    write_onnx(path, policy.description, policy._tensors)
    inputs = (
        {f"observation.{k}": v for k, v in batch.items()}
        if isinstance(batch, dict)
        else {"observation": batch}
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {value.name for value in session.get_inputs()} == set(inputs)
    return session.run(None, inputs)[0]


@pytest.mark.parametrize("name", FLAT)
def test_flattened_as_sb3_does(name):
    space, batch = FLAT[name], samples(FLAT[name])
    described, _ = describe_observation(space, None)
    flatten, expected = flattener(described), as_sb3_flattens(space, batch).numpy()
    together, single = flatten(batch)
    assert not single
    assert width_of(described) == expected.shape[1]
    np.testing.assert_array_equal(together.astype(np.float32), expected)  # SB3 takes float32
    for i in range(5):
        alone, single = flatten(row_of(batch, i))
        assert single
        np.testing.assert_array_equal(alone.astype(np.float32), expected[i])


@pytest.mark.parametrize("name", FLAT)
def test_policies_of_every_space(name, tmp_path):
    torch.manual_seed(0)
    space, batch = FLAT[name], samples(FLAT[name])
    width = (
        sum(map(get_flattened_obs_dim, space.values())) if name == "dict" else get_flattened_obs_dim(space)
    )
    network = nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, 2))
    with torch.no_grad():
        expected = network(as_sb3_flattens(space, batch).float()).numpy()
    policy = policy_of(space, network, 2)
    np.testing.assert_allclose(policy(batch), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(policy(row_of(batch, 3)), expected[3], rtol=0, atol=1e-6)
    np.testing.assert_allclose(onnx_actions(policy, batch, tmp_path / "p.onnx"), expected, rtol=0, atol=1e-6)


def mixed_network():
    torch.manual_seed(0)
    camera = nn.Sequential(
        nn.Unflatten(1, (2, 12, 14)), Scale(1 / 255), nn.Conv2d(2, 3, 5, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(60, 7), nn.ReLU(),
    )  # fmt: skip
    front = Parallel([camera, nn.Sequential(), nn.Sequential(Scale(0.5))], [2 * 12 * 14, 4, 3])
    return nn.Sequential(front, nn.Linear(14, 8), nn.Tanh(), nn.Linear(8, 2))


def test_a_dict_with_an_image_goes_through_branches(tmp_path):
    batch, network = samples(MIXED), mixed_network()
    with torch.no_grad():
        expected = network(as_sb3_flattens(MIXED, batch).float()).numpy()
    assert np.ptp(expected, axis=0).min() > 0.05
    policy = policy_of(MIXED, network, 2)
    assert policy.observation_shape == {"camera": (2, 12, 14), "gear": (), "mean": (3,)}
    np.testing.assert_allclose(policy(batch), expected, rtol=0, atol=1e-6)
    channels_last = {**batch, "camera": np.moveaxis(batch["camera"], 1, -1)}
    np.testing.assert_allclose(policy(channels_last), expected, rtol=0, atol=1e-6)
    for i in range(3):
        np.testing.assert_allclose(policy(row_of(batch, i)), expected[i], rtol=0, atol=1e-6)
    np.testing.assert_allclose(onnx_actions(policy, batch, tmp_path / "p.onnx"), expected, rtol=0, atol=1e-6)


def test_branches_that_do_nothing_are_left_out():
    layers, tensors = describe_network([Parallel([nn.Sequential(), nn.Sequential()], [2, 3])])
    assert (layers, tensors) == ([], {})


@pytest.mark.parametrize(
    ("sizes", "words"),
    [([336, 4, 2], "cannot be cut into pieces"), ([336, 7, 0], "cannot be cut"), ([336, 7], "zip")],
)
def test_branches_that_do_not_fit_are_refused(sizes, words):
    policy = policy_of(MIXED, mixed_network(), 2)
    front, *others = policy.description["layers"]
    with pytest.raises(ValueError, match=words):
        NumpyPolicy({**policy.description, "layers": [{**front, "sizes": sizes}, *others]}, policy._tensors)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("discrete", 5, r"integers from 0 to below \[5\], received 5"),
        ("discrete", -1, "integers from 0"),
        ("discrete", 1.5, "integers from 0"),
        ("discrete", [[1, 2]], r"shape \(\) or \(n,\), received \(1, 2\)"),
        ("multi_discrete", [0, 3, 0], r"integers from 0 to below \[2, 3, 4\]"),
        ("multi_binary", [0, 1], r"shape \(6,\) or \(n, 6\), received \(2,\)"),
        ("dict", np.zeros(2), r"a dict with the keys \['gear', .*received ndarray"),
        ("dict", {"gear": 1}, r"received \['gear'\]"),
        ("dict", {"speed": np.zeros((2, 2)), "gear": 1, "lights": [0, 1, 1], "mode": [0, 1]}, "or a batch throughout"),
        ("dict", {"speed": np.zeros(2), "gear": 9, "lights": [0, 1, 1], "mode": [0, 1]}, r"observation\['gear'\] must"),
    ],
)  # fmt: skip
def test_bad_observations_are_named(name, given, words):
    flatten = flattener(describe_observation(FLAT[name], None)[0])
    with pytest.raises(ValueError, match=words):
        flatten(given)


def test_a_space_without_a_flat_form_is_refused():
    with pytest.raises(ValueError, match=r"Text.* cannot be exported\. Supported: Box"):
        describe_observation(spaces.Text(5), None)


def test_shapes_are_those_of_the_space():
    assert shape_of(describe_observation(FLAT["discrete"], None)[0]) == ()
    assert shape_of(describe_observation(FLAT["matrix"], None)[0]) == (2, 3)
