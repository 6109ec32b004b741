"""The lowest return over several attacks: the number that a claim of robustness needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lipsrl._validation import unknown_name
from lipsrl.attacks._base import Attack
from lipsrl.attacks._environment import EnvLike
from lipsrl.attacks.constant_bias_attack import ConstantBiasAttack
from lipsrl.attacks.critic_attack import CriticAttack
from lipsrl.attacks.mad_attack import MADAttack
from lipsrl.attacks.random_attack import RandomAttack
from lipsrl.attacks.robust_sarsa_attack import RobustSarsaAttack

#: ε_train and λ of the scan of robust Sarsa: the upper ends of the literature's, where it was strongest on Pendulum
TRAIN_EPSILONS, WEIGHTS = (0.1, 0.3, 1.0), (1.0, 10.0)

#: what identifies a model at one strength
_MODEL = ["agent", "seed", "strength"]


class MinimumOverAttacks(Mapping[str, Attack]):
    """Several attacks, to be evaluated over whole episodes each, of which the worst counts.

    A mapping from names to attacks, which `lipsrl.evaluate` takes as its ``disturbances``: every model meets every
    attack in the same episodes, and :meth:`worst` then says which of them cost it most. The mean return under the
    worst attack is taken over the episodes by which it was chosen, so with few episodes it is biased downwards a
    little (to the attacker's favour).

    Args:
        attacks: attacks, or other instances of this class, whose members join; or a mapping from names to attacks.
            In a list an attack goes by the name of its family. None: random, MAD, critic and constant bias, of radius
            1 at no model.
        env: of the constant bias where ``attacks`` is None; None: the model's own.

    Raises:
        TypeError: something that is no attack.
        ValueError: none, or two of one name.

    Example:
        >>> from lipsrl.attacks import MADAttack, RandomAttack
        >>> attacks = MinimumOverAttacks([RandomAttack(None, 1.0), MADAttack(None, 1.0)])
        >>> list(attacks)
        ['random', 'mad']

        ``evaluation = lipsrl.evaluate(model, "Pendulum-v1", disturbances=attacks, strengths=(0.05, 0.1))``, then
        ``attacks.worst(evaluation.frame)``.
    """

    def __init__(
        self,
        attacks: Mapping[str, Attack] | Iterable[Attack | MinimumOverAttacks] | None = None,
        *,
        env: EnvLike | None = None,
    ) -> None:
        if attacks is None:
            members = [kind(None, 1.0) for kind in (RandomAttack, MADAttack, CriticAttack)]
            attacks = [*members, ConstantBiasAttack(None, 1.0, env=env)]
        elif env is not None:
            raise ValueError(
                "env belongs to the constant bias of attacks=None. Give it to the attacks themselves."
            )
        named: list[tuple[str, Any]] = []
        for member in [attacks] if isinstance(attacks, Mapping) else attacks:
            named += (
                list(member.items())
                if isinstance(member, Mapping)
                else [(getattr(member, "name", ""), member)]
            )
        for name, attack in named:
            if not isinstance(attack, Attack) or not isinstance(name, str):
                raise TypeError(
                    f"attacks must be lipsrl attacks, received {attack!r} under the name {name!r}."
                )
        names = [name for name, _ in named]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"attacks must be at least one, and each needs a name of its own, received {names}. Give a dict "
                "name -> attack to name two of one family."
            )
        self._attacks: dict[str, Attack] = dict(named)

    def worst(self, frame: pd.DataFrame) -> pd.DataFrame:
        """:func:`worst_attacks` of these attacks."""
        return worst_attacks(frame, list(self))

    def __getitem__(self, name: str) -> Attack:
        return self._attacks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._attacks)

    def __len__(self) -> int:
        return len(self._attacks)

    def __repr__(self) -> str:
        return f"MinimumOverAttacks({self._attacks!r})"


def worst_attacks(frame: pd.DataFrame, attacks: Iterable[str] | None = None) -> pd.DataFrame:
    """The attack with the lowest mean return, for each model at each strength.

    Args:
        frame: the table of an evaluation, episodes as rows.
        attacks: names of disturbances in it; None: all.

    Returns:
        ``agent, seed, strength, attack, return`` (the mean over episodes), ``n_episodes``; one row per model and
        strength > 0. Of equals the first counts. An attack under which an episode has no return (``nan``: the
        environment or the policy gave up) is worse than any other, and its mean is ``nan``.

    Raises:
        ValueError: an attack that is not in the table.
    """
    known = list(frame["disturbance"].unique())
    names = known if attacks is None else list(attacks)
    for name in names:
        if name not in known:
            raise unknown_name("attack", name, known)
    rows = frame[frame["disturbance"].isin(names) & (frame["strength"] > 0)]
    groups = rows.groupby([*_MODEL, "disturbance"], dropna=False, sort=False)["return"]
    # pandas' mean of a group leaves nan out
    means = groups.mean().where(groups.count() == groups.size()).to_frame("return")
    means["n_episodes"] = groups.size()
    means = means.reset_index().rename(columns={"disturbance": "attack"})
    harm = means.assign(lowest=means["return"].fillna(-np.inf))
    lowest = harm.groupby(_MODEL, dropna=False, sort=False)["lowest"].idxmin()
    return means.loc[lowest].reset_index(drop=True)


def minimum_rows(
    frame: pd.DataFrame, attacks: Iterable[str] | None = None, *, name: str = "minimum"
) -> pd.DataFrame:
    """The episodes of each model under its worst attack, as rows of one more disturbance.

    ``Evaluation(pd.concat([e.frame, minimum_rows(e.frame)]), e.metadata).summary()`` gives the minimum with its
    confidence interval.

    Args:
        frame, attacks: as of :func:`worst_attacks`.
        name: what the disturbance is called.

    Returns:
        Rows of ``frame``'s schema, at strengths > 0.

    Raises:
        ValueError: an attack that is not in the table, or a name that is.
    """
    if name in set(frame["disturbance"]):
        raise ValueError(f"name={name!r} is a disturbance of the table already. Choose another.")
    worst = worst_attacks(frame, attacks).rename(columns={"attack": "disturbance"})
    chosen = frame.merge(worst[[*_MODEL, "disturbance"]], on=[*_MODEL, "disturbance"])
    return chosen.assign(disturbance=name)[list(frame.columns)]


def robust_sarsa_scan(
    model: Any,
    epsilon: float,
    norm: str = "linf",
    *,
    train_epsilons: Iterable[float] = TRAIN_EPSILONS,
    weights: Iterable[float] = WEIGHTS,
    **options: Any,
) -> MinimumOverAttacks:
    """Robust Sarsa for every pair of ε_train and λ, of which the worst counts, as in Zhang et al. 2020.

    Args:
        model, epsilon, norm: as of :class:`~lipsrl.attacks.RobustSarsaAttack`.
        train_epsilons, weights: the grid; three by two if not given.
        options: further arguments of :class:`~lipsrl.attacks.RobustSarsaAttack`, ``env`` among them.

    Example:
        >>> scan = robust_sarsa_scan(None, 1.0, env="Pendulum-v1", train_epsilons=[0.1], weights=[0.1, 1])
        >>> list(scan)
        ['robust-sarsa(0.1, 0.1)', 'robust-sarsa(0.1, 1)']
    """
    radii, factors = list(train_epsilons), list(weights)
    return MinimumOverAttacks(
        {
            f"{RobustSarsaAttack.name}({radius:g}, {factor:g})": RobustSarsaAttack(
                model, epsilon, norm, train_epsilon=radius, weight=factor, **options
            )
            for radius in radii
            for factor in factors
        }
    )
