"""Pickles read through an allow-list: nothing that is not on it is imported, called or built.

SB3's zips and VecNormalize files are pickles, whose opcodes may call any function of any module. Here a name is looked
up only in the packages below, it must be a class of a kind that belongs in such a file, and only a few may be called.
Every other name becomes a :class:`Refused`, a stand-in without effect, so that what is not needed may be passed over
and what is needed refused by name. States are not given to objects as they come either: NumPy's trust theirs with
memory, and an attribute could stand in the place of a method, or be one of those that Python or NumPy look for.
"""

from __future__ import annotations

import collections
import functools
import importlib
import io
import math
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
        shown = ", ".join(map(_printable, names))
        super().__init__(
            f"{what} needs {shown}, which is not among the classes that are opened unseen (NumPy, "
            "gymnasium's spaces, torch's modules, classes of Stable-Baselines3, sb3-contrib and lipsrl): a file may "
            "name any code there, and opening it would run that. If you or somebody you trust made it, open it with "
            "trust=True (--trust)."
        )


def _printable(name: str) -> str:
    """``name`` on one line."""
    return name if name.isprintable() else ascii(name)


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


def _partial(function: Any, *args: Any, **kwargs: Any) -> Any:
    """``functools.partial`` of a class that is made when the model is."""
    if not (isinstance(function, type) and issubclass(function, (nn.Module, torch.optim.Optimizer, Refused))):
        name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
        return type("Refused", (Refused,), {"what": f"a partial function of {name}"})()
    return functools.partial(function, *args, **kwargs)


#: Kinds of NumPy's types that are restored: what bytes of any content are values of.
_NUMBERS = "biufcSU"


def _dtype(text: Any, *_: Any) -> np.dtype[Any]:
    """NumPy's, of numbers, text or objects: of fields and dates the state is not checked by NumPy."""
    found = np.dtype(text).newbyteorder("=") if isinstance(text, str) else None
    if found is None or found.kind not in _NUMBERS + "O":
        raise pickle.UnpicklingError(f"no type of numbers: {text!r}")
    return np.dtype(found, copy=True)


def _array(*_: Any) -> np.ndarray:
    """NumPy's ``_reconstruct``: an empty one, whose state follows."""
    return np.empty(0, dtype=np.int8)


def _scalar(kind: Any, raw: Any) -> Any:
    """NumPy's ``scalar``."""
    return np.frombuffer(_raw(kind, raw), dtype=kind)[0]


def _frombuffer(raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """NumPy's, of a copy."""
    return np.frombuffer(_raw(kind, raw), dtype=kind).reshape(shape, order=order).copy(order=order)


def _raw(kind: Any, raw: Any) -> bytes:
    if not (isinstance(kind, np.dtype) and kind.kind in _NUMBERS and isinstance(raw, (bytes, bytearray))):
        raise pickle.UnpicklingError("no array of numbers")
    return bytes(raw)


#: ``module.name`` → what may be called there; NumPy's reconstructors stand under both of its names.
_CALLED: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "collections.deque": collections.deque,
    "functools.partial": _partial,
    "_codecs.encode": _encode,
    "torch.device": torch.device,
    "torch.Size": torch.Size,
    "stable_baselines3.common.type_aliases.TrainFreq": TrainFreq,
}
for _core in ("numpy.core", "numpy._core"):
    _CALLED[f"{_core}.multiarray._reconstruct"] = _array
    _CALLED[f"{_core}.multiarray.scalar"] = _scalar
    _CALLED[f"{_core}.numeric._frombuffer"] = _frombuffer
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

#: What is made without being called, and then given its state.
_MADE: dict[str, type] = {
    "stable_baselines3.common.running_mean_std.RunningMeanStd": RunningMeanStd,
    "stable_baselines3.common.vec_env.vec_normalize.VecNormalize": VecNormalize,
}

#: What may be named besides, and stand for itself. A call of ``numpy.dtype`` is one of :func:`_dtype`.
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
    except Exception:  # a module that cannot be imported raises what it likes
        return None
    return found if isinstance(found, type) and issubclass(found, kinds) else None


def _is_made(found: Any) -> bool:
    """Whether ``found`` is a class that is made without being called."""
    return isinstance(found, type) and (
        issubclass(found, (spaces.Space, Refused)) or any(found is known for known in _MADE.values())
    )


def _refused_call(function: Any) -> Any:
    name = (
        f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
    )
    return type("Refused", (Refused,), {"what": f"a call of {name}"})()


def _call(function: Any, args: Any) -> Any:
    """``function(*args)`` if it is on the list."""
    if function is np.dtype:
        return _dtype(*args)
    known = function is _reconstructor or any(function is one for one in _CALLED.values())
    if known or (isinstance(function, type) and issubclass(function, Refused)):
        return function(*args)
    return _refused_call(function)


def _make(cls: Any, args: Any) -> Any:
    """``cls.__new__(cls, *args)`` for a space, statistics, or a tuple with names."""
    if cls is TrainFreq:
        return TrainFreq(*args)
    if any(cls is one for one in _CALLED.values()) and isinstance(cls, type):
        return cls(*args)
    return object.__new__(cls) if _is_made(cls) else _refused_call(cls)


_Python: Any = pickle._Unpickler


