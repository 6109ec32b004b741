"""The agents of `experiments.memory`: students of a teacher, and what users would train in its place."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

import lipsrl
from agents import Recipe
from agents.students import LESSONS, WINDOW
from envs import Task
from lipsrl._validation import lookup
from lipsrl.attacks import MADAttack
from lipsrl.distillation import fine_tune
from lipsrl.disturbances import Bias, Compose, Delay, Disturbance, Dropout, GaussianNoise, Mixture, sensor_std
from lipsrl.wrappers import VecObservationDisturbance


@dataclass(frozen=True)
class Study:
    """What the agents of one task are made and measured with.

    Attributes:
        bound: K of the window students, of the whole window, in units of what the policy receives.
        memoryless_bound: K of the student that sees one observation.
        noise: greatest standard deviation of the white noise that students are shown, raw units.
        shown_epsilon: greatest displacement by bias and by attack that they are shown, in units of the policy.
        epsilons: of the attacks that all are measured under, l-inf, in those units.
        rounds, steps: of the distillation; None: `lipsrl.distill`'s own.
        attacked_steps: of the student that learns under attack.
        fine_tune_steps: environment steps of reinforcement learning from that student on.
        timesteps: of every training, the teacher's and those beside it; None: the recipe's own.
        episodes: per agent, disturbance and strength.
    """

    bound: float
    memoryless_bound: float
    noise: float
    shown_epsilon: float
    epsilons: tuple[float, ...]
    rounds: int = 12
    steps: int | None = None
    attacked_steps: int = 24_000
    fine_tune_steps: int = 120_000
    timesteps: int | None = None
    episodes: int = 100


def _study(
    task: str, memoryless: float, shown_epsilon: float, epsilons: tuple[float, ...], **more: Any
) -> tuple[str, Study]:
    """K and noise of the window students are those of the agents ``-window``."""
    lesson = LESSONS[task]
    assert lesson.lipschitz_bound is not None
    return task, Study(
        lesson.lipschitz_bound, memoryless, lesson.noise, shown_epsilon, epsilons, rounds=lesson.rounds,
        steps=lesson.steps, **more,
    )  # fmt: skip


STUDIES = dict(
    [
        _study("pendulum", 6.0, 0.25, (0.1, 0.2, 0.3)),
        _study("inverted-double-pendulum", 3.0, 0.05, (0.02, 0.05)),
        _study("reacher", 0.4, 0.05, (0.05, 0.1)),
        _study("hopper", 3.0, 0.075, (0.05, 0.075, 0.1), fine_tune_steps=300_000, episodes=50),
        _study("lunar-lander-continuous", 6.0, 0.05, (0.02, 0.05), episodes=50),
        # a fifth of the zoo's steps: the pole stands after 100,000
        _study("inverted-pendulum", 0.3, 0.5, (0.5, 1.0), timesteps=200_000, episodes=50),
    ]
)
#: Observations in a window.
HISTORY = WINDOW
#: Share of the action before in the smoother, and of the measurement in the filter.
SMOOTHING, TRUST = 0.4, 0.5

ATTACKED, FINE_TUNED, DROPOUT = "window-attacked", "fine-tuned", "window-dropout"
FILTERED = ("smoothed", "filtered")
REGULARISED, NOISY = "regularised", "noise-trained"
#: name → what it is
AGENTS = {
    "teacher": "the stock agent",
    "smoothed": "the teacher, its actions averaged (EMA)",
    "filtered": "the teacher behind a constant-velocity filter of each sensor",
    "scratch": "the teacher's Sandwich twin, trained under a bound from scratch",
    REGULARISED: "the teacher's twin with the soft method that earns most under white noise on Pendulum",
    NOISY: "the teacher's recipe, trained in white noise of the level before the strongest, from scratch",
    "stacked": "PPO behind VecFrameStack, trained in the white noise from scratch",
    "recurrent": "RecurrentPPO of sb3-contrib, trained in the white noise from scratch; no certificate",
    "memoryless": "student of one observation",
    "window": "student of a window",
    "window-free": "student of a window without a bound",
    ATTACKED: "student of a window that was shown noise, biases and attacks",
    FINE_TUNED: "that student, tuned by PPO in the same mixture under the same bound",
    DROPOUT: "student of a window that was shown white noise, dropout and delay",
}


def shown(study: Study, statistics: VecNormalize | None, agent: str) -> Disturbance:
    """What students learn in: white noise; beside it attacks and a bias (2 : 2 : 1), or faults (1 : 1)."""
    white = GaussianNoise(study.noise)
    if agent == DROPOUT:
        # a held reading repeats the one before it exactly, so that the window itself says what is missing
        return Mixture([white, Compose([white, Dropout(0.2), Delay(1)])])
    if agent not in (ATTACKED, FINE_TUNED):
        return white
    bias = Bias(study.shown_epsilon)
    if statistics is not None:
        bias = bias.scale_by_std(sensor_std(statistics))
    return Mixture([white, bias, MADAttack(None, study.shown_epsilon)], weights=[2, 1, 2])


def lesson(study: Study, agent: str) -> dict[str, Any]:
    """The settings of a study that an agent is made with."""
    if agent in LEARNERS:
        return {"noise": study.noise, "timesteps": study.timesteps}
    own = {"noise": study.noise, "rounds": study.rounds, "steps": study.steps}
    if agent != "window-free":
        own["bound"] = study.memoryless_bound if agent == "memoryless" else study.bound
    if agent in (ATTACKED, FINE_TUNED):
        own |= {"steps": study.attacked_steps, "shown_epsilon": study.shown_epsilon}
    return own | ({"fine_tune_steps": study.fine_tune_steps} if agent == FINE_TUNED else {})


def uninterrupted(work: Callable[[], Any]) -> Any:
    """What ``work`` returns; ``KeyboardInterrupt`` where it kept only the best so far: that is no result."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = work()
    if any(issubclass(warning.category, lipsrl.distillation.InterruptedWarning) for warning in said):
        raise KeyboardInterrupt
    return result


