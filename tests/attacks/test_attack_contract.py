"""What every attack promises as a disturbance. A new one joins by a line in ``EXAMPLES``."""

from __future__ import annotations

import copy
import doctest
import importlib
import json
import pickle
import pkgutil

import numpy as np
import pytest

import lipsrl.attacks
from lipsrl.attacks import (
    ATTACKS,
    ConstantBiasAttack,
    CriticAttack,
    MADAttack,
    RandomAttack,
    RobustSarsaAttack,
)

STEPS = 26  # more than one block of draws, as it is here
DIM = 3

EXAMPLES = {
    "random": [lambda m: RandomAttack(m, 0.2), lambda m: RandomAttack(m, 0.2, "l2", units="raw")],
    "mad": [
        lambda m: MADAttack(m, 0.2, steps=3),
        lambda m: MADAttack(m, 0.2, "l2", steps=3),
        lambda m: MADAttack(m, 0.2, "linf", units="raw", steps=3),
        lambda m: MADAttack(m, 0.2, "l2", steps=2, step_size=0.7, restarts=2),
    ],
    "critic": [
        lambda m: CriticAttack(m, 0.2, steps=3),
        lambda m: CriticAttack(m, 0.2, "l2", units="raw", steps=3),
    ],
    "bias": [
        lambda m: ConstantBiasAttack(m, 0.2, env="Pendulum-v1", episodes=1, max_episode_steps=5),
        lambda m: ConstantBiasAttack(
            m, 0.2, "l2", units="raw", episodes=1, candidates=8, max_episode_steps=5
        ),
    ],
    "robust-sarsa": [
        lambda m: RobustSarsaAttack(m, 0.2, steps=3, env="Pendulum-v1", rollout_steps=60, updates=5),
        lambda m: RobustSarsaAttack(m, 0.2, "l2", units="raw", steps=3, rollout_steps=60, updates=5),
    ],
}


def test_every_attack_is_held_to_the_contract(normalized):
    assert set(EXAMPLES) == set(ATTACKS)
    for name, makers in EXAMPLES.items():
        assert {type(make(normalized)) for make in makers} == {ATTACKS[name]}
        assert ATTACKS[name].name == name


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules(lipsrl.attacks.__path__)])
def test_docstring_examples(module):
    assert doctest.testmod(importlib.import_module(f"lipsrl.attacks.{module}")).failed == 0


