"""What a model is recognised by: all that its actions depend on, and nothing else."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from lipsrl.actors.fingerprint import _plain, model_fingerprint
from tests.actors.test_normalization import Plant


def ppo(**settings):
    return PPO("MlpPolicy", Plant(), policy_kwargs={"net_arch": [4], **settings}, seed=0, device="cpu")


def leaky(slope):
    return functools.partial(nn.LeakyReLU, negative_slope=slope)


def closure(slope):
    return lambda: nn.LeakyReLU(slope)


def default(slope):
    return lambda slope=slope: nn.LeakyReLU(slope)


class Maker:
    def __init__(self, slope):
        self.slope, self.itself = slope, self

    def __call__(self):
        return nn.LeakyReLU(self.slope)

    def make(self):
        return self()


def method(slope):
    return Maker(slope).make


@pytest.mark.parametrize("activation", [leaky, closure, default, Maker, method])
def test_arguments_of_settings_are_seen(activation):
    one, same, other = (ppo(activation_fn=activation(slope)) for slope in (0.01, 0.01, 0.9))
    assert model_fingerprint(one) == model_fingerprint(same) is not None
    other.policy.load_state_dict(one.policy.state_dict())
    assert model_fingerprint(one) != model_fingerprint(other)


def test_lambdas_are_told_apart_by_their_code():
    first, second = (ppo(activation_fn=f) for f in (lambda: nn.LeakyReLU(0.01), lambda: nn.LeakyReLU(0.9)))
    assert model_fingerprint(first) != model_fingerprint(second)


@pytest.mark.parametrize("activation", [leaky(0.1), closure(0.1), Maker(0.1)])
def test_survives_the_zip(activation, tmp_path):
    model = ppo(activation_fn=activation)
    model.save(tmp_path / "model.zip")
    assert model_fingerprint(PPO.load(tmp_path / "model.zip")) == model_fingerprint(model)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(2), torch.ones(2)),
        (nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)),
        (torch.tanh, torch.sin),
        (torch.float32, torch.float64),
        ({1, 2}, {1, 3}),
        (b"a", b"b"),
    ],
)
def test_kinds_of_settings(one, other):
    assert json.dumps(_plain(one)) != json.dumps(_plain(other))


def test_plain_settings_say_what_they_said():
    """Stored evaluations are recognised by them."""
    settings = {
        "observation_space": spaces.Box(-1.0, 1.0, (3,)),
        "net_arch": {"pi": [64, 64], "vf": (64, 64)},
        "activation_fn": nn.Tanh,
        "squash_output": None,
        "log_std_init": np.float64(0.5),
        "scale": np.array([1.0, 0.5]),
        "bound": np.inf,
        "features_extractor_class": FlattenExtractor,
    }
    assert _plain(settings) == {
        "observation_space": "Box(-1.0, 1.0, (3,), float32)",
        "net_arch": {"pi": [64, 64], "vf": [64, 64]},
        "activation_fn": "torch.nn.modules.activation.Tanh",
        "squash_output": None,
        "log_std_init": 0.5,
        "scale": ["float64", [2], "7ded32179961d3df64ab9071d95eed3a7b5efc1750a16bdc02db400678278fab"],
        "bound": "inf",
        "features_extractor_class": "stable_baselines3.common.torch_layers.FlattenExtractor",
    }
