"""What every disturbance promises. A new family joins by a line in ``EXAMPLES``."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from lipsrl.disturbances import (
    DISTURBANCES,
    AutoregressiveNoise,
    Bias,
    Compose,
    Delay,
    Disturbance,
    Drift,
    Dropout,
    GaussianNoise,
    Jitter,
    Mixture,
    Quantization,
    Spikes,
    UniformNoise,
    disturbance_from_dict,
)

DIM = 3
STEPS = 150  # more than two blocks of draws


@dataclass
class Case:
    """One disturbance for observations of length ``DIM``, and what kind it is."""

    disturbance: Disturbance
    additive: bool = False  # strength multiplies what is added
    random: bool = True


EXAMPLES = {
    "gaussian": [
        Case(GaussianNoise(0.3), additive=True),
        Case(GaussianNoise([0.1, 0.0, 2.0]), additive=True),
    ],
    "uniform": [Case(UniformNoise([0.1, 0.0, 2.0]), additive=True)],
    "ar1": [
        Case(AutoregressiveNoise(0.3, 0.9), additive=True),
        Case(AutoregressiveNoise([0.1, 0.0, 2.0], [0.5, 0.9, -0.2]), additive=True),
    ],
    "bias": [
        Case(Bias([0.1, 0.0, 2.0]), additive=True),
        Case(Bias(0.3, signs=[1, 0, -1]), additive=True, random=False),
    ],
    "drift": [Case(Drift([0.1, 0.0, 2.0]), additive=True)],
    "spikes": [Case(Spikes([0.5, 0.1, 0.9], [0.5, 1.0, 2.0]), additive=True)],
    "quantization": [Case(Quantization([0.1, 0.0, 2.0]), random=False)],
    "dropout": [
        Case(Dropout([0.1, 0.2, 0.0])),
        Case(Dropout(0.3, fill="zero")),
        Case(Dropout(0.3, per="frame")),
    ],
    "delay": [
        Case(Delay(3), random=False),
        Case(Delay([1.5, 0.0, 3.0]), random=False),
    ],
    "jitter": [Case(Jitter(3)), Case(Jitter([2.5, 0.0, 4.0], per="sensor"))],
    "compose": [
        Case(Compose([GaussianNoise([0.1, 0.2, 0.3]), Delay(2), Drift(0.5), GaussianNoise(0.1)])),
        Case(Compose([Compose([Bias(0.1), Jitter(2)]), Dropout(0.2)])),
    ],
    "mixture": [
        Case(Mixture([GaussianNoise([0.1, 0.2, 0.3]), Bias(0.5)], weights=[3, 1])),
        Case(Mixture([Compose([Delay(1), Bias(0.1)]), Mixture([Drift(0.5), UniformNoise(0.1)])])),
    ],
}
CASES = [case for cases in EXAMPLES.values() for case in cases]


def test_every_registered_disturbance_is_held_to_the_contract():
    assert set(EXAMPLES) == set(DISTURBANCES)
    for name, cases in EXAMPLES.items():
        assert cases
        assert {type(case.disturbance) for case in cases} == {DISTURBANCES[name]}


def label(case):
    return repr(case.disturbance)


RANDOM = pytest.mark.parametrize("case", [case for case in CASES if case.random], indirect=True, ids=label)
ADDITIVE = pytest.mark.parametrize(
    "case", [case for case in CASES if case.additive], indirect=True, ids=label
)


@pytest.fixture(params=CASES, ids=label)
def case(request):
    # a fresh one: a parameter is shared by all tests
    return Case(request.param.disturbance.scaled(1.0), request.param.additive, request.param.random)


@pytest.fixture
def disturbance(case):
    return case.disturbance


@pytest.fixture
def observations():
    """``(STEPS, 5, DIM)`` float32: five streams."""
    return np.random.default_rng(7).normal(size=(STEPS, 5, DIM)).astype(np.float32)


def run(disturbance, observations, seed=None):
    """The trajectory of one stream through ``(steps, DIM)`` observations."""
    disturbance.reset(seed)
    return np.array([disturbance(observation) for observation in observations])


def bits(array):
    return array.tobytes(), array.dtype, array.shape


class TestSeeding:
    def test_equal_seeds_give_equal_disturbances(self, disturbance, observations):
        first = run(disturbance, observations[:, 0], seed=3)
        again = run(disturbance, observations[:, 0], seed=3)
        other_instance = run(disturbance.scaled(1.0), observations[:, 0], seed=3)
        assert bits(first) == bits(again) == bits(other_instance)

    @RANDOM
    def test_different_seeds_give_different_disturbances(self, case, observations):
        runs = [run(case.disturbance, observations[:, 0], seed) for seed in (0, 1, 2**40)]
        assert not np.array_equal(runs[0], runs[1])
        assert not np.array_equal(runs[1], runs[2])

    @RANDOM
    def test_without_a_seed_two_instances_differ(self, case, observations):
        runs = [run(case.disturbance.scaled(1.0), observations[:, 0]) for _ in range(2)]
        assert not np.array_equal(*runs)

    def test_a_seed_sequence_is_the_same_as_its_integer_and_is_left_alone(self, disturbance, observations):
        sequence = np.random.SeedSequence(11)
        by_sequence = run(disturbance, observations[:, 0], sequence)
        assert bits(by_sequence) == bits(run(disturbance, observations[:, 0], sequence))
        assert bits(by_sequence) == bits(run(disturbance, observations[:, 0], 11))
        assert sequence.n_children_spawned == 0

    def test_numpy_integers_are_seeds(self, disturbance, observations):
        by_numpy = run(disturbance, observations[:, 0], np.uint32(11))
        assert bits(by_numpy) == bits(run(disturbance, observations[:, 0], 11))

    def test_the_global_generator_is_not_touched(self, disturbance, observations):
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        run(disturbance, observations[:, 0], seed=0)
        run(disturbance, observations[:, 0])
        assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002

    def test_bad_seeds_are_refused(self, disturbance):
        for seed in [-1, 1.0, "0", True, np.random.default_rng(0)]:
            with pytest.raises(ValueError, match=r"seed must be None, an integer >= 0 or .* received"):
                disturbance.reset(seed)


class TestReset:
    def test_an_unseeded_reset_goes_on_with_the_draws(self, case, observations):
        disturbance = case.disturbance
        first = run(disturbance, observations[:10, 0], seed=0)
        second = run(disturbance, observations[:10, 0])
        again = run(disturbance, observations[:10, 0], seed=0), run(disturbance, observations[:10, 0])
        assert bits(first) == bits(again[0])
        assert bits(second) == bits(again[1])
        assert np.array_equal(first, second) != case.random

    def test_a_seeded_reset_forgets_the_episode_before(self, disturbance, observations):
        expected = run(disturbance.scaled(1.0), observations[:, 0], seed=5)
        run(disturbance, observations[:37, 1], seed=8)
        assert bits(run(disturbance, observations[:, 0], seed=5)) == bits(expected)

    def test_a_stream_needs_no_reset_before_its_first_call(self, disturbance, observations):
        assert disturbance(observations[0, 0]).shape == (DIM,)


class TestBatch:
    def test_equals_the_loop_bit_for_bit(self, disturbance, observations):
        """Through block ends, resets of every kind at any time, and rows that advance alone."""
        n = observations.shape[1]
        batch = disturbance.batch(n)
        singles = [disturbance.scaled(1.0) for _ in range(n)]
        for index in range(n):
            batch.reset(index, seed=100 + index)
            singles[index].reset(100 + index)
        events = np.random.default_rng(1)
        for step, rows in enumerate(observations):
            index = int(events.integers(n))
            match step % 6:
                case 1:  # an episode ends, the generator goes on
                    batch.reset(index, strength=1.0)
                    singles[index].reset()
                case 3:  # a new episode with a seed of its own
                    batch.reset(index, seed=step)
                    singles[index].reset(step)
                case 5:  # episodes begin everywhere, and some rows take a step of their own
                    for i in range(n):
                        batch.reset(i)
                        singles[i].reset()
                    chosen = events.permutation(n)[:2]
                    alone = batch(rows[chosen], indices=chosen)
                    assert bits(alone) == bits(np.array([singles[i](rows[i]) for i in chosen]))
            together = batch(rows)
            assert bits(together) == bits(np.array([s(row) for s, row in zip(singles, rows, strict=True)]))

    def test_a_slot_at_some_strength_is_the_scaled_disturbance(self, disturbance, observations):
        for strength in [0.0, 0.05, 1.0, 3.0]:
            batch = disturbance.batch(3)
            for index in range(3):
                batch.reset(index, seed=index)
            batch(observations[0, :3])
            batch.reset(1, seed=9, strength=strength)
            scaled = run(disturbance.scaled(strength), observations[1:, 1], seed=9)
            assert bits(np.array([batch(rows)[1] for rows in observations[1:, :3]])) == bits(scaled)

    def test_the_strength_lasts_until_the_next_reset(self, disturbance, observations):
        batch = disturbance.batch(2)
        batch.reset(0, seed=1, strength=0.0)
        for rows in observations[:, :2]:
            assert bits(batch(rows)[0]) == bits(rows[0])
        batch.reset(0, seed=1)
        expected = run(disturbance, observations[:, 0], seed=1)
        assert bits(np.array([batch(rows)[0] for rows in observations[:, :2]])) == bits(expected)

    @RANDOM
    def test_streams_are_independent(self, case, observations):
        batch = case.disturbance.batch(4)
        same = np.repeat(observations[:, :1], 4, axis=1)
        rows = np.array([batch(step) for step in same])
        assert len({rows[:, index].tobytes() for index in range(4)}) == 4

    def test_the_streams_of_a_batch_are_not_those_of_its_maker(self, disturbance, observations):
        expected = run(disturbance.scaled(1.0), observations[:, 0], seed=2)
        disturbance.reset(2)
        disturbed = []
        for step in observations:
            disturbance.batch(2)(step[:2])
            disturbed.append(disturbance(step[0]))
        assert bits(np.array(disturbed)) == bits(expected)

    def test_bad_sizes_are_refused(self, disturbance):
        for n in [0, -1, 2.0, True]:
            with pytest.raises(ValueError, match="n must be an integer > 0, received"):
                disturbance.batch(n)

    def test_bad_slots_are_refused(self, disturbance):
        for index in [-1, 2, 0.0, "0"]:
            with pytest.raises(ValueError, match="index must be an integer from 0 to 1, received"):
                disturbance.batch(2).reset(index)

    def test_bad_rows_are_refused(self, disturbance):
        for indices in [[0, 0], [2], [-1], [0.0], [[0]]]:
            with pytest.raises(ValueError, match="indices must be different integers from 0 to 1, received"):
                disturbance.batch(2)(np.zeros((len(indices), DIM)), indices=indices)


class TestArrays:
    def test_dtype_and_shape_are_those_that_came_in(self, disturbance, observations):
        for dtype in [np.float16, np.float32, np.float64, np.longdouble]:
            single, rows = observations[0, 0].astype(dtype), observations[0].astype(dtype)
            assert disturbance(single).dtype == dtype
            assert disturbance(single).shape == (DIM,)
            assert disturbance.batch(5)(rows).dtype == dtype
            assert disturbance.batch(5)(rows).shape == (5, DIM)

    @pytest.mark.parametrize("strength", [0.0, 1.0])
    def test_arrays_are_fresh_and_the_input_stays(self, disturbance, observations, strength):
        batch = disturbance.batch(5)
        for index in range(5):
            batch.reset(index, strength=strength)
        before = observations.copy()
        observations.setflags(write=False)
        single = disturbance.scaled(strength)
        given = [observations]
        for step in observations[:5]:
            for disturbed in (batch(step), batch(step[:2], [3, 1]), single(step[0])):
                assert not any(np.may_share_memory(disturbed, other) for other in given)
                disturbed[...] = 1e6  # the caller's own: nothing that follows may depend on it
                given.append(disturbed)
        assert np.array_equal(before, observations)
        assert (np.abs(batch(observations[5])) < 1e5).all()

    def test_the_caller_may_overwrite_what_it_passed(self, disturbance, observations):
        expected = run(disturbance.scaled(1.0), observations[:, 0], seed=0)
        disturbance.reset(0)
        buffer, disturbed = np.empty(DIM, np.float32), []
        for observation in observations[:, 0]:
            buffer[:] = observation
            disturbed.append(disturbance(buffer))
            buffer[:] = np.nan
        assert bits(np.array(disturbed)) == bits(expected)

    def test_any_memory_layout(self, disturbance, observations):
        batch, other = disturbance.batch(5), disturbance.batch(5)
        for index in range(5):
            batch.reset(index, seed=index)
            other.reset(index, seed=index)
        for step in observations:
            assert bits(batch(np.asfortranarray(step))) == bits(other(step))

    def test_what_is_no_vector_is_refused(self, disturbance):
        for observation in [np.zeros((1, DIM)), np.zeros(()), [0.0] * DIM, None]:
            with pytest.raises(
                ValueError, match=r"observation must be a NumPy array of shape \(dim,\), received"
            ):
                disturbance(observation)

    def test_what_is_no_batch_is_refused(self, disturbance):
        for observations in [np.zeros(DIM), np.zeros((3, DIM)), [[0.0] * DIM] * 2]:
            with pytest.raises(
                ValueError, match=r"observations must be a NumPy array of shape \(2, dim\), rec"
            ):
                disturbance.batch(2)(observations)

    def test_what_is_not_floating_point_is_refused(self, disturbance):
        for dtype in [np.uint8, np.int64, np.bool_, np.complex128, object]:
            with pytest.raises(ValueError, match="observations must be floating point, received dtype"):
                disturbance(np.zeros(DIM, dtype))

    def test_observations_keep_their_length(self, disturbance, observations):
        disturbance(observations[0, 0])
        with pytest.raises(ValueError, match=r"length"):
            disturbance(np.zeros(DIM + 1))

    def test_a_refused_call_does_not_advance_the_stream(self, disturbance, observations):
        expected = run(disturbance.scaled(1.0), observations[:, 0], seed=4)
        disturbance.reset(4)
        disturbed = []
        for step in observations:
            with pytest.raises(ValueError):
                disturbance(np.zeros(DIM, np.int64))
            with pytest.raises(ValueError):
                disturbance.reset(-1)
            disturbed.append(disturbance(step[0]))
        assert bits(np.array(disturbed)) == bits(expected)


class TestStrength:
    def test_zero_is_the_identity_bit_for_bit(self, disturbance):
        tiny = np.finfo(np.float32).smallest_subnormal
        special = [0.0, -0.0, np.inf, -np.inf, np.nan, tiny, -tiny, 1e38, -1.5]
        rows = np.array(special, np.float32).reshape(-1, DIM)
        nan_with_payload = np.array([0xFFC12345], np.uint32).view(np.float32)
        rows[1, 1] = nan_with_payload[0]
        zero, batch = disturbance.scaled(0.0), disturbance.batch(len(rows))
        for index in range(len(rows)):
            batch.reset(index, strength=0.0)
        for _ in range(STEPS):
            assert bits(batch(rows)) == bits(rows)
        for row in rows:
            zero.reset()
            assert bits(zero(row)) == bits(row)

    @ADDITIVE
    def test_one_seed_gives_the_same_draws_at_every_strength(self, case):
        """Common random numbers: what is added scales, exactly where the factor is a power of two."""
        zeros = np.zeros((STEPS, DIM))
        unit = run(case.disturbance, zeros, seed=6)
        for strength in (0.0, 0.25, 2.0):
            assert np.array_equal(run(case.disturbance.scaled(strength), zeros, seed=6), strength * unit)
        assert np.allclose(run(case.disturbance.scaled(0.3), zeros, seed=6), 0.3 * unit, rtol=1e-14, atol=0)

    def test_a_stream_at_strength_zero_uses_the_same_draws(self, disturbance, observations):
        """An unseeded episode is the same whatever the strength of the one before."""
        after = []
        for strength in (0.0, 1.0):
            batch = disturbance.batch(1)
            batch.reset(0, seed=0, strength=strength)
            for step in observations[:30, :1]:
                batch(step)
            batch.reset(0)
            after.append(np.array([batch(step) for step in observations[30:, :1]]))
        assert bits(after[0]) == bits(after[1])

    def test_strengths_multiply(self, disturbance):
        assert disturbance.scaled(2.0).scaled(0.5) == disturbance
        assert disturbance.scaled(1.0) == disturbance
        assert disturbance.scaled(1.0) is not disturbance

    def test_bad_strengths_are_refused(self, disturbance):
        for strength in [-0.1, np.nan, np.inf, "1", None, True, [1.0, 2.0], 1j]:
            with pytest.raises(ValueError, match="strength must be one finite number >= 0, received"):
                disturbance.scaled(strength)
            with pytest.raises(ValueError, match="strength must be one finite number >= 0, received"):
                disturbance.batch(1).reset(0, strength=strength)


class TestCopies:
    def test_a_copy_goes_on_where_the_original_is(self, disturbance, observations):
        for copied in [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))]:
            run(disturbance, observations[:40, 0], seed=0)
            twin = copied(disturbance)
            for step in observations[40:]:
                assert bits(disturbance(step[0])) == bits(twin(step[0]))
            assert bits(run(disturbance, observations[:, 0])) == bits(run(twin, observations[:, 0]))

    def test_a_copy_is_independent(self, disturbance, observations):
        expected = run(disturbance.scaled(1.0), observations[:, 0], seed=0)
        disturbance.reset(0)
        twin = copy.deepcopy(disturbance)
        twin(observations[0, 0])
        assert bits(np.array([disturbance(o) for o in observations[:, 0]])) == bits(expected)

    def test_a_batch_can_be_pickled_in_the_middle(self, disturbance, observations):
        batch = disturbance.batch(5)
        for step in observations[:40]:
            batch(step)
        batch.reset(2, seed=1, strength=0.5)
        twin = pickle.loads(pickle.dumps(batch))
        for step in observations[40:]:
            assert bits(batch(step)) == bits(twin(step))

    def test_the_dictionary_survives_json(self, disturbance, observations):
        data = disturbance.to_dict()
        assert data["name"] == disturbance.name
        rebuilt = disturbance_from_dict(json.loads(json.dumps(data)))
        assert rebuilt == disturbance
        assert hash(rebuilt) == hash(disturbance)
        assert bits(run(rebuilt, observations[:, 0], 0)) == bits(run(disturbance, observations[:, 0], 0))

    def test_equality_is_of_the_parameters(self, disturbance, observations):
        used = disturbance.scaled(1.0)
        run(used, observations[:, 0])
        assert used == disturbance
        assert disturbance != disturbance.scaled(2.0)
        assert disturbance != "gaussian"

    def test_the_repr_is_code(self, disturbance):
        names = {cls.__name__: cls for cls in DISTURBANCES.values()}
        assert eval(repr(disturbance), names) == disturbance
