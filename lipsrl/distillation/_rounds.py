"""Dataset aggregation: the student acts, the teacher says what it would have done there, the student learns."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lipsrl._episodes import EndlessEpisodeError
from lipsrl.distillation._critics import copy_to_targets
from lipsrl.distillation._imitation import Imitation
from lipsrl.distillation._rollouts import SHOWN, Rollouts


class InterruptedWarning(UserWarning):
    """A distillation was interrupted, or met an episode that never ends; what there was by then is returned."""


def learn(
    student: Any, rollouts: Rollouts, imitation: Imitation, rounds: int, steps: int, bar: tqdm[Any]
) -> None:
    """Leave the best of the students of all rounds in ``student``.

    Raises, warns:
        As :func:`lipsrl.distill`.
    """
    policy = student.policy
    best: dict[str, Any] | None = None
    best_returns: NDArray[np.float64] = np.empty(0)
    shares = np.diff(np.linspace(0, steps, rounds + 2).round().astype(int))
    try:
        teacher_returns = rollouts.returns(rollouts.teacher)
        for number, share in enumerate(shares.tolist()):
            bar.set_description(f"round {number} of {rounds}")
            imitation.add(
                *(
                    rollouts.collect(rollouts.student(student), rollouts.per_round)
                    if number
                    else rollouts.collect(rollouts.teacher, SHOWN)
                )
            )
            imitation.fit(share, bar.update)
            returns = rollouts.returns(rollouts.student(student))
            if best is None or returns.mean() >= best_returns.mean():
                best, best_returns = copy.deepcopy(policy.state_dict()), returns
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
    policy.set_training_mode(False)
    policy.load_state_dict(best)
    copy_to_targets(policy)
    _warn_of_collapse(best_returns, teacher_returns, policy.options.lipschitz_bound)


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
