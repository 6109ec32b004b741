from __future__ import annotations

import datetime
import importlib
import platform
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import stable_baselines3
import torch
from numpy.typing import ArrayLike
from stable_baselines3.common.base_class import BaseAlgorithm
from tqdm import tqdm

from lipsrl._validation import check_distinct, lookup, positive_int
from lipsrl.actors.fingerprint import environment_identity, model_fingerprint
from lipsrl.actors.normalization import NormalizeLike, normalization_of
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import EnvironmentSource, EnvLike
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
from lipsrl.evaluation._resume import Store
from lipsrl.evaluation._rollout import QUANTITIES, NonFiniteError
from lipsrl.evaluation._schema import SCHEMA_VERSION
from lipsrl.evaluation._seeding import check_seed
from lipsrl.evaluation._sweep import Job, Outcome, Shard, Sweep
from lipsrl.evaluation._workers import one_thread, run_here, run_in_workers
from lipsrl.policies._unwrapped import policy_of

_ON_NONFINITE = {"raise": "raise", "record": "record"}


def evaluate(
    models: Any,
    env: EnvLike,
    *,
    disturbances: DisturbancesLike = None,
    strengths: Iterable[float] | float = (0.0,),
    n_episodes: int = 50,
    n_envs: int = 64,
    n_workers: int = 1,
    seed: int = 0,
    vec_normalize: NormalizeLike | Mapping[Any, NormalizeLike] = None,
    frame_stack: int | Mapping[Any, int | None] | None = None,
    sensitivity_std: ArrayLike = 1e-3,
    floor: float | None = None,
    on_nonfinite_action: Literal["raise", "record"] = "raise",
    resume: str | Path | None = None,
    progress: bool = False,
) -> Evaluation:
    """Run every model under every disturbance at every strength, in the same episodes, and tabulate them.

    Paired by construction: episode i has the same environment seed for every model, disturbance and strength,
    and the same draws of a disturbance, scaled, at every strength. Every started episode is run to its end
    (terminated or truncated) and counted once. Actions are deterministic and processed as by SB3's
    ``predict``. The order is environment → disturbance (raw sensor units) → VecNormalize (frozen) → policy →
    clip → environment. At strength 0 a disturbance is the identity, so those episodes are run once and stand
    under each disturbance. The same arguments give the same table, bit for bit;
    on the CPU, neither `n_workers` nor `n_envs` nor what is evaluated beside it changes a row. (Under attacks
    another `n_envs` agrees to rounding only.)

    An observation or reward that is not finite ends its episode. The column ``nonfinite`` names it, the return is
    ``nan``, and so is every summary over such an episode: it is reported (with a warning), not averaged away.

    Args:
        models: one model or a dict of them by name. A model is an SB3 or sb3-contrib algorithm (or its policy;
            recurrent ones keep their state, maskable ones are given the environment's ``action_masks()``),
            anything with SB3's ``predict``, or a callable from a batch of observations ``(n, dim)`` to actions
            ``(n, *action_shape)``, which may get rows that do not count. A torch module (`actor_network`) is put in
            eval mode and given tensors of the type of its weights. A key may be
            ``(agent, training_seed)``; for other keys the training seed is ``model.seed``.
        env: an id, a zero-argument factory, or an environment to be rebuilt from its spec; one that cannot be
            rebuilt is stepped itself, an episode at a time. Vectorisation happens here. Observations may be
            whatever SB3 takes, images and Dicts too; disturbances act on vectors.
        disturbances: one, a list, or a dict by name, each a `Disturbance` or its text (``"gaussian:0.1"``); None
            for clean episodes only (named ``"none"``). An attack without a model (``MADAttack(None, 0.1)``) is
            aimed at each model in turn, with its normalisation; inside a `Compose` too.
        strengths: multiply each disturbance, finite and >= 0: with ``GaussianNoise(1.0)`` strength .05 is a
            standard deviation of .05 in each sensor's unit.
        n_episodes: episodes per model, disturbance and strength, numbered from 0.
        n_envs: environments stepped side by side in one process.
        n_workers: processes. One is best for fast environments (classic control); for slow simulators (MuJoCo)
            as many as there are cores.
        seed: of the evaluation: start states, disturbances, sensitivity.
        vec_normalize: None, a VecNormalize, the path of its file (a pickle), or a dict of those by model
            name. A model whose own environment carries a VecNormalize uses it if None is given. It is never
            updated. A model that was trained with one that is neither given nor attached cannot be
            recognised.
        frame_stack: how many observations a policy sees at once, if it was trained behind SB3's VecFrameStack (or
            a dict by model name); None: as in the model's own environment, if it has one. A disturbance acts on
            each observation once, before it is stacked.
        sensitivity_std: standard deviation, in raw observation units (one number, or one per sensor), of the
            displacements for ``action_sensitivity``. Small: the column is the local slope of the policy
            around the states that it visited, to be set beside a certificate.
        floor: the return that counts as nothing (see `random_return`); recorded for
            `Evaluation.normalized_auc`.
        on_nonfinite_action: a policy that returns nan on finite observations is broken: ``"raise"``. Or treat it as
            above: ``"record"``.
        resume: a folder. Finished episodes are kept there under a key of everything that they depend on (weights,
            normalisation, environment, disturbance, seeds, versions), and those that are there already are not run
            again: give the same folder to continue an interrupted evaluation, or to extend a finished one.
        progress: show a bar with the time that remains.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: unknown environment or disturbance, spaces or normalisation that do not fit a model, names or
            strengths that repeat, negative strengths, counts that are not positive.
        TypeError: a model, environment, disturbance or normalisation of another kind.
        NonFiniteError: a nan or infinite action; the episodes so far are in its ``evaluation``, and in the
            folder `resume`.

    Example:
        >>> from lipsrl.disturbances import GaussianNoise
        >>> from lipsrl.evaluation import evaluate
        >>> def damp(observations):  # θ̇ is the third sensor of the pendulum
        ...     return -0.5 * observations[:, 2:]
        >>> result = evaluate({"damp": damp}, "Pendulum-v1", disturbances=GaussianNoise(1.0),
        ...                   strengths=(0.0, 0.5), n_episodes=4)
        >>> result.frame.shape
        (8, 16)
        >>> bool((result.frame["action_sensitivity"] <= 0.5).all())
        True
    """
    begun = time.perf_counter()
    contestants = read_models(models)
    named = read_disturbances(disturbances)
    grid = read_strengths(strengths, disturbances)
    n_episodes, n_envs = positive_int("n_episodes", n_episodes), positive_int("n_envs", n_envs)
    n_workers, seed = positive_int("n_workers", n_workers), check_seed(seed)
    if floor is not None and not np.isfinite(floor):
        raise ValueError(f"floor must be a finite return or None, received {floor!r}.")
    lookup("on_nonfinite_action", on_nonfinite_action, _ON_NONFINITE)
    keys = [(c.agent, c.key) for c in contestants]
    normalizations = by_model(vec_normalize, keys)
    used = [normalization_of(c.model, normalizations[c.key]) for c in contestants]
    stacks = by_model(frame_stack, keys, "frame_stack")
    source = EnvironmentSource.of(env)
    if source.given is not None and n_workers > 1:
        raise ValueError(
            f"n_workers={n_workers} need environments of their own, but {env} cannot be rebuilt. Give an id or a "
            f"factory, such as env=lambda: {type(env).__name__}(...)."
        )
    environments = source.make(1)
    probe = environments[0]
    # a factory's own name says less
    env_name = source.name if probe.spec is None else probe.spec.id
    metadata: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "env": env_name}
    with one_thread():
        try:
            controllers = [
                Controller(c.model, probe, normalization, c.label, stacks[c.key])
                for c, normalization in zip(contestants, used, strict=True)
            ]
            check_disturbances(named.values(), probe, controllers)
            check_sensitivity_std(sensitivity_std, probe)
            job = Job(
                controllers,
                [{k: None if d is None else c.faces(d) for k, d in named.items()} for c in controllers],
                seed,
                sensitivity_std,
                tuple(q for q in QUANTITIES if q != "action" or on_nonfinite_action == "record"),
            )
            agents = [
                _describe(c, vn, controller.frames)
                for c, vn, controller in zip(contestants, used, controllers, strict=True)
            ]
            store = None if resume is None else Store(resume)
            identity = [] if store is None else _identity(agents, contestants, probe)
            sweep = Sweep(contestants, job, grid, n_episodes, store, identity)
            resumed, error = _run(sweep, job, source, environments, n_envs, n_workers, progress)
        finally:
            source.close(environments)
    if error is not None:
        failure = NonFiniteError(error)
        if len(sweep):
            failure.evaluation = Evaluation(sweep.frame(), metadata)
        raise failure
    metadata |= {
        "env_spec": environment_identity(probe),
        "agents": agents,
        "disturbances": {name: None if d is None else d.to_dict() for name, d in named.items()},
        "strengths": grid,
        "n_episodes": n_episodes,
        "seed": seed,
        "floor": None if floor is None else float(floor),
        "sensitivity_std": np.asarray(sensitivity_std).tolist(),
        "n_envs": n_envs,
        "n_workers": n_workers,
        "env_steps": sweep.env_steps,
        "resumed_episodes": resumed,
        "seconds": round(time.perf_counter() - begun, 3),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
    }
    evaluation = Evaluation(sweep.frame(), metadata)
    _warn_of_nonfinite(evaluation)
    return evaluation


