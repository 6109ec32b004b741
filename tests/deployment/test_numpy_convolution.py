"""Images on NumPy: Conv2d, Flatten and Unflatten as torch computes them."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from lipsrl.deployment import NumpyPolicy
from lipsrl.deployment._convolution import conv2d
from lipsrl.deployment._describe import describe_network, describe_observation
from lipsrl.deployment._network import chain, run


@pytest.mark.parametrize("shape", [(1, 7, 7), (3, 9, 12), (2, 4, 20)])
@pytest.mark.parametrize("kernel", [3, (4, 3)])
def test_convolution_is_that_of_torch(shape, kernel):
    for padding in [0, 1, (0, 2)]:
        for stride in [1, 2, (3, 1)]:
            torch.manual_seed(0)
            module = nn.Conv2d(shape[0], 5, kernel, stride, padding)
            weight, bias = (p.detach().numpy() for p in (module.weight, module.bias))
            function, out_shape = conv2d(weight, bias, module.stride, module.padding, shape)
            x = torch.randn(6, *shape)
            with torch.no_grad():
                expected = module(x).numpy()
            assert out_shape == expected.shape[1:]
            for result in (function(x.numpy()), np.stack([function(image) for image in x.numpy()])):
                assert result.dtype == np.float32
                np.testing.assert_allclose(result, expected, rtol=0, atol=2e-6)
            assert function(x.numpy()[:0]).shape == (0, *out_shape)


def nature_cnn(channels=4, size=36):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (channels, size, size)),
        nn.Conv2d(channels, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(),
        nn.Conv2d(64, 64, 3, 1, bias=False, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(64), nn.ReLU(),
        nn.Linear(64, 3),
    )  # fmt: skip


def test_a_nature_cnn():
    network = nature_cnn()
    x = torch.rand(20, 4 * 36 * 36)
    with torch.no_grad():
        expected = network(x).numpy()
    layers, shape = chain(*describe_network(network), (4 * 36 * 36,))
    assert shape == (3,)
    for result in (run(layers, x.numpy()), np.stack([run(layers, row) for row in x.numpy()])):
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
    assert run(layers, x.numpy()[:0]).shape == (0, 3)


def image_policy(shape=(2, 12, 14)):
    network = nn.Sequential(
        nn.Unflatten(1, shape), nn.Conv2d(2, 3, 5, 2), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2)
    )
    with torch.no_grad():
        network(torch.zeros(1, int(np.prod(shape))))
    layers, tensors = describe_network(network)
    description = {
        "observation": describe_observation(spaces.Box(0, 255, shape, np.uint8), None)[0],
        "layers": layers,
        "action": {"kind": "discrete", "shape": [], "dtype": "int64"},
        "algorithm": "PPO",
        "certificate": {"upper_bound": 1.0},
    }  # fmt: skip
    return NumpyPolicy(description, tensors), network


def test_images_channels_first_or_last_as_sb3_takes_them():
    policy, network = image_policy()
    images = np.random.default_rng(0).integers(0, 256, (30, 2, 12, 14), np.uint8)
    with torch.no_grad():
        expected = network(torch.as_tensor(images, dtype=torch.float32).flatten(1)).argmax(1).numpy()
    assert set(expected) == {0, 1}
    for given in (images, np.moveaxis(images, 1, -1)):
        np.testing.assert_array_equal(policy(given), expected)
        np.testing.assert_array_equal([policy(image) for image in given], expected)
    for wrong in (images[:, :1], images[..., :13], np.moveaxis(images, 1, 2), images.reshape(30, -1)):
        with pytest.raises(ValueError, match=r"shape \(2, 12, 14\) or \(n, 2, 12, 14\)"):
            policy(wrong)
    assert repr(policy).startswith("NumpyPolicy(PPO, observation (2, 12, 14), action (), 60 → 2, at most")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Conv2d(2, 2, 3, groups=2), "without groups and dilation"),
        (nn.Conv2d(2, 2, 3, dilation=2), "without groups and dilation"),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "zero padding"),
        (nn.Conv2d(2, 2, 3, padding="same"), "padding in numbers"),
        (nn.Conv2d(2, 2, 3, padding=(0, 3)), "smaller than the kernel"),
        (nn.Unflatten(2, (1, 2)), r"must act on the features, dim=1"),
    ],
)
def test_what_has_no_form_is_named(module, words):
    with pytest.raises(ValueError, match=words):
        describe_network([module])


def test_a_partial_flatten_is_named():
    with pytest.raises(ValueError, match="must flatten all features"):
        describe_network([nn.Unflatten(1, (1, 2, 3)), nn.Flatten(2)])


CONV = {"kind": "Conv2d", "weight": "w", "bias": None, "stride": [1, 1], "padding": [0, 0]}
IMAGE = {"kind": "Unflatten", "shape": [1, 4, 4]}


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([CONV], r"'w' cannot be convolved with features of shape \(16,\)"),
        ([IMAGE, {**CONV, "stride": [0, 1]}], r"stride must be two integers ≥ 1, received \[0, 1\]"),
        ([IMAGE, {**CONV, "padding": [-1, 0]}], "padding must be two integers ≥ 0"),
        ([IMAGE, {**CONV, "padding": [3, 0]}], r"padding \[3, 0\] must be smaller than the kernel"),
        ([IMAGE, {**CONV, "stride": [1]}], "stride must be two integers"),
        ([{**IMAGE, "shape": [2, 4, 2]}, CONV], "does not fit an image"),
        ([{**IMAGE, "shape": [1, 8, 2]}, CONV], "does not fit an image"),
        ([{**IMAGE, "shape": [1, 4, 5]}], r"\(16,\) cannot become \(1, 4, 5\)"),
        ([{**IMAGE, "shape": [-4, -4]}], "cannot become"),
        ([IMAGE, {"kind": "Linear", "weight": "m", "bias": None}], r"'m' has shape \(2, 4\), expected"),
    ],
)
def test_parts_that_do_not_fit_are_refused(layers, words):
    tensors = {"w": np.zeros((2, 1, 3, 3), np.float32), "m": np.zeros((2, 4), np.float32)}
    with pytest.raises(ValueError, match=words):
        chain(layers, tensors, (16,))