def student(
    model: BaseAlgorithm, statistics: VecNormalize | None, task: Task, study: Study, agent: str, seed: int
) -> BaseAlgorithm:
    """A student of a teacher."""
    bounds = {"memoryless": study.memoryless_bound, "window-free": math.inf}
    found: BaseAlgorithm = uninterrupted(
        lambda: lipsrl.distill(
            model, task.make, lipschitz_bound=bounds.get(agent, study.bound), vec_normalize=statistics, seed=seed,
            history=None if agent == "memoryless" else HISTORY, disturbance=shown(study, statistics, agent),
            strength=(0.0, 1.0), rounds=study.rounds,
            steps=study.attacked_steps if agent == ATTACKED else study.steps,
        )
    )  # fmt: skip
    return found


def fine_tuned(
    model: BaseAlgorithm, statistics: VecNormalize | None, task: Task, study: Study, seed: int
) -> BaseAlgorithm:
    """The student that was shown attacks, tuned in them; the same where nothing on the way was better."""
    uninterrupted(
        lambda: fine_tune(
            model, task.make, disturbance=shown(study, statistics, FINE_TUNED), timesteps=study.fine_tune_steps,
            vec_normalize=statistics, seed=seed,
        )
    )  # fmt: skip
    return model


#: Recipe of the teacher → its twin with a soft method (SAC has no loss on log π, the winner's).
SOFT_TWINS = {"ppo": "ppo-lcp", "sac": "sac-caps"}
#: Task → what trials chose of that method's published weights (`experiments.regularizers`); 1 where there were none.
SOFT_SCALES = {
    ("ppo", "pendulum"): 0.1,
    ("ppo", "inverted-double-pendulum"): 0.3,
    ("ppo", "lunar-lander-continuous"): 0.1,
}


def trained_recipe(agent: str, teacher: str, task: str) -> list[str] | None:
    """Options of `experiments.train` for agents that it trains; ``None`` for others.

    Raises:
        ValueError: that teacher has no such twin.
    """
    if agent == "teacher":
        return [teacher]
    if agent == "scratch":
        return [f"{teacher}-sandwich", "--budget", "growing"]
    if agent == NOISY:
        return [f"{teacher}-noise"]
    if agent != REGULARISED:
        return None
    scale = SOFT_SCALES.get((teacher, task), 1.0)
    return [lookup("teacher", teacher, SOFT_TWINS), "--regularizer-scale", f"{scale:g}"]


def noisy(recipe: Recipe, task: Task, study: Study) -> VecEnv:
    """The teacher's training environments, in noise of random strength."""
    settings = recipe.for_task(task.name)
    venv: VecEnv = DummyVecEnv([lambda: Monitor(task.make())] * settings.n_envs)
    venv = VecObservationDisturbance(venv, GaussianNoise(study.noise), strength=(0.0, 1.0))
    if task.normalize_observation or task.normalize_reward:
        venv = VecNormalize(
            venv, gamma=settings.algorithm.get("gamma", 0.99), norm_obs=task.normalize_observation,
            norm_reward=task.normalize_reward,
        )  # fmt: skip
    return venv


def stacked(recipe: Recipe, task: Task, study: Study, seed: int) -> BaseAlgorithm:
    """The teacher's own recipe behind a frame stack."""
    model = recipe.build(VecFrameStack(noisy(recipe, task, study), HISTORY), task, seed=seed)
    model.learn(study.timesteps or recipe.for_task(task.name).timesteps)
    model.frame_stack = HISTORY  # type: ignore[attr-defined]
    return model


def recurrent(recipe: Recipe, task: Task, study: Study, seed: int) -> BaseAlgorithm:
    """The teacher's hyperparameters and network behind an LSTM of 64 units."""
    from sb3_contrib import RecurrentPPO

    settings = recipe.for_task(task.name)
    model = RecurrentPPO(
        "MlpLstmPolicy", noisy(recipe, task, study), seed=seed, device="cpu", **settings.algorithm,
        policy_kwargs={**settings.policy, "lstm_hidden_size": 64},
    )  # fmt: skip
    return model.learn(study.timesteps or settings.timesteps)


#: Agents that learn from scratch, without a teacher.
LEARNERS: dict[str, Callable[[Recipe, Task, Study, int], BaseAlgorithm]] = {
    "stacked": stacked,
    "recurrent": recurrent,
}

#: Those, and what `experiments.train` trains.
ALONE = ("scratch", REGULARISED, NOISY, *LEARNERS)
