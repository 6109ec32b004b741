"""docs/regularizers.md: a loaded stock model trains with its losses after `import lipsrl`, and nothing else."""

import subprocess
import sys

import gymnasium as gym
from stable_baselines3 import PPO

from lipsrl.regularizers import CAPS, regularize

CODE = """
import sys
import gymnasium as gym
from stable_baselines3 import PPO
import lipsrl
model = PPO.load(sys.argv[1], env=gym.make("Pendulum-v1"))
model.learn(64)
print(model.regularizers_state["updates"])
"""


def test_import_lipsrl_is_enough(tmp_path):
    model = PPO("MlpPolicy", gym.make("Pendulum-v1"), n_steps=64, batch_size=64, n_epochs=2)
    regularize(model, CAPS(temporal=1.0, spatial=1.0)).save(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "model")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "2\n"
