"""Soft regularisers, alone and together with a bound, with the hyperparameters of the agents beside them.

Weights are those that the methods' authors (or their public code) give for the task, else their general start. They
are where a search begins: every method gets the same trials, its weights times each of :data:`TRIALS`
(``python -m experiments.train --agent ppo-caps --regularizer-scale 3``) with training seeds from 100. For the tables
that scale is taken which has the least mean |Δa| at the task's chatter strength, among those whose clean return is not
below the plain agent's by more than a tenth of its distance from the task's floor (:func:`chosen_scale`). Tables use
seeds below 100.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stable_baselines3 import PPO, SAC, TD3
from torch import nn

from agents.ppo import LIPSCHITZ_BOUND as PPO_BOUND
from agents.ppo import SETTINGS as PPO_SETTINGS
from agents.recipe import Recipe, Settings
from agents.sac import LIPSCHITZ_BOUND as SAC_BOUND
from agents.sac import SETTINGS as SAC_SETTINGS
from agents.tqc import TQC
from agents.zoo import TD3_ZOO, TQC_ZOO
from lipsrl.policies.baselines import FourierFilter, LipsNetPolicy, SACLipsNetPolicy
from lipsrl.policies.fir_filter import FIRFilter
from lipsrl.regularizers import (
    ASAP,
    CAPS,
    CATS,
    L2C2,
    PAVE,
    ActionRate,
    GradCAPS,
    GradientPenalty,
    Regularizer,
    SmoothPolicy,
)

#: Factors on a method's weights that each method is tried with.
TRIALS = (0.1, 0.3, 1.0, 3.0, 10.0)

#: Frames that filters see.
FRAMES = 8

_SA = SmoothPolicy(0.1, divergence="kl", solver="sgld", epsilon=0.075)

#: key of an agent's name → method; the weights of Pendulum where the authors give other ones there.
PPO_METHODS: dict[str, tuple[Regularizer, Regularizer]] = {
    "caps": (CAPS(0.1, 0.5), CAPS(0.01, 0.05)),
    "cats": (CATS(0.1), CATS(0.01)),
    "grad-caps": (GradCAPS(0.1), GradCAPS(0.1)),
    "l2c2": (L2C2(), L2C2(lower=0.01, upper=1.0)),
    "sr2l": (SmoothPolicy(0.1), SmoothPolicy(0.1)),
    "sa": (_SA, _SA),
    "lcp": (GradientPenalty(0.002), GradientPenalty(0.002)),
    "gradient-penalty": (GradientPenalty(0.01, kind="mean"), GradientPenalty(0.01, kind="mean")),
    "asap": (ASAP(2.0, 0.3, 0.07), ASAP(2.0, 0.03, 0.005)),
    "action-rate": (ActionRate(0.1), ActionRate(0.1)),
}  # fmt: skip

#: ASAP's comparison (2601.18479, appendix, table B.8) learns Pendulum from rewards as they are. Here VecNormalize
#: divides them by about 150, and with them the -Q that the losses stand beside: the same balance needs weights of that
#: share. Two of PAVE's losses are squares of it, as the critic's own is, and keep their weights; its curvature is not.
#: CATS's weight is not in the paper: CAPS's. PAVE's are those of its authors' code (AIRLABkhu/PAVE) for SAC on
#: Pendulum; elsewhere, where its search starts.
_REWARD_SCALE = 150

SAC_METHODS: dict[str, tuple[Regularizer, Regularizer]] = {
    "caps": (CAPS(0.1, 0.5), CAPS(1.0 / _REWARD_SCALE, 5.0 / _REWARD_SCALE)),
    "cats": (CATS(0.1), CATS(1.0 / _REWARD_SCALE)),
    "grad-caps": (GradCAPS(1.0), GradCAPS(1.0 / _REWARD_SCALE)),
    "l2c2": (
        L2C2(lower=0.01, upper=1.0),
        L2C2(lower=1.0 / _REWARD_SCALE, upper=100.0 / _REWARD_SCALE),
    ),
    "asap": (ASAP(2.0, 0.3, 0.07), ASAP(2.0, 5.0 / _REWARD_SCALE, 0.5 / _REWARD_SCALE)),
    "pave": (PAVE(), PAVE(field=0.005, curvature=0.5 / _REWARD_SCALE, margin=1.0 / _REWARD_SCALE)),
}

#: TD3 and TQC have SAC's loss of the actor, -Q, and get the same weights: no paper has weights of its own for them.
VALUE_METHODS = {key: methods for key, methods in SAC_METHODS.items() if key != "pave"}


def _of(
    settings: Mapping[str, Settings], general: Regularizer, on_pendulum: Regularizer
) -> dict[str, tuple[Regularizer, ...]]:
    return {task: (on_pendulum if task == "pendulum" else general,) for task in settings}


def _policy(settings: Mapping[str, Settings], **options: Any) -> dict[str, Settings]:
    return {task: replace(one, policy={**one.policy, **options}) for task, one in settings.items()}


def _smooth(settings: Mapping[str, Settings]) -> dict[str, Settings]:
    return _policy(settings, activation_fn=nn.SiLU)


def _alone(
    algorithm: Any, settings: Mapping[str, Settings], methods: Mapping[str, tuple[Regularizer, Regularizer]]
) -> tuple[Recipe, ...]:
    """The plain agent with each method."""
    return tuple(
        Recipe(
            f"{algorithm.__name__.lower()}-{key}",
            algorithm,
            "LipschitzMlpPolicy",
            None,
            _smooth(settings) if key == "pave" else settings,
            regularizers=_of(settings, *weights),
        )
        for key, weights in methods.items()
    )


_FILTERED = {"n_frames": FRAMES}

_PENALTY = GradientPenalty(0.01, kind="mean")

REGULARIZED_AGENTS = (
    *_alone(PPO, PPO_SETTINGS, PPO_METHODS),
    *_alone(SAC, SAC_SETTINGS, SAC_METHODS),
    *_alone(TD3, TD3_ZOO, VALUE_METHODS),
    *(() if TQC is None else _alone(TQC, TQC_ZOO, VALUE_METHODS)),
    # PAVE needs smooth activations: the twin without it
    Recipe("sac-silu", SAC, "MlpPolicy", None, _smooth(SAC_SETTINGS)),
    # both together: a method that shapes, a bound that limits
    *(
        Recipe(
            f"ppo-sandwich-{key}",
            PPO,
            "LipschitzMlpPolicy",
            "sandwich",
            PPO_SETTINGS,
            PPO_BOUND,
            regularizers=_of(PPO_SETTINGS, *PPO_METHODS[key]),
        )
        for key in ("caps", "cats", "lcp")
    ),
    Recipe(
        "sac-sandwich-caps",
        SAC,
        "LipschitzMlpPolicy",
        "sandwich",
        SAC_SETTINGS,
        SAC_BOUND,
        regularizers=_of(SAC_SETTINGS, *SAC_METHODS["caps"]),
    ),
    # a bound that itself goes from loose to tight: ten times K to K
    Recipe(
        "ppo-sandwich-ramp",
        PPO,
        "LipschitzMlpPolicy",
        "sandwich",
        PPO_SETTINGS,
        {task: 10 * bound for task, bound in PPO_BOUND.items()},
        final_bound=dict(PPO_BOUND),
    ),
    # no certificate
    Recipe("ppo-lipsnet", PPO, LipsNetPolicy, None, PPO_SETTINGS, certifiable=False),
    Recipe("sac-lipsnet", SAC, SACLipsNetPolicy, None, SAC_SETTINGS, certifiable=False),
    Recipe(
        "ppo-lipsnet-plus",
        PPO,
        "LipschitzMlpPolicy",
        None,
        _policy(PPO_SETTINGS, features_extractor_class=FourierFilter, features_extractor_kwargs=_FILTERED),
        regularizers=dict.fromkeys(PPO_SETTINGS, (_PENALTY,)),
        frames=FRAMES,
    ),
    # LipsNet++'s filter with its bound
    Recipe(
        "ppo-fir-sandwich",
        PPO,
        "LipschitzMlpPolicy",
        "sandwich",
        _policy(PPO_SETTINGS, features_extractor_class=FIRFilter, features_extractor_kwargs=_FILTERED),
        PPO_BOUND,
        frames=FRAMES,
    ),
)


def chosen_scale(trials: Mapping[float, tuple[float, float]], plain: float, floor: float) -> float:
    """The scale that the rule above picks.

    Args:
        trials: scale → (clean return, mean |Δa| at the chatter strength), each over the same training seeds.
        plain: clean return of the plain agent on those seeds.
        floor: return of a random policy.

    Raises:
        ValueError: the trials are not those of :data:`TRIALS`.
    """
    if set(trials) != set(TRIALS):
        raise ValueError(f"every method is tried with the scales {TRIALS}, received {sorted(trials)}.")
    worst = plain - 0.1 * abs(plain - floor)
    good = [scale for scale, (clean, _) in trials.items() if clean >= worst]
    if not good:  # none keeps the return: the one that keeps most
        return max(trials, key=lambda scale: trials[scale][0])
    return min(good, key=lambda scale: trials[scale][1])
