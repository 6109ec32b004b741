"""Observations and actions as vectors of the sensors or actuators that are disturbed, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lipsrl.disturbances import Disturbance
from lipsrl.disturbances._batch import Indices
from lipsrl.wrappers._streams import EpisodeStreams

Values = Any  # an array, or a dict of arrays


class Channels:
    """The disturbed entries of a space, flattened (C order) and joined (order of ``keys``) to one vector.

    Floating-point entries keep the dtype in which they come. Integer entries, images among them, are disturbed
    in float64, rounded to the nearest integer and clipped to their bounds. What the disturbance leaves as it
    was keeps every bit.

    Args:
        space: a Box of any shape, or a Dict.
        disturbance: its number of values per dimension is checked.
        keys: the disturbed entries of a Dict; None for a Box.
        clip: floating-point entries are clipped to the bounds of the space too. Otherwise the bounds of
            :attr:`space` are infinite there.

    Raises:
        ValueError: another space, keys that do not fit it, or a disturbance of another length.
    """

    def __init__(
        self,
        space: spaces.Space[Any],
        disturbance: Disturbance,
        keys: Sequence[str] | None = None,
        clip: bool = False,
    ) -> None:
        self.keys = None if keys is None else tuple([keys] if isinstance(keys, str) else keys)
        self._clip = clip
        self._boxes = [_checked(box) for box in self._entries(space)]
        ends = np.cumsum([math.prod(box.shape) for box in self._boxes])
        self._ends = ends.tolist()
        disturbance.check_dimension(self._ends[-1])
        self.space = self._disturbed(space)

    def disturb(self, values: Values, streams: EpisodeStreams, indices: Indices | None = None) -> Values:
        """``values`` of ``n`` environments, ``(n, *shape)`` each, through one step of their streams; fresh."""
        return self._joined(values, self._disturbed_blocks(self._blocks(values), streams, indices))

    def disturb_one(self, value: Values, streams: EpisodeStreams, index: int = 0) -> Values:
        """As :meth:`disturb`, for the value of environment ``index`` alone, without the leading axis."""
        blocks = [block[np.newaxis] for block in self._blocks(value)]
        indices = None if streams.n == 1 else [index]
        return self._joined(value, [block[0] for block in self._disturbed_blocks(blocks, streams, indices)])

    def _blocks(self, values: Values) -> list[NDArray[Any]]:
        return [np.asarray(b) for b in ([values] if self.keys is None else [values[k] for k in self.keys])]

    def _joined(self, values: Values, blocks: list[NDArray[Any]]) -> Values:
        return blocks[0] if self.keys is None else {**values, **dict(zip(self.keys, blocks, strict=True))}

    def _disturbed_blocks(
        self, blocks: list[NDArray[Any]], streams: EpisodeStreams, indices: Indices | None
    ) -> list[NDArray[Any]]:
        parts = [_as_float(block).reshape(len(block), -1) for block in blocks]
        vectors = streams(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1), indices)
        pieces = np.split(vectors, self._ends[:-1], axis=1) if len(parts) > 1 else [vectors]
        return [
            self._back(box, block, part, piece)
            for box, block, part, piece in zip(self._boxes, blocks, parts, pieces, strict=True)
        ]

    def _entries(self, space: spaces.Space[Any]) -> list[Any]:
        if not isinstance(space, spaces.Dict):
            if self.keys is not None:
                raise ValueError(f"keys={self.keys} name entries of a Dict space, but the space is {space}.")
            return [space]
        known = list(space.spaces)
        if not self.keys or len(set(self.keys)) < len(self.keys) or not set(self.keys) <= set(known):
            raise ValueError(
                f"The space is a Dict: say with keys= which of its entries {known} are disturbed, each once; "
                f"received keys={self.keys}."
            )
        return [space[key] for key in self.keys]

    def _disturbed(self, space: spaces.Space[Any]) -> spaces.Space[Any]:
        widened = [box if self._bounded(box) else _unbounded(box) for box in self._boxes]
        if self.keys is None:
            return widened[0]
        assert isinstance(space, spaces.Dict)
        return spaces.Dict({**space.spaces, **dict(zip(self.keys, widened, strict=True))})

    def _bounded(self, box: spaces.Box) -> bool:
        return self._clip or box.dtype.kind != "f"

    def _back(
        self, box: spaces.Box, block: NDArray[Any], part: NDArray[Any], piece: NDArray[Any]
    ) -> NDArray[Any]:
        disturbed = piece.reshape(block.shape)
        if self._bounded(box):
            rounded = disturbed if box.dtype.kind == "f" else np.rint(disturbed)
            kept = disturbed == part.reshape(block.shape)
            disturbed = np.where(kept, disturbed, np.clip(rounded, box.low, box.high))
        dtype = block.dtype if block.dtype.kind == box.dtype.kind else box.dtype
        return disturbed.astype(dtype, copy=False)


def rows(values: Values, indices: int | NDArray[np.intp]) -> Values:
    """The entries ``indices`` along the leading axis; one without that axis."""
    if isinstance(values, dict):
        return {key: rows(value, indices) for key, value in values.items()}
    return values[indices]


def put(values: Values, indices: NDArray[np.intp], some: Values) -> None:
    """Write ``some`` into the entries ``indices`` of ``values``."""
    if isinstance(values, dict):
        for key, value in values.items():
            put(value, indices, some[key])
    else:
        values[indices] = some


def _as_float(block: NDArray[Any]) -> NDArray[Any]:
    return block if block.dtype.kind == "f" else block.astype(np.float64)


def _checked(space: spaces.Space[Any]) -> spaces.Box:
    # float64 holds integers of up to 53 bits
    if isinstance(space, spaces.Box) and (
        space.dtype.kind == "f" or (space.dtype.kind in "iu" and space.dtype.itemsize <= 4)
    ):
        return space
    raise ValueError(
        f"A disturbance is in units of a quantity: it needs a floating-point Box or a Box of integers of up to "
        f"32 bits, not {space}. Convert wider integers (gymnasium.wrappers.DtypeObservation); a Discrete has "
        "no units."
    )


def _unbounded(box: spaces.Box) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape=box.shape, dtype=box.dtype.type)
