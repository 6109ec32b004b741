"""Steepest pairs of windows and of whole sequences of observations: what ``Certificate.window`` must not be below."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates.bounds._search import ROUNDING, jacobians, lengths

#: Constants of a window; with "_unclipped" where no clip acts.
QUESTIONS = ("newest", "each", "whole", "signal", "bias", "bias_unclipped")

#: Windows to choose each steep start from.
CANDIDATES = 32

#: Of a displacement, in deviations of the sensors.
SMALLEST, LARGEST = 1e-3, 10.0


@dataclass(frozen=True, eq=False)
class Windows:
    """A policy that sees k observations, over sequences of them.

    Attributes:
        pipeline: window → action; of raw, unnormalised observations.
        blank: (d,) what stands before the first observation, in raw units: zero, or what is normalised to zero.
        unit: (d,) that displacements are measured in.
        norm: of both sides.
    """

    pipeline: Pipeline
    blank: Tensor
    unit: Tensor
    norm: str = "l2"

    @classmethod
    def of(cls, pipeline: Pipeline, inside: bool, unit: object = 1.0, norm: str = "l2") -> Windows:
        """``inside``: frames are normalised before they are stacked."""
        size = len(pipeline.gain) // pipeline.chain.frames
        blank = torch.as_tensor(pipeline.mean[:size]) if inside else torch.zeros(size, dtype=torch.float64)
        scale = torch.as_tensor(np.broadcast_to(np.asarray(unit, dtype=np.float64), (size,)).copy())
        return cls(pipeline, blank, scale, norm)

    @property
    def frames(self) -> int:
        """k."""
        return self.pipeline.chain.frames

    @property
    def spread(self) -> Tensor:
        """(d,) deviation of each sensor."""
        return 1 / torch.as_tensor(self.pipeline.gain[-len(self.blank) :])

    def unclipped(self) -> Windows:
        """Without the clip."""
        free = np.full_like(self.pipeline.limit, np.inf)
        return dataclasses.replace(self, pipeline=dataclasses.replace(self.pipeline, limit=free))

    def windows(self, observations: Tensor, start: Tensor | None = None) -> Tensor:
        """(n, T, k·d) of the observations (n, T, d) of episodes, whatever stands before them (n, k - 1, d)."""
        n, steps, size = observations.shape
        if start is None:
            start = self.blank.expand(n, self.frames - 1, size)
        padded = torch.cat([start, observations], dim=1)
        return padded.unfold(1, self.frames, 1).permute(0, 1, 3, 2).reshape(n, steps, -1)

    def actions(self, windows: Tensor) -> Tensor:
        """(n, T, act)."""
        return self.pipeline.act(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])

    def rounding(self, windows: Tensor) -> Tensor:
        """(n, T) of :meth:`actions`."""
        return self.pipeline.raw_rounding(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])


@dataclass(frozen=True, eq=False)
class Steepest:
    """What was found.

    Attributes:
        ratio: the steepest pair's, lowered by rounding.
        pairs: looked at.
    """

    ratio: float
    pairs: int


def steepest_window(
    policy: Windows, question: str, *, sensor: int | None = None, n: int = 128, steps: int = 40, seed: int = 0,
    length: int = 24,
) -> Steepest:  # fmt: skip
    """Gradient ascent of the gain that ``question`` names, over observations and displacements together.

    Starts: random displacements, single impulses, sinusoids of random frequency, and steepest directions of the
    linearised policy (for signals at its worst frequency). Every step of every pair is counted.

    Args:
        sensor: only this one is off.
        n, steps, length: pairs, steps of each, observations in a sequence.
    """
    if question == "bias_unclipped":
        return steepest_window(
            policy.unclipped(), "bias", sensor=sensor, n=n, steps=steps, seed=seed, length=length
        )
    generator = torch.Generator().manual_seed(seed)
    single = question in ("newest", "each", "whole")
    time = policy.frames if single else length
    size = len(policy.blank)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    calm = torch.rand(n, 1, 1, generator=generator, dtype=torch.float64)
    observed = draw(n, 1, size) + 2 * calm * draw(n, time, size)
    if policy.pipeline.normalised:
        observed = observed + torch.as_tensor(policy.pipeline.mean[-size:]) / policy.spread
    steep = torch.arange(n) % 4 == 3
    many = 2 * draw(CANDIDATES * int(steep.sum()), time if single else 1, size)
    if policy.pipeline.normalised:
        many = many + torch.as_tensor(policy.pipeline.mean[-size:]) / policy.spread
    mask = torch.ones(time, size, dtype=torch.float64)
    if sensor is not None:
        mask[:, [i for i in range(size) if i != sensor]] = 0.0
    if question == "newest":
        mask[:-1] = 0.0
    gains = _linear_gains(policy, question, many, mask)
    observed[steep] = many[gains.argsort(descending=True)[: int(steep.sum())]].expand(-1, time, -1)
    move = _first_moves(policy, question, observed, mask, draw, generator)
    exponent = torch.rand(n, 1, 1, generator=generator, dtype=torch.float64)
    exponent[steep] *= 0.5
    move = move * mask
    move = move / move.flatten(1).norm(dim=1).clamp_min(1e-30).reshape(n, 1, 1)
    move = move * (SMALLEST * (LARGEST / SMALLEST) ** exponent)
    observed.requires_grad_(True)
    move = move.detach().requires_grad_(True)
    optimizer = torch.optim.Adam([{"params": [observed], "lr": 0.03}, {"params": [move], "lr": 0.01}])
    best = 0.0
    for _ in range(steps):
        ratio, lowered = _ratio(policy, question, observed, move, mask)
        if float(ratio.detach().nan_to_num(0.0).max()) > best:  # the others are no steeper when lowered
            best = max(best, lowered())
        optimizer.zero_grad()
        (-torch.log(ratio + 1e-12)).sum().backward()  # type: ignore[no-untyped-call]
        for variable in (observed, move):
            if variable.grad is not None:
                variable.grad.nan_to_num_(0.0)
        optimizer.step()
    return Steepest(best, n * steps)


def _first_moves(
    policy: Windows, question: str, observed: Tensor, mask: Tensor, draw: Callable[..., Tensor],
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """(n, T, d) in deviations of the sensors."""
    n, time, size = observed.shape
    kind = torch.arange(n) % 4
    move = draw(n, 1, size).expand(n, time, size) if question == "bias" else draw(n, time, size)
    move = torch.where((kind % 2 == 0).reshape(n, 1, 1), move, move * policy.unit / policy.spread)
    if question == "bias":
        summed = _blocks(policy, observed[kind == 3], mask).sum(dim=2)
        direction = torch.linalg.svd(summed, full_matrices=False)[2][:, :1] * policy.unit / policy.spread
        move = move.clone()
        move[kind == 3] = direction.expand(-1, time, -1)
        return move
    impulse = torch.zeros_like(move)
    impulse[torch.arange(n), torch.randint(time, (n,), generator=generator)] = draw(n, size)
    move[kind == 1] = impulse[kind == 1]
    omega = torch.rand(n, 1, 1, generator=generator, dtype=torch.float64) * math.pi
    steps = torch.arange(time, dtype=torch.float64).reshape(1, -1, 1)
    direction = torch.complex(draw(n, 1, size), draw(n, 1, size))
    move[kind == 2] = (direction * torch.exp(1j * omega * steps)).real[kind == 2]
    steep = kind == 3
    blocks = _blocks(policy, observed[steep], mask)
    deviations = policy.unit / policy.spread
    if question != "signal":
        directions = torch.linalg.svd((blocks * mask).flatten(2), full_matrices=False)[2][:, 0]
        move[steep] = directions.unflatten(1, (time, size)) * deviations
        return move
    grid, responses = _responses(blocks)
    _, values, vectors = torch.linalg.svd(responses, full_matrices=False)
    worst = values[:, :, 0].argmax(dim=1)
    chosen = vectors[torch.arange(len(worst)), worst, 0].conj().unsqueeze(1) * deviations
    move[steep] = (chosen * torch.exp(1j * grid[worst].reshape(-1, 1, 1) * steps)).real
    return move


def _blocks(policy: Windows, observed: Tensor, mask: Tensor) -> Tensor:
    """(n, act, k, d) Jacobian per unit, of windows or of the same observation k times, where sensors may be off."""
    window = (
        observed if observed.shape[1] == policy.frames else observed[:, -1:].expand(-1, policy.frames, -1)
    )
    jacobian = jacobians(policy.pipeline.act, (window * policy.spread).reshape(len(window), -1))
    return jacobian.unflatten(2, (policy.frames, observed.shape[2])) * (policy.unit * mask[-1])


def _responses(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Frequencies (g,) and what the linearised policies make of them (n, g, act, d)."""
    grid = torch.linspace(0.0, math.pi, 33, dtype=torch.float64)
    waves = torch.exp(1j * grid.unsqueeze(1) * torch.arange(blocks.shape[2]))
    return grid, torch.einsum("gk,nakd->ngad", waves, blocks.to(waves.dtype))


