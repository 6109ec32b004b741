"""Convolution in the spectral ball: plain kernels whose norm is kept at most ``bound`` by projection."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipsrl._validation import positive_int
from lipsrl.layers._base import Factors, LipschitzLayer
from lipsrl.layers._convolution import Pair, convolution_fits, convolution_norm, cut_norm, random_paraunitary
from lipsrl.layers._linalg import MARGIN, check_finite
from lipsrl.layers.activations import UNIT_SLOPE, base_of

#: Activations that act on each unit alone, so that the layout of images does not matter.
ELEMENT_WISE = UNIT_SLOPE | {"silu", "gelu", "mish", "abs"}

#: The exact projection takes at most so many cuts, until what is left is this much (relative), and rescales then.
MAX_CUTS, LAST_CUT = 10, 1e-3


def _pair(argument: str, value: Any, lowest: int = 1) -> Pair:
    """``value``, an integer or two of them, as a pair of integers ≥ ``lowest``."""
    first, second = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, value)
    shift = 1 - lowest
    try:
        return positive_int(argument, first + shift) - shift, positive_int(argument, second + shift) - shift
    except (TypeError, ValueError):
        raise ValueError(
            f"{argument} must be an integer ≥ {lowest} or a pair of them, received {value!r}."
        ) from None


class SpectralConv2d(LipschitzLayer):
    """2-D convolution with zero padding and norm ≤ ``bound``, with an optional element-wise activation.

    The bound (l2, over all pixels and channels) is that of :func:`~lipsrl.layers._convolution.convolution_norm`. The
    set of kernels is convex, so a polyak average of feasible ones is feasible. The exact projection cuts off what is
    too large at each frequency, then rescales by what is left. Starts paraunitary: every singular value at every
    frequency is ``gain·bound``.

    Args:
        in_channels, out_channels, kernel_size, stride, padding: as in ``nn.Conv2d``; integers or pairs of them.
        activation: key of :data:`~lipsrl.layers.ACTIVATIONS`, a torch class, or ``None``.
        bound: Lipschitz constant that the layer never exceeds.
        gain: initial norm relative to ``bound``.
        image_size: (height, width) of the input where it is always the same: the bound is then cheaper and tighter,
            and other sizes are refused. ``None``: the bound holds for every size.

    Attributes:
        slack: how far inside the bound (relative) kernels are put that were outside, as in
            :class:`~lipsrl.layers.spectral.Spectral`.

    Raises:
        ValueError: an argument is out of range, or an activation that mixes units.
    """

    name: ClassVar[str] = "spectral-conv2d"
    weight: nn.Parameter
    slack: float = MARGIN

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        activation: str | type[nn.Module] | None = "relu",
        *,
        bound: float = 1.0,
        gain: float = 1.0,
        image_size: Pair | None = None,
    ) -> None:
        # before the parent's constructor, which makes the weights
        self.kernel_size = _pair("kernel_size", kernel_size)
        self.stride = _pair("stride", stride)
        self.padding = _pair("padding", padding, lowest=0)
        self.image_size = None if image_size is None else _pair("image_size", image_size)
        self.output_size = None if self.image_size is None else self._output_size(self.image_size)
        super().__init__(in_channels, out_channels, activation, bound=bound, gain=gain)
        if self.activation_name is not None and base_of(self.activation_name) not in ELEMENT_WISE:
            raise ValueError(
                f"A convolution cannot be used with activation={self.activation_name!r}: it must act on each unit "
                f"alone. Accepted: {', '.join(map(repr, sorted(ELEMENT_WISE)))}."
            )

    def _output_size(self, image_size: Pair) -> Pair:
        sizes = zip(image_size, self.padding, self.kernel_size, self.stride, strict=True)
        height, width = ((size + 2 * pad - kernel) // step + 1 for size, pad, kernel, step in sizes)
        if height < 1 or width < 1:
            raise ValueError(
                f"image_size={image_size} is smaller than kernel_size={self.kernel_size} (padding={self.padding})."
            )
        return height, width

    def reset_parameters(self, gain: float) -> None:
        start = random_paraunitary(self.out_features, self.in_features, self.kernel_size, self.stride)
        start *= gain * self.bound * (1 - MARGIN) / convolution_norm(start, self.stride, self.output_size)
        self.weight = nn.Parameter(start.to(self.bias.dtype).contiguous())
        self._directions: Tensor | None = None  # warm start only: never part of what the layer means

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        raise TypeError(
            "A SpectralConv2d has no matrix factors: it cannot be a layer of a LipschitzMLP. Use its weight, its "
            "lipschitz_bound() and merge()."
        )

    def lipschitz_bound(self) -> float:
        return convolution_norm(self.weight, self.stride, self.output_size)

    def _fits(self) -> bool:
        return convolution_fits(self.weight, self.bound, self.stride, self.output_size)

    @torch.no_grad()
    def project(self) -> bool:
        if self._fits():
            return False
        check_finite(self.weight)
        for _ in range(MAX_CUTS):
            if self._cut(self.bound * (1 - self.slack)) <= max(LAST_CUT, self.slack / 2):
                break
        exact, slack = self.weight.double(), self.slack
        while not self._fits():
            exact = exact * (self.bound * (1 - slack) / self.lipschitz_bound())
            self.weight.copy_(exact)
            slack = 2 * slack
        return True

    def project_cheaply(self) -> float:
        return self._cut(self.bound)

    def _cut(self, radius: float) -> float:
        excess, self._directions = cut_norm(
            self.weight, self.stride, radius, self._directions, self.output_size
        )
        return excess

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (…, in_channels, height, width) to (…, out_channels, height', width')."""
        if self.image_size is not None and tuple(x.shape[-2:]) != self.image_size:
            raise ValueError(
                f"The bound of this convolution is for images of {self.image_size}, received {tuple(x.shape[-2:])}. "
                "Build it with image_size=None for images of every size."
            )
        if self.training and not torch.compiler.is_compiling():
            self.settle()
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        return y if self.activation is None else self.activation(y)

    def merge(self) -> nn.Conv2d:
        """A fresh ``nn.Conv2d`` with copies of kernel and bias (without the activation)."""
        conv = nn.Conv2d(
            self.in_features,
            self.out_features,
            self.kernel_size,
            self.stride,
            self.padding,
            device="meta",
            dtype=self.weight.dtype,
        ).to_empty(device=self.weight.device)
        with torch.no_grad():
            conv.weight.copy_(self.weight)
            assert conv.bias is not None
            conv.bias.copy_(self.bias)
        return conv

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, bound={self.bound:g}"
        )
