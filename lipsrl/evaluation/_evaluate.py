from __future__ import annotations

import datetime
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from numpy.typing import ArrayLike

from lipsrl._episodes import EndlessEpisodeError, time_limit
from lipsrl._threads import one_thread
from lipsrl.actors.normalization import NormalizeLike
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import Env, EnvironmentSource, EnvLike
from lipsrl.evaluation._evaluation import Evaluation
from lipsrl.evaluation._provenance import describe, identity, settings, versions
from lipsrl.evaluation._request import DisturbancesLike, Request, check_disturbances, check_sensitivity_std
from lipsrl.evaluation._resume import Store
from lipsrl.evaluation._rollout import QUANTITIES, NonFiniteError
from lipsrl.evaluation._schema import SCHEMA_VERSION
from lipsrl.evaluation._sweep import Job, Sweep
from lipsrl.evaluation._workers import run_pending


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
    max_episode_steps: int | None = None,
    resume: str | Path | None = None,
    progress: bool = False,
) -> Evaluation:
    """Evaluate every model under every disturbance at every strength, in the same episodes.

    The episodes are paired: episode i has the same environment seed for every model, disturbance and strength. At
    every strength it uses the same random draws of the disturbance, multiplied by the strength. Every started episode
    is run to its end (terminated or truncated) and counted once. Actions are deterministic and processed as by SB3's
    ``predict``. The order is environment → disturbance (raw sensor units) → VecNormalize (frozen) → policy →
    clip → environment. At strength 0 a disturbance has no effect, so these episodes are run once and listed under each
    disturbance. The same arguments give the same table, bit for bit. On the CPU, a row does not depend on `n_workers`,
    on `n_envs` or on the other models. (With attacks, another `n_envs` gives the same result only up to rounding.)

    An observation or reward that is not finite ends its episode. The column ``nonfinite`` names the cause. The return
    is ``nan``, every summary over such an episode is ``nan``, and there is a warning.

    Args:
        models: one model or a dict of them by name. A model is an SB3 or sb3-contrib algorithm (or its policy;
            recurrent ones keep their state, maskable ones are given the environment's ``action_masks()``),
            anything with SB3's ``predict``, or a callable from a batch of observations ``(n, dim)`` to actions
            ``(n, *action_shape)``, which must accept additional rows whose actions are not used. A torch module
            (`actor_network`) is put in eval mode and gets tensors with the dtype of its weights. A key may be
            ``(agent, training_seed)``; for other keys the training seed is ``model.seed``.
        env: an id, a zero-argument factory, or an environment. An environment is rebuilt from its spec; if that is
            impossible, it is used itself, one episode at a time. `evaluate` vectorises the environments. All
            observations that SB3 accepts are allowed, including images and Dicts; disturbances act on vectors only.
        disturbances: one, a list, or a dict by name, each a `Disturbance` or its text (``"gaussian:0.1"``); None
            for clean episodes only (named ``"none"``). An attack without a model (``MADAttack(None, 0.1)``) gets each
            model as its target, with its normalisation, also inside a `Compose`.
        strengths: multiply each disturbance, finite and >= 0: with ``GaussianNoise(1.0)`` strength .05 is a
            standard deviation of .05 in each sensor's unit.
        n_episodes: episodes per model, disturbance and strength, numbered from 0.
        n_envs: environments stepped side by side in one process.
        n_workers: processes. One is best for fast environments (classic control); for slow simulators (MuJoCo)
            as many as there are cores.
        seed: of the evaluation: start states, disturbances, sensitivity.
        vec_normalize: None, a VecNormalize, the path of its file (a pickle), or a dict of these by model name. With
            None, the VecNormalize of the model's own environment is used, if it has one. It is never updated. If a
            model was trained with a VecNormalize that is neither passed nor attached, this cannot be detected.
        frame_stack: number of stacked observations, if the policy was trained with SB3's VecFrameStack (or a dict by
            model name). None: the number of the model's own environment, if it has one. A disturbance acts on
            each observation once, before it is stacked.
        sensitivity_std: standard deviation, in raw observation units (one number, or one per sensor), of the
            displacements for ``action_sensitivity``. It should be small: the column is the local slope of the policy
            around the visited states, which can be compared with a certificate.
        floor: the return that counts as 0 % (see `random_return`); it is stored for `Evaluation.normalized_auc`.
        on_nonfinite_action: what to do if a policy returns nan for finite observations. ``"raise"``: raise an error.
            ``"record"``: end the episode and record it, as above.
        max_episode_steps: episodes are truncated after this number of steps, as by a ``TimeLimit`` around `env` (whose
            own limit stays). None: an episode without any ``TimeLimit`` may have 100,000 steps.
        resume: a folder that stores finished episodes, under a key of everything that they depend on (weights,
            normalisation, environment, disturbance, seeds, versions). Stored episodes are not run again. Pass the same
            folder to continue an interrupted evaluation, or to extend a finished one.
        progress: show a bar with the remaining time.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: unknown environment or disturbance, spaces or normalisation that do not fit a model, names or
            strengths that repeat, negative strengths, counts that are not positive.
        TypeError: a model, environment, disturbance or normalisation of another kind.
        NonFiniteError: a nan or infinite action; the episodes so far are in its ``evaluation``, and in the
            folder `resume`.
        EndlessEpisodeError: an episode without a time limit has not ended within 100,000 steps; the episodes so far
            are kept in the same two places.

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
    request = Request.read(
        models,
        disturbances,
        strengths,
        n_episodes=n_episodes,
        n_envs=n_envs,
        n_workers=n_workers,
        seed=seed,
        vec_normalize=vec_normalize,
        frame_stack=frame_stack,
        sensitivity_std=sensitivity_std,
        floor=floor,
        on_nonfinite_action=on_nonfinite_action,
        max_episode_steps=max_episode_steps,
    )
    source = _source(env, request)
    environments = source.make(1)
    probe = environments[0]
    # a factory's own name says less
    env_name = source.name if probe.spec is None else probe.spec.id
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "env": env_name,
        "max_episode_steps": time_limit(probe),
    }
    with one_thread():
        try:
            job = _job(request, probe)
            agents = describe(request, job.controllers)
            store = None if resume is None else Store(resume)
            sweep = Sweep(
                request.contestants,
                job,
                request.strengths,
                request.n_episodes,
                store,
                [] if store is None else identity(agents, request, probe),
            )
            resumed, error = run_pending(
                sweep, job, source, environments, request.n_envs, request.n_workers, progress
            )
        finally:
            source.close(environments)
    if error is not None:
        raise _with_the_episodes_so_far(error, sweep, metadata)
    metadata |= settings(request, agents, probe) | {
        "env_steps": sweep.env_steps,
        "resumed_episodes": resumed,
        "seconds": round(time.perf_counter() - begun, 3),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    evaluation = Evaluation(sweep.frame(), metadata)
    _warn_of_nonfinite(evaluation)
    return evaluation


def _source(env: EnvLike, request: Request) -> EnvironmentSource:
    source = EnvironmentSource.of(env, request.max_episode_steps)
    if source.given is not None and request.n_workers > 1:
        raise ValueError(
            f"n_workers={request.n_workers} need environments of their own, but {env} cannot be rebuilt. Give an id or "
            f"a factory, such as env=lambda: {type(env).__name__}(...)."
        )
    return source


def _job(request: Request, env: Env) -> Job:
    """How any episode is run: each agent as it meets the environment, and each disturbance as it meets the agent."""
    controllers = [
        Controller(contestant.model, env, normalization, contestant.label, frames)
        for contestant, normalization, frames in zip(
            request.contestants, request.normalizations, request.frame_stacks, strict=True
        )
    ]
    check_disturbances(request.disturbances.values(), env, controllers)
    check_sensitivity_std(request.sensitivity_std, env)
    return Job(
        controllers,
        [
            {k: None if d is None else c.disturbance_for_model(d) for k, d in request.disturbances.items()}
            for c in controllers
        ],
        request.seed,
        request.sensitivity_std,
        tuple(q for q in QUANTITIES if q != "action" or request.records_actions),
    )


def _with_the_episodes_so_far(
    error: NonFiniteError | EndlessEpisodeError, sweep: Sweep, metadata: dict[str, Any]
) -> Exception:
    if len(sweep):
        error.evaluation = Evaluation(sweep.frame(), metadata)
    return error


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
