"""Write any SB3 model's deterministic policy as one safe file."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl._version import __version__
from lipsrl.actors.normalization import NormalizeLike, observation_chain
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates import certify
from lipsrl.deployment._describe import (
    describe_action,
    describe_network,
    describe_observation,
    describe_window,
)
from lipsrl.deployment._folding import fold
from lipsrl.deployment._safetensors import Tensors
from lipsrl.deployment._schema import WINDOW_VERSION, write_policy_file


def _write_onnx(path: Path, description: dict[str, Any], tensors: Tensors) -> None:
    check_onnx()
    from lipsrl.deployment._onnx import write_onnx

    write_onnx(path, description, tensors)


#: suffix → writer
WRITERS: Mapping[str, Callable[[Path, dict[str, Any], Tensors], None]] = {
    ".safetensors": write_policy_file,
    ".onnx": _write_onnx,
}


def check_onnx() -> None:
    """Refuse ``.onnx`` where it cannot be written, before the work is done.

    Raises:
        ImportError: onnx is not installed.
    """
    if importlib.util.find_spec("onnx") is None:
        raise ImportError("Writing .onnx needs the onnx package: pip install 'lipsrl[onnx]'.")


def check_suffix(path: str | Path) -> Path:
    """``path``, if its suffix names a format.

    Raises:
        ValueError: another suffix.
    """
    target = Path(path)
    if target.suffix not in WRITERS:
        raise ValueError(
            f"path={str(path)!r} ends in {target.suffix!r}, expected {' or '.join(map(repr, WRITERS))}."
        )
    return target


def export(
    model: BaseAlgorithm,
    path: str | Path,
    *,
    vec_normalize: NormalizeLike = None,
    frame_stack: int | None = None,
    folded: bool = False,
) -> Path:
    """Write the deterministic policy of ``model`` with its normalisation and certificate; no pickle, no code.

    The policy is put in evaluation mode, as ``predict`` does, and certified, which takes about a second.
    :func:`lipsrl.load_policy` runs ``….safetensors`` on NumPy alone; ``….onnx`` is for onnxruntime and needs
    ``pip install lipsrl[onnx]`` here.

    Args:
        model: an SB3 model; Lipschitz or stock.
        path: the file to write, ``….safetensors`` or ``….onnx``. A file that is there is replaced.
        vec_normalize: the ``VecNormalize`` the model was trained with, or its file. A model whose environment
            carries one is exported with it, and so is a gymnasium NormalizeObservation inside that environment.
        frame_stack: number of stacked frames, for a model without its environment. Where the frames are vectors, the
            policy keeps them itself and takes one observation at a time (:class:`~lipsrl.deployment.WindowPolicy`;
            ONNX graphs take the window); images, stacks of stacks and Dicts are taken stacked.
        folded: merge the normalisation into the first layer: raw readings are clipped, and no other step is left.

    Returns:
        ``path``. The file is written whole or not at all.

    Raises:
        TypeError: ``model`` is no SB3 model.
        ValueError: another suffix, an actor that has no plain form or cannot be certified, weights that are not
            finite float32, a normalisation of another size, ``folded`` where there is nothing to fold.
        ImportError: ``….onnx`` without the onnx package.

    Example::

        lipsrl.export(model, "policy.safetensors")
        lipsrl.export(model, "policy.onnx", folded=True)
    """
    target = check_suffix(path)
    if not isinstance(model, BaseAlgorithm):
        raise TypeError(f"model must be a Stable-Baselines3 model, received {type(model).__name__}.")
    pipeline = Pipeline.of(model, observation_chain(model, vec_normalize, frame_stack))
    certificate = certify(model, vec_normalize=vec_normalize, frame_stack=frame_stack)
    layers, tensors = describe_network(pipeline.parts.network)
    observation, normalisation = describe_observation(model.observation_space, pipeline)
    window = describe_window(model, pipeline)
    action, limits = describe_action(model.action_space, pipeline.parts)
    description: dict[str, Any] = {
        "algorithm": certificate.algorithm,
        "policy": certificate.policy,
        "observation": {**observation, **window},
        "layers": layers,
        "action": action,
        "certificate": json.loads(json.dumps(certificate.to_dict())),
        "versions": {**certificate.versions, "lipsrl": __version__},
    }
    if window:
        description = {"schema_version": WINDOW_VERSION, **description}
    arrays: Tensors = tensors | normalisation | limits
    if folded:
        description, arrays = fold(description, arrays)
    WRITERS[target.suffix](target, description, arrays)
    return target
