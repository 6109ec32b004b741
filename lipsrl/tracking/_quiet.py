"""Looking at an agent in the middle of its training, without a trace."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from lipsrl.policies._unwrapped import policy_of


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Global random numbers (Python, NumPy, torch) and the policy's mode are afterwards what they were."""
    policy = policy_of(model)
    training = policy.training
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the very generator that must not move
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        policy.set_training_mode(training)
