"""Synthetic evaluations, certificates and episodes: small, seeded, shaped like the real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lipsrl.evaluation import Evaluation

STRENGTHS = (0.0, 0.05, 0.1)
CLEAN = {"ppo": -200.0, "ppo-sandwich": -195.0}
CHATTER = {"ppo": 1.0, "ppo-sandwich": 0.6}


def make_frame(
    agents: Sequence[str], seeds: Sequence[int | None], disturbances: Sequence[str], n_episodes: int
) -> pd.DataFrame:
    rows = []
    for number, agent in enumerate(agents):
        for seed in seeds:
            for disturbance in disturbances:
                for strength in STRENGTHS:
                    g = np.random.default_rng([number, 0 if seed is None else seed, int(100 * strength)])
                    for episode in range(n_episodes):
                        rows.append(
                            {
                                "agent": agent,
                                "seed": seed,
                                "disturbance": disturbance,
                                "strength": strength,
                                "episode": episode,
                                "env_seed": 1000 + episode,
                                "return": CLEAN.get(agent, -250.0) - 900 * strength + 20 * g.normal(),
                                "length": 200,
                                "action_fluctuation": CHATTER.get(agent, 0.8)
                                * (0.05 + strength)
                                * g.uniform(0.9, 1.1),
                                "total_variation": 20.0,
                                "jerk": 1.0,
                                "spectral_smoothness": 0.01,
                                "high_frequency_ratio": 0.3,
                                "saturation": 0.1,
                                "action_sensitivity": CHATTER.get(agent, 0.8) * g.uniform(2.9, 3.1),
                            }
                        )
    return pd.DataFrame(rows).astype({"seed": "Int64"})


@pytest.fixture(scope="session")
def make_evaluation() -> Callable[..., Evaluation]:
    def make(
        agents: Sequence[str] = ("ppo", "ppo-sandwich"),
        seeds: Sequence[int | None] = (0,),
        disturbances: Sequence[str] = ("gaussian",),
        n_episodes: int = 6,
        **metadata: Any,
    ) -> Evaluation:
        known = {
            "schema_version": 1,
            "env": "Pendulum-v1",
            "disturbances": {name: {"name": "gaussian", "std": 1.0} for name in disturbances},
            "seed": 7,
            "floor": -1230.0,
            "versions": {"torch": "2.13.0", "stable_baselines3": "2.9.2"},
        }
        return Evaluation(make_frame(agents, seeds, disturbances, n_episodes), known | metadata)

    return make


@pytest.fixture(scope="session")
def make_certificate() -> Callable[..., dict[str, Any]]:
    def make(
        agent: str = "ppo", seed: int | None = 0, promise: float | None = None, **other: Any
    ) -> dict[str, Any]:
        network = 8.0 if promise is None else promise
        upper = 1.5 * network
        return {
            "agent": agent,
            "seed": seed,
            "schema_version": 1,
            "upper_bound": upper,
            "lower_bound": 0.9 * upper,
            "tightness": 0.9,
            "norm": "l2",
            "method": "product" if promise is None else "construction",
            "factors": [
                {"name": "vec_normalize", "gain": 1.5, "detail": "1/sqrt(var + eps) of observation[2]"},
                {"name": "network", "gain": network, "detail": "float64"},
                {"name": "action", "gain": 1.0, "detail": "clip to the action space"},
            ],
            "network": {"upper_bound": network, "lower_bound": 0.95 * network, "tightness": 0.95},
            "per_sensor": [upper, upper / 2],
            "promise": promise,
            "assumptions": ["VecNormalize is frozen."],
            "versions": {"torch": "2.13.0"},
            "weights_sha256": "ab" * 32,
            "algorithm": "PPO",
            "policy": "MlpPolicy",
        } | other

    return make


@pytest.fixture(scope="session")
def make_trace() -> Callable[..., dict[str, Any]]:
    def make(channels: int = 1, steps: int = 30, dt: float = 0.05) -> dict[str, Any]:
        g = np.random.default_rng(channels)
        actions = g.normal(size=(steps, channels)).astype(np.float32)
        rewards = -g.random(steps)
        return {
            "time": np.arange(steps) * dt,
            "observations": np.zeros((steps, 3)),
            "disturbed_observations": np.zeros((steps, 3)),
            "actions": actions,
            "rewards": rewards,
            "return": float(rewards.sum()),
            "action_fluctuation": float(np.linalg.norm(np.diff(actions, axis=0), axis=1).mean()),
        }

    return make
