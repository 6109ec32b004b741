"""TD3 agents: the plain one and its Lipschitz twins, with rl-baselines3-zoo's hyperparameters."""

from __future__ import annotations

from stable_baselines3 import TD3

from agents.recipe import Recipe
from agents.zoo import TD3_ZOO

#: K in units of the normalised observation: starting points, not searched.
LIPSCHITZ_BOUND = dict.fromkeys(TD3_ZOO, 8.0)

TD3_AGENTS = (
    Recipe("td3", TD3, "MlpPolicy", None, TD3_ZOO),
    Recipe("td3-sandwich", TD3, "LipschitzMlpPolicy", "sandwich", TD3_ZOO, LIPSCHITZ_BOUND),
    Recipe("td3-orthogonal", TD3, "LipschitzMlpPolicy", "orthogonal", TD3_ZOO, LIPSCHITZ_BOUND),
)
