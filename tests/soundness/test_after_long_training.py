"""What a careless training leaves behind keeps its bound: family × width × optimizer, copies and averages too.

The long form (10⁴ steps, all widths) is marked slow: ``pytest -m slow tests/soundness/test_after_long_training.py``.
"""

from __future__ import annotations

import copy

import pytest
import torch

from lipsrl.layers import LAYERS, LipschitzLayer, project_after_step
from tests.families import COMBINATIONS, FAMILIES, in_turn, push, steepest

BOUND = 2.5
SIZES = [(1, 3), (3, 1), (3, 17), (17, 3), (17, 64), (64, 17), (64, 64)]
WIDE = [(257, 3), (3, 257), (64, 257), (257, 64), (257, 257)]
OPTIMIZERS = {
    "Adam 1e-1": (torch.optim.Adam, {"lr": 1e-1}),
    "Adam 1e-3": (torch.optim.Adam, {"lr": 1e-3}),
    "AdamW 1e-1": (torch.optim.AdamW, {"lr": 1e-1, "weight_decay": 1e-1}),
}


def check(layer: LipschitzLayer, rounds: int = 4) -> None:
    """In both modes: at most its bound, and not below the slope that a search finds."""
    layer.project()
    for mode in (True, False):
        layer.train(mode)
        bound = layer.lipschitz_bound()
        assert 0 <= bound <= BOUND * (1 + 1e-6)
        assert steepest(layer, layer.in_features, layer.norm, rounds) <= bound * (1 + 1e-9)
    layer.train()


def train_and_check(family: str, size: tuple[int, int], optimizer: str, steps: int, rounds: int) -> None:
    torch.manual_seed(0)
    layer = LAYERS[family](*size, "relu", bound=BOUND)
    cls, options = OPTIMIZERS[optimizer]
    online = project_after_step(cls(layer.parameters(), **options), layer)
    average = copy.deepcopy(layer)
    for _ in range(10):
        push(layer, online, size[0], steps // 10)
        layer.project()
        with torch.no_grad():
            for target, source in zip(average.parameters(), layer.parameters(), strict=True):
                target.data.mul_(0.5).add_(source.data, alpha=0.5)
        assert average.lipschitz_bound() <= BOUND * (1 + 1e-6)
    check(layer, rounds)
    check(average, rounds)
    twin, twin_optimizer = copy.deepcopy((layer, online))
    push(twin, twin_optimizer, size[0], steps // 10)
    check(twin, rounds)


@pytest.mark.parametrize(
    ("family", "size", "optimizer"), in_turn(FAMILIES, [(3, 17), (17, 3), (64, 17)], list(OPTIMIZERS))
)
def test_short(family, size, optimizer):
    train_and_check(family, size, optimizer, steps=100, rounds=1)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_long(family, size, optimizer):
    train_and_check(family, size, optimizer, steps=10_000, rounds=2)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("optimizer", ["Adam 1e-1", "AdamW 1e-1"])
@pytest.mark.parametrize("size", WIDE)
@pytest.mark.parametrize("family", FAMILIES)
def test_long_and_wide(family, size, optimizer):
    """A parametrised layer has no memory of its steps but its parameters, and its map is slow at this width."""
    train_and_check(family, size, optimizer, steps=10_000 if LAYERS[family].projected else 1000, rounds=1)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("size", [(3, 17), (17, 3), (64, 64), (257, 64), (64, 257)])
@pytest.mark.parametrize(("family", "activation"), COMBINATIONS)
def test_every_activation(family, activation, size):
    torch.manual_seed(0)
    layer = LAYERS[family](*size, activation, bound=BOUND)
    optimizer = project_after_step(torch.optim.Adam(layer.parameters(), lr=1e-1), layer)
    push(layer, optimizer, size[0], 100)
    check(layer, 2)
