"""No attacked observation leaves its ball, whatever its dtype; distances are taken in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from lipsrl.actors.normalization import observation_gains
from lipsrl.attacks import ConstantBiasAttack, CriticAttack, MADAttack, RandomAttack, RobustSarsaAttack
from lipsrl.attacks._norms import NORMS

#: name -> what makes the attack, quickly
ATTACKS = {
    "random": RandomAttack,
    "mad": MADAttack,
    "mad-restarted": lambda *args, **kw: MADAttack(*args, **kw, steps=2, step_size=0.9, restarts=2),
    "critic": CriticAttack,
    "bias": lambda *args, **kw: ConstantBiasAttack(
        *args, **kw, env="Pendulum-v1", episodes=1, candidates=8, max_episode_steps=2
    ),
    "robust-sarsa": lambda *args, **kw: RobustSarsaAttack(
        *args, **kw, steps=3, env="Pendulum-v1", rollout_steps=60, updates=5
    ),
}


@pytest.fixture(scope="module")
def prototypes():
    """(attack, norm, units) -> an attack of radius 1 at no model; what it learns it learns once."""
    return {
        (name, norm, units): make(None, 1.0, norm, units=units)
        for name, make in ATTACKS.items()
        for norm in NORMS
        for units in ("raw", "normalized")
    }


@st.composite
def cases(draw):
    """observations, epsilon, norm, name of the attack, seed."""
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    rows = draw(st.integers(1, 4))
    width = 16 if dtype is np.float16 else 32
    large = 2.0 ** (15 if dtype is np.float16 else 20)
    observations = draw(hnp.arrays(dtype, (rows, 3), elements=st.floats(-large, large, width=width)))
    epsilon = draw(st.floats(0, 1e3) | st.floats(1e-9, 1e-3))
    return (
        observations,
        epsilon,
        draw(st.sampled_from(["linf", "l2"])),
        draw(st.sampled_from(list(ATTACKS))),
        draw(st.integers(0, 2**32)),
    )


def exact(array):
    return np.vectorize(Fraction, otypes=[object])(array.astype(np.float64))


def sizes(displacements, norm):
    """Exact norms of rows of Fractions: the norm for linf, its square for l2."""
    return [max(map(abs, row)) if norm == "linf" else sum(x * x for x in row) for row in displacements]


@settings(deadline=None, max_examples=150)
@given(cases(), st.booleans())
@example((np.zeros((2, 3)), 5e-324, "l2", "random", 0), False)  # three smallest floats are longer than one
@example((np.zeros((2, 3)), 1e-170, "l2", "random", 0), False)  # whose squares underflow
def test_raw_budgets_hold_to_2_to_the_minus_52(models, prototypes, attacked, case, with_normalization):
    """Also where float16 or float32 would round an observation out of the ball."""
    observations, epsilon, norm, name, seed = case
    model = models["ppo-normalized" if with_normalization else "ppo"]
    # without a normalisation the units are the same
    prototype = prototypes[name, norm, "raw" if with_normalization else "normalized"]
    attack = prototype.scaled(epsilon).against(model)
    result = attacked(attack, observations, seed)
    assert result.dtype == observations.dtype
    budget = Fraction(epsilon) * (1 + Fraction(2) ** -52)
    budget = budget if norm == "linf" else budget**2
    assert max(sizes(exact(result) - exact(observations), norm)) <= budget


SCALE = (0.25, 1.0, 8.0)  # powers of two: dividing by them is exact


@settings(deadline=None, max_examples=40)
@given(cases())
def test_budgets_in_units_of_each_sensor_hold(models, attacked, case):
    observations, epsilon, norm, name, seed = case
    attack = ATTACKS[name](None, 1.0, norm, units=SCALE).scaled(epsilon).against(models["ppo-normalized"])
    result = attacked(attack, observations, seed)
    budget = Fraction(epsilon) * (1 + Fraction(2) ** -52)
    moved = (exact(result) - exact(observations)) / exact(np.array(SCALE))
    assert max(sizes(moved, norm)) <= (budget if norm == "linf" else budget**2)


@pytest.mark.parametrize("name", ["mad", "bias"])
def test_units_of_each_sensor_are_those_of_a_policy_that_reads_in_them(models, observations, attacked, name):
    """The same attack on raw units, where all units are one number; and every sensor reaches its own tolerance."""
    model, observations = models["ppo-normalized"], observations.astype(np.float64)
    one = attacked(ATTACKS[name](model, 0.2, units="raw"), observations)
    np.testing.assert_allclose(
        attacked(ATTACKS[name](model, 0.1, units=[2.0, 2.0, 2.0]), observations), one, rtol=0, atol=1e-12
    )
    moved = attacked(ATTACKS[name](model, 1.0, units=[0.01, 0.02, 0.3]), observations) - observations
    np.testing.assert_allclose(np.abs(moved).max(axis=0), [0.01, 0.02, 0.3], rtol=1e-12)


@settings(deadline=None, max_examples=150)
@given(cases(), st.floats(1e-3, 100), st.sampled_from([1.0, 10.0]))
def test_normalized_budgets_hold_to_rounding(ppo, prototypes, attacked, case, std, clip):
    """In exact arithmetic over the statistics; the slack is a few units in the last place of float64."""
    observations, epsilon, norm, name, seed = case
    vec_normalize = VecNormalize(DummyVecEnv([ppo.env.envs[0].unwrapped.__class__]), clip_obs=clip)
    vec_normalize.obs_rms = RunningMeanStd(shape=(3,))
    vec_normalize.obs_rms.mean = np.array([0.5, -30.0, 0.0])
    vec_normalize.obs_rms.var = np.array([std, 1.0, 0.0]) ** 2
    mean, gain, _ = observation_gains(vec_normalize, 3)

    def seen(raw):
        z = (exact(raw) - exact(mean)) * exact(gain)
        return np.clip(z, Fraction(-clip), Fraction(clip))

    attack = prototypes[name, norm, "normalized"].scaled(epsilon).against(ppo, vec_normalize)
    result = attacked(attack, observations, seed)
    moved = sizes(seen(result) - seen(observations), norm)
    slack = 1e-12 * epsilon + 1e-15 * float(np.abs(mean) @ gain + clip)
    largest = float(max(moved)) if norm == "linf" else float(max(moved)) ** 0.5
    assert largest <= epsilon + slack


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", list(ATTACKS))
def test_what_the_policy_receives_is_inside_the_budget(
    normalized, prototypes, observations, attacked, norm, name
):
    """Through SB3's own VecNormalize; float32 rounds both of its results by half a unit in the last place."""
    venv = normalized.get_vec_normalize_env()
    clean = venv.normalize_obs(observations).astype(np.float64)
    attack = prototypes[name, norm, "normalized"].scaled(0.15).against(normalized)
    shown = venv.normalize_obs(attacked(attack, observations))
    order = np.inf if norm == "linf" else 2
    distances = np.linalg.norm(shown - clean, ord=order, axis=1)
    assert distances.max() <= 0.15 + 3 * np.spacing(np.float32(3.0))
    assert distances.max() > 0.13


