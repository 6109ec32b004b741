from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lipsrl._files import check_writable
from lipsrl.attacks import ATTACKS
from lipsrl.disturbances import DISTURBANCES
from lipsrl.evaluation._compare import compare
from lipsrl.evaluation._curves import curve_numbers
from lipsrl.evaluation._files import metadata_path, read, write
from lipsrl.evaluation._merge import merge
from lipsrl.evaluation._schema import conform
from lipsrl.evaluation._summary import SUMMARIZED, summarize
from lipsrl.evaluation._words import environment_in_words


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A table of episodes, and how it came about.

    One row per agent × training seed × disturbance × strength × episode, schema version 2:

    ========================  =======  ======================================================================
    column                    type     meaning, unit
    ========================  =======  ======================================================================
    ``agent``                 str      name of the agent
    ``seed``                  Int64    training seed; ``<NA>`` if unknown
    ``disturbance``           str      name of the disturbance (``"none"`` if the evaluation had none)
    ``strength``              float64  multiplier of the disturbance; 0 is clean
    ``episode``               int64    number of the episode: the same start and noise for every agent
    ``env_seed``              int64    seed that the environment was reset with
    ``return``                float64  undiscounted sum of raw rewards
    ``length``                int64    steps
    ``action_fluctuation``    float64  mean ‖a_t − a_{t−1}‖₂, action units per step
    ``total_variation``       float64  Σ ‖a_t − a_{t−1}‖₁, action units
    ``jerk``                  float64  mean ‖Δ³a‖₂, action units per step³
    ``spectral_smoothness``   float64  Sm of CAPS, scaling ``"normalized"``, action units
    ``high_frequency_ratio``  float64  share of the action's power above half of Nyquist
    ``saturation``            float64  share of unclipped actions at or beyond the action limits
    ``action_sensitivity``    float64  mean ‖μ(o+δ) − μ(o)‖₂/‖δ‖₂ over the visited clean observations o,
                                       action units per raw observation unit
    ``nonfinite``             str      what ended the episode because it was not finite: ``"observation"``,
                                       ``"disturbed_observation"``, ``"action"``, ``"reward"``; else ``""``
    ========================  =======  ======================================================================

    All but saturation are of the action that the environment received; the definitions are in
    `lipsrl.metrics`. A metric that an episode is too short for is ``nan``. For discrete actions
    fluctuation and total variation count changes, the others are ``nan``. The sensitivity is ``nan`` too for
    policies that see images, Dicts or more than the observation of the moment. Of an episode that ended at a value
    that was not finite only the length is known, and every summary over it is ``nan``; to judge the rest alone,
    leave it out: ``Evaluation(e.frame[e.frame["nonfinite"] == ""], e.metadata)``.

    Args:
        frame: the table; it is checked against the schema and copied.
        metadata: JSON-ready: ``schema_version``, ``env``, ``env_spec``, ``max_episode_steps`` (the most steps
            of an episode by any ``TimeLimit``, or None), ``agents`` (with their ``fingerprint``),
            ``disturbances`` (their ``to_dict``), ``strengths``, ``n_episodes``, ``seed``, ``floor``,
            ``sensitivity_std``, ``n_envs``, ``n_workers``, ``env_steps``, ``resumed_episodes``, ``seconds``,
            ``created``, ``versions``; of a concatenation also ``parts``, the metadata of each.

    Raises:
        ValueError: the frame does not follow the schema.
    """

    frame: pd.DataFrame
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", conform(self.frame))

    @property
    def attacks(self) -> list[str]:
        """Names of the disturbances that look at the policy, in the order of the table.

        By their descriptions in the metadata; where there is none, by a name that attacks alone have (``"bias"`` is a
        disturbance's too).
        """
        known = self.metadata.get("disturbances") or {}
        names = [str(name) for name in self.frame["disturbance"].unique()]
        return [name for name in names if _is_attack(name, known.get(name))]

    @staticmethod
    def check_path(path: str | Path) -> Path:
        """``path`` if `save` can write there; to be asked before a long measurement.

        Raises:
            ValueError: another suffix than ``.parquet``, or no place to write to.
        """
        check_writable(path)
        return _parquet(path)

    def save(self, path: str | Path) -> Path:
        """Write ``path`` (``.parquet``) and the metadata beside it (``.json``); returns the path.

        The Parquet file holds the rows only: the same rows give the same bytes. It can be read by anything,
        such as ``pandas.read_parquet``.

        Raises:
            ValueError: another suffix.
        """
        target = _parquet(path)
        write(target, self.frame, self.metadata)
        return target

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """What `save` wrote.

        Raises:
            FileNotFoundError: one of the two files is missing.
            ValueError: another suffix, another schema version, or no evaluation.
        """
        return cls(*read(_parquet(path)))

    @classmethod
    def concat(cls, evaluations: Iterable[Evaluation]) -> Evaluation:
        """Several evaluations of one task as one. An episode that several have measured alike counts once.

        Raises:
            ValueError: none given, another environment, seed, sensitivity or meaning of an agent's or disturbance's
                name, or an episode that two of them measured differently.
        """
        parts = list(evaluations)
        return cls(*merge([p.frame for p in parts], [p.metadata for p in parts]))

    def summary(
        self,
        columns: Sequence[str] = SUMMARIZED,
        *,
        confidence: float = 0.95,
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> pd.DataFrame:
        """One row per agent × disturbance × strength, with bootstrap confidence intervals.

        With two training seeds or more, the estimate is the IQM over seeds of each seed's mean over episodes,
        and the interval resamples seeds: it is about the algorithm. With one seed it is the mean over
        episodes, and the interval resamples episodes: it is about that one model. The column ``resampled`` says which.

        Args:
            columns: measured columns to summarise.
            confidence, n_resamples, seed: as `lipsrl.statistics.bootstrap_ci`.

        Returns:
            ``agent, disturbance, strength, n_seeds, n_episodes`` (in all), ``n_nonfinite`` (of these, ended at a
            value that was not finite), ``resampled`` (``"seeds"`` or ``"episodes"``) and, for each column c,
            ``c, c_low, c_high``. Episodes where c is undefined (``nan``) are left out of it; ``nan`` where there
            are no others, and where an episode was not finite.
        """
        return summarize(self.frame, columns, confidence=confidence, n_resamples=n_resamples, seed=seed)

    def normalized_auc(
        self,
        floor: float | None = None,
        *,
        confidence: float = 0.95,
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> pd.DataFrame:
        """How much of the return survives the disturbance, one row per agent × disturbance.

        The curve R(σ) is that of `summary`; whole curves of seeds (or episodes) are resampled.

        Args:
            floor: the return that counts as nothing; None takes that of the metadata.
            confidence, n_resamples, seed: as `summary`.

        Returns:
            ``agent, disturbance, n_seeds, resampled, floor`` and ``normalized_auc, breakdown_strength`` with
            ``_low`` and ``_high``, as defined in `lipsrl.metrics`.

        Raises:
            ValueError: no floor, strengths without 0 or only one of them, or an agent that lacks some of
                them.
        """
        chosen = self.metadata.get("floor") if floor is None else floor
        if chosen is None:
            raise ValueError(
                "floor is needed: the return that counts as nothing, such as random_return(env). Give it "
                "here or to evaluate(floor=...)."
            )
        return curve_numbers(
            self.frame, float(chosen), confidence=confidence, n_resamples=n_resamples, seed=seed
        )

    def compare(
        self,
        a: str,
        b: str,
        column: str = "return",
        *,
        confidence: float = 0.95,
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Agent a against agent b, one row per disturbance × strength, paired by training seed and episode.

        With two common training seeds or more the pairs are seeds (their means over common episodes;
        statistic: IQM), else episodes (statistic: mean). Where each agent has a single model, its
        training seeds need not be the same.

        Args:
            a, b: names of agents.
            column: a measured column.
            confidence, n_resamples, seed: as `summary`.

        Returns:
            ``disturbance, strength, column, a, b`` (the two statistics), ``difference`` (a − b) and ``ratio``
            (a / b; of use where the column has a natural zero) with ``_low`` and ``_high``, ``n_pairs``,
            ``resampled``, ``n_unpaired``: the episodes of either agent that have no partner and are left out, and
            ``n_nonfinite``: the pairs with an episode that was not finite, which make the numbers ``nan``.

        Raises:
            ValueError: an unknown agent or column, or nothing in common.
        """
        return compare(self.frame, a, b, column, confidence=confidence, n_resamples=n_resamples, seed=seed)

    @property
    def fingerprints(self) -> dict[tuple[str, int | None], str | None]:
        """`model_fingerprint` of each (agent, training seed) as it was evaluated; None where it is not known."""
        return {(a["agent"], a.get("seed")): a.get("fingerprint") for a in self.metadata.get("agents", [])}

    def __repr__(self) -> str:
        agents = ", ".join(self.frame["agent"].unique())
        task = environment_in_words(self.metadata) or "an unknown task"
        return f"Evaluation({len(self.frame)} episodes of {agents} on {task})"


def _parquet(path: str | Path) -> Path:
    target = Path(path)
    if target.suffix != ".parquet":
        raise ValueError(
            f"path must end in .parquet (the metadata goes to {metadata_path(target).name!r} beside it), "
            f"received {str(path)!r}."
        )
    return target


def _is_attack(name: str, description: Any) -> bool:
    if not isinstance(description, Mapping):
        family = name.partition("(")[0]
        return family in ATTACKS and family not in DISTURBANCES
    parts = description.get("disturbances", ())  # of what is composed
    return "epsilon" in description or any(_is_attack("", part) for part in parts)
