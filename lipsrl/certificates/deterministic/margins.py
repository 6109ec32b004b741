"""Discrete actions: how far a sensor may be off before the greedy action can change."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from torch import Tensor

from lipsrl._digits import rounded_down
from lipsrl._validation import unknown_name
from lipsrl.actors import ActorParts
from lipsrl.actors._rounding import rounding_error
from lipsrl.actors.acting import choices_of, n_outputs
from lipsrl.actors.fingerprint import weights_sha256
from lipsrl.actors.normalization import NormalizeLike
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates._entry import entry_chain, entry_in_words
from lipsrl.certificates._saved import Saved, finite_or_none
from lipsrl.certificates.bounds._folding import NORMS, BoundFunction, output_bound, tightest_bound
from lipsrl.layers._linalg import EPS64
from lipsrl.policies._unwrapped import policy_of

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MarginCertificate(Saved):
    """For each observation the radius inside which the greedy action is the same.

    Attributes:
        radii: (n,), in the units of the raw observation: no δ with ``‖δ‖ < radii[k]`` changes the greedy action at
            observation k. 0 for a tie; infinite where no observation can change it.
        actions: (n, branches) the greedy action; one branch for Discrete, one per entry of MultiDiscrete, one per bit
            of MultiBinary.
        norm: of δ, ``"l2"`` or ``"linf"``.
        pairs: choices (i, j) of one branch, numbered through all branches (off and on for a bit), one of them the
            greedy one somewhere.
        pair_bounds: (len(pairs),) upper bounds of the Lipschitz constants of ``output_i - output_j`` (of the logit,
            for a bit), per unit of the raw observation.
        algorithm, weights_sha256: whose actions these are.
        assumptions: in words.
    """

    title: ClassVar[str] = "margin certificate"
    schema_version: ClassVar[int] = 1

    radii: Array
    actions: NDArray[np.int64]
    norm: str
    pairs: tuple[tuple[int, int], ...]
    pair_bounds: Array
    algorithm: str
    weights_sha256: str
    assumptions: tuple[str, ...]

    def certified_fraction(self, radius: ArrayLike) -> Array:
        """Share of the observations whose greedy action is the same for all ``‖δ‖ ≤ radius``.

        Args:
            radius: ≥ 0, any shape; raw units.

        Returns:
            Of the shape of ``radius``. At 0 the share of observations without a tie.

        Raises:
            ValueError: a radius that is negative or NaN.
        """
        asked = np.asarray(radius, dtype=np.float64)
        if not (asked >= 0).all():
            raise ValueError(f"radius must be >= 0, received {asked[~(asked >= 0)].flat[0]}.")
        inside = np.searchsorted(np.sort(self.radii), asked, side="right")
        return np.asarray(1.0 - inside / len(self.radii))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; an infinite radius is ``None``."""
        return {
            "schema_version": self.schema_version,
            "radii": finite_or_none(self.radii),
            "actions": self.actions.tolist(),
            "norm": self.norm,
            "pairs": [list(pair) for pair in self.pairs],
            "pair_bounds": self.pair_bounds.tolist(),
            "algorithm": self.algorithm,
            "weights_sha256": self.weights_sha256,
            "assumptions": list(self.assumptions),
        }

    @classmethod
    def _from_checked(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            radii=np.array([np.inf if r is None else r for r in data["radii"]], dtype=np.float64),
            actions=np.array(data["actions"], dtype=np.int64),
            norm=data["norm"],
            pairs=tuple((i, j) for i, j in data["pairs"]),
            pair_bounds=np.array(data["pair_bounds"], dtype=np.float64),
            algorithm=data["algorithm"],
            weights_sha256=data["weights_sha256"],
            assumptions=tuple(data["assumptions"]),
        )

    def __str__(self) -> str:
        low, median, high = (
            rounded_down(r, 4) for r in np.quantile(self.radii, [0.1, 0.5, 0.9], method="lower")
        )
        lines = [
            f"Margin certificate of a {self.algorithm} policy, {self.norm} norm, {len(self.radii)} observations",
            f"  the greedy action stays for all disturbances of the raw observation up to {median} at the median "
            f"observation ({low} at the 10th, {high} at the 90th percentile)",
            f"  ties         {int((self.radii == 0).sum())}",
        ]
        return "\n".join(lines + [f"  assumes      {text}" for text in self.assumptions])


