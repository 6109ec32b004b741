"""Compute weights outside of autocast, inference mode and tracers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor

#: Enters and leaves nothing: this is asked for at each optimizer step and forward.
_NOTHING = nullcontext()


def tracing() -> bool:
    """Whether TorchScript's tracer records, ``torch.onnx.export(dynamo=False)`` included."""
    return torch._C._get_tracing_state() is not None


def _unusual(like: Tensor) -> bool:
    return torch.is_inference_mode_enabled() or torch.is_autocast_enabled(like.device.type) or tracing()


def own_precision(like: Tensor) -> AbstractContextManager[None]:
    """Outside of ``torch.inference_mode``, ``torch.autocast`` and TorchScript's tracer, on the device of ``like``.

    Merged weights are kept, so they must not be what the context of the first call made of them: tensors that no later
    backward pass takes, bfloat16, or nodes of a graph. Whether gradients are recorded stays as it is (inference mode
    counts as not). Weights that were made in inference mode can only be written there, so that is not left for them.
    """
    return _outside(like) if _unusual(like) else _NOTHING


@contextmanager
def _outside(like: Tensor) -> Iterator[None]:
    gradients = torch.is_grad_enabled()
    trace = torch._C._get_tracing_state()
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled() and not like.is_inference():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(gradients and trace is None))
        stack.enter_context(torch.autocast(like.device.type, enabled=False))
        torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
        stack.callback(torch._C._set_tracing_state, trace)  # type: ignore[attr-defined]
        yield
