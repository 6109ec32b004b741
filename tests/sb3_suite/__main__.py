"""Run stable-baselines3's own tests on our policies: ``python -m tests.sb3_suite [pytest arguments]``.

The tests are those of the installed release, fetched from the package index into a temporary folder.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

FILES = (
    "run", "save_load", "predict", "spaces", "deterministic", "train_eval_mode", "callbacks", "dict_env", "cnn", "sde",
    "vec_normalize",
)  # fmt: skip

#: Test (or how its name begins) → why it cannot hold for a constrained policy. docs/policies.md shows this table.
DESELECTED = {
    "test_run.py::test_ppo_warnings": "SB3 advises against the GPU only where the class is called ActorCriticPolicy",
    "test_cnn.py::test_features_extractor_target_net[False-TD3]": (
        "expects two fresh extractors to differ in every parameter; ours start with biases of 0"
    ),
    "test_cnn.py::test_image_like_input[True": "expects an AssertionError for what is no image; ours is a ValueError",
}

#: Batch normalisation has no Lipschitz constant: such an extractor is refused.
KEYWORDS = "not batch_norm"


def fetch(folder: Path) -> Path:
    """Unpack the source distribution of the installed stable-baselines3 into ``folder``."""
    version = importlib.metadata.version("stable-baselines3")
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--no-binary", "stable-baselines3"]
    subprocess.run([*pip, "--dest", str(folder), f"stable-baselines3=={version}"], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="sb3-suite-") as name:
        source = fetch(Path(name))
        deselected = [option for test in DESELECTED for option in ("--deselect", f"tests/{test}")]
        command = [
            sys.executable, "-m", "pytest", "-q", "-p", "tests.sb3_suite.aliases", "-m", "not expensive",
            "-k", KEYWORDS, "-c", str(source / "pyproject.toml"), "--rootdir", str(source), *deselected, *arguments,
            *(str(source / "tests" / f"test_{file}.py") for file in FILES),
        ]  # fmt: skip
        # the checkout in front, but not the unpacked package: the installed one is tested
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
        return subprocess.run(command, cwd=name, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
