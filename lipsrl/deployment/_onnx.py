"""The policy as an ONNX graph: raw observation in, environment action out, certificate and hash in its metadata."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper

from lipsrl._files import atomic_path
from lipsrl.deployment._observations import width_of
from lipsrl.deployment._onnx_graph import Graph, activation, householder
from lipsrl.deployment._safetensors import Tensors
from lipsrl.deployment._schema import DIGEST, POLICY, describe
from lipsrl.deployment._window import holds_mean, stacked

Shape: TypeAlias = tuple[int, ...]
Description: TypeAlias = Mapping[str, Any]

#: Understood by onnxruntime since 1.12 (2022).
OPSET, IR_VERSION = 17, 8

# Serialised protobuf messages that stand one after the other are one message, so the hash can be the file's last
# bytes and speak of all bytes before it: ModelProto.metadata_props[…] = {key: "sha256", value: 64 digits}.
_ENTRY = b"\x72\x4a\x0a\x06" + DIGEST.encode() + b"\x12\x40"
_DIGITS = 64


def write_onnx(path: Path, description: dict[str, Any], tensors: Tensors) -> None:
    """Write the policy as one ONNX file, whole or not at all. Equal content, equal bytes.

    Input ``observation`` (batch, *shape), raw, in the space's dtype, images channels first; for a Dict one input
    ``observation.key`` per entry. A window is one input (batch, frames·dim), oldest first, newest last, with its
    ``before`` in place of each frame that the episode has not shown yet; float64 where that is a mean, which in float32
    would be no zero after the normalisation. Output ``action`` (batch, *shape), clipped
    and scaled. The metadata has the description (certificate included) and the SHA-256 of everything before it.

    Raises:
        ValueError: a part has no ONNX form.
    """
    graph = Graph()
    observation, action = stacked(description["observation"]), description["action"]
    x = _receive(graph, observation, tensors)
    x, (width,) = _layers(graph, description["layers"], tensors, x, (width_of(observation),))
    x, dtype = _act(graph, x, action, tensors, width)
    graph.nodes.append(helper.make_node("Reshape", [x, graph.shape(0, *action["shape"])], ["action"]))

    def value(name: str, described: Description, dtype: Any) -> Any:
        code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return helper.make_tensor_value_info(name, code, ["batch", *described["shape"]])

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            [value(name, entry, _dtype(entry)) for name, entry in _inputs(observation).items()],
            [value("action", action, dtype)],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lipsrl",
        producer_version=description["versions"]["lipsrl"],
    )
    helper.set_model_props(model, {POLICY: describe(description)})
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content + _ENTRY + hashlib.sha256(content).hexdigest().encode())


def verify_onnx(path: str | Path) -> dict[str, Any]:
    """What the ONNX file that :func:`lipsrl.export` wrote says of itself, certificate included, if its hash is right.

    The hash finds damage and edits. It is no signature: whoever can write the file can write its hash too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file, truncated, damaged or edited.

    Example::

        certificate = lipsrl.deployment.verify_onnx("policy.onnx")["certificate"]
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{str(path)!r} is not a file. Expected what lipsrl.export wrote.")
    content = file.read_bytes()
    body, tail = content[: -len(_ENTRY) - _DIGITS], content[-len(_ENTRY) - _DIGITS :]
    if tail != _ENTRY + hashlib.sha256(body).hexdigest().encode():
        raise ValueError(
            f"{str(path)!r} does not end in its SHA-256: it was cut or changed after the export, so its certificate "
            "is not valid for it, or lipsrl.export did not write it. Copy it again or export the model again."
        )
    properties = {entry.key: entry.value for entry in onnx.load_model_from_string(body).metadata_props}
    described: dict[str, Any] = json.loads(properties[POLICY])
    return described


def _inputs(observation: Description, name: str = "observation") -> dict[str, Description]:
    """name of each input → what it is; a Dict has one per entry, ``observation.key``."""
    if observation["kind"] != "dict":
        return {name: observation}
    return {
        inner: described
        for key, entry in observation["entries"].items()
        for inner, described in _inputs(entry, f"{name}.{key}").items()
    }


def _dtype(entry: Description) -> Any:
    return np.float64 if holds_mean(entry) else entry["dtype"]


def _receive(g: Graph, observation: Description, tensors: Tensors) -> str:
    """The flattened observation as the first layer takes it, normalised in float64 as VecNormalize does."""
    dtype = np.float64 if observation["normalised"] else np.float32
    x = g.join(*[_flatten(g, name, entry, dtype) for name, entry in _inputs(observation).items()])
    if not observation["normalised"]:
        return x
    keys = ("low", "high") if observation["folded"] else ("mean", "gain", "clip")
    values = [tensors[f"observation.{key}"] for key in keys]
    constants = [g.constant(f"normalisation.{key}", value) for key, value in zip(keys, values, strict=True)]
    if observation["folded"]:
        return _between(g, x, *constants)
    mean, gain, high = constants
    x = g.add("Mul", g.add("Sub", x, mean), gain)
    return g.cast(_between(g, x, g.constant("normalisation.-clip", -values[-1]), high), np.float32)


