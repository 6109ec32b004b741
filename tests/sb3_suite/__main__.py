"""Run SB3's and sb3-contrib's own tests on our policies: ``python -m tests.sb3_suite [pytest arguments]``.

The tests are those of the installed releases, fetched from the package index into a temporary folder. Every file runs
that touches a policy; ``FILES`` names them and ``LEFT_OUT`` the others.
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

#: Distribution → test files that run.
FILES = {
    "stable-baselines3": (
        "buffers", "callbacks", "cnn", "custom_policy", "deterministic", "dict_env", "her", "identity", "logger",
        "monitor", "n_step_replay", "predict", "run", "save_load", "sde", "spaces", "tensorboard", "train_eval_mode",
        "vec_check_nan", "vec_normalize", "vec_stacked_obs",
    ),
    "sb3-contrib": (
        "cnn", "deterministic", "dict_env", "distributions", "identity", "invalid_actions", "run", "save_load",
        "train_eval_mode", "utils",
    ),
}  # fmt: skip

#: File → why it says nothing about a policy class.
LEFT_OUT = {
    "distributions": "SB3's: distributions alone",
    "env_checker": "environments alone",
    "envs": "environments alone",
    "gae": "returns and advantages; builds a policy class of its own",
    "preprocessing": "spaces alone",
    "utils": "SB3's: helper functions alone",
    "vec_envs": "vector environments alone",
    "vec_extract_dict_obs": "vector environments alone",
    "vec_monitor": "vector environments alone",
    "lstm": "sb3-contrib's: RecurrentPPO, which lipsrl refuses by an error that says why",
}

#: Test (or how its name begins) → why it cannot hold for a constrained policy. docs/policies.md shows this table.
DESELECTED = {
    "stable-baselines3": {
        "test_run.py::test_ppo_warnings": "SB3 advises against the GPU only where a class is called ActorCriticPolicy",
        "test_cnn.py::test_image_like_input[True": "expects an AssertionError for what is no image; a ValueError here",
        "test_cnn.py::test_features_extractor_target_net[False-TD3]": "compares the actor's extractor, which is ours, "
        "entry by entry with the free critic's, which is SB3's own",
    },
    "sb3-contrib": {
        "test_cnn.py::test_image_like_input[True": "expects an AssertionError for what is no image; a ValueError here",
        "test_train_eval_mode.py::test_ppo_mask_train_eval_mode": "batch normalisation",
    },
}

#: Batch normalisation has no Lipschitz constant: such an extractor is refused.
KEYWORDS = "not batch_norm"


def fetch(folder: Path, distribution: str) -> Path:
    """Unpack the source distribution of the installed ``distribution`` into ``folder``."""
    folder.mkdir()
    version = importlib.metadata.version(distribution)
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--no-binary", distribution]
    subprocess.run([*pip, "--dest", str(folder), f"{distribution}=={version}"], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked


def run(folder: Path, distribution: str, arguments: list[str]) -> int:
    """Run the tests of one distribution; pytest's exit status."""
    source = fetch(folder / distribution, distribution)
    deselected = [option for test in DESELECTED[distribution] for option in ("--deselect", f"tests/{test}")]
    settings = next(path for name in ("pyproject.toml", "setup.cfg") if (path := source / name).exists())
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "tests.sb3_suite.aliases", "-m", "not expensive",
        "-k", KEYWORDS, "-c", str(settings), "--rootdir", str(source), *deselected, *arguments,
        *(str(source / "tests" / f"test_{file}.py") for file in FILES[distribution]),
    ]  # fmt: skip
    # the checkout in front, but not the unpacked package: the installed one is tested
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    print(f"\n{distribution} {importlib.metadata.version(distribution)}", flush=True)
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="sb3-suite-") as name:
        return max(run(Path(name), distribution, arguments) for distribution in FILES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
