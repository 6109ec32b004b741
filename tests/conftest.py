"""For all tests."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def sb3_logs_here(tmp_path_factory):
    """SB3 makes a folder for every learn() without a logger: not in the system's temporary folder, for ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SB3_LOGDIR", str(tmp_path_factory.mktemp("sb3")))
        yield
