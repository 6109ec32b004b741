"""Load what acts of an SB3 zip: nothing else in it is unpickled, and that only through an allow-list."""

from __future__ import annotations

import base64
import re
import textwrap
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import cloudpickle  # type: ignore[import-untyped]
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import recursive_getattr

from lipsrl.actors._refused import RefusedError, needed, refused_in
from lipsrl.actors._unpickle import loads
from lipsrl.actors.algorithms import algorithm_of
from lipsrl.actors.training_settings import constant, plain_or, settings_of

#: Makes the spaces of an environment.
EnvSpaces: TypeAlias = Callable[[], tuple[spaces.Space[Any], spaces.Space[Any]]]

#: Serialised entries that acting needs. All others are passed over.
_NEEDED = ("policy_class", "policy_kwargs", "observation_space", "action_space")

#: What stands for an entry that is passed over, where ``None`` would not do to set the model up.
_DEFAULTS: dict[str, Any] = {
    "learning_rate": 3e-4,
    "clip_range": 0.2,
    "train_freq": 1,
    "replay_buffer_kwargs": {},
    "rollout_buffer_kwargs": {},
    "n_critic_updates": 1,
}

#: Of the policy's keyword arguments: no action depends on them.
_FOR_TRAINING = ("optimizer_class", "optimizer_kwargs", "regularizers")


#: What SB3 leaves out of a zip. There it would be believed: an environment's id, for one, imports the module in it.
_NEVER_SAVED: dict[str, Any] = {
    "env": None,
    "eval_env": None,
    "device": torch.device("cpu"),
    "policy": None,
    "replay_buffer": None,
    "rollout_buffer": None,
    "tensorboard_log": None,  # saved, and only of use to train on
    "_vec_normalize_env": None,
    "_logger": None,
    "_custom_logger": False,
}


def _serialized(path: Path, cls: type[BaseAlgorithm]) -> dict[str, bytes]:
    """Pickle by entry of the zip's ``data``.

    Raises:
        ValueError: entries or variables that would stand in the place of something else.
    """
    data = settings_of(path)
    with zipfile.ZipFile(path) as archive:
        variables: list[Any] = []
        for name in {"pytorch_variables.pth", "tensors.pth"} & set(archive.namelist()):
            with archive.open(name) as file:
                variables += torch.load(file, map_location="cpu", weights_only=True) or []
    strange = [key for key in data if key.startswith("__") or callable(getattr(cls, key, None))]
    strange += [name for name in variables if not str(name).isidentifier() or str(name).startswith("__")]
    if strange or not isinstance(data.get("policy_class"), dict):
        raise ValueError(f"entries that no {cls.__name__} has: {strange or ['policy_class']}")
    return {
        key: base64.b64decode(item[":serialized:"])
        for key, item in data.items()
        if isinstance(item, dict) and ":serialized:" in item
    }


def _acting(
    path: Path, cls: type[BaseAlgorithm], env_spaces: EnvSpaces | None, trust: bool
) -> dict[str, Any]:
    """What stands in the place of each serialised entry of the zip.

    Raises:
        RefusedError: what acting needs names something that is not on the list.
        ValueError: spaces of the old gym, and no environment to take them from.
    """
    found: dict[str, Any] = {"buffer_size": 1, **_NEVER_SAVED}  # no memory for transitions that do not come
    settings = settings_of(path)
    for key, pickled in _serialized(path, cls).items():
        if key in _NEVER_SAVED:
            continue
        if key not in _NEEDED:
            steady = constant(settings[key]) if key in _DEFAULTS or key == "clip_range_vf" else None
            found[key] = plain_or(pickled, _DEFAULTS.get(key)) if steady is None else steady
        elif key.endswith("_space"):
            found[key] = _space(pickled, key, env_spaces, path, trust)
        else:
            value = cloudpickle.loads(pickled) if trust else loads(pickled)
            if key == "policy_kwargs" and isinstance(value, dict):
                for name in _FOR_TRAINING:
                    if refused_in(value.get(name)):
                        del value[name]
            found[key] = needed(value, f"the {key} of {str(path)!r}")
            fits = isinstance(value, type) and issubclass(value, BasePolicy)
            if key == "policy_class" and not (fits or trust):
                raise RefusedError(f"the {key} of {str(path)!r}", [f"a {type(value).__name__} for a policy"])
    return found