def test_sensors_beyond_the_clip_are_shown_inside_it(normalized, attacked):
    """θ̇ = -20 is 7 standard deviations off, clipped at 3: the ball is around the -3 that the policy receives."""
    venv = normalized.get_vec_normalize_env()
    observations = np.tile(np.array([[0.3, -0.2, -20.0]], np.float32), (200, 1))
    shown = venv.normalize_obs(result := attacked(RandomAttack(normalized, 0.5), observations))
    outside = shown[:, 2] == -3.0
    assert 0.3 < outside.mean() < 0.7  # half the draws point outwards, where nothing can be seen
    np.testing.assert_array_equal(result[outside, 2], np.float32(-20.0))
    assert shown[~outside, 2].max() <= -2.5 + 1e-6
    assert shown[~outside, 2].max() > -2.55


@pytest.mark.parametrize(("norm", "dim"), [("linf", 1), ("linf", 3), ("l2", 1), ("l2", 2), ("l2", 5)])
def test_random_points_are_uniform_in_the_ball(norm, dim):
    points = NORMS[norm].uniform(np.random.default_rng(0).standard_normal((20_000, dim + 2)))
    lengths = np.abs(points).max(axis=1) if norm == "linf" else np.linalg.norm(points, axis=1)
    assert stats.kstest(lengths**dim, "uniform").pvalue > 0.01
    assert (
        stats.kstest(np.arctan2(points[:, 0], points[:, -1]) if dim > 1 else points[:, 0], "norm").pvalue
        < 1e-9
    )
    first = np.sign(points[:, 0])
    assert abs(first.mean()) < 4 / np.sqrt(len(points))
    assert np.abs(points.mean(axis=0)).max() < 4 / np.sqrt(len(points))


@settings(deadline=None, max_examples=100)
@given(
    hnp.arrays(np.float64, (5, 3), elements=st.floats(-1e6, 1e6)),
    st.floats(1e-9, 1e6),
    st.sampled_from(list(NORMS)),
)
def test_projection_is_onto_the_ball(vectors, radius, norm):
    radii = np.full((5, 1), radius)
    projected = NORMS[norm].project(vectors, radii)
    assert all(
        size <= (Fraction(radius) if norm == "linf" else Fraction(radius) ** 2)
        for size in sizes(exact(projected), norm)
    )
    order = np.inf if norm == "linf" else 2
    inside = np.linalg.norm(vectors, ord=order, axis=1) < radius * (1 - 1e-11)
    np.testing.assert_array_equal(projected[inside], vectors[inside])
    np.testing.assert_allclose(np.linalg.norm(projected[~inside], ord=order, axis=1), radius, rtol=1e-11)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_steepest_directions_reach_the_dual_norm(norm, dual):
    gradients = np.random.default_rng(0).normal(size=(50, 4))
    directions = NORMS[norm].steepest(gradients)
    rise = (gradients * directions).sum(axis=1)
    np.testing.assert_allclose(rise, np.linalg.norm(gradients, ord=dual, axis=1))
    assert not NORMS[norm].steepest(np.zeros((2, 4))).any()
