"""The base class of attacks: disturbances of limited size that know their target model."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, Self

from lipsrl._validation import lookup
from lipsrl.actors.normalization import NormalizeLike
from lipsrl.actors.view import Units, check_units
from lipsrl.attacks._batch import AttackBatch
from lipsrl.attacks._norms import NORMS, FloatArray, Norm
from lipsrl.attacks._target import Target
from lipsrl.disturbances import Disturbance, DisturbanceBatch
from lipsrl.disturbances._parameters import nonnegative_number


class Attack(Disturbance):
    """Observations moved inside a ball of radius ``epsilon`` around the true ones, to the harm of a policy.

    Used where a disturbance is: raw observations in, raw observations out, seeded, batched; a strength
    multiplies ``epsilon``. The weights and the normalisation are copied when the attack is made: after further
    training, make another.

    The budget holds for every attacked observation, because each coordinate is rounded towards the true one: in
    raw units to 2⁻⁵² of ``epsilon`` (times the sensor's unit, if it has one), whatever the dtype; in normalised units
    to the rounding of float64 arithmetic, and that VecNormalize rounds what it hands to the policy to float32 (half a
    unit in the last place) comes on top. Observations that are not finite are left as they are, as are all at
    ``epsilon`` 0, bit for bit.

    Behind SB3's VecFrameStack the attack acts on each observation before it is stacked, as every disturbance: only the
    newest frame is moved, and what was shown before in the episode stays in the stack as it was shown.

    Args:
        model: the target, an SB3 model on vector observations. None: no target yet; ``lipsrl.evaluate`` sets each
            model that it evaluates as the target, with that model's normalisation.
        epsilon: radius of the ball, finite and >= 0.
        norm: ``"linf"`` or ``"l2"``.
        vec_normalize: the VecNormalize of the model, or the path of its file. None: the one of the model's own
            environment, if any.
        units: ``"normalized"``: the ball is in the units of the policy's input, after VecNormalize, as in the
            literature. ``"raw"``: the ball is in raw sensor units. Without a VecNormalize both are equal. Numbers, one
            per sensor: each sensor has its own raw unit, such as its tolerance.
        frame_stack: number of stacked observations, if the model was trained with a VecFrameStack. None: the number of
            the model's own environment, if it has one.

    Raises:
        TypeError: ``model`` is no SB3 algorithm.
        ValueError: ``epsilon`` is negative or not finite, an unknown norm or unit (the nearest is suggested), a
            model, a normalisation or a frame stack that the attack cannot work on.
    """

    target: Target | None = None
    #: unattacked behind a frame stack is: the newest frame clean, the others as ``"shown"``; or all ``"clean"``
    reference: str = "shown"

    def __init__(
        self,
        model: Any,
        epsilon: float,
        norm: str = "linf",
        vec_normalize: NormalizeLike = None,
        units: Units = "normalized",
        *,
        frame_stack: int | None = None,
    ) -> None:
        self.epsilon = nonnegative_number("epsilon", epsilon)
        self._norm = lookup("norm", norm, NORMS)
        self.norm = norm
        self.units = check_units(units)
        if model is not None:
            self._aim(model, Target.of(model, vec_normalize, frame_stack, self.units))
        elif vec_normalize is not None or frame_stack is not None:
            name = "frame_stack" if vec_normalize is None else "vec_normalize"
            raise ValueError(f"{name} belongs to a model, but model is None. Give both or neither.")

    @property
    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments by name, without model, normalisation and frame stack."""
        return {"epsilon": self.epsilon, "norm": self.norm, "units": self.units}

    def to_dict(self) -> dict[str, Any]:
        """``{"name": ..., parameter: value, ..., "model": what identifies the target, or None}``."""
        return {**super().to_dict(), "model": None if self.target is None else self.target.to_dict()}

    @property
    def dimension(self) -> int | None:
        """Length of the target's observations, one frame; None without a target."""
        return None if self.target is None else self.target.view.dim

    def check_dimension(self, dim: int) -> None:
        if self.target is not None and self.dimension != dim:
            size, hint = self.target.view.dim * self.target.view.frames, ""
            if dim and size % dim == 0:
                hint = f" If it sees stacked frames, pass frame_stack={size // dim}."
            raise ValueError(
                f"{self!r} has a target model whose observations have length {self.dimension}, but the "
                f"observation has length {dim}.{hint}"
            )

    def scaled(self, strength: float) -> Self:
        """This attack with ``strength`` times its ``epsilon``, at the same model (not copied)."""
        twin = self._twin()
        twin.epsilon = nonnegative_number("epsilon", self.epsilon * nonnegative_number("strength", strength))
        return twin

    def batch(self, n: int) -> DisturbanceBatch:
        """``n`` fresh streams, attacked together: one gradient pass for all of them.

        Equal to the loop to 1e-9 of ``epsilon``: matrix products round differently for another number of rows.

        Raises:
            ValueError: ``n`` is not > 0, or the attack has no target model.
        """
        return AttackBatch(self, n)

    def against(
        self, model: Any, vec_normalize: NormalizeLike = None, frame_stack: int | None = None
    ) -> Self:
        """This attack with the target ``model``; an attack that has a target already keeps it (a transfer attack).

        Raises:
            TypeError, ValueError: ``model`` cannot be a target of this attack; or the attack has a target with the
                same weights but another normalisation or frame stack, so it would attack another pipeline.
        """
        if self.target is None:
            twin = self._twin()
            twin._aim(model, Target.of(model, vec_normalize, frame_stack, self.units))
            return twin
        try:
            other = Target.of(model, vec_normalize, frame_stack, self.units)
        except (TypeError, ValueError):  # this attack cannot have such a target
            return self
        same_model = other.weights_sha256 == self.target.weights_sha256
        if same_model and other.identity != self.target.identity:
            raise ValueError(
                f"{self!r} was made for this model with another observation normalisation or frame stack than the "
                "model has here. Give both the same vec_normalize and frame_stack, or leave the model out "
                "(model=None) and it takes over those that it finds."
            )
        return self

    @abstractmethod
    def noise_shape(self, dim: int) -> tuple[int, int]:
        """How many standard normals a step of one stream consumes, as (blocks, numbers in a block)."""

    @abstractmethod
    def displacements(
        self,
        observations: FloatArray,
        epsilon: FloatArray,
        noise: FloatArray,
        past: FloatArray,
        unmoved: FloatArray | None = None,
    ) -> FloatArray:
        """Where to move these observations, in the budget's unit.

        Args:
            observations: (n, dim), raw, finite.
            epsilon: (n, 1), > 0.
            noise: (blocks, n, numbers), standard normal; see :meth:`noise_shape`.
            past: (n, (frames - 1)·dim), finite: what the policy receives of the frames before, as they were shown.
            unmoved: the same had they been shown as they are, where :attr:`reference` is ``"clean"`` and frames are
                stacked; else None.

        Returns:
            (n, dim), float64, of norm <= ``epsilon``.
        """

    def _aim(self, model: Any, target: Target) -> None:
        """Set the target ``model``; subclasses that need more of the model than its observations extend this."""
        self.target = target

    def refresh(self, model: Any) -> None:
        """Use the current weights of the target ``model``, also in batches that are running.

        Raises:
            ValueError: this attack cannot follow a model that learns.
        """
        raise ValueError(
            f"{self.name!r} uses fixed weights of its target model and cannot follow a model that learns. Use "
            "RandomAttack or MADAttack."
        )

    def _twin(self) -> Self:
        twin = copy.copy(self)
        twin.__dict__.pop("_stream", None)
        return twin

    @property
    def ball(self) -> Norm:
        """The norm's geometry."""
        return self._norm

    def __repr__(self) -> str:
        aim = "None" if self.target is None else f"<{self.target.algorithm} {self.target.weights_sha256[:8]}>"
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.parameters.items())
        return f"{type(self).__name__}({aim}, {arguments})"
