"""``lipsrl certify``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import tyro
from gymnasium import spaces
from numpy.typing import NDArray
from rich.console import Console

from lipsrl._commands._frames import frames_said
from lipsrl._commands._numbers import one_or_many, read_states
from lipsrl._commands._source import Source, in_environment, open_source
from lipsrl._files import write_text
from lipsrl.actors import ActorParts, actor_parts
from lipsrl.certificates import (
    ActionDivergence,
    Certificate,
    FeasibilityFloor,
    MarginCertificate,
    ReturnQuantileCertificate,
    action_divergence,
    certify,
    feasibility_floor,
    feasibility_warnings,
    margin_certificate,
    policy_units,
    product_bound,
    return_quantile_certificate,
    suggestion_for,
    tightest_bound,
    visited_observations,
)
from lipsrl.certificates.deterministic._rendering import labelled
from lipsrl.feasibility.policy import memory_in_words

#: Clean episodes, if --episodes does not say: every return is one sample, but an episode has many states.
RETURN_EPISODES, MARGIN_EPISODES = 200, 10


@dataclass
class Certify:
    """Compute bounds of the Lipschitz constant: how far the action can move per unit of the observation (raw units)."""

    path: tyro.conf.Positional[Path]
    """Run folder, or any SB3 zip."""
    vec_normalize: str = "auto"
    """File with the VecNormalize statistics of the model. auto: use the file that SB3, rl-zoo or lipsrl saved beside
    it. none: the model was trained without VecNormalize."""
    trust: bool = False
    """Also open files that contain custom code, and run this code. Use it only for files from a source that you
    trust."""
    norm: str = "l2"
    """Norm of observation and action changes: l2, linf or l1."""
    method: str = "auto"
    """Method of the upper bound: auto (the smallest of all), lipsdp, eclipse-fast, product or construction."""
    sensor_scale: list[float] = field(default_factory=list)
    """Unit of each sensor, for instance its tolerance in the datasheet: one number per sensor, or one for all."""
    frame_stack: int | None = None
    """Number of stacked frames of the policy in a zip file. The bound is per unit of error in each frame."""
    states: Path | None = None
    """File with raw observations, one per row (.npy, or .csv without a header). Used by --radius and --epsilon."""
    radius: float | None = None
    """Also compute a local bound within this l2 distance of each row of --states."""
    epsilon: float | None = None
    """Also certify against sensor errors of this size (raw units). For discrete actions: where the greedy action cannot
    change. For PPO and A2C with continuous actions: KL, total variation and W2 of the sampled action."""
    env: str | None = None
    """Gymnasium id, needed by --equilibrium, and for clean episodes by --epsilon. For discrete actions, the states of
    these episodes are certified. For PPO and A2C with continuous actions, the probability of their returns under attack
    is bounded."""
    env_kwargs: list[str] = field(default_factory=list)
    """Arguments of the environment, KEY:VALUE, such as g:9.81."""
    episodes: int | None = None
    """Number of clean episodes. Default: 200 for returns, 10 for states."""
    horizon: int | None = None
    """Largest number of steps of an episode, if the environment has no time limit."""
    seed: int = 0
    """Random seed of the clean episodes."""
    equilibrium: list[float] = field(default_factory=list)
    """State of --env (MuJoCo: qpos and qvel) that the policy should hold. Prints the smallest gain that can hold it."""
    equilibrium_action: list[float] = field(default_factory=list)
    """Action that holds the equilibrium. Default: zeros."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON instead of text."""
    output: Path | None = None
    """File for the JSON."""

    def run(self, console: Console) -> None:
        self._check()
        states = None if self.states is None else read_states(self.states)
        source = self._opened()
        self.frame_stack = frames_said(self.frame_stack, source.frame_stack)
        if states is not None and self.radius is None and isinstance(source.model.action_space, spaces.Box):
            raise ValueError(
                "states with epsilon are for discrete actions, whose margins are certified there. For the continuous "
                "actions of this agent also pass --radius R, or leave --states out."
            )
        parts = actor_parts(source.model)  # read once for all that is said of it
        certificate = certify(
            source.model,
            norm=self.norm,
            method=self.method,
            vec_normalize=source.normalization,
            sensor_scale=one_or_many(self.sensor_scale),
            frame_stack=self.frame_stack,
            states=states if self.radius is not None else None,
            radius=self.radius,
            _parts=parts,
        )
        more: dict[str, Any] = {}
        if self.epsilon is not None and isinstance(source.model.action_space, spaces.Box):
            more |= self._sampled(source, self.epsilon, parts)
        elif self.epsilon is not None:
            more["margin"] = self._margin(source, states, parts)
        if self.equilibrium:
            more["feasibility"] = self._feasibility(source, certificate, parts)
        data = certificate.to_dict() | {name: found.to_dict() for name, found in more.items()}
        text = json.dumps(data, indent=2, sort_keys=True)
        if self.output is not None:
            write_text(self.output, text + "\n")
        if self.as_json:
            print(text)
            return
        console.print(certificate, highlight=False)
        for found in more.values():
            console.print()
            console.print(labelled(str(found)), highlight=False)
        if certificate.promise is None and certificate.norm == "l2":
            suggestion = suggestion_for(certificate.network.lower_bound, source.model)
            console.print(labelled(f"\n  suggestion   {suggestion}"), highlight=False)
        if "margin" in more:
            console.print(labelled(self._share(more["margin"])), highlight=False)

    def _check(self) -> None:
        """Refuse options that would be ignored or misread.

        Raises:
            ValueError: says which.
        """
        if self.radius is not None and self.states is None:
            raise ValueError("radius needs states: pass --states FILE with the raw observations.")
        if self.states is not None and self.radius is None and self.epsilon is None:
            raise ValueError(
                "states needs another option: also pass --radius R (local bounds) or --epsilon E (margins)."
            )
        of_episodes = {"episodes": self.episodes, "horizon": self.horizon, "seed": self.seed or None}
        idle = next((name for name, value in of_episodes.items() if value is not None), None)
        if idle is not None and self.epsilon is None:
            raise ValueError(
                f"{idle} is of the clean episodes that --epsilon is certified on. Also pass --epsilon E and --env ID."
            )
        if self.equilibrium_action and not self.equilibrium:
            raise ValueError("equilibrium_action needs equilibrium: pass --equilibrium STATE.")
        if self.sensor_scale and (self.epsilon is not None or self.equilibrium):
            raise ValueError(
                "sensor_scale cannot be combined with epsilon or equilibrium, whose certificates are in raw units. "
                "Leave "
                "it out, or run the command twice."
            )

    def _opened(self) -> Source:
        """The model; its spaces from ``--env`` where the zip's own cannot be read.

        Raises:
            ValueError: ``--env`` would be ignored.
        """
        used = self.epsilon is not None or bool(self.equilibrium)
        if self.env_kwargs and not self.equilibrium and (self.env is None or self.epsilon is None):
            raise ValueError(
                "env_kwargs needs another option: also pass --equilibrium, or --env and --epsilon."
            )
        if self.env is not None and not used:
            try:
                open_source(self.path, self.vec_normalize, trust=self.trust)
            except ValueError as error:
                if "--env" not in str(error):
                    raise
            else:
                raise ValueError(
                    "env needs another option: also pass --epsilon E, the size of the sensor errors."
                )
        return open_source(self.path, self.vec_normalize, trust=self.trust, env=self.env)

    def _environment(self, source: Source) -> Any:
        """``--env`` as the certificates take it."""
        return in_environment([source], self.env, self.env_kwargs)[0].env

    def _sampled(
        self, source: Source, epsilon: float, parts: ActorParts
    ) -> dict[str, ActionDivergence | ReturnQuantileCertificate]:
        bound = product_bound if self.method == "product" else tightest_bound
        divergence = action_divergence(
            source.model,
            epsilon,
            source.vec_normalize,
            norm=self.norm,
            frame_stack=self.frame_stack,
            network_bound=bound,
            _parts=parts,
        )
        found: dict[str, ActionDivergence | ReturnQuantileCertificate] = {"divergence": divergence}
        if self.env is not None:
            found["return_quantile"] = return_quantile_certificate(
                source.model,
                self._environment(source),
                epsilon=epsilon,
                n_episodes=RETURN_EPISODES if self.episodes is None else self.episodes,
                horizon=self.horizon,
                vec_normalize=source.vec_normalize,
                frame_stack=self.frame_stack,
                norm=self.norm,
                network_bound=bound,
                seed=self.seed,
                _parts=parts,
            )
        return found

    def _margin(self, source: Source, states: NDArray[Any] | None, parts: ActorParts) -> MarginCertificate:
        if states is None:
            if self.env is None:
                raise ValueError(
                    "The margins of discrete actions are at observations: pass --env ID to visit some, or "
                    "--states FILE."
                )
            states = visited_observations(
                source.model,
                self._environment(source),
                source.vec_normalize,
                n_episodes=MARGIN_EPISODES if self.episodes is None else self.episodes,
                horizon=self.horizon,
                seed=self.seed,
            )
        return margin_certificate(
            source.model,
            states,
            norm=self.norm,
            vec_normalize=source.vec_normalize,
            frame_stack=self.frame_stack,
            network_bound=product_bound if self.method == "product" else tightest_bound,
            _parts=parts,
        )

    def _share(self, margin: Any) -> str:
        share = float(margin.certified_fraction(self.epsilon))
        return f"  certified    {np.floor(1000 * share) / 10:.1f} % of them at epsilon = {self.epsilon:g}"

    def _feasibility(self, source: Source, certificate: Certificate, parts: ActorParts) -> _Feasibility:
        if (self.env or source.env_id) is None:
            raise ValueError("equilibrium needs env: pass --env ID, whose state it is.")
        made = self._environment(source)
        try:
            env = gym.make(made) if isinstance(made, str) else made()
        except gym.error.Error as error:
            raise ValueError(f"env={made!r} cannot be made: {error}") from error
        try:
            env.reset(seed=self.seed)
            action = self.equilibrium_action or np.zeros(env.action_space.shape or (1,))
            floor = feasibility_floor(env, self.equilibrium, action)
        finally:
            env.close()
        memory = memory_in_words(certificate, source.model, self.frame_stack)
        if memory:
            return _Feasibility(floor, (), f"does not apply to this policy, which has a memory: {memory}")
        units = policy_units(source.model, source.vec_normalize, parts=parts)
        return _Feasibility(floor, feasibility_warnings(floor, certificate, units))


@dataclass(frozen=True)
class _Feasibility:
    """A floor in raw units, and what it says about the policy."""

    floor: FeasibilityFloor
    warnings: tuple[str, ...]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {**self.floor.to_dict(), "warnings": list(self.warnings), "note": self.note}

    def __str__(self) -> str:
        note = [f"  note         {self.note}"] if self.note else []
        return "\n".join([str(self.floor), *note, *(f"  WARNING      {text}" for text in self.warnings)])
