"""The list of :mod:`lipsrl.actors._unpickle`: what may be named in a file, what may be called, and with what."""

from __future__ import annotations

import collections
import functools
import importlib
import pickle
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from lipsrl.actors._refused import Refused


def _encode(text: Any, encoding: Any) -> bytes:
    """``_codecs.encode`` as pickles of bytes use it."""
    if not isinstance(text, str):
        raise pickle.UnpicklingError("text was expected")
    return text.encode("latin-1") if encoding in ("latin1", "latin-1") else text.encode("utf-8")


def _bit_generator(kind: Any = "MT19937") -> Any:
    """NumPy's, which would call any class that it is given."""
    name = kind.__name__ if isinstance(kind, type) else str(kind)
    found = getattr(np.random, name, None)
    if not (isinstance(found, type) and issubclass(found, np.random.BitGenerator)):
        raise pickle.UnpicklingError(f"{name!r} is no random generator of NumPy")
    return found()


def _generator(kind: Any = "MT19937", _: Any = None) -> np.random.Generator:
    """NumPy's; its second argument would be called."""
    return np.random.Generator(kind if isinstance(kind, np.random.BitGenerator) else _bit_generator(kind))


def _random_state(kind: Any = "MT19937", _: Any = None) -> np.random.RandomState:
    """NumPy's; its second argument would be called."""
    return np.random.RandomState(kind if isinstance(kind, np.random.BitGenerator) else _bit_generator(kind))


def _train_frequency_unit(text: Any) -> TrainFrequencyUnit:
    """SB3's enumeration, which would make a new class of more arguments."""
    return TrainFrequencyUnit(text)


def _member(of: Any, name: Any) -> Any:
    """``getattr``, by which Python 3.11.0 to 3.11.3 write the members of an enumeration; of nothing else."""
    if of is _train_frequency_unit and name in TrainFrequencyUnit.__members__:
        return TrainFrequencyUnit[name]
    return type("Refused", (Refused,), {"what": "a call of builtins.getattr"})()


def partial_of(function: Any, *args: Any, **kwargs: Any) -> Any:
    """``functools.partial`` of a class that is made when the model is."""
    if not (isinstance(function, type) and issubclass(function, (nn.Module, torch.optim.Optimizer, Refused))):
        name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
        return type("Refused", (Refused,), {"what": f"a partial function of {name}"})()
    return functools.partial(function, *args, **kwargs)


#: Kinds of NumPy's types that are restored: what bytes of any content are values of.
NUMBERS = "biufcSU"


def dtype_of(text: Any, *_: Any) -> np.dtype[Any]:
    """NumPy's, of numbers, text or objects: of fields and dates the state is not checked by NumPy."""
    found = np.dtype(text).newbyteorder("=") if isinstance(text, str) else None
    if found is None or found.kind not in NUMBERS + "O":
        raise pickle.UnpicklingError(f"no type of numbers: {text!r}")
    return np.dtype(found, copy=True)


def _array(*_: Any) -> np.ndarray:
    """NumPy's ``_reconstruct``: an empty one, whose state follows."""
    return np.empty(0, dtype=np.int8)


def _scalar(kind: Any, raw: Any) -> Any:
    """NumPy's ``scalar``."""
    return np.frombuffer(raw_bytes(kind, raw), dtype=kind)[0]


def _frombuffer(raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """NumPy's, of a copy."""
    return np.frombuffer(raw_bytes(kind, raw), dtype=kind).reshape(shape, order=order).copy(order=order)


def raw_bytes(kind: Any, raw: Any) -> bytes:
    if not (isinstance(kind, np.dtype) and kind.kind in NUMBERS and isinstance(raw, (bytes, bytearray))):
        raise pickle.UnpicklingError("no array of numbers")
    return bytes(raw)


#: ``module.name`` → what may be called there; NumPy's reconstructors stand under both of its names.
CALLED: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "collections.deque": collections.deque,
    "functools.partial": partial_of,
    "_codecs.encode": _encode,
    "torch.device": torch.device,
    "torch.Size": torch.Size,
    "stable_baselines3.common.type_aliases.TrainFreq": TrainFreq,
    "stable_baselines3.common.type_aliases.TrainFrequencyUnit": _train_frequency_unit,
    "builtins.getattr": _member,
}
for _core in ("numpy.core", "numpy._core"):
    CALLED[f"{_core}.multiarray._reconstruct"] = _array
    CALLED[f"{_core}.multiarray.scalar"] = _scalar
    CALLED[f"{_core}.numeric._frombuffer"] = _frombuffer
CALLED["numpy.random._pickle.__bit_generator_ctor"] = _bit_generator
CALLED["numpy.random._pickle.__generator_ctor"] = _generator
CALLED["numpy.random._pickle.__randomstate_ctor"] = _random_state
for _builtin in (
    set,
    frozenset,
    list,
    dict,
    tuple,
    bytes,
    bytearray,
    complex,
    slice,
    range,
    int,
    float,
    str,
    bool,
):
    CALLED[f"builtins.{_builtin.__name__}"] = _builtin

#: What is made without being called, and then given its state.
MADE: dict[str, type] = {
    "stable_baselines3.common.running_mean_std.RunningMeanStd": RunningMeanStd,
    "stable_baselines3.common.vec_env.vec_normalize.VecNormalize": VecNormalize,
}

#: What may be named besides, and stand for itself. A call of ``numpy.dtype`` is one of :func:`dtype_of`.
NAMED = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "builtins.object": object,
    "builtins.NoneType": type(None),
}

#: Where classes of which kind are looked up: module (with a dot at the end: and those below) → their bases. Importing
#: one of these modules has no effect beyond itself.
KINDS: dict[str, tuple[type, ...]] = {
    "numpy": (np.generic, np.dtype),
    "numpy.dtypes": (np.dtype,),
    **{
        f"numpy.random.{name}": (np.random.BitGenerator,)
        for name in ("_mt19937", "_pcg64", "_philox", "_sfc64")
    },
    "gymnasium.spaces.": (spaces.Space,),
    "torch.nn.modules.": (nn.Module,),
    "torch.optim.": (torch.optim.Optimizer,),
    "stable_baselines3.": (BasePolicy, BaseFeaturesExtractor, nn.Module),
    "sb3_contrib.": (BasePolicy, BaseFeaturesExtractor, nn.Module),
    "lipsrl.": (BasePolicy, BaseFeaturesExtractor, nn.Module),
}


def class_of(module: str, name: str) -> Any:
    """The class ``module.name`` if it is of a kind that belongs in such a file; else ``None``."""
    if "." in name or any(part.startswith("__") for part in module.split(".")):
        return None
    kinds = next(
        (k for m, k in KINDS.items() if (module == m or (m.endswith(".") and module.startswith(m)))), None
    )
    if kinds is None:
        return None
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception:  # a module that cannot be imported raises what it likes
        return None
    return found if isinstance(found, type) and issubclass(found, kinds) else None


def is_made(found: Any) -> bool:
    """Whether ``found`` is a class that is made without being called."""
    return isinstance(found, type) and (
        issubclass(found, (spaces.Space, Refused)) or any(found is known for known in MADE.values())
    )


def is_plain(value: Any) -> bool:
    """Whether ``value`` is of numbers and text only, in plain containers and arrays."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in NUMBERS
    if type(value) in (dict, collections.OrderedDict):
        return all(isinstance(k, (str, int)) and is_plain(v) for k, v in value.items())
    if type(value) in (list, tuple, set, frozenset, collections.deque):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, np.number, np.bool_, np.str_))
