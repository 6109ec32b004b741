"""Orthogonal families stay orthogonal: |σ - 1| ≤ 1e-5 in float32, however long they train.

A retraction could drift with the number of steps, so it is run for 10⁵ of them (slow). A parametrised layer has no
memory of its steps: what counts is how large its parameters have become, so fewer steps at a large rate are run.
"""

from __future__ import annotations

import pytest
import torch

from lipsrl.layers import LAYERS, project_after_step

TOLERANCE = 1e-5


def worst_singular_value(family: str, n: int, steps: int, lr: float) -> float:
    """|σ - 1| after ``steps`` Adam steps on targets that keep changing."""
    torch.manual_seed(0)
    layer = LAYERS[family](n, n, None)
    optimizer = project_after_step(torch.optim.Adam(layer.parameters(), lr=lr), layer)
    x, target = torch.randn(8, n), torch.randn(8, n)
    for step in range(steps):
        if step % 100 == 0:
            x, target = torch.randn(8, n), torch.randn(8, n)
        loss = (layer(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    layer.eval()
    layer.project()
    weight = layer.acting_factors().input.detach()
    assert weight.dtype == torch.float32
    return float((torch.linalg.svdvals(weight.double()) - 1).abs().max())


@pytest.mark.parametrize("lr", [1e-3, 1e-1])
@pytest.mark.parametrize("family", ["orthogonal", "cayley", "expm"])
def test_short(family, lr):
    assert worst_singular_value(family, 33, 200, lr) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("n", [64, 512])
def test_retraction_after_many_steps(n):
    assert worst_singular_value("orthogonal", n, 100_000, 1e-3) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("n", [64, 512])
@pytest.mark.parametrize("family", ["cayley", "expm"])
def test_map_of_large_parameters(family, n):
    assert worst_singular_value(family, n, 300, 1.0) <= TOLERANCE
