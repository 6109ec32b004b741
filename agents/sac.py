"""SAC agents: the plain one and its Lipschitz twins, with the same hyperparameters."""

from __future__ import annotations

from stable_baselines3 import SAC
from torch import nn

from agents.recipe import Recipe, Settings
from lipsrl.layers import LAYERS

SETTINGS = {
    "pendulum": Settings(
        timesteps=20_000,
        n_envs=1,
        algorithm={"learning_rate": 1e-3, "learning_starts": 1000},
        policy={"net_arch": [64, 64], "activation_fn": nn.ReLU},
    ),
}

#: K in units of the normalised observation.
LIPSCHITZ_BOUND = {"pendulum": 8.0}

SAC_AGENTS = (
    Recipe("sac", SAC, "MlpPolicy", None, SETTINGS),
    *(
        Recipe(f"sac-{layer}", SAC, "LipschitzMlpPolicy", layer, SETTINGS, LIPSCHITZ_BOUND)
        for layer in LAYERS
    ),
)
