"""The normalisation merged into the first layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from lipsrl.deployment._safetensors import Tensors


def fold(description: dict[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
    """The same policy without a normalisation step: ``W'x + b'`` of raw readings that were clipped first.

    ``clip((x - mean)·gain, ±c)`` is not affine, but ``clip(x, mean - c/gain, mean + c/gain)`` followed by
    ``(x - mean)·gain`` is the same map, since gain > 0. Its affine part goes into the first layer:
    ``W' = W·diag(gain)``, ``b' = b - W'·mean``. Both are float64: raw readings may lie far from zero compared with
    their spread, and in float32 ``W'x`` and ``W'·mean`` would cancel to noise. What stands before a window's first
    observation is raw, too: the mean where zeros stand there after the normalisation; ``W'x + b'`` takes it to ``b``.

    Raises:
        ValueError: nothing to fold, or a first layer that is not linear.
    """
    observation, layers = description["observation"], description["layers"]
    if not observation["normalised"]:
        raise ValueError(
            "folded=True, but there is no normalisation of observations to merge. Pass the file of the model's "
            "VecNormalize as vec_normalize=, or folded=False."
        )
    kind = layers[0]["kind"]
    if kind != "Linear":
        raise ValueError(
            f"folded=True needs an actor that begins with a linear layer, received {kind}. Export with folded=False: "
            "the normalisation is then a step of its own."
        )
    result = dict(tensors)
    mean, gain, clip = (result.pop(f"observation.{key}") for key in ("mean", "gain", "clip"))
    weight, bias = layers[0]["weight"], layers[0]["bias"]
    offset = 0.0 if bias is None else tensors[bias].astype(np.float64)
    bias = bias or weight.removesuffix("weight") + "bias"
    result[weight] = tensors[weight].astype(np.float64) * gain
    result[bias] = offset - result[weight] @ mean
    result["observation.low"], result["observation.high"] = mean - clip / gain, mean + clip / gain
    first = {**layers[0], "bias": bias}
    folded = {
        **description,
        "observation": {**observation, "folded": True},
        "layers": [first, *layers[1:]],
    }
    return folded, result
