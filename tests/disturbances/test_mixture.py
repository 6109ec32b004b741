"""One disturbance per episode, and a bias of one pattern."""

from __future__ import annotations

import numpy as np
import pytest

from lipsrl.disturbances import Bias, GaussianNoise, Mixture, disturbance_from_dict, parse_disturbance

ZEROS = np.zeros(2)


def parts_of(mixture, seeds):
    """Which of ``[white noise, bias]`` acted in the episode of each seed: 0 or 1."""
    found = []
    for seed in seeds:
        mixture.reset(seed=seed)
        first, second = mixture(ZEROS), mixture(ZEROS)
        found.append(int((first == second).all()))
    return found


def test_one_part_acts_through_an_episode_and_the_weights_say_how_often():
    share = np.mean(parts_of(Mixture([GaussianNoise(1.0), Bias(1.0)], weights=[3, 1]), range(800)))
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 800)


def test_the_choice_does_not_hang_on_the_strength():
    mixture = Mixture([GaussianNoise(1.0), Bias(1.0)])
    assert parts_of(mixture, range(40)) == parts_of(mixture.scaled(0.3), range(40))


def test_a_part_that_weighs_nothing_never_acts():
    assert parts_of(Mixture([GaussianNoise(1.0), Bias(1.0)], weights=[1, 0]), range(60)) == [0] * 60


def test_without_a_seed_the_next_episode_draws_again():
    mixture = Mixture([GaussianNoise(1.0), Bias(1.0)])
    mixture.reset(seed=0)
    found = set()
    for _ in range(60):
        mixture.reset()
        found.add(bool((mixture(ZEROS) == mixture(ZEROS)).all()))
    assert found == {True, False}


@pytest.mark.parametrize(
    ("parts", "weights", "text"),
    [
        ([], None, "one or more Disturbance"),
        ([GaussianNoise(0.1), 3], None, "one or more Disturbance"),
        ([GaussianNoise([0.1, 0.1]), Bias([0.1])], None, "different lengths"),
        ([GaussianNoise(0.1)], [1.0, 2.0], "1 finite numbers >= 0"),
        ([GaussianNoise(0.1), Bias(0.1)], [0.0, 0.0], "not all 0"),
        ([GaussianNoise(0.1), Bias(0.1)], [-1.0, 2.0], "2 finite numbers >= 0, one per disturbance"),
        ([GaussianNoise(0.1), Bias(0.1)], 0.5, "2 finite numbers >= 0"),
    ],
)
def test_what_is_no_mixture_is_refused(parts, weights, text):
    with pytest.raises(ValueError, match=text):
        Mixture(parts, weights)


def test_a_bias_of_one_pattern_is_the_same_in_every_episode():
    bias = Bias([0.1, 0.2], signs=[1, -1])
    for seed in range(3):
        bias.reset(seed=seed)
        assert bias(ZEROS).tolist() == [0.1, -0.2]
    assert disturbance_from_dict(bias.to_dict()) == bias != Bias([0.1, 0.2])
    assert parse_disturbance("bias:0.2:1,-1") == Bias(0.2, signs=[1, -1])
    assert "signs" not in Bias(0.2).to_dict()


@pytest.mark.parametrize(("std", "sign"), [([0.1, 0.2, 0.3], 1), (0.1, -1), (0.1, np.float64(1))])
def test_one_sign_is_for_all_dimensions(std, sign):
    bias = Bias(std, signs=sign)
    bias.check_dimension(3)
    bias.reset(seed=0)
    assert bias(np.zeros(3)).tolist() == (np.broadcast_to(std, 3) * sign).tolist()
    assert disturbance_from_dict(bias.to_dict()) == bias
    assert parse_disturbance("bias:0.1:1") == Bias(0.1, signs=1.0)
    with pytest.raises(ValueError, match="2"):
        Bias(0.1, signs=[1, 1]).check_dimension(3)


@pytest.mark.parametrize("signs", [2, np.nan, [], [2, 1], "x", [0.5], [1, None], [[1, 1]]])
def test_a_pattern_of_something_else_is_refused(signs):
    with pytest.raises(ValueError, match="signs"):
        Bias(0.1, signs=signs)


def test_a_pattern_of_another_length_is_refused():
    with pytest.raises(ValueError, match="std has 2 values and signs has 3"):
        Bias([0.1, 0.2], signs=[1, 1, 1])
