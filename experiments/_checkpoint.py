"""Checkpoints: a training that was killed goes on where the newest one was written.

While a training is under way, and after it was cut off, its run folder has a hidden ``.training/``: ``settings.json``
(what is trained) and ``checkpoint`` (one file, replaced as a whole). A finished training leaves nothing of it. The
checkpoint is a pickle: go on with trainings of your own only.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from experiments._curves import Curves
from experiments._state import capture
from lipsrl._files import atomic_path, write_text
from lipsrl.tracking import RunFolder

#: What says that the training is the same one, of what `experiments.train` writes into config.json.
IDENTITY = (
    "agent", "recipe", "task", "env_id", "env_kwargs", "env_wrapper", "seed", "timesteps", "algorithm", "policy",
    "layer", "lipschitz_bound", "history", "disturbance", "vec_normalize", "hyperparameters", "lesson",
)  # fmt: skip


def differing(found: dict[str, Any], settings: dict[str, Any]) -> tuple[str, str]:
    """What a training has, and what is asked for instead, in words; empty where they are the same training.

    What an older lipsrl did not write down contradicts nothing.
    """
    asked = json.loads(json.dumps(settings))
    keys = [key for key in IDENTITY if key in found]
    if "lesson" in found:  # what K was asked for stands there
        keys = [key for key in keys if key != "lipschitz_bound"]
    pairs: dict[str, tuple[Any, Any]] = {}
    if (
        "lipschitz_schedule" in found
    ):  # its K is where that ended; where it began stands in the hyperparameters
        keys = ["lipschitz_schedule", *(key for key in keys if key != "lipschitz_bound")]
    if "lipschitz_search" in found:  # its K is what it found; it began with that of the hyperparameters
        keys.remove("lipschitz_bound")
        if "lipschitz_search" not in asked:
            pairs["lipschitz_bound"] = ("auto", asked.get("lipschitz_bound"))
    for key in keys:
        pairs |= {name: both for name, both in _leaves(key, found[key], asked.get(key)) if name not in pairs}
    there, here = (", ".join(f"{k}={_short(both[side])}" for k, both in pairs.items()) for side in (0, 1))
    return there, here


def _leaves(name: str, there: Any, asked: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Names and values that differ, of nested settings the innermost."""
    if isinstance(there, dict) and isinstance(asked, dict):
        for key in sorted(there.keys() | asked.keys()):
            yield from _leaves(key, there.get(key), asked.get(key))
    elif there != asked:
        yield name, (there, asked)


def check_finished(folder: RunFolder, settings: dict[str, Any]) -> None:
    """Refuse to take a finished training for another one."""
    there, here = differing(folder.read_config(), settings)
    if there:
        raise ValueError(
            f"{folder.path} holds a finished training with {there}; {here} is asked for. What is finished does not go "
            "on: its schedules have ended. Ask for the same to keep it, replace --resume by --overwrite to begin anew, "
            "or give another --output."
        )


def is_finished(folder: RunFolder) -> bool:
    """Whether a training ended there, and everything of it is written."""
    if not (folder.config_file.is_file() and folder.model_file.is_file()):
        return False
    cut_off = Unfinished(folder.path).settings() is not None
    return not cut_off and folder.read_config().get("status") == "finished"


