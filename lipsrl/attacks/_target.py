"""The target model of an attack, and how it sees raw observations."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl.actors.fingerprint import weights_sha256
from lipsrl.actors.normalization import NormalizeLike, observation_chain
from lipsrl.actors.view import Units, View
from lipsrl.policies._unwrapped import policy_of


@dataclass(frozen=True, eq=False)
class Target:
    """The target model of an attack, as it was when the attack got it.

    Attributes:
        view: its normalisation and its frame stack.
        algorithm, policy: names of its classes.
        weights_sha256: of all weights of its policy.
        normalization_sha256: of mean, gain and clip of every frame; None without a normalisation of observations.
    """

    view: View
    algorithm: str
    policy: str
    weights_sha256: str
    normalization_sha256: str | None

    @classmethod
    def of(cls, model: Any, vec_normalize: NormalizeLike, frame_stack: int | None, units: Units) -> Target:
        """Read ``model``.

        Raises:
            TypeError: no SB3 algorithm.
            ValueError: its observations are no vectors, or the normalisation, the frame stack or the units do not fit
                them.
        """
        if not isinstance(model, BaseAlgorithm):
            raise TypeError(
                "an attack needs the whole Stable-Baselines3 model (such as PPO.load(path)), received "
                f"{type(model).__name__}."
            )
        space = model.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(
                f"an attack needs a model of vector observations, a Box of shape (dim,), but this "
                f"{type(model).__name__} takes {space}."
            )
        # raw is what the environment returns, NormalizeObservation inside it included
        chain = observation_chain(model, vec_normalize, frame_stack, inside=False)
        view = View.of(chain, space.shape[0], units)
        policy: Any = policy_of(model)
        policy.set_training_mode(False)  # as predict does: the weights that act
        return cls(
            view=view,
            algorithm=type(model).__name__,
            policy=type(policy).__name__,
            weights_sha256=weights_sha256(policy),
            normalization_sha256=_statistics_sha256(view) if chain.normalised else None,
        )

    @property
    def identity(self) -> tuple[str, str | None, int]:
        """What tells it from others: weights, normalisation, frames."""
        return self.weights_sha256, self.normalization_sha256, self.view.frames

    def to_dict(self) -> dict[str, Any]:
        """What identifies the target, ready for JSON."""
        return {
            "algorithm": self.algorithm,
            "policy": self.policy,
            "weights_sha256": self.weights_sha256,
            "normalization_sha256": self.normalization_sha256,
        } | ({"frame_stack": self.view.frames} if self.view.frames > 1 else {})


def _statistics_sha256(view: View) -> str:
    digest = hashlib.sha256(view.mean.tobytes())
    digest.update(view.gain.tobytes())
    digest.update(repr(view.clip).encode())
    if view.frames > 1:
        digest.update(view.older_mean.tobytes())
        digest.update(view.older_gain.tobytes())
        digest.update(repr(view.one_by_one).encode())
    return digest.hexdigest()
