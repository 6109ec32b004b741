"""What certificates, exports, attacks and evaluations say of the same nine agents.

``python -m tests.actors.golden FILE`` writes the record; tests/actors/test_golden.py compares with the stored one, made
before the readers of an agent became one room.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib import TQC
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import lipsrl
from lipsrl.attacks import CriticAttack, MADAttack, RandomAttack
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import model_fingerprint
from tests.policies.zoo import Tiny, build, sample


def _steep(model: Any, seed: int) -> Any:
    """Weights that do something, as after a training, without the rounding of one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(
                0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).float()
            )
        if hasattr(model.policy, "log_std"):
            model.policy.log_std.clamp_(-2.0, 0.5)
    model.policy.set_training_mode(False)
    return model


def _normalized(env: Any, *, seed: int) -> VecNormalize:
    wrapped = VecNormalize(env)
    rng = np.random.default_rng(seed)
    shape = wrapped.observation_space.shape
    wrapped.obs_rms.mean = rng.normal(size=shape)
    wrapped.obs_rms.var = rng.uniform(0.1, 4.0, size=shape)
    wrapped.training = False
    return wrapped


def _pendulum(n: int = 1) -> DummyVecEnv:
    return DummyVecEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=20)] * n)


def agents() -> dict[str, Any]:
    """Name → (model, what evaluate gets as env, frame_stack)."""
    small = {"net_arch": [16, 16]}
    lipschitz = {"lipschitz_bound": 4.0, **small}
    short = lambda: gym.make("Pendulum-v1", max_episode_steps=20)  # noqa: E731
    cart = lambda: gym.make("CartPole-v1", max_episode_steps=20)  # noqa: E731

    def make(cls: Any, policy: str, env: Any, kwargs: dict[str, Any]) -> Any:
        return cls(policy, env, policy_kwargs=dict(kwargs), seed=0, device="cpu")

    found: dict[str, Any] = {
        "ppo-normalized": (make(PPO, "MlpPolicy", _normalized(_pendulum(), seed=1), small), short, None),
        "ppo-lipschitz": (
            make(PPO, "LipschitzMlpPolicy", _normalized(_pendulum(), seed=2), lipschitz), short, None,
        ),
        "a2c-dict": (
            build("A2C", observation="dict", policy="MultiInputPolicy", lipschitz_bound=None),
            lambda: Tiny("dict"), None,
        ),
        "sac": (make(SAC, "MlpPolicy", short(), small), short, None),
        "td3-lipschitz": (make(TD3, "LipschitzMlpPolicy", short(), lipschitz), short, None),
        "tqc": (make(TQC, "MlpPolicy", _normalized(_pendulum(), seed=4), small), short, None),
        "dqn": (make(DQN, "MlpPolicy", cart(), small), cart, None),
        "ppo-image": (build("PPO", observation="image"), lambda: Tiny("image"), None),
        "a2c-stack": (
            make(A2C, "MlpPolicy", VecFrameStack(_normalized(_pendulum(), seed=3), 3), small), short, None,
        ),
    }  # fmt: skip
    for i, (model, _, _) in enumerate(found.values()):
        _steep(model, i)
    return found


def _digest(array: Any) -> dict[str, Any]:
    array = np.asarray(array)
    numbers = array.astype(np.float64)
    return {
        "shape": list(array.shape),
        "sum": float(numbers.sum()),
        "norm": float(np.sqrt((numbers**2).sum())),
        "bits": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16],
    }


def record() -> dict[str, Any]:
    """All that is compared."""
    torch.set_num_threads(1)
    result: dict[str, Any] = {}
    for name, (model, env, frames) in agents().items():
        said: dict[str, Any] = {"fingerprint": model_fingerprint(model, frame_stack=frames)}
        certificate = lipsrl.certify(model).to_dict()
        said["certificate"] = {
            key: certificate[key]
            for key in (
                "factors",
                "lower_bound",
                "method",
                "promise",
                "tightness",
                "upper_bound",
                "weights_sha256",
                "window",
            )
        }
        for key in ("per_sensor", "witness"):
            said[key] = hashlib.sha256(json.dumps(certificate[key]).encode()).hexdigest()[:16]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "policy.safetensors"
            lipsrl.export(model, path)
            policy = lipsrl.load_policy(path)
            rows = sample(model.observation_space, 16)
            whole = getattr(policy, "stateless", None)  # an export that keeps a window itself
            said["export"] = _digest(policy.predict(rows)[0] if whole is None else whole(rows))
        plain = lipsrl.actor_network(model)
        said["network"] = _digest(torch.cat([p.detach().flatten() for p in plain.parameters()]).numpy())
        vector = isinstance(model.observation_space, gym.spaces.Box) and model.observation_space.shape in (
            (3,),
            (4,),
        )
        disturbances: dict[str, Any] = {}
        if vector:
            disturbances["noise"] = GaussianNoise(0.1)
            disturbances["random"] = RandomAttack(None, 0.1)
            disturbances["mad"] = MADAttack(None, 0.1)
            disturbances["critic"] = CriticAttack(None, 0.1, units="raw")
        harm = {"disturbances": disturbances, "strengths": (0, 1)} if disturbances else {}
        found = lipsrl.evaluate({name: model}, env, **harm, n_episodes=2, n_envs=2, seed=5)
        frame = found.frame.select_dtypes("number")
        said["evaluation"] = {column: _digest(frame[column].to_numpy()) for column in frame.columns}
        result[name] = said
    return result


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(record(), indent=1, sort_keys=True))
