"""Pickles read through an allow-list: nothing that is not on it is imported, called or built.

SB3's zips and VecNormalize files are pickles, whose opcodes may call any function of any module. Here a name is looked
up only in the packages below, it must be a class of a kind that belongs in such a file, and only a few may be called.
Every other name becomes a :class:`Refused`, a stand-in without effect, so that what is not needed may be passed over
and what is needed refused by name.
"""

from __future__ import annotations

import collections
import functools
import importlib
import io
import pickle
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn


class Refused:
    """Stands for something that was not restored. It takes part in unpickling and does nothing."""

    #: ``module.name``.
    what = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Refused:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Whatever it is called with."""

    def __setstate__(self, state: Any) -> None:
        """Passed over."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Passed over."""

    def append(self, value: Any) -> None:
        """Passed over."""

    def extend(self, values: Any) -> None:
        """Passed over."""

    def add(self, value: Any) -> None:
        """Passed over."""

    def __hash__(self) -> int:
        return id(self)


class RefusedError(ValueError):
    """A needed part of a file names something that is not on the list.

    Attributes:
        names: what, as ``module.name``.
    """

    def __init__(self, what: str, names: list[str]) -> None:
        self.what, self.names = what, names
        super().__init__(
            f"{what} needs {', '.join(names)}, which is not among the classes that are opened unseen (NumPy, "
            "gymnasium's spaces, torch's modules, classes of Stable-Baselines3, sb3-contrib and lipsrl): a file may "
            "name any code there, and opening it would run that. If you or somebody you trust made it, open it with "
            "trust=True (--trust)."
        )


def _torch_load(data: bytes) -> Any:
    """In the place of ``torch.storage._load_from_bytes``, which would unpickle whatever it is given."""
    return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")


def _encode(text: str, encoding: str) -> bytes:
    """``_codecs.encode`` as pickles of bytes use it."""
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


#: ``module.name`` → what may be called there; NumPy's reconstructors stand under both of its names.
_CALLED: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "collections.deque": collections.deque,
    "functools.partial": functools.partial,
    "_codecs.encode": _encode,
    "torch.storage._load_from_bytes": _torch_load,
    "torch.device": torch.device,
    "torch.Size": torch.Size,
    "gymnasium.spaces.dict.Dict": spaces.Dict,
    "stable_baselines3.common.running_mean_std.RunningMeanStd": RunningMeanStd,
    "stable_baselines3.common.type_aliases.TrainFreq": TrainFreq,
    "stable_baselines3.common.vec_env.vec_normalize.VecNormalize": VecNormalize,
}
for _core in ("numpy.core", "numpy._core"):
    for _module, _name in (
        ("multiarray", "_reconstruct"),
        ("multiarray", "scalar"),
        ("numeric", "_frombuffer"),
    ):
        _CALLED[f"{_core}.{_module}.{_name}"] = getattr(
            importlib.import_module(f"numpy._core.{_module}"), _name
        )
_CALLED["numpy.random._pickle.__bit_generator_ctor"] = _bit_generator
_CALLED["numpy.random._pickle.__generator_ctor"] = _generator
_CALLED["numpy.random._pickle.__randomstate_ctor"] = _random_state
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
    _CALLED[f"builtins.{_builtin.__name__}"] = _builtin

#: What may be named besides, and stand for itself.
_NAMED = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "builtins.object": object,
    "builtins.NoneType": type(None),
}

#: Where classes of which kind are looked up: module (with a dot at the end: and those below) → their bases. Importing
#: one of these modules has no effect beyond itself.
_KINDS: dict[str, tuple[type, ...]] = {
    "numpy": (np.generic, np.dtype),
    "numpy.dtypes": (np.dtype,),
    "numpy.random.": (np.random.BitGenerator, np.random.Generator, np.random.RandomState),
    "gymnasium.spaces.": (spaces.Space,),
    "torch.nn.modules.": (nn.Module,),
    "torch.optim.": (torch.optim.Optimizer,),
    "stable_baselines3.": (BasePolicy, BaseFeaturesExtractor, nn.Module),
    "sb3_contrib.": (BasePolicy, BaseFeaturesExtractor, nn.Module),
    "lipsrl.": (BasePolicy, BaseFeaturesExtractor, nn.Module),
}


