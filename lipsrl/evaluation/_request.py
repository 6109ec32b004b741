"""Reading what `evaluate` is asked for: who, under which disturbances, at which strengths."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl._episodes import check_limit
from lipsrl._validation import is_real, lookup, positive_int
from lipsrl.actors.normalization import normalization_of
from lipsrl.attacks._aim import holds_attack
from lipsrl.disturbances import Disturbance, parse_disturbance
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import Env
from lipsrl.evaluation._history import refuse_history, sensors
from lipsrl.evaluation._normalization import by_model
from lipsrl.evaluation._observations import is_vector
from lipsrl.evaluation._seeding import check_seed

DisturbanceLike: TypeAlias = Disturbance | str
DisturbancesLike: TypeAlias = (
    DisturbanceLike
    | Sequence[DisturbanceLike | Mapping[str, DisturbanceLike]]
    | Mapping[str, DisturbanceLike]
    | None
)

#: what the table calls the disturbance of an evaluation without one
NO_DISTURBANCE = "none"

_ON_NONFINITE = {"raise": False, "record": True}


@dataclass(frozen=True)
class Contestant:
    """One trained model: the key under which it was given, its agent's name, its training seed if known."""

    key: Any
    agent: str
    seed: int | None
    model: Any

    @property
    def label(self) -> str:
        return f"model {self.agent!r}" + ("" if self.seed is None else f" (training seed {self.seed})")


@dataclass(frozen=True)
class Request:
    """The arguments of `evaluate`, read and checked as far as they can be without an environment.

    Attributes:
        contestants: the models.
        normalizations, frame_stacks: of each of them; None: none, and as in its own environment.
        disturbances: by name.
        records_actions: whether a nan action ends its episode, instead of the evaluation.

    The others are as given.
    """

    contestants: list[Contestant]
    normalizations: list[VecNormalize | None]
    frame_stacks: list[int | None]
    disturbances: dict[str, Disturbance | None]
    strengths: list[float]
    n_episodes: int
    n_envs: int
    n_workers: int
    seed: int
    sensitivity_std: ArrayLike
    floor: float | None
    records_actions: bool
    max_episode_steps: int | None

    @classmethod
    def read(
        cls,
        models: Any,
        disturbances: DisturbancesLike,
        strengths: Iterable[float] | float,
        *,
        n_episodes: int,
        n_envs: int,
        n_workers: int,
        seed: int,
        vec_normalize: Any,
        frame_stack: Any,
        sensitivity_std: ArrayLike,
        floor: float | None,
        on_nonfinite_action: str,
        max_episode_steps: int | None,
    ) -> Request:
        """See `evaluate`.

        Raises:
            ValueError, TypeError: an argument that is none of those accepted.
        """
        contestants = read_models(models)
        named = read_disturbances(disturbances)
        grid = read_strengths(strengths, disturbances)
        n_episodes, n_envs = positive_int("n_episodes", n_episodes), positive_int("n_envs", n_envs)
        n_workers, seed = positive_int("n_workers", n_workers), check_seed(seed)
        if floor is not None and not np.isfinite(floor):
            raise ValueError(f"floor must be a finite return or None, received {floor!r}.")
        records_actions = lookup("on_nonfinite_action", on_nonfinite_action, _ON_NONFINITE)
        keys = [(c.agent, c.key) for c in contestants]
        normalizations = by_model(vec_normalize, keys)
        stacks = by_model(frame_stack, keys, "frame_stack")
        return cls(
            contestants,
            [normalization_of(c.model, normalizations[c.key]) for c in contestants],
            [stacks[c.key] for c in contestants],
            named,
            grid,
            n_episodes,
            n_envs,
            n_workers,
            seed,
            sensitivity_std,
            None if floor is None else float(floor),
            records_actions,
            check_limit(max_episode_steps),
        )


def read_models(models: Any) -> list[Contestant]:
    """One contestant per model.

    Raises:
        ValueError: an empty dict, a key of another form, or two models of one agent and training seed.
    """
    if not isinstance(models, Mapping):
        name = type(models).__name__ if isinstance(models, BaseAlgorithm) else "policy"
        models = {name: models}
    if not models:
        raise ValueError("models must hold at least one model, received an empty dict.")
    contestants = []
    for key, model in models.items():
        agent, seed = key if isinstance(key, tuple) and len(key) == 2 else (key, getattr(model, "seed", None))
        number = int(seed) if isinstance(seed, numbers.Integral) and not isinstance(seed, bool) else None
        if not isinstance(agent, str) or not agent or (isinstance(key, tuple) and number is None):
            raise ValueError(
                f"models must be named by str or by (str, training seed), received the key {key!r}."
            )
        contestants.append(Contestant(key, agent, number, model))
    identities = [(c.agent, c.seed) for c in contestants]
    repeated = [i for i in identities if identities.count(i) > 1]
    if repeated:
        raise ValueError(f"models has two of agent {repeated[0][0]!r} with training seed {repeated[0][1]}.")
    return contestants


