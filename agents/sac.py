"""SAC agents: the plain one and its Lipschitz twins, with the same hyperparameters."""

from __future__ import annotations

from stable_baselines3 import SAC
from torch import nn

from agents.recipe import Recipe, Settings
from agents.zoo import SAC_ZOO
from lipsrl.layers import LAYERS

SETTINGS = {
    "pendulum": Settings(
        timesteps=20_000,
        n_envs=1,
        algorithm={"learning_rate": 1e-3, "learning_starts": 1000},
        policy={"net_arch": [64, 64], "activation_fn": nn.ReLU},
    ),
    **SAC_ZOO,
}
# as Pendulum's, which it is near to; not searched
SETTINGS["linear-quadratic"] = SETTINGS["pendulum"]

#: K in units of the normalised observation; all but Pendulum's are starting points, not searched.
LIPSCHITZ_BOUND = {"pendulum": 8.0, "linear-quadratic": 8.0, **dict.fromkeys(SAC_ZOO, 8.0)}

SAC_AGENTS = (
    Recipe("sac", SAC, "MlpPolicy", None, SETTINGS),
    *(
        Recipe(f"sac-{layer}", SAC, "LipschitzMlpPolicy", layer, SETTINGS, LIPSCHITZ_BOUND)
        for layer in LAYERS
    ),
)
