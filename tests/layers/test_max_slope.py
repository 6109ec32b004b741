"""The slopes that certificates of stock models rely on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lipsrl.layers import max_slope
from lipsrl.layers.activations import MAX_SLOPE


@pytest.mark.parametrize("cls", sorted(MAX_SLOPE, key=lambda c: c.__name__))
def test_never_below_the_steepest_place_and_close_to_it(cls):
    x = torch.linspace(-30, 30, 600_001, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(cls()(x).sum(), x)[0].abs().max().item()
    assert slope <= max_slope(cls()) * (1 + 1e-12)
    assert slope >= 0.999 * max_slope(cls())


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.LeakyReLU(2.0), 2.0),
        (nn.ELU(3.0), 3.0),
        (nn.CELU(3.0), 1.0),
        (nn.Softshrink(), None),
        (nn.GELU("tanh"), None),
    ],
)
def test_instances_with_their_own_arguments(module, expected):
    assert max_slope(module) == expected
