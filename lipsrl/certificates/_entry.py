"""Where a disturbance of the observation enters, for the certificates of what the policy does with it."""

from __future__ import annotations

from dataclasses import replace

from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl.actors.normalization import NormalizeLike, ObservationChain, observation_chain
from lipsrl.actors.pipeline import Pipeline


def entry_chain(
    model: BaseAlgorithm, vec_normalize: NormalizeLike, frame_stack: int | None
) -> ObservationChain:
    """From VecNormalize on, stacked frames included; what stands inside the environment counts as the environment.

    Raises:
        TypeError: no SB3 model.
        ValueError: as :func:`lipsrl.certify`.
    """
    if not isinstance(model, BaseAlgorithm):
        raise TypeError(f"model must be a Stable-Baselines3 model, received {type(model).__name__}.")
    return replace(observation_chain(model, vec_normalize, frame_stack), inner=None, notes=())


def entry_in_words(pipeline: Pipeline) -> str:
    """Ends the sentence "δ is added to the observation as it enters"."""
    words = "VecNormalize, whose statistics are frozen" if pipeline.normalised else "the model"
    frames = pipeline.chain.frames
    return words if frames == 1 else f"{words}; each of the {frames} stacked frames by its own δ of that size"
