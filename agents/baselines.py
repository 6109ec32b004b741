"""What a reviewer asks to see beside the Lipschitz agents, with the same hyperparameters."""

from __future__ import annotations

from stable_baselines3 import PPO, SAC, TD3

from agents.ppo import LIPSCHITZ_BOUND, SETTINGS
from agents.recipe import Recipe, Settings
from agents.sac import SETTINGS as SAC_SETTINGS
from agents.tqc import TQC
from agents.zoo import TD3_ZOO, TQC_ZOO
from envs import TASKS
from lipsrl.policies.baselines import TorchSpectralNormPolicy

#: Task → noise that agents are trained with: on Pendulum that of the standard evaluation where a plain agent has lost
#: half of its return; elsewhere the level before the last, which is not measured yet.
TRAINING_NOISE = {name: f"gaussian:{task.strengths[-2]:g}" for name, task in TASKS.items()}

#: Task → weight of the newest action in the moving average that ``-ema`` agents learn and act behind. That of the
#: filter which `experiments.baselines` shows a plain agent with; choices cannot be averaged.
SMOOTHING = {name: 0.5 for name in TASKS if name not in ("cart-pole", "lunar-lander")}


def _averaged(settings: dict[str, Settings]) -> dict[str, Settings]:
    return {task: one for task, one in settings.items() if task in SMOOTHING}


BASELINE_AGENTS = (
    Recipe("ppo-noise", PPO, "MlpPolicy", None, SETTINGS, disturbance=TRAINING_NOISE),
    Recipe("sac-noise", SAC, "MlpPolicy", None, SAC_SETTINGS, disturbance=TRAINING_NOISE),
    Recipe("td3-noise", TD3, "MlpPolicy", None, TD3_ZOO, disturbance=TRAINING_NOISE),
    *(
        ()
        if TQC is None
        else (Recipe("tqc-noise", TQC, "MlpPolicy", None, TQC_ZOO, disturbance=TRAINING_NOISE),)
    ),
    Recipe("ppo-ema", PPO, "MlpPolicy", None, _averaged(SETTINGS), smoothing=SMOOTHING),
    Recipe("sac-ema", SAC, "MlpPolicy", None, _averaged(SAC_SETTINGS), smoothing=SMOOTHING),
    Recipe("td3-ema", TD3, "MlpPolicy", None, _averaged(TD3_ZOO), smoothing=SMOOTHING),
    *(
        ()
        if TQC is None
        else (Recipe("tqc-ema", TQC, "MlpPolicy", None, _averaged(TQC_ZOO), smoothing=SMOOTHING),)
    ),
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
