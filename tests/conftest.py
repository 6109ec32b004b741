"""For all tests."""

import itertools
import os
import random

# before torch is imported, and for the processes that tests start: workers of xdist share the cores, and small
# matrices on several threads then wait for one another (nine times as long on two busy cores)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="leave out the test functions in tests/long.txt")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--quick"):
        return
    from tests.durations import LONG, base

    long = set(LONG.read_text(encoding="utf-8").split())
    left_out = [item for item in items if base(item.nodeid) in long]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if base(item.nodeid) not in long]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Every test starts from the same seeds, whatever ran before it in its process, so that a failure can be repeated.

    Spaces and environments that nobody seeded take theirs from the operating system: here from a counter.
    """
    import torch
    from gymnasium.utils import seeding

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 -- SB3 draws from it
    torch.manual_seed(0)
    seeding.np_random = _counted(getattr(seeding.np_random, "__wrapped__", seeding.np_random))


def _counted(np_random):
    seeds = itertools.count()

    def counted(seed=None):
        return np_random(next(seeds) if seed is None else seed)

    counted.__wrapped__ = np_random
    return counted


@pytest.fixture(scope="session", autouse=True)
def whole_effort():
    """How long a certificate's search for the steepest pair takes; in the tests a fifth. Upper bounds are as ever."""
    from lipsrl.certificates.deterministic import _pairs

    own = _pairs._effort
    with pytest.MonkeyPatch.context() as patch:
        steps = {"keep": 16, "rounds": 5, "steps": 24}
        patch.setattr(_pairs, "_effort", lambda dim: steps)
        yield own


@pytest.fixture
def full_searches(monkeypatch, whole_effort):
    """For tests of how much the search finds."""
    monkeypatch.setattr("lipsrl.certificates.deterministic._pairs._effort", whole_effort)


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """Where a network lives; a test that takes it runs on a GPU, too, where there is one."""
    if request.param == "cuda":
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device here")
    return request.param


@pytest.fixture(scope="session", autouse=True)
def sb3_logs_here(tmp_path_factory):
    """SB3 makes a folder for every learn() without a logger: not in the system's temporary folder, for ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SB3_LOGDIR", str(tmp_path_factory.mktemp("sb3")))
        yield
