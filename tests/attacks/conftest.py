"""The attacked models, and what an attack does to them."""

import numpy as np
import pytest
import torch
from attack_models import DISCRETE_MAKERS, MAKERS, STACKED_MAKERS
from stable_baselines3 import DQN


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def models():
    """name -> model, made when it is first asked for."""

    class Models(dict):
        def __missing__(self, name):
            self[name] = (MAKERS | DISCRETE_MAKERS | STACKED_MAKERS)[name]()
            return self[name]

    return Models()


@pytest.fixture(scope="session")
def ppo(models):
    return models["ppo"]


@pytest.fixture(scope="session")
def normalized(models):
    return models["ppo-normalized"]


@pytest.fixture(scope="session")
def dqn():
    return DQN("MlpPolicy", "CartPole-v1", seed=0, device="cpu", buffer_size=10)


@pytest.fixture
def observations():
    """(64, 3) float32: the pendulum anywhere."""
    rng = np.random.default_rng(7)
    angle = rng.uniform(-np.pi, np.pi, 64)
    return np.stack([np.cos(angle), np.sin(angle), rng.uniform(-8, 8, 64)], axis=1).astype(np.float32)


@pytest.fixture(scope="session")
def act():
    """(model, raw observations) -> deterministic environment actions (n, act), float64."""

    def act(model, observations):
        venv = model.get_vec_normalize_env()
        seen = observations if venv is None else venv.normalize_obs(observations)
        return model.predict(seen, deterministic=True)[0].astype(np.float64)

    return act


@pytest.fixture(scope="session")
def attacked():
    """(attack, observations) -> what a fresh seeded batch makes of them."""

    def attacked(attack, observations, seed=0):
        batch = attack.batch(len(observations))
        for index in range(len(observations)):
            batch.reset(index, seed=seed + index)
        return batch(observations)

    return attacked
