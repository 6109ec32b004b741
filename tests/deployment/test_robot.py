"""On a machine with NumPy and nothing else, a policy loads and acts as it did at home."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.deployment.window_models import trained

ABSENT = ("torch", "stable_baselines3", "gymnasium", "pandas", "scipy", "safetensors", "wandb", "onnx")
ROOT = Path(__file__).resolve().parents[2]

FORBID = f"""
import sys
class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ImportError(f"{{name}} is not on this robot")
sys.meta_path.insert(0, Forbid())
"""

DRIVE = f"""
import sys
import lipsrl
policy = lipsrl.load_policy(sys.argv[1])
import numpy as np
observations = np.random.default_rng(0).standard_normal((50, 3))
actions = np.concatenate([policy(observations), [policy.predict(o)[0] for o in observations]])
from lipsrl.disturbances import GaussianNoise
assert GaussianNoise(0.1)(observations[0]).shape == (3,)
loaded = {{name.partition(".")[0] for name in sys.modules}} & set({ABSENT})
assert not loaded, loaded
print(policy.certificate["upper_bound"], *actions.ravel().tolist())
"""


def numpy_only(folder):
    """A folder with NumPy and lipsrl; ``python -S`` sees no other package."""
    site = Path(np.__file__).parents[1]
    for package in [site / "numpy", *site.glob("numpy.libs"), ROOT / "lipsrl"]:
        (folder / package.name).symlink_to(package, target_is_directory=True)
    return ["-S"], folder


def imports_forbidden(_):
    return [], ROOT


@pytest.mark.parametrize(("setting", "prelude"), [(numpy_only, ""), (imports_forbidden, FORBID)])
def test_a_robot_needs_numpy_only(exported, tmp_path, setting, prelude):
    import lipsrl

    model, policy = exported("ppo-lipschitz")
    path = lipsrl.export(model, tmp_path / "policy.safetensors")
    (tmp_path / "site").mkdir()
    options, search = setting(tmp_path / "site")
    result = subprocess.run(
        [sys.executable, *options, "-W", "error", "-c", prelude + DRIVE, str(path)],
        env={**os.environ, "PYTHONPATH": str(search), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    bound, *actions = map(float, result.stdout.split())
    observations = np.random.default_rng(0).standard_normal((50, 3))
    assert bound == policy.certificate["upper_bound"]
    expected = [policy(observations), [policy(o) for o in observations]]
    np.testing.assert_array_equal(np.array(actions).reshape(2, 50, 1), np.array(expected, np.float64))


DRIVE_WITH_MEMORY = f"""
import sys
import lipsrl
policy = lipsrl.load_policy(sys.argv[1])
import numpy as np
observations = np.random.default_rng(0).standard_normal((6, 3))
actions = [policy(observation) for observation in observations]
policy.reset()
actions += [policy(observations[0]), policy.stateless(observations[-policy.frames:])]
loaded = {{name.partition(".")[0] for name in sys.modules}} & set({ABSENT})
assert not loaded, loaded
print(*np.ravel(actions).tolist())
"""


def test_a_policy_with_memory_needs_no_more(tmp_path):
    import lipsrl

    path = lipsrl.export(trained("inside"), tmp_path / "policy.safetensors")
    policy = lipsrl.load_policy(path)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORBID + DRIVE_WITH_MEMORY, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    observations = np.random.default_rng(0).standard_normal((6, 3))
    actions = [policy(observation) for observation in observations]
    expected = np.ravel([*actions, actions[0], policy.stateless(observations[-policy.frames :])])
    np.testing.assert_array_equal(np.array(result.stdout.split(), np.float64), expected.astype(np.float64))