def _run(
    sweep: Sweep,
    job: Job,
    source: EnvironmentSource,
    environments: list[gymnasium.Env[Any, Any]],
    n_envs: int,
    n_workers: int,
    progress: bool,
) -> tuple[int, str | None]:
    """Run what is left of the sweep.

    Args:
        environments: those that there are already; what is made is added, to be closed by the caller.

    Returns:
        How many episodes were known before, and the first error, if any.
    """
    shards = sweep.pending(n_envs, n_workers)
    resumed, errors = len(sweep), []

    def collect(shard: Shard, outcome: Outcome) -> None:
        sweep.collect(shard, outcome)
        if outcome.error is not None:
            errors.append(outcome.error)

    with tqdm(
        total=sweep.total, initial=resumed, unit="episode", disable=not progress, dynamic_ncols=True
    ) as bar:
        if n_workers > 1 and len(shards) > 1:
            run_in_workers(job, source, shards, n_workers, collect, bar.update)
        elif shards:
            slots = min(n_envs, max(len(shard.tasks) for shard in shards))
            environments += source.make(slots - 1) if source.given is None else []
            check_distinct(environments)  # the first was made apart
            run_here(job, environments, shards, collect, bar.update)
    return resumed, errors[0] if errors else None


def _describe(contestant: Contestant, normalization: NormalizeLike, frames: int) -> dict[str, Any]:
    model = contestant.model
    return {
        "agent": contestant.agent,
        "seed": contestant.seed,
        "model": type(model).__name__,
        "policy": type(policy_of(model)).__name__ if isinstance(model, BaseAlgorithm) else None,
        "vec_normalize": normalization is not None,
        "frame_stack": frames,
        "fingerprint": model_fingerprint(model, normalization, frames),
    }


