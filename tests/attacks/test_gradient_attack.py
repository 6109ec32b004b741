"""The walk that every gradient attack shares, on objectives made for it: a new attack is one function."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lipsrl.attacks import GradientAttack


class Ripples(GradientAttack):
    """Many hills of equal height: the walk steps over them."""

    name = "test-ripples"

    def objective(self, clean):
        return lambda seen: torch.sin(40 * (seen - clean)).sum(dim=1)


class Plateau(GradientAttack):
    """Flat up to a quarter of the radius (0.1) from the centre, then rising, along the first sensor only."""

    name = "test-plateau"

    def objective(self, clean):
        return lambda seen: torch.relu((seen - clean)[:, 0].abs() - 0.025)


class Downhill(GradientAttack):
    """Lowest where the first sensor reads least, as a critic's value might be: its gradient vanishes nowhere."""

    name = "test-downhill"

    def objective(self, clean):
        return lambda seen: -seen[:, 0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_best_point_of_the_walk_counts(ppo, observations, attacked, norm):
    rows = observations.astype(np.float64)
    passes = []

    class Recording(Ripples):
        def objective(self, clean):
            inner = super().objective(clean)

            def recorded(seen):
                values = inner(seen)
                passes.append(values.detach().numpy())
                return values

            return recorded

    attack = Recording(ppo, 0.3, norm, steps=9)
    reached = np.sin(40 * (attacked(attack, rows) - rows)).sum(axis=1)
    assert len(passes) == 10
    np.testing.assert_allclose(reached, np.max(passes, axis=0), atol=1e-9)
    assert (np.max(passes, axis=0) > passes[-1] + 0.01).mean() > 0.3


def test_noise_leads_out_of_flat_places(ppo, observations, attacked):
    """The first step, a tenth of the radius, sees no slope in any row."""
    delta = np.abs(attacked(Plateau(ppo, 0.1), observations) - observations)[:, 0]
    assert (delta > 0.03).mean() > 0.3


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_objective_without_a_vanishing_gradient(ppo, observations, attacked, norm):
    delta = attacked(Downhill(ppo, 0.1, norm), observations.astype(np.float64)) - observations
    assert (delta[:, 0] <= -0.09 + 1e-9).all()


def test_more_steps_are_smaller_steps(ppo, observations, attacked):
    rows = observations.astype(np.float64)
    delta = attacked(Downhill(ppo, 0.1, steps=50), rows) - rows
    assert (delta[:, 0] <= -0.098 + 1e-9).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_long_steps_are_projected(ppo, observations, attacked, norm):
    """One step as long as the radius goes from anywhere to the best point of an l-inf ball, near it in l2."""
    rows = observations.astype(np.float64)
    delta = attacked(Downhill(ppo, 0.1, norm, steps=2, step_size=2.0), rows) - rows
    order = np.inf if norm == "linf" else 2
    assert (np.linalg.norm(delta, ord=order, axis=1) <= 0.1 + 1e-12).all()
    assert (delta[:, 0] <= -0.095).all()


def test_restarts_find_higher_hills(ppo, observations, attacked):
    """The first walk is the same; the others begin anywhere in the ball."""
    rows = observations.astype(np.float64)

    def height(restarts):
        attack = Ripples(ppo, 0.3, steps=3, step_size=0.02, restarts=restarts)
        return np.sin(40 * (attacked(attack, rows) - rows)).sum(axis=1)

    once, often = height(1), height(6)
    assert (often >= once - 1e-12).all()
    assert often.mean() > once.mean() + 0.5
