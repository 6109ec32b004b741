"""What a certificate assumes, warns of and was computed with, in words."""

from __future__ import annotations

from importlib import metadata

import numpy as np
from stable_baselines3.common.preprocessing import is_image_space

from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates.bounds._upper import LARGEST_PROBLEM, Bound

#: A sensor with a larger normalisation gain than this is called out, where the others' are ten times smaller.
SUSPICIOUS_GAIN = 100.0

#: Packages that the numbers may depend on.
_PACKAGES = ("lipsrl", "torch", "stable-baselines3", "gymnasium", "numpy")


def assumptions(pipeline: Pipeline) -> tuple[str, ...]:
    """Under which the bounds hold."""
    texts = [
        "deterministic actions (predict(..., deterministic=True)); sampled actions add the policy's own noise",
        "raw observation and action are those at the environment's outermost wrapper inside VecNormalize",
        "real arithmetic over the weights that act (float32 rounding of the forward pass is not counted)",
    ]
    spaces_found = {type(space).__name__ for space in pipeline.spaces}
    if any(is_image_space(space) for space in pipeline.spaces):
        texts.append("images are measured in grey levels (0 to 255)")
    if spaces_found & {"Discrete", "MultiDiscrete"}:
        texts.append("discrete observations are one-hot vectors: two different values are √2 apart")
    if pipeline.chain.inner is not None:
        texts.append("the statistics of the NormalizeObservation inside the environment, frozen")
    if pipeline.normalised:
        texts.append("the observation statistics of the given VecNormalize, frozen")
    elif pipeline.chain.stated:
        texts.append(
            "the model receives raw observations: folder or caller says that there is no VecNormalize"
        )
    else:
        texts.append(
            "the model receives raw observations: no VecNormalize was given or found around its environment"
        )
    return tuple(texts)


def warnings(pipeline: Pipeline) -> tuple[str, ...]:
    """What of the normalisation could not be followed, and sensors that it blows up."""
    if not pipeline.normalised:
        return pipeline.chain.notes
    typical = float(np.median(pipeline.gain))
    suspicious: dict[str, float] = {}
    for i, gain in enumerate(pipeline.gain):
        if gain > SUSPICIOUS_GAIN and gain > 10 * typical:
            suspicious[pipeline.names[pipeline.sensors[i]]] = float(gain)
    return pipeline.chain.notes + tuple(
        f"{sensor} hardly varied in training: VecNormalize multiplies it by {gain:.4g}. It dominates the "
        "bound in raw units; drop the coordinate or fix its scale with observation_scale."
        for sensor, gain in suspicious.items()
    )


def left_out(raw: Bound, method: str) -> tuple[str, ...]:
    """What "auto" did not try."""
    if method != "auto" or raw.chain is None or raw.chain.size <= LARGEST_PROBLEM:
        return ()
    return (
        f"LipSDP was left out: it is for at most {LARGEST_PROBLEM} inputs and units, this network has "
        f"{raw.chain.size}. ECLipsE-Fast, which is looser, was tried in its place.",
    )


def versions() -> dict[str, str]:
    """Of the installed packages; a checkout that is not installed has none."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
