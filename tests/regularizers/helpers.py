"""What the tests of regularisers share: tiny models, and SB3's own train() with a line more."""

from __future__ import annotations

import copy
import inspect
import sys
import textwrap

import numpy as np
import torch

from tests.policies.zoo import build

ALGORITHMS = ("PPO", "A2C", "SAC", "TD3", "DDPG", "TQC")
ON_POLICY = ("PPO", "A2C")
STEPS = 24


def tiny(algorithm, *, bound=None, observation="vector", **policy_kwargs):
    """A model of 8-8 tanh networks (no unit that is exactly dead) on random observations; stock where bound=None."""
    policy = None
    if bound is None:
        policy = "MultiInputPolicy" if observation.startswith("dict") else "MlpPolicy"
        policy = "CnnPolicy" if observation == "image" else policy
    kwargs = {"activation_fn": torch.nn.Tanh, **policy_kwargs}
    return build(algorithm, observation=observation, policy=policy, lipschitz_bound=bound, **kwargs)


def optimizers(model):
    names = model._get_torch_save_params()[0]
    return {
        name: state for name, state in model.get_parameters().items() if "optimizer" in name and name in names
    }


def _equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


def same_training(one, other):
    """Weights and optimizer states, to the bit."""
    return _equal(one.get_parameters(), other.get_parameters())


def random_state():
    """Of the generators that training draws from."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - SB3's
    return torch.get_rng_state().numpy().tobytes(), kind, keys.tobytes(), tuple(rest)


def edited_train(cls, *replacements):
    """SB3's ``train`` with pieces of its source text replaced; each must stand there exactly once.

    An upgrade of SB3 that changes those lines fails here, and is then to be looked at.
    """
    stock = cls.train
    while hasattr(stock, "lipsrl_stock"):
        stock = stock.lipsrl_stock
    source = textwrap.dedent(inspect.getsource(stock))
    for old, new in replacements:
        assert source.count(old) == 1, (
            f"{cls.__name__}.train() has changed: {old!r} stands there {source.count(old)} times"
        )
        source = source.replace(old, new)
    module = sys.modules[stock.__module__]
    namespace = dict(vars(module))
    exec(compile(source, f"<edited {cls.__name__}.train>", "exec"), namespace)
    return namespace["train"]


def learn_edited(model, train, steps=STEPS):
    """``learn`` of a copy of the class with the edited ``train``."""
    model.__class__ = type(type(model).__name__, (type(model),), {"train": train})
    return model.learn(steps)


def copied(model):
    return copy.deepcopy(model)
