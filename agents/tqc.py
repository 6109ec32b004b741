"""TQC agents: the plain one and its Lipschitz twins, with rl-baselines3-zoo's hyperparameters."""

from __future__ import annotations

try:
    from sb3_contrib import TQC
except ImportError:  # the extra `contrib`
    TQC = None

from agents.recipe import Recipe
from agents.zoo import TQC_ZOO

#: K in units of the normalised observation: starting points, not searched.
LIPSCHITZ_BOUND = dict.fromkeys(TQC_ZOO, 8.0)

TQC_AGENTS = (
    ()
    if TQC is None
    else (
        Recipe("tqc", TQC, "MlpPolicy", None, TQC_ZOO),
        Recipe("tqc-sandwich", TQC, "LipschitzMlpPolicy", "sandwich", TQC_ZOO, LIPSCHITZ_BOUND),
        Recipe("tqc-orthogonal", TQC, "LipschitzMlpPolicy", "orthogonal", TQC_ZOO, LIPSCHITZ_BOUND),
    )
)
