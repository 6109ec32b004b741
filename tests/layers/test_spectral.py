"""Spectral norms and projections of matrices that are large enough for their Gram matrix."""

from __future__ import annotations

import pytest
import torch

from lipsrl.layers import spectral_norm
from lipsrl.layers._linalg import LARGE, MARGIN, clip_singular_values, random_orthonormal, smaller_gram
from lipsrl.layers.spectral import Spectral, clip_by_gram

SHAPES = [(512, 64), (130, 300), (300, 130), (1, LARGE + 1), (160, 160)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def matrices(rows, columns):
    yield "Gaussian", torch.randn(rows, columns, dtype=torch.float64)
    yield "orthonormal", random_orthonormal(rows, columns)
    yield "rank one", torch.randn(rows, 1, dtype=torch.float64) @ torch.randn(1, columns, dtype=torch.float64)
    yield "positive", torch.rand(rows, columns, dtype=torch.float64)
    yield "one entry", torch.zeros(rows, columns, dtype=torch.float64).index_fill_(1, torch.tensor([0]), 1.0)
    yield "graded", random_orthonormal(rows, columns) * torch.logspace(0, -12, columns, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_norm_of_large_matrices_is_never_below_the_svd(shape):
    for scale in [1e-200, 1e-20, 1.0, 1e20, 1e200]:
        for name, matrix in matrices(*shape):
            assert matrix.numel() > LARGE
            exact = float(torch.linalg.svdvals(matrix)[0])
            assert exact * (1 - 1e-14) <= spectral_norm(matrix * scale) / scale <= exact * (1 + 2e-9), name


@pytest.mark.parametrize("shape", SHAPES)
def test_clipping_by_the_gram_matrix_is_that_of_the_svd(shape):
    for name, matrix in matrices(*shape):
        matrix = 1.4 * matrix / torch.linalg.svdvals(matrix)[0]
        found = clip_by_gram(matrix, smaller_gram(matrix), 1.0)
        assert float((found - clip_singular_values(matrix, 1.0)).abs().max()) <= 1e-12, name


@pytest.mark.parametrize("excess", [1e-5, 1e-2, 0.3, 3.0, 1e20])
@pytest.mark.parametrize("slack", [MARGIN, 0.01])
@pytest.mark.parametrize("shape", [(256, 100), (100, 256)])
def test_projection_of_a_large_layer(shape, slack, excess):
    layer = Spectral(*shape, bound=1.5)
    layer.slack = slack
    noise = torch.randn(shape[::-1])
    with torch.no_grad():
        layer.weight.add_(noise * (1.5 * excess / spectral_norm(noise)))
    assert layer.lipschitz_bound() > 1.5
    nearest = clip_singular_values(layer.weight, 1.5 * (1 - slack))
    assert layer.project() is True
    assert 1.5 * (1 - slack - 1e-4) <= layer.lipschitz_bound() <= 1.5
    assert float((layer.weight.detach() - nearest).abs().max()) <= 1e-5
    before = layer.weight.detach().clone()
    assert layer.project() is False
    assert torch.equal(before, layer.weight)


def test_slack_leaves_room_for_small_steps():
    layer = Spectral(256, 100)
    layer.slack = 0.01
    with torch.no_grad():
        layer.weight.mul_(1.02)
        assert layer.project() is True
        layer.weight.mul_(1.009)
        assert layer.project() is False
        layer.weight.mul_(1.002)
        assert layer.project() is True


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [(0, 0), (99, 255), (50, 3)])
def test_weights_that_are_not_finite_are_refused_and_left(place, value):
    layer = Spectral(256, 100)
    with torch.no_grad():
        layer.weight[place] = value
    before = layer.weight.detach().clone()
    for act in (layer.project, layer.lipschitz_bound):
        with pytest.raises(ValueError, match="NaN or infinite"):
            act()
    assert torch.equal(before.nan_to_num(), layer.weight.detach().nan_to_num())
