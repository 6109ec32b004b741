"""What a user's own typed code says of lipsrl; `mypy` reads it in `make lint`, nobody runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO

import lipsrl
from lipsrl.assessment import Assessment, Limits, assess
from lipsrl.attacks import MADAttack, MinimumOverAttacks
from lipsrl.disturbances import Compose, Delay, GaussianNoise
from lipsrl.regularizers import CAPS, regularize
from lipsrl.statistics import bootstrap_ci, iqm


def certified(model: PPO) -> float:
    certificate: lipsrl.Certificate = lipsrl.certify(model, norm="l2", sensor_scale=[0.01, 0.01, 0.1])
    bounds: tuple[float, ...] = certificate.per_sensor
    return max(certificate.upper_bound, *bounds)


def measured(model: PPO) -> lipsrl.Evaluation:
    faults = {"gyroscope": Compose([GaussianNoise(0.1), Delay(1)])}
    attacks = MinimumOverAttacks([MADAttack(None, 0.1)])
    lipsrl.evaluate(model, "Pendulum-v1", disturbances=attacks, strengths=(0.1, 0.2))
    return lipsrl.evaluate(model, "Pendulum-v1", disturbances=faults, strengths=[0, 1], n_episodes=5)


def deployed(model: PPO, folder: Path) -> NDArray[np.floating]:
    policy = lipsrl.load_policy(lipsrl.export(model, folder / "policy.safetensors"))
    action: NDArray[np.floating] = policy(np.zeros(3))
    return action


def judged(model: PPO) -> bool:
    card: Assessment = assess(model, "Pendulum-v1", limits=Limits(max_chatter=0.1))
    card.save("card.html")
    return card.passed


def regularised(model: PPO) -> PPO:
    return regularize(model, CAPS(temporal=0.1, spatial=0.5))


def averaged(returns: NDArray[np.float64]) -> tuple[float, float]:
    _, low, high = bootstrap_ci(returns, iqm)
    return low, high


def misused(model: PPO) -> None:
    """Each ignore is needed, or mypy says so: the types are not Any."""
    lipsrl.certify("model.zip")  # type: ignore[arg-type]
    print(lipsrl.certify(model).bound)  # type: ignore[attr-defined]
    assess(model, "Pendulum-v1", limits=0.1)  # type: ignore[arg-type]
    regularize(model, 0.1)  # type: ignore[arg-type]
