from __future__ import annotations

import datetime
import importlib
import platform
import time
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from numpy.typing import ArrayLike
from stable_baselines3.common.base_class import BaseAlgorithm
from tqdm import tqdm

from lipsrl._validation import positive_int
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import EnvLike, environment_factory, make_environments
from lipsrl.evaluation._evaluation import Evaluation
from lipsrl.evaluation._normalization import by_model
from lipsrl.evaluation._request import (
    Contestant,
    DisturbancesLike,
    check_disturbances,
    check_sensitivity_std,
    read_disturbances,
    read_models,
    read_strengths,
)
from lipsrl.evaluation._rollout import NonFiniteError
from lipsrl.evaluation._schema import SCHEMA_VERSION
from lipsrl.evaluation._seeding import check_seed
from lipsrl.evaluation._sweep import Sweep
from lipsrl.policies.normalization import NormalizeLike, normalization_of


def evaluate(
    models: Any,
    env: EnvLike,
    *,
    disturbances: DisturbancesLike = None,
    strengths: Iterable[float] | float = (0.0,),
    n_episodes: int = 50,
    n_envs: int = 64,
    seed: int = 0,
    vec_normalize: NormalizeLike | Mapping[Any, NormalizeLike] = None,
    sensitivity_std: ArrayLike = 1e-3,
    floor: float | None = None,
    progress: bool = False,
) -> Evaluation:
    """Run every model under every disturbance at every strength, in the same episodes, and tabulate them.

    Paired by construction: episode i has the same environment seed for every model, disturbance and strength,
    and the same draws of a disturbance, scaled, at every strength. Every started episode is run to its end
    (terminated or truncated) and counted once. Actions are deterministic and processed as by SB3's
    ``predict``. The order is environment → disturbance (raw sensor units) → VecNormalize (frozen) → policy →
    clip → environment. At strength 0 a disturbance is the identity, so those episodes are run once and stand
    under each disturbance. The same arguments give the same table, bit for bit;
    on the CPU, `n_envs` does not change it.

    Args:
        models: one model or a dict of them by name. A model is an SB3 algorithm (or its policy), or a
            callable from a batch of observations ``(n, dim)`` to actions ``(n, *action_shape)``, which may
            get rows that do not count. A key may be ``(agent, training_seed)``; for other keys the training
            seed is ``model.seed``.
        env: an id, a zero-argument factory, or an environment to be rebuilt from its spec. Observations must
            be vectors; vectorisation happens here.
        disturbances: one, a list, or a dict by name; None for clean episodes only (named ``"none"``). An attack
            without a model (``MADAttack(None, 0.1)``) is aimed at each model in turn, with its normalisation;
            under attacks another `n_envs` agrees to rounding only.
        strengths: multiply each disturbance, finite and >= 0: with ``GaussianNoise(1.0)`` strength .05 is a
            standard deviation of .05 in each sensor's unit.
        n_episodes: episodes per model, disturbance and strength, numbered from 0.
        n_envs: environments stepped side by side in this process.
        seed: of the evaluation: start states, disturbances, sensitivity.
        vec_normalize: None, a VecNormalize, the path of its file (a pickle), or a dict of those by model
            name. A model whose own environment carries a VecNormalize uses it if None is given. It is never
            updated. A model that was trained with one that is neither given nor attached cannot be
            recognised.
        sensitivity_std: standard deviation, in raw observation units (one number, or one per sensor), of the
            displacements for ``action_sensitivity``. Small: the column is the local slope of the policy
            around the states that it visited, to be set beside a certificate.
        floor: the return that counts as nothing (see `random_return`); recorded for
            `Evaluation.normalized_auc`.
        progress: show a bar with the time that remains.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: unknown environment, spaces or normalisation that do not fit a model, a recurrent policy,
            names or strengths that repeat, negative strengths, counts that are not positive.
        TypeError: a model, environment, disturbance or normalisation of another kind.
        NonFiniteError: a nan or infinite observation, action or reward; the episodes so far are in its
            ``evaluation``.

    Example:
        >>> from lipsrl.disturbances import GaussianNoise
        >>> from lipsrl.evaluation import evaluate
        >>> def damp(observations):  # θ̇ is the third sensor of the pendulum
        ...     return -0.5 * observations[:, 2:]
        >>> result = evaluate({"damp": damp}, "Pendulum-v1", disturbances=GaussianNoise(1.0),
        ...                   strengths=(0.0, 0.5), n_episodes=4)
        >>> result.frame.shape
        (8, 15)
        >>> bool((result.frame["action_sensitivity"] <= 0.5).all())
        True
    """
    begun = time.perf_counter()
    contestants = read_models(models)
    named = read_disturbances(disturbances)
    grid = read_strengths(strengths, disturbances)
    n_episodes, n_envs = positive_int("n_episodes", n_episodes), positive_int("n_envs", n_envs)
    seed = check_seed(seed)
    if floor is not None and not np.isfinite(floor):
        raise ValueError(f"floor must be a finite return or None, received {floor!r}.")
    normalizations = by_model(vec_normalize, [(c.agent, c.key) for c in contestants])
    used = [normalization_of(c.model, normalizations[c.key]) for c in contestants]
    factory, env_name = environment_factory(env)
    environments = make_environments(factory, min(n_envs, n_episodes * len(grid)))
    if environments[0].spec is not None:
        env_name = environments[0].spec.id  # a factory's own name says less
    steps = 0
    try:
        controllers = [
            Controller(c.model, environments[0], vec_normalize, c.label)
            for c, vec_normalize in zip(contestants, used, strict=True)
        ]
        check_disturbances(named.values(), environments[0], controllers)
        check_sensitivity_std(sensitivity_std, environments[0])
        sweep = Sweep(environments, named, grid, n_episodes, seed, sensitivity_std)
        total = len(contestants) * sum(len(tasks) for _, _, tasks in sweep.groups())
        with tqdm(total=total, unit="episode", disable=not progress, dynamic_ncols=True) as bar:
            for contestant, controller in zip(contestants, controllers, strict=True):
                bar.set_description(contestant.label)
                for length in sweep.run(contestant, controller):
                    steps += length
                    bar.update()
    except NonFiniteError as error:
        if len(sweep):
            error.evaluation = Evaluation(sweep.frame(), {"schema_version": SCHEMA_VERSION, "env": env_name})
        raise
    finally:
        for environment in environments:
            environment.close()
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "env": env_name,
        "agents": [_describe(c, vn is not None) for c, vn in zip(contestants, used, strict=True)],
        "disturbances": {name: None if d is None else d.to_dict() for name, d in named.items()},
        "strengths": grid,
        "n_episodes": n_episodes,
        "seed": seed,
        "floor": None if floor is None else float(floor),
        "sensitivity_std": np.asarray(sensitivity_std).tolist(),
        "n_envs": len(environments),
        "env_steps": steps,
        "seconds": round(time.perf_counter() - begun, 3),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
    }
    return Evaluation(sweep.frame(), metadata)


def _describe(contestant: Contestant, normalized: bool) -> dict[str, Any]:
    model = contestant.model
    return {
        "agent": contestant.agent,
        "seed": contestant.seed,
        "model": type(model).__name__,
        "policy": type(model.policy).__name__ if isinstance(model, BaseAlgorithm) else None,
        "vec_normalize": normalized,
    }


def _versions() -> dict[str, str]:
    return {
        # by name: an import statement would tie this room to every room that the package's front door names
        "lipsrl": importlib.import_module("lipsrl").__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "stable_baselines3": stable_baselines3.__version__,
        "gymnasium": gymnasium.__version__,
    }