@pytest.fixture(scope="module", autouse=True)
def short_blocks():
    """Draws in blocks of 16 steps instead of 64: the same draws, and the end of a block comes sooner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lipsrl.disturbances._draws._BLOCK", 16)
        yield


#: Each attack on a model without memory, and every second one on either kind of stacked model: which of them it is
#: decides what an attack sees of the past, not how it draws.
MAKERS = [make for makers in EXAMPLES.values() for make in makers]
PAIRS = [("ppo-normalized", make) for make in MAKERS]
PAIRS += [(("ppo-stack-inside", "ppo-stack-outside")[i % 2], make) for i, make in enumerate(MAKERS)]


@pytest.fixture(scope="module", params=PAIRS)
def aimed(request, models):
    """(model, attack), made once: some attacks train a critic or search when they are aimed."""
    name, make = request.param
    return models[name], make(models[name])


@pytest.fixture
def model(aimed):
    return aimed[0]


@pytest.fixture
def attack(aimed):
    return aimed[1].scaled(1.0)


@pytest.fixture
def stream(observations):
    """(STEPS, 5, DIM) float32."""
    rng = np.random.default_rng(1)
    return observations[rng.integers(64, size=(STEPS, 5))]


def run(attack, observations, seed=None):
    attack.reset(seed)
    return np.array([attack(observation) for observation in observations])


def bits(array):
    return array.tobytes(), array.dtype, array.shape


class TestSeeding:
    def test_equal_seeds_give_equal_attacks(self, attack, stream):
        first = run(attack, stream[:, 0], seed=3)
        assert bits(first) == bits(run(attack, stream[:, 0], seed=3))
        assert bits(first) == bits(run(attack.scaled(1.0), stream[:, 0], seed=3))
        drawn = not isinstance(attack, ConstantBiasAttack)  # the same in every episode
        assert np.array_equal(first, run(attack, stream[:, 0], seed=4)) != drawn

    def test_an_unseeded_reset_goes_on_with_the_draws(self, attack, stream):
        first = run(attack, stream[:10, 0], seed=3)
        drawn = not isinstance(attack, ConstantBiasAttack)
        assert np.array_equal(first, run(attack, stream[:10, 0])) != drawn

    def test_the_global_generators_are_not_touched(self, attack, stream):
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        run(attack, stream[:3, 0], seed=0)
        assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002

    def test_draws_are_shared_by_all_strengths(self, attack, stream):
        """An unseeded episode is the same whatever the strength of the one before."""
        after = []
        for strength in (0.0, 1.0):
            batch = attack.batch(1)
            batch.reset(0, seed=0, strength=strength)
            for step in stream[:10, :1]:
                batch(step)
            batch.reset(0)
            after.append(np.array([batch(step) for step in stream[10:20, :1]]))
        assert bits(after[0]) == bits(after[1])


class TestBatch:
    """To 1e-9 of epsilon (raw: times the largest 1/gain, 3): products round differently for other row counts."""

    def test_equals_the_loop(self, attack, stream):
        batch, singles = attack.batch(5), [attack.scaled(1.0) for _ in range(5)]
        for index in range(5):
            batch.reset(index, seed=100 + index)
            singles[index].reset(100 + index)
        for step, rows in enumerate(stream.astype(np.float64)):
            if step % 7 == 0:  # an episode ends in one of them
                batch.reset(step % 5, seed=step)
                singles[step % 5].reset(step)
            together = batch(rows)
            alone = np.array([single(row) for single, row in zip(singles, rows, strict=True)])
            np.testing.assert_allclose(together, alone, rtol=0, atol=1e-9 * 0.2 * 3)
            assert np.abs(together - rows).max() > 0.01

    def test_rows_that_advance_alone(self, attack, stream):
        batch, singles = attack.batch(5), [attack.scaled(1.0) for _ in range(5)]
        for index in range(5):
            batch.reset(index, seed=index)
            singles[index].reset(index)
        events = np.random.default_rng(0)
        for rows in stream[:20].astype(np.float64):
            chosen = events.permutation(5)[:2]
            alone = np.array([singles[i](rows[i]) for i in chosen])
            np.testing.assert_allclose(batch(rows[chosen], indices=chosen), alone, rtol=0, atol=1e-9)

    def test_each_slot_has_its_own_strength(self, attack, stream):
        batch = attack.batch(3)
        strengths = (0.0, 0.5, 2.0)
        for index, strength in enumerate(strengths):
            batch.reset(index, seed=index, strength=strength)
        rows = stream[0, :3].astype(np.float64)
        together = batch(rows)
        for index, strength in enumerate(strengths):
            single = attack.scaled(strength)
            single.reset(index)
            np.testing.assert_allclose(together[index], single(rows[index]), rtol=0, atol=1e-9)
        assert bits(together[0]) == bits(rows[0])


class TestStrength:
    def test_zero_is_the_identity_bit_for_bit(self, attack):
        tiny = np.finfo(np.float32).smallest_subnormal
        special = [0.0, -0.0, np.inf, -np.inf, np.nan, tiny, -tiny, 1e38, -1.5]
        rows = np.array(special, np.float32).reshape(-1, DIM)
        batch = attack.batch(len(rows))
        for index in range(len(rows)):
            batch.reset(index, strength=0.0)
        assert bits(batch(rows)) == bits(rows)
        assert bits(attack.scaled(0.0)(rows[0])) == bits(rows[0])
        assert not np.may_share_memory(batch(rows), rows)

    def test_strengths_multiply(self, attack):
        assert attack.scaled(2.0).epsilon == 0.4
        assert attack.scaled(2.0).scaled(0.5) == attack
        assert attack.scaled(2.0) != attack
        assert attack.scaled(2.0).target is attack.target

    def test_a_scaled_attack_has_a_stream_of_its_own(self, attack, stream):
        expected = run(attack.scaled(3.0), stream[:5, 0], seed=0)
        run(attack, stream[:5, 0], seed=1)
        assert bits(run(attack.scaled(3.0), stream[:5, 0], seed=0)) == bits(expected)

    def test_bad_strengths_are_refused(self, attack):
        for strength in [-0.1, np.nan, np.inf, "1", None]:
            with pytest.raises(ValueError, match="strength must be one finite number >= 0, received"):
                attack.scaled(strength)

    def test_a_strength_beyond_floats_is_refused(self, normalized):
        with pytest.raises(ValueError, match="epsilon must be one finite number >= 0, received inf"):
            RandomAttack(normalized, 1e300).scaled(1e300)


class TestArrays:
    def test_dtype_and_shape_are_those_that_came_in(self, attack, observations):
        for dtype in [np.float16, np.float32, np.float64, np.longdouble]:
            rows = observations[:5].astype(dtype)
            before = rows.copy()
            attacked = attack.batch(5)(rows)
            assert (attacked.dtype, attacked.shape) == (dtype, (5, DIM))
            assert attack(rows[0]).dtype == dtype
            assert np.isfinite(attacked).all()
            np.testing.assert_array_equal(rows, before)

    def test_what_is_not_finite_stays_and_spoils_no_other_row(self, attack, observations, attacked):
        rows = observations[:4].astype(np.float64)
        expected = attacked(attack, rows)
        rows[1, 0], rows[2, 2] = np.nan, np.inf
        result = attacked(attack, rows)
        assert bits(result[1:3]) == bits(rows[1:3])
        np.testing.assert_allclose(result[[0, 3]], expected[[0, 3]], rtol=0, atol=1e-9)

    def test_observations_of_another_length_are_refused(self, attack):
        for dim in [2, 4]:
            message = rf"observations have length 3, but the observation has length {dim}"
            with pytest.raises(ValueError, match=message):
                attack(np.zeros(dim, np.float32))
            with pytest.raises(ValueError, match=message):
                attack.batch(2)(np.zeros((2, dim), np.float32))


class TestCopies:
    def test_a_copy_goes_on_where_the_original_is(self, attack, stream):
        for copied in [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))]:
            run(attack, stream[:10, 0], seed=0)
            twin = copied(attack)
            assert twin == attack
            for step in stream[10:20]:
                assert bits(attack(step[0])) == bits(twin(step[0]))

    def test_the_dictionary_is_json(self, attack, model):
        data = json.loads(json.dumps(attack.to_dict()))
        assert data["name"] == attack.name
        assert data["epsilon"] == 0.2
        assert data["model"]["algorithm"] == "PPO"
        assert len(data["model"]["weights_sha256"]) == len(data["model"]["normalization_sha256"]) == 64
        assert type(attack)(model, **attack.parameters) == attack

    def test_attacks_on_different_models_differ(self, models):
        assert RandomAttack(models["ppo"], 0.1) == RandomAttack(models["ppo"], 0.1)
        assert RandomAttack(models["ppo"], 0.1) != RandomAttack(models["sac"], 0.1)
        assert hash(RandomAttack(models["ppo"], 0.1)) == hash(RandomAttack(models["ppo"], 0.1))
        assert RandomAttack(models["ppo"], 0.1) != RandomAttack(None, 0.1)

    def test_the_repr_names_model_and_budget(self, ppo):
        text = repr(MADAttack(ppo, 0.1))
        assert text.startswith("MADAttack(<PPO ")
        assert text.endswith(
            ">, epsilon=0.1, norm='linf', units='normalized', steps=10, step_size=None, restarts=1, "
            "reference='clean')"
        )
        assert (
            repr(RandomAttack(None, 1)) == "RandomAttack(None, epsilon=1.0, norm='linf', units='normalized')"
        )