def _identity(
    agents: list[dict[str, Any]], contestants: list[Contestant], env: gymnasium.Env[Any, Any]
) -> list[Any]:
    """What stored episodes of each agent depend on.

    Raises:
        ValueError: an agent or an environment that could not be recognised.
    """
    specification = environment_identity(env)
    if specification is None:
        raise ValueError(
            f"resume= needs an environment that can be recognised, but {env} has no complete specification. Register "
            "it (gymnasium.register) and give its id, with wrappers that record their arguments "
            "(gymnasium.utils.RecordConstructorArgs)."
        )
    for agent, contestant in zip(agents, contestants, strict=True):
        if agent["fingerprint"] is None:
            raise ValueError(
                f"resume= needs to recognise {contestant.label}, but a {agent['model']} has no weights that could be "
                "compared. Give it an attribute fingerprint: a text that changes whenever its actions do."
            )
    return [[SCHEMA_VERSION, _versions(), specification, agent["fingerprint"]] for agent in agents]


def _warn_of_nonfinite(evaluation: Evaluation) -> None:
    what = evaluation.frame["nonfinite"]
    counts = what[what != ""].value_counts()
    if len(counts):
        said = ", ".join(f"{number} at a {str(name).replace('_', ' ')}" for name, number in counts.items())
        warnings.warn(
            f"{int(counts.sum())} of {len(what)} episodes ended at a value that was not finite ({said}). Their returns "
            "are nan, and so is every mean over them; the column 'nonfinite' says which they are.",
            RuntimeWarning,
            stacklevel=3,
        )


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
