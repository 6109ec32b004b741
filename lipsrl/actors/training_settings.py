"""What a zip says of a training besides what acts: read where it is plain data, left at SB3's defaults elsewhere."""

from __future__ import annotations

import base64
import json
import re
import zipfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.type_aliases import TrainFreq

from lipsrl.actors._allowed import is_plain
from lipsrl.actors._refused import refused_in
from lipsrl.actors._unpickle import loads


def settings_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        found: dict[str, Any] = json.loads(archive.read("data").decode())  # as SB3 does
    return found


#: SB3's own buffers, which it chooses by the observations where none is named.
_USUAL = {
    f"stable_baselines3.common.buffers.{kind}{what}Buffer"
    for kind in ("", "Dict")
    for what in ("Replay", "Rollout")
}

#: How SB3 writes a constant schedule in words beside its pickle.
_CONSTANT = re.compile(r"ConstantSchedule\(val=([-+0-9.eE]+)\)")

#: Of what is passed over, what a training depends on.
_OF_TRAINING = (
    "learning_rate", "clip_range", "clip_range_vf", "train_freq", "action_noise", "replay_buffer_class",
    "replay_buffer_kwargs", "rollout_buffer_class", "rollout_buffer_kwargs",
)  # fmt: skip


def not_restored(path: str | Path) -> list[str]:
    """What a training on the model at ``path`` would depend on, and :func:`load_model` leaves at SB3's defaults."""
    file = Path(path)
    data = settings_of(file)
    found = []
    for key in _OF_TRAINING:
        item = data.get(key)
        if not (isinstance(item, dict) and ":serialized:" in item):
            continue
        unknown, pickled = object(), base64.b64decode(item[":serialized:"])
        if constant(item) is None and plain_or(pickled, unknown) is unknown and not _usual(pickled):
            found.append(key)
    return found


def constant(item: dict[str, Any]) -> float | None:
    """The value of a constant schedule, as its words say it."""
    words = _CONSTANT.fullmatch(str(item.get("value_schedule", "")))
    return float(words[1]) if words else None


def _usual(pickled: bytes) -> bool:
    try:
        return 0 < len(names := set(refused_in(loads(pickled)))) == len(names & _USUAL)
    except Exception:  # a damaged pickle raises what it likes
        return False


def plain_or(pickled: bytes, default: Any) -> Any:
    """What acting does not need, if it is a number or the like, else ``default``.

    SAC's target entropy, for one, and the last episodes. Nothing here is worth an error: schedules of another Python,
    buffers that want an environment.
    """
    try:
        value = loads(pickled)
        fits = isinstance(value, (bool, int, float, str, np.generic, deque)) and is_plain(value)
        fits |= isinstance(value, TrainFreq) and isinstance(value.frequency, int)
    except Exception:  # a damaged pickle raises what it likes
        return default
    return value if fits else default
