"""The linear-quadratic task against its theory, and the theory against simulation and lipsrl's feasibility floor."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm

from envs import get_task
from envs.linear_quadratic import PLANT, START, STEPS
from envs.linear_quadratic_theory import (
    cost_of_noise,
    expected_cost,
    kalman_cost,
    kalman_filter,
    optimal_gain,
    smallest_stabilising_gain,
    unstable_plant,
)
from lipsrl.certificates import feasibility_floor

TASK = get_task("linear-quadratic")
WIDE = START**2 * np.eye(2)


def radius(k):
    return np.abs(np.linalg.eigvals(PLANT.a - PLANT.b @ np.atleast_2d(k))).max()


def simulated(k, noise, steps, n=20_000, filtered=False, seed=0):
    """Costs per episode (n,) without walls, from the task's own start."""
    rng = np.random.default_rng(seed)
    x, total = rng.normal(0.0, START, (n, 2)), np.zeros(n)
    gain = kalman_filter(PLANT, noise)[0] if filtered else None
    estimate = np.zeros_like(x)
    for _ in range(steps):
        o = x + noise * rng.normal(size=x.shape)
        estimate = o if gain is None else estimate + (o - estimate) @ gain.T
        u = -estimate @ np.atleast_2d(k).T
        total += np.einsum("ni,ij,nj->n", x, PLANT.q, x) + PLANT.r[0, 0] * u[:, 0] ** 2
        x = x @ PLANT.a.T + u @ PLANT.b.T
        estimate = estimate @ PLANT.a.T + u @ PLANT.b.T
    return total


def test_the_environment_is_the_plant():
    env = TASK.make()
    env.reset(seed=0)
    x = env.unwrapped.state.copy()
    k, _ = optimal_gain(PLANT)
    for _ in range(STEPS):
        u = -k @ x
        expected = -(x @ PLANT.q @ x + u @ PLANT.r @ u)
        observation, reward, terminated, truncated, _ = env.step(u)
        x = PLANT.a @ x + PLANT.b @ u
        assert reward == pytest.approx(expected)
        assert observation == pytest.approx(x, abs=1e-6)
    assert truncated
    assert not terminated


def test_the_plant_is_the_differential_equation():
    """The exponential of x'' = rate x + gain u, with u as a third, constant state."""
    plant = unstable_plant(3.0, 2.0, 0.1, (1, 1), 1)
    flow = expm(0.1 * np.array([[0.0, 1.0, 0.0], [3.0, 0.0, 2.0], [0.0, 0.0, 0.0]]))
    assert plant.a == pytest.approx(flow[:2, :2])
    assert plant.b == pytest.approx(flow[:2, 2:])


def test_no_gain_near_the_best_is_better():
    k, p = optimal_gain(PLANT)
    best = expected_cost(PLANT, k, steps=2000, start=WIDE)
    assert best == pytest.approx(float(np.trace(p @ WIDE)))
    for move in np.array([[0.1, 0], [-0.1, 0], [0, 0.1], [0, -0.1]]):
        assert expected_cost(PLANT, k + move, steps=2000, start=WIDE) > best
    assert TASK.reference_return == pytest.approx(-best, abs=0.1)


def test_the_smallest_stabilising_gain():
    """A grid of all gains, and the floor that lipsrl finds in the environment, by other means."""
    least, at = smallest_stabilising_gain(PLANT)
    angles = np.linspace(0, 2 * np.pi, 181)
    for angle in angles:
        direction = np.array([np.cos(angle), np.sin(angle)])
        assert radius(0.995 * least * direction) > 1
    assert radius(at) == pytest.approx(1, abs=1e-6)
    assert radius(at + 0.01 * (optimal_gain(PLANT)[0][0] - at)) < 1  # the set is convex
    env = TASK.make()
    env.reset(seed=0)
    floor = feasibility_floor(env, *TASK.equilibrium)
    assert floor.floor == pytest.approx(least, rel=1e-3)
    with pytest.raises(ValueError, match="two states and one action"):
        smallest_stabilising_gain(type(PLANT)(np.eye(3), np.ones((3, 1)), np.eye(3), np.eye(1)))


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
def test_the_cost_of_noise_is_what_a_simulation_pays(noise):
    k, _ = optimal_gain(PLANT)
    for gain in (k, 0.5 * k):
        costs = simulated(gain, noise, STEPS, n=4000)
        error = costs.std() / np.sqrt(len(costs))
        assert costs.mean() == pytest.approx(
            expected_cost(PLANT, gain, steps=STEPS, start=WIDE, noise=noise), abs=4 * error
        )
        tail = costs.mean() - simulated(gain, noise, 50, n=4000).mean()
        assert tail / (STEPS - 50) == pytest.approx(cost_of_noise(PLANT, gain, noise), rel=0.1, abs=1e-3)


def test_a_kalman_filter_pays_what_is_said_and_less_than_any_gain():
    noise = 0.1
    k, _ = optimal_gain(PLANT)
    tail = (
        simulated(k, noise, 400, n=2000, filtered=True).mean() - simulated(k, noise, 100, 2000, True).mean()
    )
    assert tail / 300 == pytest.approx(kalman_cost(PLANT, noise), rel=0.05)
    statics = [cost_of_noise(PLANT, scale * k, noise) for scale in np.linspace(0.3, 1, 8)]
    assert kalman_cost(PLANT, noise) < min(statics)
    with pytest.raises(ValueError, match="does not stabilise"):
        cost_of_noise(PLANT, 0.01 * k, noise)


def test_the_walls_are_far_from_good_controllers():
    env, (k, _) = TASK.make(), optimal_gain(PLANT)
    worst = 0.0
    for seed in range(20):
        x, _ = env.reset(seed=seed)
        for _ in range(40):
            u = -k @ x
            worst = max(worst, abs(u[0]) / 5, abs(x[0]) / 2, abs(x[1]) / 4)
            x = env.step(u)[0]
    assert worst < 1