class Unfinished:
    """The hidden folder of a training that has not ended."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".training"
        self.settings_file = self.path / "settings.json"
        self.checkpoint_file = self.path / "checkpoint"

    def begin(self, settings: dict[str, Any]) -> None:
        """Say what is trained here from now on."""
        write_text(self.settings_file, json.dumps(settings, indent=2, sort_keys=True) + "\n")

    def settings(self) -> dict[str, Any] | None:
        """What is trained here; None where nothing was begun."""
        try:
            found: dict[str, Any] = json.loads(self.settings_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{self.settings_file} is damaged ({error}). Pass --overwrite to begin anew, or give another --output."
            ) from error
        return found

    def check(self, settings: dict[str, Any]) -> None:
        """Refuse to go on with another training than the one that is asked for."""
        there, here = differing(self.settings() or {}, settings)
        if there:
            raise ValueError(
                f"{self.path.parent} holds an unfinished training with {there}; {here} is asked for. Ask for the same "
                "to go on, pass --overwrite to begin anew, or --output for another place."
            )

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint: whole, on the disk, then in the place of the last one."""
        with atomic_path(self.checkpoint_file) as temporary, temporary.open("wb") as file:
            cloudpickle.dump(state, file, protocol=pickle.HIGHEST_PROTOCOL)
            file.flush()
            os.fsync(file.fileno())

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint; None where there is none yet.

        Raises:
            ValueError: it cannot be read.
        """
        for left in self.path.glob(".*.partial*"):  # of a process that was killed while it wrote
            left.unlink(missing_ok=True)
        if not self.checkpoint_file.is_file():
            return None
        try:
            with self.checkpoint_file.open("rb") as file:
                state: dict[str, Any] = pickle.load(file)
        except Exception as error:
            raise ValueError(
                f"{self.checkpoint_file} cannot be read ({type(error).__name__}: {error}): damaged, or of other "
                "versions of torch, Stable-Baselines3 or lipsrl. Go on with those, or pass --overwrite to begin anew."
            ) from error
        return state

    def end(self) -> None:
        """The training is over, and all that it leaves is written."""
        shutil.rmtree(self.path, ignore_errors=True)


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "…"


class CheckpointCallback(BaseCallback):
    """Write a checkpoint before a rollout after which more than ``every`` steps could be lost.

    Between two rollouts nothing is under way: the optimizers have stepped, the rollout buffer is empty. So what is lost
    is at most ``every`` steps, or one rollout where that is longer.

    Args:
        place: where to.
        every: environment steps; 0: no checkpoints.
        curves: of the training, which go on too.
        watching: callbacks; those with ``training_state()`` and ``resume_training(state)`` go on where they were.
        before: the checkpoint that this training goes on from.
    """

    def __init__(
        self,
        place: Unfinished,
        every: int,
        curves: Curves,
        watching: Sequence[BaseCallback],
        before: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._place, self._every, self._curves = place, every, curves
        self._watching = [one for one in watching if hasattr(one, "training_state")]
        self._before = before
        self._seconds: float = 0.0 if before is None else before["seconds"]
        #: Step counts at which a training was cut off and went on.
        self.resumed: list[int] = [] if before is None else [*before["resumed"], before["steps"]]
        #: Environment steps at the newest checkpoint; None where there is none.
        self.kept: int | None = None if before is None else before["steps"]
        self._last = 0
        self._begun = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of training, with those before it was cut off, without those that were lost."""
        return self._seconds + time.perf_counter() - self._begun

    def _on_training_start(self) -> None:
        self._begun = time.perf_counter()
        self._last = self.model.num_timesteps
        if self._before is None:
            return
        for callback, state in zip(self._watching, self._before["callbacks"], strict=True):
            callback.resume_training(state)  # type: ignore[attr-defined]
        # SB3's clock, and what it divides by it, count the whole training
        self.model.start_time -= int(self._seconds * 1e9)
        self.model._num_timesteps_at_start = 0
        self._before = None  # a replay buffer is in it

    def _on_rollout_start(self) -> None:
        ahead = self.model.num_timesteps - self._last
        if self._every and ahead and ahead + rollout_steps(self.model) > self._every:
            self._last = self.model.num_timesteps
            self.save()

    def save_interrupted(self) -> None:
        """Write the first checkpoint of a training that is interrupted before it has one.

        It is written wherever the interruption came, so the rollout under way is lost to it. Where there is one between
        two rollouts, the training goes on from there: it learns what it would have learned.
        """
        if self._every and self.kept is None and self.model.num_timesteps:
            self.save("The same command begins anew.")

    def save(self, otherwise: str = "") -> None:
        """Write a checkpoint now; where the disk refuses, say so, and keep the one before."""
        state = {
            **capture(self.model),
            "steps": self.model.num_timesteps,
            "callbacks": [one.training_state() for one in self._watching],  # type: ignore[attr-defined]
            "curves": self._curves.state(),
            "seconds": self.seconds,
            "resumed": self.resumed,
        }
        try:
            self._place.save(state)
            self.kept = self.model.num_timesteps
        except OSError as error:
            goes_on = f"Training goes on with the one before; the next try is in {self._every} steps."
            print(
                f"No checkpoint at {self.model.num_timesteps} steps: {error.strerror} ({self._place.path}). "
                f"{otherwise or goes_on}",
                file=sys.stderr,
                flush=True,
            )

    def _on_step(self) -> bool:
        return True


def rollout_steps(model: BaseAlgorithm) -> int:
    """Environment steps of one rollout; of the shortest where a rollout is an episode."""
    envs = model.n_envs
    if isinstance(model, OnPolicyAlgorithm):
        return envs * model.n_steps
    frequency = model.train_freq  # type: ignore[attr-defined]
    return envs * (frequency.frequency if frequency.unit.value == "step" else 1)