def _class_of(module: str, name: str) -> Any:
    """The class ``module.name`` if it is of a kind that belongs in such a file; else ``None``."""
    if "." in name or any(part.startswith("__") for part in module.split(".")):
        return None
    kinds = next(
        (k for m, k in _KINDS.items() if (module == m or (m.endswith(".") and module.startswith(m)))), None
    )
    if kinds is None:
        return None
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None
    return found if isinstance(found, type) and issubclass(found, kinds) else None


def _may_be_called(found: Any) -> bool:
    """Spaces, scalars and generators are built; policies, extractors and modules are named only."""
    if any(found is known for known in _CALLED.values()):
        return True
    kinds = (spaces.Space, np.generic, np.dtype, np.random.BitGenerator)
    return isinstance(found, type) and (issubclass(found, (*kinds, Refused)))


_Python: Any = pickle._Unpickler


class _Unpickler(_Python):  # type: ignore[misc]
    """The Python implementation, in which each opcode that calls something can be watched."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Python.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        key = f"{module}.{name}"
        for known in (_CALLED, _NAMED):
            if key in known:
                return known[key]
        found = _class_of(module, name)
        if found is None and (module, name) == ("copyreg", "_reconstructor"):
            return _reconstructor
        return type("Refused", (Refused,), {"what": key}) if found is None else found

    def _check(self, function: Any) -> Any:
        if function is _reconstructor or _may_be_called(function):
            return function
        name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"
        return type("Refused", (Refused,), {"what": f"a call of {name}"})

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._check(self.stack[-1])(*args)

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        args = self.stack.pop()
        cls = self._check(self.stack.pop())
        self.append(cls.__new__(cls, *args))

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        kwargs, args = self.stack.pop(), self.stack.pop()
        cls = self._check(self.stack.pop())
        self.append(cls.__new__(cls, *args, **kwargs))

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def load_build(self) -> None:
        built = self.stack[-2]
        if callable(built) and not isinstance(built, functools.partial):
            self.stack.pop()  # a state for a class or function would change it for everybody
        else:
            super().load_build()

    dispatch[pickle.BUILD[0]] = load_build

    def _instantiate(self, klass: Any, args: Any) -> None:
        self.append(self._check(klass)(*args))

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError("extension codes are not opened")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("persistent ids are not opened")


def _reconstructor(cls: Any, base: Any, state: Any) -> Any:
    """``copyreg._reconstructor`` for what may be built."""
    if not _may_be_called(cls) or base is not object:
        return type("Refused", (Refused,), {"what": f"{cls!r} of copyreg"})()
    return object.__new__(cls)


def loads(data: bytes) -> Any:
    """What the pickle ``data`` holds, with :class:`Refused` in the place of what is not on the list.

    Raises:
        pickle.UnpicklingError, EOFError, …: it is no pickle, or damaged.
    """
    return _Unpickler(io.BytesIO(data)).load()


def refused_in(value: Any) -> list[str]:
    """The names of all stand-ins in ``value``: containers, attributes and partial functions are followed."""
    return sorted({one.what for one in _walk(value, set())})


def _walk(value: Any, seen: set[int]) -> Iterator[Any]:
    if isinstance(value, Refused) or (isinstance(value, type) and issubclass(value, Refused)):
        yield value
        return
    if id(value) in seen or isinstance(value, (str, bytes, int, float, type, torch.Tensor, type(None))):
        return
    seen.add(id(value))
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        inner = list(value)
    elif isinstance(value, functools.partial):
        inner = [value.func, value.args, value.keywords]
    elif isinstance(value, np.ndarray):
        inner = value.reshape(-1).tolist() if value.dtype == object else []
    inner += list(getattr(value, "__dict__", {}).values())
    for one in inner:
        yield from _walk(one, seen)


def needed(value: Any, what: str) -> Any:
    """``value`` itself.

    Raises:
        RefusedError: there is a stand-in in it.
    """
    names = refused_in(value)
    if names:
        raise RefusedError(what, names)
    return value
