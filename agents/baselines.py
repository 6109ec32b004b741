"""What a reviewer asks to see beside the Lipschitz agents, with the same hyperparameters."""

from __future__ import annotations

from stable_baselines3 import PPO

from agents.ppo import LIPSCHITZ_BOUND, SETTINGS
from agents.recipe import Recipe
from envs import get_task
from lipsrl.policies.baselines import TorchSpectralNormPolicy

#: Task → noise that agents are trained with: on Pendulum that of the standard evaluation where a plain agent has lost
#: half of its return; elsewhere the level before the last, which is not measured yet.
TRAINING_NOISE = {task: f"gaussian:{get_task(task).strengths[-2]:g}" for task in SETTINGS}

BASELINE_AGENTS = (
    Recipe("ppo-noise", PPO, "MlpPolicy", None, SETTINGS, disturbance=TRAINING_NOISE),
    Recipe("ppo-torch-spectral-norm", PPO, TorchSpectralNormPolicy, None, SETTINGS),
    Recipe(
        "ppo-sandwich-noise",
        PPO,
        "LipschitzMlpPolicy",
        "sandwich",
        SETTINGS,
        LIPSCHITZ_BOUND,
        disturbance=TRAINING_NOISE,
    ),
)
