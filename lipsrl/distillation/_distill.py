"""Dataset aggregation: the student acts, the teacher says what it would have done there, the student learns."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from tqdm import tqdm

from lipsrl._episodes import EndlessEpisodeError, check_limit
from lipsrl._validation import lookup, positive_finite, positive_int
from lipsrl.actors.normalization import NormalizeLike, normalization_of
from lipsrl.distillation._exploration import keep_exploration
from lipsrl.distillation._imitation import Imitation
from lipsrl.distillation._rollouts import (
    BATCHES,
    EXPLORATION,
    HELD_OUT,
    PER_ROUND,
    SHOWN,
    WEIGHTS,
    Rollouts,
    derived_seed,
)
from lipsrl.distillation._student import build_student, check_teacher
from lipsrl.disturbances import Disturbance
from lipsrl.evaluation._environments import EnvLike, environment_factory, make_environments
from lipsrl.evaluation._request import check_disturbances
from lipsrl.evaluation._seeding import check_seed
from lipsrl.layers import BUDGETS, LAYERS


class InterruptedWarning(UserWarning):
    """A distillation was interrupted, or met an episode that never ends; what there was by then is returned."""


def distill(
    model: BaseAlgorithm,
    env: EnvLike,
    *,
    lipschitz_bound: float,
    layer: str = "sandwich",
    net_arch: Sequence[int] | None = None,
    disturbance: Disturbance | None = None,
    vec_normalize: NormalizeLike = None,
    frame_stack: int | None = None,
    budget: str = "output",
    seed: int = 0,
    rounds: int = 12,
    steps: int = 7200,
    max_episode_steps: int | None = None,
    progress: bool = False,
) -> BaseAlgorithm:
    """A Lipschitz twin of a trained agent: an SB3 model of its class that does what it does, within a bound.

    The student learns from 20 episodes of the teacher, then ``rounds`` times from 15 more of its own, asking
    the teacher what it would have done in each state (DAgger). With ``disturbance`` it is shown disturbed
    observations, while the teacher is asked on the clean ones: it becomes the filter for that sensor. After
    each round it plays 30 held-out episodes, and the student with the best mean return is kept (early stopping);
    it is not asked to beat the teacher, only to be the best student.

    Continuous actions are matched by the mean squared difference of what the environment receives, weighted by
    what it would cost where the teacher has a critic of actions; categorical policies by KL divergence, Q-values by
    their advantages, both with a hinge that keeps the teacher's choice the greedy one by the teacher's margin.

    The result has the ``LipschitzMlpPolicy`` of the teacher's algorithm and environments of its own. The critics
    (value network), the spread of sampled actions, hyperparameters, a frame stack and a ``VecNormalize`` are taken over
    from the teacher, the latter as a frozen copy. ``predict``, ``save``, ``learn`` (under the bound),
    :func:`lipsrl.certify`, :func:`lipsrl.evaluate` and :func:`lipsrl.export` work on it as on any model. The
    teacher is not changed.

    Args:
        model: PPO, A2C, SAC, TD3, DDPG or DQN, or TRPO, TQC, QRDQN, CrossQ or MaskablePPO of sb3-contrib, on
            vector observations.
        env: id, zero-argument factory or environment (rebuilt from its spec), as in :func:`lipsrl.evaluate`.
        lipschitz_bound: K > 0 (l2, or l-inf with ``layer="linf"``): environment's action units (logits, Q-values)
            per unit of the observation that the policy receives, so after ``VecNormalize`` if there is one (and
            over the policy's ``observation_scale``).
        layer: key of :data:`lipsrl.layers.LAYERS`.
        net_arch: widths of the student's actor; None: the teacher's. The critics keep theirs.
        disturbance: of the raw observations that the student sees, from learning to the choice of the best. An
            attack that is aimed at no model is aimed at whoever acts.
        vec_normalize: the teacher's, or its file. A model whose environment carries one uses it.
        frame_stack: how many observations the teacher sees at once, if it was trained behind SB3's VecFrameStack, and
            so the student; None: as in the teacher's own environment, if it has one.
        budget: how K is split over the layers, key of :data:`lipsrl.layers.BUDGETS`.
        seed: of everything drawn here, integer >= 0. Its episodes are none of :func:`lipsrl.evaluate`'s.
        rounds: of the student's own episodes, > 0.
        steps: gradient steps in all (Adam, batches of 512), > ``rounds``. Near the least bound that the task
            allows, twice as many and more rounds help.
        max_episode_steps: of all episodes that are run here, as in :func:`lipsrl.evaluate`; the student's own
            environments, to go on learning in, stay as ``env`` makes them.
        progress: show a bar.

    Returns:
        The best student. Its bound is exact whenever it acts, is saved or certified.

    Raises:
        ValueError: an argument out of range; a teacher without a supported actor; an environment,
            disturbance, normalisation or frame stack that does not fit it.
        TypeError: ``model``, ``env`` or ``disturbance`` is something else.
        NonFiniteError: the environment or a policy produced nan or infinite numbers.
        EndlessEpisodeError: an episode without a time limit has not ended within 100,000 steps, before there was a
            student to keep.
        KeyboardInterrupt: interrupted before there was one. Later, after either, the best so far is returned, with
            a warning.

    Warns:
        InterruptedWarning: interrupted, or an episode has not ended.
        UserWarning: K is below what the task needs: in the held-out episodes, which both play from
            the same starts, the student falls short of its teacher by more than a tenth of the teacher's mean
            return, and by more than twice the standard error of that.

    Source:
        Ross, Gordon & Bagnell, "A reduction of imitation learning and structured prediction to no-regret
        online learning" (AISTATS 2011).

    Example:
        >>> import lipsrl
        >>> from stable_baselines3 import PPO
        >>> teacher = PPO("MlpPolicy", "Pendulum-v1", n_steps=64, device="cpu")
        >>> student = lipsrl.distill(teacher, "Pendulum-v1", lipschitz_bound=4.0, rounds=1, steps=20)
        >>> type(student).__name__, student.policy.lipschitz_network.lipschitz_bound() <= 4.0
        ('PPO', True)
    """
    check_teacher(model)
    lipschitz_bound = positive_finite("lipschitz_bound", lipschitz_bound)
    lookup("layer", layer, LAYERS)
    lookup("budget", budget, BUDGETS)
    _check_net_arch(net_arch)
    rounds, steps = positive_int("rounds", rounds), positive_int("steps", steps)
    if steps <= rounds:
        raise ValueError(f"steps must be more than rounds={rounds}, received {steps}.")
    if disturbance is not None and not isinstance(disturbance, Disturbance):
        raise TypeError(f"disturbance must be a Disturbance or None, received {disturbance!r}.")
    seed = check_seed(seed)
    normalization = normalization_of(model, vec_normalize)
    factory, _ = environment_factory(env)
    limit = check_limit(max_episode_steps)
    environments = make_environments(factory, HELD_OUT, max_episode_steps=limit)
    try:
        rollouts = Rollouts(model, environments, normalization, disturbance, seed, frame_stack)
        check_disturbances([disturbance], environments[0], [rollouts.teacher])
        student = build_student(
            model,
            factory,
            normalization,
            rollouts.teacher.frames,
            lipschitz_bound=lipschitz_bound,
            layer=layer,
            budget=budget,
            net_arch=net_arch,
            seed=derived_seed(seed, WEIGHTS),
        )
        imitation = Imitation(student.policy, steps, derived_seed(seed, BATCHES))
        with tqdm(total=steps, unit="step", disable=not progress, dynamic_ncols=True) as bar:
            _learn(student, rollouts, imitation, rounds, steps, bar)
    finally:
        for environment in environments:
            environment.close()
    keep_exploration(model, student, imitation.observations, derived_seed(seed, EXPLORATION))
    return student


def _learn(
    student: Any, rollouts: Rollouts, imitation: Imitation, rounds: int, steps: int, bar: tqdm[Any]
) -> None:
    """Leave the best of the students of all rounds in ``student``."""
    network = student.policy.lipschitz_network
    best: dict[str, Any] | None = None
    best_returns: NDArray[np.float64] = np.empty(0)
    shares = np.diff(np.linspace(0, steps, rounds + 2).round().astype(int))
    try:
        teacher_returns = rollouts.returns(rollouts.teacher)
        actor = rollouts.controller(student, "the student")
        for number, share in enumerate(shares.tolist()):
            bar.set_description(f"round {number} of {rounds}")
            imitation.add(
                *(rollouts.collect(actor, PER_ROUND) if number else rollouts.collect(rollouts.teacher, SHOWN))
            )
            imitation.fit(share, bar.update)
            returns = rollouts.returns(actor)
            if best is None or returns.mean() >= best_returns.mean():
                best, best_returns = copy.deepcopy(network.state_dict()), returns
            bar.set_postfix_str(f"return {best_returns.mean():.4g}, teacher {teacher_returns.mean():.4g}")
    except (KeyboardInterrupt, EndlessEpisodeError) as error:
        if best is None:
            raise
        reason = f" {error}" if str(error) else ""
        warnings.warn(
            f"distill was interrupted in round {number} of {rounds}.{reason} The best student so far is returned: "
            f"mean return {best_returns.mean():.4g} against the teacher's {teacher_returns.mean():.4g}.",
            InterruptedWarning,
            stacklevel=3,
        )
    assert best is not None
    student.policy.set_training_mode(False)
    for copy_of_the_best in (network, *student.policy.lipschitz_targets()):
        copy_of_the_best.load_state_dict(best)
    _warn_of_collapse(best_returns, teacher_returns, network.bound)


def _warn_of_collapse(
    student: NDArray[np.float64], teacher: NDArray[np.float64], lipschitz_bound: float
) -> None:
    """Both ``(episodes,)`` returns from the same starts; the rule is that of :func:`distill`."""
    shortfall = teacher - student
    error = shortfall.std(ddof=1) / np.sqrt(len(shortfall))
    if shortfall.mean() > max(2 * error, 0.1 * abs(teacher.mean())):
        warnings.warn(
            f"The student's mean return on {len(student)} held-out episodes is {student.mean():.4g}, the "
            f"teacher's {teacher.mean():.4g}. Either lipschitz_bound={lipschitz_bound:g} is below what this task "
            "needs, or the student had too little to learn by (steps, rounds) or with (net_arch). `lipsrl frontier` "
            "shows which K is enough.",
            stacklevel=4,
        )


def _check_net_arch(net_arch: Any) -> None:
    if net_arch is None:
        return
    if isinstance(net_arch, str) or not isinstance(net_arch, Sequence):
        raise ValueError(
            "net_arch must be the widths of the student's actor, a list of integers > 0, or None; received "
            f"{net_arch!r}. The critics keep the teacher's shape."
        )
    for width in net_arch:
        positive_int("each width in net_arch", width)