def _linear_gains(policy: Windows, question: str, observed: Tensor, mask: Tensor) -> Tensor:
    """(n,) gain that ``question`` names, of the policy linearised at each window."""
    blocks = _blocks(policy, observed, mask)
    if question == "signal":
        return torch.linalg.svdvals(_responses(blocks)[1])[:, :, 0].amax(dim=1)
    if question == "bias":
        return torch.linalg.svdvals(blocks.sum(dim=2))[:, 0]
    return torch.linalg.svdvals((blocks * mask).flatten(2))[:, 0]


def _ratio(
    policy: Windows, question: str, observed: Tensor, move: Tensor, mask: Tensor
) -> tuple[Tensor, Callable[[], float]]:
    """(n,) gains, and a function that gives the largest of them lowered by all rounding."""
    norm = policy.norm
    raw = observed * policy.spread
    off = move * mask * policy.spread
    if question == "bias":
        off = off[:, :1].expand_as(off)
    if question in ("newest", "each", "whole"):
        clean, moved = (x.flatten(1).unsqueeze(1) for x in (raw, raw + off))
    else:
        tail = torch.zeros_like(raw[:, : policy.frames - 1])
        if question == "signal":  # until the last error has left the window
            raw, off = torch.cat([raw, tail + raw[:, -1:]], dim=1), torch.cat([off, tail], dim=1)
        clean, moved = policy.windows(raw), policy.windows(raw + off)
    change = policy.actions(moved) - policy.actions(clean)
    exact = (raw + off) - raw  # what was added, not what was meant to be
    each_off = exact / policy.unit
    if question in ("bias", "each"):
        gap = lengths(each_off, norm).amax(dim=1)
    elif question == "signal":
        gap = each_off.flatten(1).norm(dim=1)
    else:
        gap = lengths(each_off.flatten(1), norm)
    sizes = lengths(change, norm)
    total = sizes.norm(dim=1) if question == "signal" else sizes.amax(dim=1)
    ratio = total / gap.clamp_min(1e-9)

    @torch.no_grad()
    def lowered() -> float:
        error = policy.rounding(moved) + policy.rounding(clean)
        if norm == "l1":
            error = error * change.shape[-1] ** 0.5
        error = error + ROUNDING * sizes
        kept = (sizes - error).clamp_min(0.0)
        least = kept.norm(dim=1) if question == "signal" else kept.amax(dim=1)
        scale = lengths((raw.abs() + off.abs()).flatten(1) / policy.unit.repeat(raw.shape[1]), norm)
        found = least / (gap + 4 * torch.finfo(torch.float64).eps * scale)
        return float(found.nan_to_num(0.0).max())

    return ratio, lowered