class _Unpickler(_Python):  # type: ignore[misc]
    """The Python implementation, in which each opcode that calls something can be watched."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Python.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        module = {"copy_reg": "copyreg", "__builtin__": "builtins"}.get(module, module)  # of protocols 0 to 2
        key = f"{module}.{name}"
        for known in (_CALLED, _MADE, _NAMED):
            if key in known:
                return known[key]
        found = _class_of(module, name)
        if found is None and (module, name) == ("copyreg", "_reconstructor"):
            return _reconstructor
        return type("Refused", (Refused,), {"what": key}) if found is None else found

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = _call(self.stack[-1], args)

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self.append(_make(self.stack.pop(), args))

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        kwargs, args = self.stack.pop(), self.stack.pop()
        cls = self.stack.pop()
        self.append(_refused_call(cls) if kwargs else _make(cls, args))

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def load_build(self) -> None:
        state = self.stack.pop()
        _restore(self.stack[-1], state)

    dispatch[pickle.BUILD[0]] = load_build

    def load_append(self) -> None:
        value = self.stack.pop()
        _extend(self.stack[-1], [value])

    dispatch[pickle.APPEND[0]] = load_append

    def load_appends(self) -> None:
        values = self.pop_mark()
        _extend(self.stack[-1], values)

    dispatch[pickle.APPENDS[0]] = load_appends

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set_items(self.stack[-1], [key, value])

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _set_items(self.stack[-1], items)

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_additems(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is set:
            self.stack[-1].update(items)

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def _instantiate(self, klass: Any, args: Any) -> None:
        self.append(_call(klass, args))

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError("extension codes are not opened")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("persistent ids are not opened")


def _reconstructor(cls: Any, base: Any, state: Any) -> Any:
    """``copyreg._reconstructor`` for what is made without being called."""
    return object.__new__(cls) if _is_made(cls) and base is object else _refused_call(cls)


def _extend(built: Any, values: list[Any]) -> None:
    if type(built) in (list, collections.deque):
        built.extend(values)


def _set_items(built: Any, items: list[Any]) -> None:
    if type(built) in (dict, collections.OrderedDict):
        built.update(zip(items[::2], items[1::2], strict=True))


def _restore(built: Any, state: Any) -> None:
    """Give ``built`` its state, as far as that is data; what else has one is left as it is."""
    if isinstance(built, np.dtype):
        _restore_dtype(built, state)
    elif isinstance(built, np.ndarray):
        _restore_array(built, state)
    elif isinstance(built, (np.random.BitGenerator, np.random.Generator)):
        _restore_generator(built, state)
    elif isinstance(built, functools.partial):
        _restore_partial(built, state)
    elif isinstance(built, (spaces.Space, RunningMeanStd, VecNormalize)):
        parts = state if isinstance(state, tuple) else (state,)
        found: dict[str, Any] = {}
        for part in parts:
            if type(part) in (dict, collections.OrderedDict):
                found.update({k: v for k, v in part.items() if _is_data(built, k, v)})
        restore = getattr(type(built), "__setstate__", None)
        if restore is None:
            built.__dict__.update(found)
        else:
            restore(built, found)


def _is_data(built: Any, key: Any, value: Any) -> bool:
    """Whether an attribute is data, and in no method's place, nor one that a protocol looks for."""
    return (
        isinstance(key, str)
        and not key.startswith("__")
        and not callable(getattr(type(built), key, None))
        and (isinstance(value, type) or not callable(value))
    )


def _restore_dtype(built: np.dtype[Any], state: Any) -> None:
    """Byte order only: sizes and flags, which NumPy would believe, are those that the type has."""
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
    sizes = (built.itemsize, built.alignment) if built.kind in "SU" else (-1, -1)
    if order in ("<", ">") and built.kind in _NUMBERS and built.fields is None:
        built.__setstate__((3, order, None, None, None, *sizes, built.flags))  # type: ignore[attr-defined]


def _restore_array(built: np.ndarray, state: Any) -> None:
    """Of an empty array (others may be looked at through a buffer), and a list only as long as it has to be."""
    _, shape, kind, fortran, raw = state if len(state) == 5 else (1, *state)
    if type(built) is not np.ndarray or built.size or not isinstance(kind, np.dtype):
        raise pickle.UnpicklingError("no array of numbers")
    if not (isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)):
        raise pickle.UnpicklingError(f"no shape: {shape!r}")
    if kind.kind == "O":
        if type(raw) is not list or len(raw) != math.prod(shape):
            raise pickle.UnpicklingError("no list of the array's length")
    else:
        raw = _raw(kind, raw)
    restored: Any = (1, shape, kind, bool(fortran), raw)
    built.__setstate__(restored)


def _restore_generator(built: np.random.BitGenerator | np.random.Generator, state: Any) -> None:
    """Of PCG64, which gymnasium draws with; others, whose state is not checked by NumPy, start anew."""
    bits: Any = built.bit_generator if isinstance(built, np.random.Generator) else built
    found = state[0] if isinstance(state, tuple) and state else state
    drawn_with = isinstance(bits, np.random.PCG64)
    if drawn_with and type(found) is dict:
        bits.state = found


def _restore_partial(built: Any, state: Any) -> None:
    function, args, kwargs = state[:3]
    checked = _partial(function)
    odd = type(args) is not tuple or not isinstance(kwargs, (dict, type(None)))
    if isinstance(checked, Refused) or function is not built.func or odd:
        raise pickle.UnpicklingError("no partial function of a class")
    built.__setstate__((function, args, dict(kwargs or {}), None))


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


def is_plain(value: Any) -> bool:
    """Whether ``value`` is of numbers and text only, in plain containers and arrays."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in _NUMBERS
    if type(value) in (dict, collections.OrderedDict):
        return all(isinstance(k, (str, int)) and is_plain(v) for k, v in value.items())
    if type(value) in (list, tuple, set, frozenset, collections.deque):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, np.number, np.bool_, np.str_))
