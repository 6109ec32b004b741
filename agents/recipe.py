"""What an agent is: an SB3 algorithm, a policy, and hyperparameters per task."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from envs import Task, get_task
from lipsrl._validation import lookup, non_negative, positive_int
from lipsrl.layers import LAYERS
from lipsrl.regularizers import Regularizer


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of an algorithm on one task; shared by the plain agent and its Lipschitz twins.

    Attributes:
        timesteps: environment steps of a full training.
        n_envs: environments side by side.
        algorithm: keyword arguments of the SB3 class.
        policy: keyword arguments of every policy (``policy_kwargs``).
        max_episode_steps: episodes are truncated there in training, if not ``None``.
    """

    timesteps: int
    n_envs: int
    algorithm: dict[str, Any]
    policy: dict[str, Any]
    max_episode_steps: int | None = None


@dataclass(frozen=True)
class Lesson:
    """How a student is made of a trained teacher (:func:`lipsrl.distill`).

    Attributes:
        lipschitz_bound: K of the whole window, in units of what the policy receives; ``None``: half of the steepest
            slope that is found in the teacher.
        noise: greatest standard deviation of the white noise that it is shown, raw units.
        rounds, steps: of the distillation; ``None``: its own.
    """

    lipschitz_bound: float | None
    noise: float
    rounds: int = 12
    steps: int | None = None


@dataclass(frozen=True)
class Recipe:
    """A named agent.

    Attributes:
        name: key in ``AGENTS``.
        algorithm: SB3 class.
        policy: policy name, alias or class.
        layer: constraint, or ``None`` for the plain twin.
        settings: task name → hyperparameters.
        lipschitz_bound: task name → K, in units of what the policy receives.
        disturbance: task name → what the sensors go through in training, as ``parse_disturbance`` reads it.
        regularizers: task name → soft regularisers.
        final_bound: task name → K at the end of a training whose bound moves there exponentially.
        frames: observations that the policy sees at once.
        smoothing: task name → weight of the newest action in the moving average that it learns and acts behind.
        teacher: name of the agent that is trained in its place; this one is that agent's student.
        lessons: task name → how it is distilled from its teacher.
        certifiable: whether ``lipsrl.certify`` can say anything of the policy.
    """

    name: str
    algorithm: type[BaseAlgorithm]
    policy: str | type[BasePolicy]
    layer: str | None
    settings: dict[str, Settings]
    lipschitz_bound: dict[str, float] = field(default_factory=dict)
    disturbance: dict[str, str] = field(default_factory=dict)
    regularizers: dict[str, tuple[Regularizer, ...]] = field(default_factory=dict)
    final_bound: dict[str, float] = field(default_factory=dict)
    frames: int = 1
    smoothing: dict[str, float] = field(default_factory=dict)
    teacher: str | None = None
    lessons: dict[str, Lesson] = field(default_factory=dict)
    certifiable: bool = True

    def for_task(self, task: str) -> Settings:
        """Hyperparameters on ``task``; ``ValueError`` if this agent has none for it."""
        get_task(task)
        if task not in self.settings:
            raise ValueError(
                f"agent={self.name!r} has no hyperparameters for task={task!r}. "
                f"Accepted tasks: {', '.join(map(repr, sorted(self.settings)))}."
            )
        return self.settings[task]

    def with_layer(self, layer: str | None) -> Recipe:
        """The same agent with another constraint; itself for ``None``.

        Raises:
            ValueError: an unknown constraint, or a plain agent.
        """
        if layer is None or layer == self.layer:
            return self
        lookup("layer", layer, LAYERS)
        if self.layer is None:
            raise ValueError(
                f"agent={self.name!r} has no constraint that layer={layer!r} could replace. Use a Lipschitz agent such "
                "as 'ppo-sandwich'."
            )
        return replace(self, layer=layer)

    def with_history(self, history: int | None) -> Recipe:
        """The same agent that sees its ``history`` newest observations at once; itself for ``None``.

        Raises:
            ValueError: no integer > 0, or an agent whose network is made for another number.
        """
        if history is None or positive_int("history", history) == self.frames:
            return self
        if self.smoothing:
            raise ValueError(
                f"agent={self.name!r} averages its actions and sees one observation; leave history out."
            )
        if self.frames != 1 and self.teacher is None:
            raise ValueError(
                f"agent={self.name!r} is made for {self.frames} observations, not history={history}."
            )
        return replace(self, frames=history)

    def methods(self, task: str, scale: float = 1.0) -> list[dict[str, Any]]:
        """The soft regularisers on ``task`` as plain data, all their weights times ``scale``.

        Raises:
            ValueError: a scale that is no number >= 0, or without effect here.
        """
        methods = self.regularizers.get(task, ())
        non_negative("regularizer_scale", scale)
        if scale != 1.0 and not methods:
            raise ValueError(f"agent={self.name!r} has no soft regulariser whose weights could be scaled.")
        return [method.scaled(scale).plain() for method in methods]

    def policy_kwargs(
        self, task: Task, *, regularizer_scale: float = 1.0, **overrides: Any
    ) -> dict[str, Any]:
        """A fresh ``policy_kwargs`` dict (SB3's off-policy classes write into the one they are given).

        Raises:
            ValueError: Lipschitz options for a plain agent, or a scale for one without regularisers.
        """
        kwargs = copy.deepcopy(self.for_task(task.name).policy)
        methods = self.methods(task.name, regularizer_scale)
        if methods:
            kwargs["regularizers"] = methods
            if self.layer is None:
                kwargs["lipschitz_bound"] = math.inf  # SB3's own networks
        chosen = {key: value for key, value in overrides.items() if value is not None}
        if self.layer is None:
            if chosen:
                raise ValueError(
                    f"agent={self.name!r} is a plain SB3 agent and takes no {', '.join(sorted(chosen))}. "
                    "Use a Lipschitz agent such as 'ppo-sandwich'."
                )
            return kwargs
        lipschitz: dict[str, Any] = {"lipschitz_bound": self.lipschitz_bound[task.name], "layer": self.layer}
        # what the tables in docs/ were measured with; docs/pace.md has the policies' own default
        lipschitz["budget"] = "output"
        if LAYERS[self.layer].norm != "l2":
            lipschitz["norm"] = LAYERS[self.layer].norm
        return {**kwargs, **lipschitz, **chosen}

    def build(
        self, venv: VecEnv, task: Task, *, seed: int, verbose: int = 0, **overrides: Any
    ) -> BaseAlgorithm:
        """The untrained model on ``venv``.

        Args:
            overrides: ``lipschitz_bound``, ``layer``, …: replace the recipe's policy options where not ``None``.

        Raises:
            ValueError: a student, which has to be distilled from a trained teacher.
        """
        if self.teacher is not None:
            raise ValueError(
                f"agent={self.name!r} is a student of {self.teacher!r}: it is distilled, not built. Use "
                f"`python -m experiments.train --agent {self.name}`, or lipsrl.distill."
            )
        settings = self.for_task(task.name)
        return self.algorithm(
            self.policy,
            venv,
            policy_kwargs=self.policy_kwargs(task, **overrides),
            seed=seed,
            device="cpu",
            verbose=verbose,
            **copy.deepcopy(settings.algorithm),
        )