def read_disturbances(disturbances: DisturbancesLike) -> dict[str, Disturbance | None]:
    """By name; a list goes by the names of the families, or by the texts where two are of one family.

    The members of a mapping in a list join under their own names.

    Raises:
        TypeError: something that is no `Disturbance` nor the text of one.
        ValueError: none, two of one name, or a text that cannot be read (see `parse_disturbance`).
    """
    if disturbances is None:
        return {NO_DISTURBANCE: None}
    named: list[tuple[Any, Any]]
    if isinstance(disturbances, Mapping):
        named = [(name, _read(given)) for name, given in disturbances.items()]
    else:
        several: list[Any] = (
            list(disturbances)
            if isinstance(disturbances, Sequence) and not isinstance(disturbances, str)
            else [disturbances]
        )
        read = [_read(given) for given in several]
        families = [getattr(d, "name", "") for d in read]
        named = []
        for given, family, d in zip(several, families, read, strict=True):
            if isinstance(given, Mapping):  # its members join: MinimumOverAttacks beside others
                named += [(name, _read(member)) for name, member in given.items()]
            else:
                named.append((given if isinstance(given, str) and families.count(family) > 1 else family, d))
    for name, disturbance in named:
        if not isinstance(disturbance, Disturbance) or not isinstance(name, str) or not name:
            raise TypeError(
                "disturbances must be a Disturbance, a text such as 'gaussian:0.1', a list of them or a dict "
                f"name -> Disturbance, received {disturbance!r} under the name {name!r}."
            )
    names = [name for name, _ in named]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"disturbances must be at least one, and each needs a name of its own, received {names}. Give a "
            "dict name -> Disturbance to name two of one family, None for clean episodes."
        )
    return dict(named)


def _read(given: Any) -> Any:
    return parse_disturbance(given) if isinstance(given, str) else given


def read_disturbance(disturbance: DisturbanceLike | None) -> Disturbance | None:
    """One disturbance, or none.

    Raises:
        TypeError, ValueError: as :func:`read_disturbances`.
    """
    return None if disturbance is None else next(iter(read_disturbances(disturbance).values()))


def read_strengths(strengths: Iterable[float] | float, disturbances: DisturbancesLike) -> list[float]:
    """As floats, in the order given; one number stands for itself.

    Raises:
        ValueError: none, one that is negative, not finite or given twice, or one above 0 without a
            disturbance.
    """
    given = list(strengths) if isinstance(strengths, Iterable) else [strengths]
    if not given or not all(is_real(s) and math.isfinite(s) and s >= 0 for s in given):
        raise ValueError(f"strengths must be finite numbers >= 0, at least one, received {strengths!r}.")
    grid = [float(s) + 0.0 for s in given]
    if len(set(grid)) < len(grid):
        raise ValueError(f"strengths must all differ, received {given}.")
    if disturbances is None and grid != [0.0]:
        raise ValueError(f"strengths={given} multiply a disturbance, but disturbances is None.")
    return grid


def check_sensitivity_std(std: ArrayLike, env: Env) -> None:
    """``ValueError`` unless ``std`` displaces the environment's observations."""
    scale = np.asarray(std, dtype=np.float64)
    if (
        scale.shape not in ((), env.observation_space.shape)
        or not (np.isfinite(scale) & (scale >= 0)).all()
        or not scale.any()
    ):
        raise ValueError(
            "sensitivity_std must be a number > 0, or one number >= 0 per sensor "
            f"{env.observation_space.shape}, not all zero; received {std!r}."
        )


def check_disturbances(
    disturbances: Iterable[Disturbance | None], env: Env, controllers: Sequence[Controller]
) -> None:
    """``ValueError`` unless each applies to the environment's observations, and an attack to every agent."""
    space = env.observation_space
    for disturbance in disturbances:
        if disturbance is not None:
            if not is_vector(space):
                raise ValueError(
                    f"disturbances act on vectors, a Box of shape (dim,), but the observations of {env} are {space}. "
                    "Disturb them inside the environment (a factory with an ObservationDisturbance before the wrapper "
                    "that stacks or renders), or flatten them."
                )
            assert isinstance(space, spaces.Box)
            disturbance.check_dimension(sensors(env))
            if holds_attack(disturbance):
                refuse_history(env, "an attack")
            if not np.issubdtype(space.dtype, np.floating):
                raise ValueError(
                    f"disturbances need floating-point observations, those of {env} are {space.dtype}. "
                    "Convert them (gymnasium.wrappers.DtypeObservation)."
                )
            for controller in controllers:
                controller.disturbance_for_model(disturbance)
