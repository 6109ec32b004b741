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
import io
import math
import pickle
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl.actors._allowed import (
    CALLED,
    MADE,
    NAMED,
    NUMBERS,
    class_of,
    dtype_of,
    is_made,
    partial_of,
    raw_bytes,
)
from lipsrl.actors._refused import Refused


def _refused_call(function: Any) -> Any:
    name = (
        f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
    )
    return type("Refused", (Refused,), {"what": f"a call of {name}"})()


def _call(function: Any, args: Any) -> Any:
    """``function(*args)`` if it is on the list."""
    if function is np.dtype:
        return dtype_of(*args)
    known = function is _reconstructor or any(function is one for one in CALLED.values())
    if known or (isinstance(function, type) and issubclass(function, Refused)):
        return function(*args)
    return _refused_call(function)


def _make(cls: Any, args: Any) -> Any:
    """``cls.__new__(cls, *args)`` for a space, statistics, or a tuple with names."""
    if cls is TrainFreq:
        return TrainFreq(*args)
    if any(cls is one for one in CALLED.values()) and isinstance(cls, type):
        return cls(*args)
    return object.__new__(cls) if is_made(cls) else _refused_call(cls)


_Python: Any = pickle._Unpickler


class _Unpickler(_Python):  # type: ignore[misc]
    """The Python implementation, in which each opcode that calls something can be watched."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Python.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        module = {"copy_reg": "copyreg", "__builtin__": "builtins"}.get(module, module)  # of protocols 0 to 2
        key = f"{module}.{name}"
        for known in (CALLED, MADE, NAMED):
            if key in known:
                return known[key]
        found = class_of(module, name)
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
    return object.__new__(cls) if is_made(cls) and base is object else _refused_call(cls)


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
    if order in ("<", ">") and built.kind in NUMBERS and built.fields is None:
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
        raw = raw_bytes(kind, raw)
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
    checked = partial_of(function)
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
