"""For all tests."""

import os

# before torch is imported, and for the processes that tests start: workers of xdist share the cores, and small
# matrices on several threads then wait for one another (nine times as long on two busy cores)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session", autouse=True)
def sb3_logs_here(tmp_path_factory):
    """SB3 makes a folder for every learn() without a logger: not in the system's temporary folder, for ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SB3_LOGDIR", str(tmp_path_factory.mktemp("sb3")))
        yield
