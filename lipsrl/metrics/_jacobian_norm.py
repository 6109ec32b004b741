from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsrl._validation import lookup
from lipsrl.metrics._arrays import as_rows

if TYPE_CHECKING:
    from torch import Tensor, nn

Array = NDArray[np.float64]

# rows that are differentiated at once: memory, not speed, asks for a limit
_CHUNK = 4096

_NORMS: dict[str, Callable[[Array], Array]] = {
    "l2": lambda j: np.linalg.norm(j, ord=2, axis=(1, 2)),
    "linf": lambda j: np.abs(j).sum(axis=2).max(axis=1),
}


def jacobians(
    network: nn.Module,
    states: ArrayLike,
    *,
    normalization: tuple[ArrayLike, ArrayLike, float] | None = None,
    limits: tuple[ArrayLike, ArrayLike] | None = None,
) -> Array:
    """``∂μ/∂o`` of a torch actor at each of the given observations, in float64.

    Row norms (``np.linalg.norm(j, axis=2)``) say how steep each channel of the action is, column norms (``axis=1``)
    how far each sensor moves it. At the kink of a ReLU the derivative is torch's, 0.

    Args:
        network: observations ``(n, dim)`` → actions ``(n, channels)``, such as ``lipsrl.actor_network(model)``. Copied.
        states: raw observations, ``(n, dim)`` or ``(n,)``.
        normalization: ``(mean, gain, clip)`` of the map ``o ↦ clip((o − mean)·gain, ±clip)`` in front of the network,
            as ``lipsrl.actors.normalization.observation_gains(vec_normalize, dim)`` gives them. None: no map.
        limits: ``(low, high)`` to which the action is clipped: a channel beyond its limit has slope 0. None: the
            Jacobian of the action before the clip.

    Returns:
        ``(n, channels, dim)``, action units per observation unit.

    Raises:
        ValueError: if ``states`` has another shape or an entry that is not finite.

    Example:
        >>> import torch
        >>> from lipsrl.metrics import jacobians
        >>> linear = torch.nn.Linear(2, 1)
        >>> _ = linear.weight.data.copy_(torch.tensor([[3.0, 4.0]]))
        >>> jacobians(linear, [[0.0, 0.0], [1.0, 2.0]]).tolist()
        [[[3.0, 4.0]], [[3.0, 4.0]]]
    """
    import torch  # here, so that the other metrics need NumPy only

    rows = torch.from_numpy(as_rows("states", states))
    actor = copy.deepcopy(network).double().cpu().requires_grad_(False).eval()
    mean, gain, clip = (0.0, 1.0, float("inf")) if normalization is None else normalization
    shift, scale = (torch.as_tensor(np.asarray(v, dtype=np.float64)) for v in (mean, gain))

    def action(row: Tensor) -> Any:
        return actor(((row - shift) * scale).clamp(-clip, clip)[None])[0]

    derivative = torch.func.vmap(torch.func.jacrev(action), chunk_size=_CHUNK)
    slopes: Array = derivative(rows).numpy()
    if limits is not None:
        low, high = (np.asarray(v, dtype=np.float64) for v in limits)
        actions = torch.func.vmap(action, chunk_size=_CHUNK)(rows).numpy()
        slopes = np.where(((actions < low) | (actions > high))[:, :, np.newaxis], 0.0, slopes)
    return slopes


def jacobian_norm(
    network: nn.Module,
    states: ArrayLike,
    *,
    norm: str = "l2",
    normalization: tuple[ArrayLike, ArrayLike, float] | None = None,
    limits: tuple[ArrayLike, ArrayLike] | None = None,
) -> Array:
    """The local Lipschitz constant of a torch actor at each of the given observations, ``‖∂μ/∂o‖``.

    Over the states of an episode its maximum is the steepest place on the trajectory: a lower bound of the certified
    constant, to be set beside it.

    Args:
        norm: on both sides. ``"l2"``: the largest singular value. ``"linf"``: the largest l1 norm of a row.
        network, states, normalization, limits: as of `jacobians`.

    Returns:
        ``(n,)``, action units per observation unit.

    Raises:
        ValueError: as `jacobians`, or an unknown norm.

    Example:
        >>> import torch
        >>> from lipsrl.metrics import jacobian_norm
        >>> linear = torch.nn.Linear(2, 1)
        >>> _ = linear.weight.data.copy_(torch.tensor([[3.0, 4.0]]))
        >>> jacobian_norm(linear, [[1.0, 2.0]]).tolist(), jacobian_norm(linear, [[1.0, 2.0]], norm="linf").tolist()
        ([5.0], [7.0])
    """
    size = lookup("norm", norm, _NORMS)
    return np.asarray(size(jacobians(network, states, normalization=normalization, limits=limits)))