def _flatten(g: Graph, name: str, entry: Description, dtype: Any) -> str:
    """One input (n, *shape) as (n, width)."""
    if "sizes" not in entry:
        return g.cast(g.reshape(name, width_of(entry)), dtype)
    sizes = entry["sizes"]
    x = g.reshape(g.cast(name, np.int64), len(sizes))
    columns = [g.part(x, i, i + 1)[0] for i in range(len(sizes))]
    ends = g.constant("one-hot", np.array([0.0, 1.0], np.float32))
    hot = [g.add("OneHot", column, g.shape(n), ends) for column, n in zip(columns, sizes, strict=True)]
    return g.cast(g.join(*[g.reshape(part, n) for part, n in zip(hot, sizes, strict=True)]), dtype)


def _between(g: Graph, x: str, low: str, high: str) -> str:
    return g.add("Min", g.add("Max", x, low), high)


def _layers(
    g: Graph, described: Iterable[Description], tensors: Tensors, x: str, shape: Shape
) -> tuple[str, Shape]:
    """Nodes of a chain of layers, and the shape of one output."""

    def stored(name: str) -> str:
        return g.constant(name, tensors[name])

    for layer in described:
        match layer["kind"]:
            case "Linear":
                weight = tensors[layer["weight"]]
                inputs = [stored(layer[key]) for key in ("weight", "bias") if layer[key]]
                x = g.add("Gemm", x, *inputs, transB=1)
                if weight.dtype == np.float64:
                    x = g.cast(x, np.float32)
                shape = weight.shape[:1]
            case "Residual":
                branch, outputs = _layers(g, layer["branch"], tensors, x, shape)
                x = g.add("Add", branch, g.add("Gemm", x, stored(layer["skip"]), transB=1))
                shape = outputs
            case "Conv2d":
                (out, _, *kernel), stride, padding = (
                    tensors[layer["weight"]].shape,
                    layer["stride"],
                    layer["padding"],
                )
                inputs = [stored(layer[key]) for key in ("weight", "bias") if layer[key]]
                x = g.add("Conv", x, *inputs, kernel_shape=kernel, strides=stride, pads=[*padding, *padding])
                sizes = zip(shape[1:], padding, kernel, stride, strict=True)
                shape = (out, *((n + 2 * p - k) // s + 1 for n, p, k, s in sizes))
            case "Scale":
                x = g.add("Mul", x, g.number(layer["factor"]))
            case "Parallel":
                x, shape = _parallel(g, layer, tensors, x)
            case "Flatten" | "Unflatten":
                shape = tuple(layer.get("shape", [math.prod(shape)]))
                x = g.reshape(x, *shape)
            case "Householder":
                x = householder(g, x, tensors[layer["angle"]], layer["angle"], shape[-1])
            case _:
                x = activation(g, x, layer, shape[-1])
    return x, shape


def _parallel(g: Graph, layer: Description, tensors: Tensors, x: str) -> tuple[str, Shape]:
    outputs, begin = [], 0
    for branch, size in zip(layer["branches"], layer["sizes"], strict=True):
        outputs.append(_layers(g, branch, tensors, g.part(x, begin, begin + size)[0], (size,)))
        begin += size
    return g.join(*[name for name, _ in outputs]), (sum(width for _, (width,) in outputs),)


def _act(g: Graph, y: str, action: Description, tensors: Tensors, width: int) -> tuple[str, Any]:
    """From the network's output (n, width) to the action before its shape is given back, and its dtype."""
    match action["kind"]:
        case "discrete":
            return g.add("ArgMax", y, axis=1, keepdims=0), np.int64
        case "multi_discrete":
            ends = np.cumsum([0, *action["sizes"]]).tolist()
            groups = [g.part(y, a, b)[0] for a, b in itertools.pairwise(ends)]
            return g.join(*[g.add("ArgMax", group, axis=1, keepdims=1) for group in groups]), np.int64
        case "multi_binary":
            return g.cast(g.add("Greater", y, g.number(0.0)), np.float32), np.float32
    dtype = np.dtype(action["dtype"])
    limits = {
        key: g.constant(f"action.{key}", tensors[f"action.{key}"].astype(dtype))
        for key in ("low", "high", "half_range", "centre")
        if f"action.{key}" in tensors
    }
    if action["squash"]:
        y = g.add("Tanh", y)
    y = g.cast(y, dtype)
    if action["rescale"]:
        y = g.add("Add", g.add("Mul", y, limits["half_range"]), limits["centre"])
    return _between(g, y, limits["low"], limits["high"]), dtype
