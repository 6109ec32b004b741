"""Upper bounds of a plain network's Lipschitz constant, each sound in float64."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lipsrl.layers import max_slope, spectral_norm
from lipsrl.layers._linalg import EPS64


def product_bound(network: Iterable[nn.Module], output_weight: Tensor | None = None) -> float:
    """Product of the layers' float64 spectral norms and the activations' steepest slopes (l2).

    Szegedy et al. 2014, section 4.3. Sound for every feed-forward chain, and usually loose.

    Args:
        network: ``nn.Linear``s, activations and shape-only modules.
        output_weight: (out,) factors folded into the last linear layer.

    Raises:
        ValueError: a module whose Lipschitz constant is not known; names it.
    """
    modules = list(network)
    linears = [m for m in modules if isinstance(m, nn.Linear)]
    bound = 1.0
    for module in modules:
        if isinstance(module, nn.Linear):
            weight = module.weight.detach().double()
            if output_weight is not None and module is linears[-1]:
                weight = weight * output_weight.double().unsqueeze(1)
            bound *= spectral_norm(weight)
        elif not isinstance(module, (nn.Flatten, nn.Identity)):
            slope = max_slope(module)
            if slope is None:
                raise ValueError(
                    f"{type(module).__name__} in the actor has no known Lipschitz constant, so the model cannot "
                    "be certified. Use one of the activations of lipsrl.layers.ACTIVATIONS."
                )
            bound *= slope
    return bound * (1.0 + 8 * EPS64 * (len(modules) + 1))


@torch.no_grad()
def weights_sha256(network: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of a network's weights, in order."""
    import hashlib

    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name}:{array.dtype}:{array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
