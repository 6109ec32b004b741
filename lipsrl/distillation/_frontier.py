"""One student per K and window: what each costs in return, and buys in smoothness."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl._episodes import EndlessEpisodeError, check_limit
from lipsrl._threads import one_thread
from lipsrl._validation import positive_finite, positive_int
from lipsrl.actors.normalization import NormalizeLike, normalization_of, observation_chain
from lipsrl.certificates import Certificate, certify
from lipsrl.distillation._parallel import Order, Student, teach
from lipsrl.distillation._student import check_teacher
from lipsrl.disturbances import Disturbance, parse_disturbance
from lipsrl.evaluation import Evaluation, evaluate
from lipsrl.evaluation._environments import EnvLike
from lipsrl.evaluation._request import read_strengths
from lipsrl.wrappers._strength import Level, constant_level

#: The agent's name of the teacher in the table.
TEACHER = "teacher"


@dataclass(frozen=True)
class Frontier:
    """A teacher and its students, measured in the same episodes.

    Attributes:
        evaluation: of the agent ``"teacher"`` and the students, under one disturbance.
        students: by K, then by history, then by noise level.
        teacher_certificate: None where the teacher's network cannot be bounded.
    """

    evaluation: Evaluation
    students: tuple[Student, ...]
    teacher_certificate: Certificate | None

    def recommended(self, strength: float = 0.0) -> Student | None:
        """The student of the smallest K whose return is as good as can be had at this strength; None: there is none.

        Of several histories the shortest that has one.

        The rule: at strength 0 students are compared with the teacher, else with whoever (teacher or student) has the
        best mean return there. A student is as good if its return is not distinguishable from that, or better: the
        95 % bootstrap interval of the difference, paired by episode, reaches 0. Of two at one K, the one with the
        higher mean return. More episodes tell smaller differences.

        Raises:
            ValueError: a strength that was not measured.
        """
        means = self.evaluation.frame.groupby(["strength", "agent"])["return"].mean()
        if strength not in means.index.get_level_values(0):
            known = ", ".join(f"{s:g}" for s in self.evaluation.frame["strength"].unique())
            raise ValueError(f"strength={strength!r} was not measured. Accepted: {known}.")
        here = means.loc[strength]
        best = TEACHER if strength == 0 else str(here.idxmax())
        fitting = [s for s in self.students if s.name == best or self._reaches(s.name, best, strength)]
        return min(
            fitting, key=lambda s: (s.history or 0, s.lipschitz_bound, -float(here[s.name])), default=None
        )

    def _reaches(self, name: str, reference: str, strength: float) -> bool:
        table = self.evaluation.compare(name, reference, "return")
        return bool(table.loc[table["strength"] == strength, "difference_high"].iloc[0] >= 0)

    def table(self) -> pd.DataFrame:
        """One row per agent and strength.

        That of :meth:`lipsrl.evaluation.Evaluation.summary`, and beside it ``lipschitz_bound``, ``noise_level`` (the
        greatest that was shown), ``history`` (0: as many as the teacher), and of the certificate ``upper_bound`` (raw
        units), ``network_lower_bound`` (the steepest slope found, in the units of ``lipschitz_bound``; the teacher's
        own "K") and ``network_tightness``.
        """
        lines = [
            (s.name, s.lipschitz_bound, s.strongest, s.history or 0, *_numbers(s.certificate))
            for s in self.students
        ]
        if self.teacher_certificate is not None:
            lines.append((TEACHER, float("nan"), 0.0, 0, *_numbers(self.teacher_certificate)))
        columns = ["agent", "lipschitz_bound", "noise_level", "history", "upper_bound", "network_lower_bound",
                   "network_tightness"]  # fmt: skip
        return self.evaluation.summary().merge(pd.DataFrame(lines, columns=columns), on="agent", how="left")


def _numbers(certificate: Certificate) -> tuple[float, float, float]:
    network = certificate.network
    return certificate.upper_bound, network.lower_bound, network.tightness


def frontier(
    model: BaseAlgorithm,
    env: EnvLike,
    *,
    bounds: Sequence[float],
    disturbance: Disturbance | str = "gaussian:1.0",
    strengths: Iterable[float] = (0.0, 0.05, 0.1, 0.2),
    noise_levels: Sequence[Level] = (0.0,),
    histories: Sequence[int | None] = (None,),
    n_episodes: int = 100,
    vec_normalize: NormalizeLike = None,
    frame_stack: int | None = None,
    seed: int = 0,
    n_workers: int = 1,
    max_episode_steps: int | None = None,
    progress: bool = False,
    on_student: Callable[[Student], Any] | None = None,
    **options: Any,
) -> Frontier:
    """Distil one student per K and noise level, and measure them beside their teacher in the same episodes.

    Args:
        model, env, vec_normalize, frame_stack: as for :func:`lipsrl.distill`.
        bounds: the Ks, in units of what the policy receives.
        disturbance: of the raw observations, or its text; multiplied by the strengths and by the noise levels.
        strengths: at which all are measured; 0, clean, is added where it is missing.
        noise_levels: strengths of the disturbance that students are shown while they learn: numbers, or ranges (low,
            high) to draw from in every episode; 0: none. Each makes a student per K and history.
        histories: how many observations students see at once, see :func:`lipsrl.distill`. Each makes a student per K.
        n_episodes: per agent and strength.
        seed: of the distillations and of the evaluation, whose episodes differ from theirs.
        n_workers: processes, a student each. With more than one, scripts need ``if __name__ == "__main__":``.
        max_episode_steps: of all episodes, as in :func:`lipsrl.evaluate`.
        progress: show bars.
        on_student: called with each student as soon as it is made, in this process; to save it, for example.
        options: further arguments of :func:`lipsrl.distill`: ``layer``, ``net_arch``, ``budget``, ``rounds``,
            ``steps``.

    Returns:
        The frontier. Interrupted, it holds the students that there are, with a warning.

    Raises:
        ValueError, TypeError, NonFiniteError: as :func:`lipsrl.distill` and :func:`lipsrl.evaluate`.
        KeyboardInterrupt: interrupted before there was a student, or in the evaluation.
        EndlessEpisodeError: the same of an episode without a time limit that has not ended within 100,000 steps; the
            students and the episodes so far are in its ``students`` and ``evaluation``.
        RuntimeError: a worker process died.

    Warns:
        UserWarning: what the distillations said, with the K that it was said of.

    Example:
        >>> from lipsrl.distillation import frontier
        >>> from stable_baselines3 import PPO
        >>> teacher = PPO("MlpPolicy", "Pendulum-v1", n_steps=64, device="cpu")
        >>> found = frontier(teacher, "Pendulum-v1", bounds=[4], strengths=[0], n_episodes=2, rounds=1, steps=20)
        >>> [student.name for student in found.students]
        ['K=4']
    """
    check_teacher(model)
    orders = _orders(bounds, noise_levels, histories)
    noise = parse_disturbance(disturbance) if isinstance(disturbance, str) else disturbance
    grid = list(dict.fromkeys([0.0, *read_strengths(strengths, noise)]))
    positive_int("n_episodes", n_episodes)
    positive_int("n_workers", n_workers)
    normalization = normalization_of(model, vec_normalize)
    limit = check_limit(max_episode_steps)
    # said in so many words: in another process the model has no environment to ask
    frames = observation_chain(model, normalization, frame_stack, inside=False).frames
    read: dict[str, Any] = {"vec_normalize": normalization, "frame_stack": frames}
    arguments = {**read, "seed": seed, "max_episode_steps": limit, **options}
    with one_thread():
        students = teach(model, env, orders, noise, arguments, n_workers, progress, on_student)
        for student in students:
            for text in student.warnings:
                warnings.warn(f"{student.name}: {text}", stacklevel=2)
        try:
            evaluation = evaluate(
                {TEACHER: model, **{s.name: s.model for s in students}},
                env,
                disturbances=noise,
                strengths=grid,
                n_episodes=n_episodes,
                seed=seed,
                vec_normalize=normalization,
                frame_stack={TEACHER: frames},
                n_workers=n_workers,
                max_episode_steps=limit,
                progress=progress,
            )
        except EndlessEpisodeError as error:
            error.students = tuple(students)  # long in the making, and the caller may not have kept them
            raise
        return Frontier(evaluation, tuple(students), certificate_or_none(model, **read))


def certificate_or_none(
    model: BaseAlgorithm, vec_normalize: NormalizeLike, frame_stack: int | None = None
) -> Certificate | None:
    """The certificate, or None where there is a part that cannot be bounded: a teacher need not be certifiable."""
    try:
        return certify(model, vec_normalize=vec_normalize, frame_stack=frame_stack)
    except ValueError:
        return None


def _orders(
    bounds: Sequence[float], noise_levels: Sequence[Level], histories: Sequence[int | None]
) -> list[Order]:
    """By K, then by history, then by noise level.

    Raises:
        ValueError: none, one out of range, or one that is given twice.
    """
    ks = [positive_finite("each of bounds", k) for k in bounds]
    levels = [_level(given) for given in noise_levels]
    windows = [given if given is None else positive_int("each of histories", given) for given in histories]
    for argument, values in (
        ("bounds", [f"{k:g}" for k in ks]),
        ("noise_levels", [Order(1.0, given).shown for given in levels]),
        ("histories", windows),
    ):
        if not values or len(set(values)) < len(values):
            raise ValueError(
                f"{argument} must be at least one number, all different, received {list(values)}. Students are named "
                "by six digits."
            )
    return [
        Order(k, shown, window)
        for k in sorted(ks)
        for window in sorted(windows, key=lambda window: window or 0)
        for shown in sorted(levels, key=lambda shown: shown if isinstance(shown, tuple) else (shown, shown))
    ]


def _level(given: Level) -> Level:
    """A strength > 0, a range of them, or 0 for none."""
    if isinstance(given, tuple | list):  # as distill takes it
        return constant_level("each of noise_levels", given)
    return 0.0 if given == 0 else positive_finite("each of noise_levels", given)
