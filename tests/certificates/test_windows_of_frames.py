"""What quadratic forms say of windows, against brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipsrl.certificates.bounds import _windows
from lipsrl.certificates.bounds._chain import Chain
from lipsrl.certificates.bounds._lipsdp import lipsdp_bound
from lipsrl.certificates.bounds._multipliers import window_forms
from lipsrl.certificates.bounds._windows import (
    constant_gain,
    each_gain,
    grid_size,
    lag_sums,
    largest,
    largest_at,
    masked_constant_gain,
    newest_gain,
    of_sensor,
    signal_gain,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def form_of(weight: torch.Tensor) -> torch.Tensor:
    return weight.mT @ weight


CASES = [(1, 1), (2, 1), (3, 2), (8, 1), (5, 3)]


@pytest.mark.parametrize(("frames", "size"), CASES)
def test_single_frames_and_constants(frames, size):
    weight = draw(4, frames * size, seed=frames)
    form, blocks = form_of(weight), weight.reshape(4, frames, size)
    assert largest(form) == pytest.approx(float(torch.linalg.svdvals(weight)[0]), rel=1e-9)
    assert newest_gain(form, frames) == pytest.approx(float(torch.linalg.svdvals(blocks[:, -1])[0]), rel=1e-9)
    partial = [float(torch.linalg.svdvals(blocks[:, frames - j :].sum(1))[0]) for j in range(1, frames + 1)]
    assert constant_gain(form, frames) == pytest.approx(max(partial), rel=1e-9)
    assert constant_gain(form, frames) >= max(partial)
    alone = of_sensor(form, frames, size - 1)
    assert torch.equal(alone, form_of(blocks[:, :, -1])) or torch.allclose(
        alone, form_of(blocks[:, :, -1]), rtol=1e-12
    )


@pytest.mark.parametrize(("frames", "size"), CASES)
def test_signals_at_every_frequency(frames, size):
    weight = draw(4, frames * size, seed=frames) * (-1.0) ** torch.arange(frames).repeat_interleave(size)
    form, blocks = form_of(weight), weight.reshape(4, frames, size)
    omega = torch.linspace(0, math.pi, 4001, dtype=torch.float64)
    waves = torch.exp(1j * omega.unsqueeze(1) * torch.arange(frames))
    true = float(torch.linalg.svdvals(torch.einsum("gk,akd->gad", waves, blocks.to(waves.dtype))).max())
    assert true <= signal_gain(form, frames) <= true * (1 + 1e-4)
    single = [float(torch.linalg.svdvals(blocks[:, i])[0]) for i in range(frames)]
    assert signal_gain(form, frames) <= each_gain(form, frames)
    assert each_gain(form, frames) == pytest.approx(
        min(math.sqrt(frames) * largest(form), sum(single)), rel=1e-9
    )


@given(st.integers(2, 20), st.floats(0, 1), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_what_lies_between_the_grid_is_covered(frames, place, seed):
    """Also a peak as far from the grid as can be, and as sharp as its degree allows."""
    count, degree = grid_size(frames), frames - 1
    assert 1 / math.cos(math.pi * degree / count) <= 1 + 1e-4
    assert count > 2 * degree
    peak = (2 * math.pi / count * (seed + place)) % math.pi
    # z_t + e^{jnθ} z_{t-n} of a complex signal z = x + jy: |1 + e^{jn(θ - ω)}|² is 4 at ω = θ
    c, s = math.cos(degree * peak), math.sin(degree * peak)
    weight = torch.zeros(2, frames, 2, dtype=torch.float64)
    weight[:, -1] = torch.eye(2, dtype=torch.float64)
    weight[:, 0] += torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    form = form_of(weight.reshape(2, -1))
    lags, _ = lag_sums(form, frames)
    near = peak + torch.linspace(-1e-3, 1e-3, 201, dtype=torch.float64)
    assert float(largest_at(lags, near).max()) == pytest.approx(4.0, rel=1e-6)
    assert 2.0 <= signal_gain(form, frames) <= 2.0 * (1 + 1e-4)


@pytest.mark.parametrize(("frames", "size"), [(2, 1), (4, 1), (8, 1), (3, 2), (4, 3)])
@pytest.mark.parametrize("coarse", [False, True])
def test_a_clip_leaves_any_part_of_each_frame(frames, size, coarse, monkeypatch):
    if coarse:
        monkeypatch.setattr(_windows, "MOST_SUBSETS", 0)
    weight = draw(3, frames * size, seed=frames)
    bound = masked_constant_gain(form_of(weight), frames)
    worst = 0.0
    for theta in itertools.product((0.0, 1.0), repeat=frames * size):
        masked = (weight * torch.tensor(theta, dtype=torch.float64)).reshape(3, frames, size).sum(1)
        worst = max(worst, float(torch.linalg.svdvals(masked)[0]))
    assert worst <= bound
    if size == 1 and not coarse:
        assert bound == pytest.approx(worst, rel=1e-9)
    assert constant_gain(form_of(weight), frames) <= bound * (1 + 1e-12)


def network(frames: int, size: int, seed: int, hidden: int = 10) -> Chain:
    weights = (
        draw(hidden, frames * size, seed=seed),
        draw(hidden, hidden, seed=seed + 1) / 3,
        draw(2, hidden),
    )
    zero, one = torch.zeros(hidden, dtype=torch.float64), torch.ones(hidden, dtype=torch.float64)
    return Chain(weights, (zero, zero), (one, one))


@pytest.mark.parametrize(("frames", "size"), [(2, 1), (4, 2), (8, 3)])
def test_every_form_bounds_every_displacement(frames, size):
    chain = network(frames, size, frames)
    whole = lipsdp_bound(chain)
    assert whole is not None
    forms = window_forms(chain, frames, whole.multipliers)
    assert len(forms) == 5  # the whole, the newest, the sum, two for signals
    w0, w1, w2 = chain.weights
    x, step = draw(4096, frames * size, seed=9), draw(4096, frames * size, seed=10)
    for length in (1e-3, 1.0, 30.0):
        y = [torch.relu(torch.relu(v @ w0.mT) @ w1.mT) @ w2.mT for v in (x, x + length * step)]
        moved = (y[1] - y[0]).square().sum(1)
        for form in forms:
            allowed = length**2 * torch.einsum("ni,ij,nj->n", step, form, step)
            assert bool((moved <= allowed * (1 + 1e-9)).all())
    gains = [signal_gain(form, frames) for form in forms]
    assert min(gains) == min(gains[3:])
    assert min(gains) < math.sqrt(frames) * whole.lipschitz


def test_a_form_of_many_sensors_falls_back_to_the_window(monkeypatch):
    form = form_of(draw(4, 12))
    exact = signal_gain(form, 3)
    monkeypatch.setattr(_windows, "LARGEST_GRID", 1)
    assert signal_gain(form, 3) == each_gain(form, 3)
    assert signal_gain(form, 3) >= exact
    monkeypatch.undo()
    monkeypatch.setattr(_windows, "CHUNK", 1)
    assert signal_gain(form, 3) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-140, 1e-20, 1e20, 1e140])
def test_large_and_small_units(scale):
    form = form_of(draw(4, 12)) * scale
    for gain in (newest_gain, constant_gain, signal_gain, masked_constant_gain):
        assert gain(form, 3) == pytest.approx(gain(form_of(draw(4, 12)), 3) * np.sqrt(scale), rel=1e-9)


def test_nothing_moves_nothing():
    zero = torch.zeros(6, 6, dtype=torch.float64)
    assert (
        largest(zero) == newest_gain(zero, 3) == constant_gain(zero, 3) == masked_constant_gain(zero, 3) == 0
    )
    assert signal_gain(zero, 3) == 0
