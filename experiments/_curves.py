"""Where the values of a training go, and how they go on after it was cut off."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import CSVOutputFormat, KVWriter, Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

from experiments._console import said
from lipsrl._files import atomic_path
from lipsrl.tracking import WandbWriter


class _Survives:
    """A writer over which a full disk does not end the training: what it could not write is missing, and said once."""

    _said = False

    def write(self, *values: Any) -> None:
        self._try(super().write, *values)  # type: ignore[misc]

    def close(self) -> None:
        self._try(super().close)  # type: ignore[misc]

    def _try(self, work: Callable[..., None], *values: Any) -> None:
        try:
            work(*values)
        except OSError as error:
            if not self._said:
                self._said = True
                print(
                    f"{self.where} cannot be written: {said(error)} Training goes on; its curve may have gaps.",  # type: ignore[attr-defined]
                    file=sys.stderr,
                    flush=True,
                )


class _NewCSV(_Survives, CSVOutputFormat):
    where = "progress.csv"


class _NewTensorBoard(_Survives, TensorBoardOutputFormat):
    where = "tensorboard/"


class _CSV(_NewCSV):
    """progress.csv, whose rows before stay."""

    def __init__(self, path: Path, before: bytes) -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(before)
        self.file = path.open("r+", encoding="utf-8")
        header = self.file.readline().rstrip("\n")
        self.keys = header.split(",") if header else []
        self.file.seek(0, 2)
        self.separator, self.quotechar = ",", '"'


class _TensorBoard(_NewTensorBoard):
    """Events after ``steps``; TensorBoard leaves out those that a killed process wrote beyond."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.writer = SummaryWriter(log_dir=str(folder), purge_step=steps + 1)
        self._is_closed = False


class _Logger(Logger):
    """SB3's logger; the count of iterations, which ``learn`` begins anew, goes on."""

    def __init__(self, folder: str, output_formats: list[KVWriter], iterations: int = 0) -> None:
        super().__init__(folder=folder, output_formats=output_formats)
        self.before = self.iterations = iterations

    def record(self, key: str, value: Any, exclude: Any = None) -> None:
        if key == "time/iterations":
            self.iterations = value = self.before + value
        super().record(key, value, exclude)


class Curves:
    """progress.csv, TensorBoard and W&B behind SB3's logger.

    Args:
        folder: run folder.
        wandb: the writer of the W&B run.
        before: the checkpoint to go on from.
    """

    def __init__(self, folder: Path, wandb: WandbWriter, before: dict[str, Any] | None = None) -> None:
        self.wandb, self._progress = wandb, folder / "progress.csv"
        board = folder / "tensorboard"
        if before is None:
            csv: KVWriter = _NewCSV(str(self._progress))
            outputs = [csv, _NewTensorBoard(str(board)), wandb]
            self.logger = _Logger(str(folder), outputs)
            return
        state = before["curves"]
        outputs = [_CSV(self._progress, state["progress"]), _TensorBoard(board, before["steps"]), wandb]
        self.logger = _Logger(str(folder), outputs, state["iterations"])
        # what was learned since the last dump is in the next one
        self.logger.name_to_value.update(state["values"])
        self.logger.name_to_count.update(state["counts"])
        self.logger.name_to_excluded.update(state["excluded"])

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of them."""
        return {
            "progress": self._progress.read_bytes(),
            "iterations": self.logger.iterations,
            "values": dict(self.logger.name_to_value),
            "counts": dict(self.logger.name_to_count),
            "excluded": dict(self.logger.name_to_excluded),
            "wandb_step": self.wandb.last_step,
        }
