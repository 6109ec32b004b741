"""Weights that were saved under another K: whoever loads them is told, and how to get the function that was saved."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch

import lipsrl
from tests.families import open_gains
from tests.policies.zoo import ALGORITHMS, build, sample


def actions(model):
    return model.predict(sample(model.observation_space, 16), deterministic=True)[0]


def said(policy, weights):
    """All that loading them warns of: projecting them may be another word."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        policy.load_state_dict(weights)
    return " ".join(str(warning.message) for warning in heard)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_bound_that_was_changed_by_hand(name, tmp_path):
    model = build(name, lipschitz_bound=4.0)
    model.policy.set_lipschitz_bound(2.0)
    model.save(tmp_path / "by-hand.zip")
    with pytest.warns(UserWarning, match=r"saved under lipschitz_bound=2.0, and this policy has 4.0"):
        loaded = type(model).load(tmp_path / "by-hand.zip")
    assert lipsrl.certify(loaded).network.upper_bound <= 4.0
    with warnings.catch_warnings():  # what the message says
        warnings.simplefilter("error")
        loaded.policy.set_lipschitz_bound(2.0)
        loaded.set_parameters(tmp_path / "by-hand.zip")
    np.testing.assert_array_equal(actions(loaded), actions(model))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_bound_that_policy_kwargs_know(name, tmp_path):
    model = build(name, lipschitz_bound=4.0)
    model.policy.set_lipschitz_bound(2.0)
    model.policy_kwargs["lipschitz_bound"] = 2.0
    model.save(tmp_path / "known.zip")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = type(model).load(tmp_path / "known.zip")
    np.testing.assert_array_equal(actions(loaded), actions(model))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"]
)
def test_copies_speak_for_themselves(copied):
    """The hooks of a copy look at the copy's K, not at that of what it was copied from."""
    policy = build("PPO", lipschitz_bound=4.0).policy
    other, weights = copied(policy), copied(policy.state_dict())
    other.set_lipschitz_bound(2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.load_state_dict(weights)
        other.load_state_dict(other.state_dict())
    assert "under lipschitz_bound=4.0, and this policy has 2.0" in said(other, weights)
    assert "under lipschitz_bound=2.0, and this policy has 4.0" in said(policy, other.state_dict())


def test_one_word_where_the_bound_was_broken():
    """That the weights are steeper than K allows says it already."""
    loose, tight = (build("PPO", lipschitz_bound=bound).policy for bound in (50.0, 4.0))
    loose.lipschitz_network.bound, loose.lipschitz_network.head.bound = 1e3, 1e3
    with torch.no_grad():
        open_gains(loose.lipschitz_network)
        for parameter in loose.lipschitz_network.parameters():
            parameter.mul_(100.0)
    weights = loose.state_dict()
    heard = said(tight, weights)
    assert "projected back" in heard
    assert "saved under" not in heard
    assert "saved under lipschitz_bound=4.0" in said(
        build("PPO", lipschitz_bound=50.0).policy, tight.state_dict()
    )


def test_weights_that_do_not_say_it():
    """Of older files, or collected by hand: as they were."""
    policy, other = (build("PPO", lipschitz_bound=bound).policy for bound in (4.0, 8.0))
    assert "saved under" in said(other, policy.state_dict())
    assert "saved under" not in said(other, dict(policy.state_dict()))


def test_plain_policies_say_nothing():
    policy = build("PPO", lipschitz_bound=np.inf).policy
    assert not any("lipschitz_bound" in said for said in policy.state_dict()._metadata.values())
