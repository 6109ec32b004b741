"""What cannot keep a promise is refused, and nothing is half changed."""

from __future__ import annotations

import copy

import pytest
import torch

from lipsrl.layers import project_after_step
from lipsrl.layers.spectral import Spectral
from tests.policies.zoo import build

LAYERS = ("spectral", "sandwich", "orthogonal")


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("which", ["layers.0.bias", "head.bias"])
def test_a_bias_that_is_not_finite_is_neither_loaded_nor_saved(layer, which, tmp_path):
    model = build("DQN", layer=layer)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    wrong = copy.deepcopy(before)
    key = next(key for key in wrong if key.endswith(which))
    wrong[key][0] = float("nan")
    with pytest.raises(ValueError, match=f"{which} of shape .* holds NaN"):
        model.policy.load_state_dict(wrong)
    assert all(torch.equal(value, before[key]) for key, value in model.policy.state_dict().items())
    with torch.no_grad():
        dict(model.policy.lipschitz_network.named_parameters())[which][0] = float("inf")
    with pytest.raises(ValueError, match=f"{which} of shape .* holds NaN"):
        model.save(tmp_path / "model.zip")


@pytest.mark.parametrize("layer", LAYERS)
def test_another_k_is_for_all_networks_or_none(layer):
    model = build("DQN", layer=layer, lipschitz_bound=3.0)
    (target,) = model.policy.lipschitz_targets()
    with torch.no_grad():
        next(iter(target.head.parameters())).fill_(float("nan"))
    with pytest.raises(ValueError, match="holds NaN"):
        model.policy.set_lipschitz_bound(100.0)
    assert [n.bound for n in (model.policy.lipschitz_network, target)] == [3.0, 3.0]
    assert model.policy.options.lipschitz_bound == 3.0
    with pytest.raises(ValueError, match="must lie between"):
        model.policy.set_lipschitz_bound(1e300)
    assert model.policy.lipschitz_network.bound == 3.0


def stepped(size):
    layer = Spectral(16, 16, bound=1.0)
    optimizer = project_after_step(torch.optim.SGD([layer.weight], lr=1.0), torch.nn.Sequential(layer))
    layer.weight.grad = torch.randn(16, 16).clamp(-1, 1) * size
    optimizer.step()
    layer.project()
    return layer


@pytest.mark.parametrize("size", [1e20, 3e38])
def test_a_step_of_any_size_is_projected(size):
    """The cheap update between two steps squares numbers that float32 cannot square."""
    assert stepped(size).lipschitz_bound() <= 1.0


@pytest.mark.parametrize("size", [float("inf"), float("nan")])
def test_a_step_that_is_not_finite_is_refused(size):
    with pytest.raises(ValueError, match="holds NaN or infinite values"):
        stepped(size)


@pytest.mark.parametrize("observation", ["vector", "image", "dict with image"])
def test_half_precision_is_refused_before_anything_is_converted(observation):
    model = build("PPO", observation=observation)
    before = model.predict(model.observation_space.sample(), deterministic=True)[0]
    with pytest.raises(ValueError, match="float32 and float64 only"):
        model.policy.to(torch.bfloat16)
    assert {p.dtype for p in model.policy.lipschitz_network.parameters()} == {torch.float32}
    assert {p.dtype for p in model.policy.features_extractor.parameters()} <= {torch.float32}
    assert before.shape == model.predict(model.observation_space.sample())[0].shape