def margin_certificate(
    model: BaseAlgorithm,
    observations: ArrayLike,
    *,
    norm: str = "l2",
    vec_normalize: NormalizeLike = None,
    frame_stack: int | None = None,
    network_bound: BoundFunction = tightest_bound,
    _parts: ActorParts | None = None,
) -> MarginCertificate:
    """Certify the greedy action of ``model`` at each of ``observations``.

    With ``L_ij`` a Lipschitz constant of ``output_i - output_j`` and i the greedy action at o, every δ shorter than
    ``min_j (output_i(o) - output_j(o)) / L_ij`` leaves i ahead of every j (Tsuzuku et al. 2018, "Lipschitz-margin
    training", with one constant per pair; all of them ≤ √2·K for a K-Lipschitz output vector). MultiDiscrete: the
    smallest radius of its branches. MultiBinary: bit k is the sign of logit k, so its own constant counts.

    Works on DQN and on PPO and A2C with discrete actions, constrained or not.

    Args:
        model: an SB3 model.
        observations: (n, *observation shape) raw observations, as the environment gives them; images with their
            channels first or last.
        norm: ``"l2"`` or ``"linf"``, of the disturbance in raw units.
        vec_normalize, frame_stack: as in :func:`lipsrl.certify`; stacked observations are given stacked.
        network_bound: a sound bound of the l2 Lipschitz constant of a plain float64 network; it is called with the
            difference of two outputs as a network of one output, the gains of VecNormalize in its first weights. By
            default the smaller of product and LipSDP; ``product_bound`` takes milliseconds where there are many pairs.

    Raises:
        TypeError: no SB3 model.
        ValueError: actions that are not discrete, observations that are no vectors or images (a code, such as those of
            Discrete, is never off by a little), do not fit or are not finite, a part of the actor that cannot be
            bounded.
    """
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    chain = entry_chain(model, vec_normalize, frame_stack)
    _check_discrete(model.action_space)
    pipeline = Pipeline.of(model, chain, _parts)
    branches, choices = _branches(model.action_space, n_outputs(pipeline.parts.network))
    raw = _raw_rows(observations, model.observation_space)
    scores, error = _scores(pipeline, raw, choices)
    greedy = [branch.start + scores[:, branch.start : branch.stop].argmax(dim=1) for branch in branches]
    pairs, bounds = [], []
    radii = torch.full((len(raw),), float("inf"), dtype=torch.float64)
    for branch, best in zip(branches, greedy, strict=True):
        for i, j in itertools.combinations(branch, 2):
            rows = torch.nonzero((best == i) | (best == j)).squeeze(1)
            if len(rows) == 0:
                continue  # decides nowhere
            pairs.append((i, j))
            difference = (choices[i] - choices[j]).unsqueeze(0)
            bounds.append(output_bound(pipeline, difference, norm, network_bound))
            gap = (scores[rows, i] - scores[rows, j]).abs() - error[rows, i] - error[rows, j]
            # bound 0, a difference that no observation moves: infinitely far from changing unless it is a tie
            radius = torch.where(gap > 0, gap / bounds[-1], 0.0)
            radii[rows] = torch.minimum(radii[rows], radius)
    return MarginCertificate(
        radii=(radii * (1.0 - 4 * EPS64)).numpy(),
        actions=torch.stack(
            [best - branch.start for best, branch in zip(greedy, branches, strict=True)], dim=1
        ).numpy(),
        norm=norm,
        pairs=tuple(pairs),
        pair_bounds=np.array(bounds, dtype=np.float64),
        algorithm=type(model).__name__,
        weights_sha256=weights_sha256(pipeline.parts.network),
        assumptions=_assumptions(pipeline, model),
    )


def _check_discrete(space: spaces.Space[Any]) -> None:
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise ValueError(
            f"A margin certificate needs discrete actions, received {space}. For continuous actions lipsrl.certify "
            "bounds how far they move."
        )


def _branches(space: spaces.Space[Any], outputs: int) -> tuple[list[range], Tensor]:
    """Choices that compete with each other, and the (choices, outputs) matrix that gives each choice its score.

    A bit of SB3's is off or on: scores 0 and its logit.
    """
    sizes = choices_of(space, outputs)
    if sizes is None:
        sizes = (2,) * outputs
        choices = torch.eye(outputs, dtype=torch.float64).repeat_interleave(2, dim=0)
        choices[::2] = 0.0
    else:
        choices = torch.eye(sum(sizes), dtype=torch.float64)
    ends = itertools.accumulate(sizes)
    return [range(end - size, end) for end, size in zip(ends, sizes, strict=True)], choices


def _raw_rows(observations: ArrayLike, space: spaces.Space[Any]) -> Tensor:
    """(n, obs) float64."""
    if not isinstance(space, (spaces.Box, spaces.MultiBinary)):
        raise ValueError(
            f"A margin certificate is for observations that can be off by a little, vectors and images; {space} holds "
            "codes, or several observations in one."
        )
    array = channels_first(np.asarray(observations, dtype=np.float64), space)
    if array.ndim == 0 or array.shape[1:] != space.shape or len(array) == 0:
        raise ValueError(
            f"observations must have shape (n, {', '.join(map(str, space.shape or ()))}) with n > 0, received "
            f"{array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError("observations hold NaN or infinite values. Leave those rows out.")
    return torch.as_tensor(array.reshape(len(array), -1))


def channels_first(images: Array, space: spaces.Space[Any]) -> Array:
    """Images (n, height, width, channels) as SB3 puts them before a policy of ``space``; anything else as it is."""
    if not is_image_space(space) or space.shape is None or images.shape[1:] == space.shape:
        return images
    turned = images.shape[1:] == (*space.shape[1:], space.shape[0])
    return images.transpose(0, 3, 1, 2) if turned else images


def _scores(pipeline: Pipeline, raw: Tensor, choices: Tensor) -> tuple[Tensor, Tensor]:
    """(n, choices) scores in float64, and a bound of each one's rounding error."""
    seen = pipeline.normalise(raw)
    mean, gain = torch.as_tensor(pipeline.mean), torch.as_tensor(pipeline.gain)
    error = 4 * EPS64 * ((raw.abs() + mean.abs()) * gain + seen.abs())
    outputs, error = rounding_error(pipeline.network, seen, error, EPS64)
    return outputs @ choices.mT, error @ choices.mT


def _assumptions(pipeline: Pipeline, model: BaseAlgorithm) -> tuple[str, ...]:
    masked = "action_masks" in inspect.signature(policy_of(model)._predict).parameters
    masks = ("no action is masked: under a mask the greedy action, and how far it is ahead, is another",)
    return (
        "greedy actions (predict(..., deterministic=True), for DQN without exploration)",
        *(masks if masked else ()),
        "real arithmetic over the weights that act (float32 rounding of the forward pass is not counted)",
        f"the disturbance is added to the observation as it enters {entry_in_words(pipeline)}",
    )