def _space(
    pickled: bytes, key: str, env_spaces: EnvSpaces | None, path: Path, trust: bool
) -> spaces.Space[Any]:
    value = loads(pickled)
    if isinstance(value, spaces.Space) and not refused_in(value):
        return value
    names = refused_in(value)
    if env_spaces is not None:
        return env_spaces()[key == "action_space"]
    if any(name.startswith("gym.") for name in names):
        raise ValueError(
            f"{str(path)!r} was saved with the old gym, whose {key} cannot be read without it. Name the "
            "environment, and the spaces are taken from there: env= (--env)."
        )
    if trust:
        trusted: spaces.Space[Any] = cloudpickle.loads(pickled)
        return trusted
    what = f"the {key} of {str(path)!r}"
    needed(value, what)
    raise RefusedError(what, [f"a {type(value).__name__} for a space"])


def _for_acting(cls: type[BaseAlgorithm]) -> type[BaseAlgorithm]:
    """``cls``, but loading its weights and not the optimizers' state, whose class may not be there any more."""

    def set_parameters(
        self: Any, load_path_or_dict: Any, exact_match: bool = True, device: Any = "auto"
    ) -> None:
        for name in self._get_torch_save_params()[0]:
            if "optimizer" in name:
                continue
            if name not in load_path_or_dict:
                raise ValueError(f"the weights of {name!r} are missing")
            module = recursive_getattr(self, name)
            module.load_state_dict(load_path_or_dict[name], strict=exact_match)

    return type(cls.__name__, (cls,), {"set_parameters": set_parameters})


def _missing_module(texts: list[str]) -> str | None:
    """The name in "No module named …", which SB3 only warns of before it fails for lack of the class."""
    for text in texts:
        found = re.search(r"No module named '([^']+)'", text)
        if found:
            return found[1]
    return None


def load_model(
    path: str | Path,
    *,
    env_spaces: EnvSpaces | None = None,
    trust: bool = False,
) -> BaseAlgorithm:
    """Load what acts of an SB3 zip, on the CPU: policy, spaces, weights, and whatever is plain JSON.

    Optimizer states, schedules, buffers and callbacks are passed over; the model acts, and is not meant to train on.

    Args:
        path: of the zip.
        env_spaces: gives (observation, action) of the environment, for zips whose own cannot be read.
        trust: unpickle what acting needs whatever it names. That runs code of the file.

    Raises:
        FileNotFoundError, ValueError: see :func:`algorithm_of`; or what is in the zip cannot be restored.
        RefusedError: it names classes that are not opened unseen.
    """
    cls = algorithm_of(path)
    file = Path(path)
    with warnings.catch_warnings(record=True, action="always") as said:
        error: Exception | None = None
        try:
            model: BaseAlgorithm = _for_acting(cls).load(
                file, device="cpu", custom_objects=_acting(file, cls, env_spaces, trust)
            )
            model.__class__ = cls
            stored = settings_of(file).get("buffer_size")
            if stored is not None:
                model.buffer_size = stored  # type: ignore[attr-defined]  # for whoever saves it again
        except ValueError as raised:
            if str(path) in str(raised):  # says what to do already
                raise
            error = raised
        except Exception as raised:  # a damaged file raises what it likes
            error = raised
    if error is None:
        for warning in said:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return model
    missing = _missing_module([str(error), *(str(warning.message) for warning in said)])
    if missing is not None:
        raise ValueError(
            f"{str(path)!r} needs the module {missing!r}, which cannot be imported here. If it is of the project "
            "that the zip was made in, run this in that project's folder or add the folder to PYTHONPATH; "
            "otherwise install it."
        ) from error
    reason = textwrap.shorten(str(error), 200)  # one line of torch's many
    raise ValueError(
        f"{str(path)!r} cannot be loaded as {cls.__name__} ({type(error).__name__}: {reason}). It is damaged, or "
        "was saved by other versions of Stable-Baselines3, torch or NumPy: copy it again, or load and save it "
        "where it was made."
    ) from error
