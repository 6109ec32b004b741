"""Criteria: what decides is the worse end, in numbers and in words."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces

from lipsrl.assessment import Limits
from lipsrl.assessment._criteria import chatter, clean, kept, proven, steepness

ACTUATORS = spaces.Box(np.float32([-1, -3]), np.float32([1, 3]))


def certificate(upper, per_sensor, promise=None):
    return SimpleNamespace(
        upper_bound=upper,
        lower_bound=upper / 2,
        per_sensor=per_sensor,
        promise=promise,
        network=SimpleNamespace(lower_bound=4.0),
    )


def test_the_move_is_bounded_by_the_smaller_of_two_proofs_over_the_smallest_range():
    by_norm = proven(certificate(0.3, (0.3, 0.3, 0.3)), "", ACTUATORS, 3, 0.5)
    assert by_norm.value == pytest.approx(math.sqrt(3) * 0.3 / 2)
    by_sensor = proven(certificate(0.3, (0.3, 0.05, 0.05)), "", ACTUATORS, 3, 0.5)
    assert by_sensor.value == pytest.approx(0.4 / 2)
    assert by_sensor.value >= 0.2  # never rounded below
    assert by_sensor.holds
    assert not proven(certificate(0.3, (0.3, 0.05, 0.05)), "", ACTUATORS, 3, 0.19).holds


def test_without_a_certificate_nothing_is_proven():
    refused = proven(None, "the policy is recurrent", ACTUATORS, 3, 0.5)
    assert refused.holds is False
    assert "the policy is recurrent" in refused.found
    unbounded = spaces.Box(-np.inf, np.inf, (1,))
    assert proven(certificate(0.3, (0.3,)), "", unbounded, 1, 0.5).holds is False
    assert proven(certificate(0.3, (0.3,)), "", spaces.Discrete(3), 1, 0.5).holds is None
    assert steepness(None) == []
    assert "80.0 % of K = 5.00" in steepness(certificate(1.0, (1.0,), promise=5.0))[1].found


def test_what_is_kept_counts_from_random_actions_and_by_the_lower_end():
    undisturbed = np.full(20, -100.0)
    all_but_tenth = kept("bias", np.full(20, -190.0), undisturbed, -1000.0, 0.9)
    assert all_but_tenth.value == pytest.approx(0.9)
    assert kept("bias", np.full(20, -189.0), undisturbed, -1000.0, 0.9).holds
    assert not kept("bias", np.full(20, -191.0), undisturbed, -1000.0, 0.9).holds
    scattered = np.where(np.arange(20) % 2, -60.0, -280.0)  # 0.922 in the mean
    found = kept("bias", scattered, undisturbed, -1000.0, 0.9)
    assert found.low < 0.9 < found.value
    assert not found.holds


def test_an_agent_that_earns_nothing_keeps_nothing():
    assert not kept("bias", np.full(5, -900.0), np.full(5, -1100.0), -1000.0, 0.0).holds
    assert not clean(np.full(5, -1100.0), -1000.0, None).holds
    assert clean(np.full(5, -100.0), -1000.0, None).holds
    assert clean(np.full(5, -100.0), -1000.0, -100.0).holds
    assert not clean(np.full(5, -100.0), -1000.0, -99.0).holds


def test_episodes_that_were_not_finite_fail():
    broken = np.array([1.0, math.nan, 2.0])
    for found in (kept("bias", broken, np.ones(3), 0.0, 0.0), clean(broken, 0.0, None)):
        assert not found.holds
        assert "1 of 3 episodes ended at a value that is not finite" in found.found


def test_chatter_is_a_share_of_the_range_by_the_upper_end():
    reach = math.hypot(2, 6)
    assert chatter(np.full(9, 0.05 * reach), ACTUATORS, 0.0500001).holds
    assert not chatter(np.full(9, 0.051 * reach), ACTUATORS, 0.05).holds
    scattered = np.where(np.arange(20) % 2, 0.0, 0.098 * reach)  # 0.049 in the mean
    assert not chatter(scattered, ACTUATORS, 0.05).holds
    assert chatter(np.full(9, 1.0), spaces.Discrete(2), 0.05).holds is None
    assert chatter(np.full(9, math.nan), ACTUATORS, 0.05).holds is False


@pytest.mark.parametrize(
    "wrong", [{"max_move": -1.0}, {"max_chatter": math.nan}, {"min_kept": True}, {"min_return": math.inf}]
)
def test_limits_that_are_none(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a finite number"):
        Limits(**wrong)


def test_a_share_above_one_cannot_be_asked():
    with pytest.raises(ValueError, match="min_kept is a share of the clean return"):
        Limits(min_kept=90)
    assert Limits(min_return=-200.0).min_return == -200.0
