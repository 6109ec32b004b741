"""``lipsrl.distill``: a Lipschitz twin of a trained agent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from tqdm import tqdm

from lipsrl._episodes import check_limit
from lipsrl._validation import lookup, positive_finite, positive_int
from lipsrl.actors.normalization import NormalizeLike, normalization_of
from lipsrl.distillation._exploration import keep_exploration
from lipsrl.distillation._imitation import Imitation
from lipsrl.distillation._rollouts import (
    BATCHES,
    EXPLORATION,
    HELD_OUT,
    WEIGHTS,
    Rollouts,
    derived_seed,
)
from lipsrl.distillation._rounds import learn
from lipsrl.distillation._student import build_student, check_teacher
from lipsrl.disturbances import Disturbance
from lipsrl.evaluation._environments import EnvLike, environment_factory, make_environments
from lipsrl.evaluation._history import refuse_history
from lipsrl.evaluation._request import check_disturbances
from lipsrl.evaluation._seeding import check_seed
from lipsrl.layers import BUDGETS, LAYERS
from lipsrl.wrappers._strength import Level, constant_level

#: Gradient steps, if not given: of a student that sees as much as its teacher, and of one that sees more.
STEPS, STEPS_OF_WINDOWS = 7200, 12_000


def distill(
    model: BaseAlgorithm,
    env: EnvLike,
    *,
    lipschitz_bound: float,
    layer: str = "sandwich",
    net_arch: Sequence[int] | None = None,
    disturbance: Disturbance | None = None,
    strength: Level = 1.0,
    history: int | None = None,
    vec_normalize: NormalizeLike = None,
    frame_stack: int | None = None,
    budget: str = "output",
    seed: int = 0,
    rounds: int = 12,
    steps: int | None = None,
    max_episode_steps: int | None = None,
    progress: bool = False,
) -> BaseAlgorithm:
    """Distil a trained agent into a Lipschitz student: an SB3 model of the same class with a bound K.

    The student learns from 20 episodes of the teacher, then ``rounds`` times from 15 more episodes of its own (40 if
    its window is longer than the teacher's). In each state of its own episodes, the teacher's action is the target
    (DAgger). With ``disturbance``, the student sees disturbed observations while the teacher's action is computed from
    the clean ones. So the student learns to filter this sensor; ``history`` gives it several observations for this.
    After each round the student plays 30 held-out episodes; with a disturbance, 30 clean and 30 disturbed ones. The
    student with the best mean return over all of them is returned (early stopping).

    The loss for continuous actions is the mean squared difference of the actions that the environment receives. If the
    teacher has a critic of actions, it is weighted by the loss of value that an error causes. The loss for categorical
    policies is the KL divergence, and for Q-values the difference of the advantages. Both have an additional hinge
    loss, so that the teacher's choice stays the greedy one by the teacher's margin.

    The result has the ``LipschitzMlpPolicy`` of the teacher's algorithm and its own environments. These parts are
    copied from the teacher: the critics (value network), the standard deviation of sampled actions, hyperparameters, a
    frame stack, and a frozen copy of ``VecNormalize``. ``predict``, ``save``, ``learn`` (under the bound),
    :func:`lipsrl.certify`, :func:`lipsrl.evaluate` and :func:`lipsrl.export` work on it as on any model. The
    teacher is not changed.

    Args:
        model: PPO, A2C, SAC, TD3, DDPG or DQN, or TRPO, TQC, QRDQN, CrossQ or MaskablePPO of sb3-contrib, on
            vector observations.
        env: id, zero-argument factory or environment (rebuilt from its spec), as in :func:`lipsrl.evaluate`.
        lipschitz_bound: K > 0 (l2, or l-inf with ``layer="linf"``): the environment's action units (logits, Q-values)
            per unit of the policy's input. This is after ``VecNormalize``, if there is one, divided by the policy's
            ``observation_scale``, and the norm of the whole window if there is a history. ``math.inf``: a plain
            network.
        layer: key of :data:`lipsrl.layers.LAYERS`.
        net_arch: widths of the student's actor; None: the teacher's. The critics keep theirs.
        disturbance: of the raw observations that the student sees, from learning to the choice of the best. An
            attack without a target model attacks the acting policy, that is, the student of that round. A
            :class:`~lipsrl.disturbances.Mixture` draws one of several for each episode.
        strength: multiplies the disturbance: a number >= 0, or a range (low, high) to draw from in every episode; over
            the held-out ones it is spread evenly.
        history: number of observations that the student sees at once, at least as many as the teacher; None: as many
            as the teacher. The format is that of SB3's VecFrameStack: oldest first, zeros before the first observation
            of an episode, normalised before they are stacked. The returned model has such a stack around its
            environments, and its attribute ``frame_stack`` stores the number in the zip.
        vec_normalize: the teacher's, or its file. A model whose environment carries one uses it.
        frame_stack: number of stacked observations, if the teacher was trained with SB3's VecFrameStack; the student
            has the same. None: the number of the teacher's own environment, if it has one.
        budget: how K is split over the layers, key of :data:`lipsrl.layers.BUDGETS`.
        seed: random seed, integer >= 0. Its episodes are never used by :func:`lipsrl.evaluate`.
        rounds: of the student's own episodes, > 0.
        steps: gradient steps in all (Adam, batches of 512), > ``rounds``; None: 7200, with a longer window than the
            teacher's 12,000. Near the least bound that the task allows, twice as many and more rounds help.
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
    if lipschitz_bound != math.inf:
        lipschitz_bound = positive_finite("lipschitz_bound", lipschitz_bound)
    lookup("layer", layer, LAYERS)
    lookup("budget", budget, BUDGETS)
    _check_net_arch(net_arch)
    history = None if history is None else positive_int("history", history)
    rounds = positive_int("rounds", rounds)
    if steps is not None and positive_int("steps", steps) <= rounds:
        raise ValueError(f"steps must be more than rounds={rounds}, received {steps}.")
    if disturbance is not None and not isinstance(disturbance, Disturbance):
        raise TypeError(f"disturbance must be a Disturbance or None, received {disturbance!r}.")
    strength = constant_level("strength", strength)
    if disturbance is None and strength not in (0.0, 1.0):
        raise ValueError(
            f"strength={strength} multiplies a disturbance, but no disturbance was given. Pass disturbance=, or "
            "leave strength out."
        )
    seed = check_seed(seed)
    normalization = normalization_of(model, vec_normalize)
    factory, _ = environment_factory(env)
    limit = check_limit(max_episode_steps)
    environments = make_environments(factory, HELD_OUT, max_episode_steps=limit)
    try:
        rollouts = Rollouts(
            model,
            environments,
            normalization,
            disturbance,
            seed,
            frame_stack,
            strength=strength,
            history=history,
        )
        if disturbance is not None:
            refuse_history(environments[0], "a disturbance that the teacher does not see")
        check_disturbances([disturbance], environments[0], [rollouts.teacher])
        student = build_student(
            model,
            factory,
            normalization,
            rollouts.history,
            lipschitz_bound=lipschitz_bound,
            layer=layer,
            budget=budget,
            net_arch=net_arch,
            seed=derived_seed(seed, WEIGHTS),
        )
        if steps is None:
            steps = max(
                STEPS if rollouts.history == rollouts.teacher.frames else STEPS_OF_WINDOWS, rounds + 1
            )
        imitation = Imitation(student.policy, steps, derived_seed(seed, BATCHES))
        with tqdm(total=steps, unit="step", disable=not progress, dynamic_ncols=True) as bar:
            learn(student, rollouts, imitation, rounds, steps, bar)
    finally:
        for environment in environments:
            environment.close()
    keep_exploration(model, student, imitation.observations, derived_seed(seed, EXPLORATION))
    return student


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
