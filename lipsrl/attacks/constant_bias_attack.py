"""Constant bias: one displacement for the whole episode, the one under which the return is lowest."""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from lipsrl._episodes import check_limit
from lipsrl._validation import positive_int
from lipsrl.actors.acting import Acting
from lipsrl.actors.normalization import NormalizeLike
from lipsrl.actors.view import Units, View
from lipsrl.attacks._actor import actor_of
from lipsrl.attacks._base import Attack
from lipsrl.attacks._environment import EnvLike, check_env, check_stacked, env_name, env_of
from lipsrl.attacks._norms import FloatArray
from lipsrl.attacks._patterns import seeds_needed, worst_pattern
from lipsrl.attacks._playing import Player
from lipsrl.attacks._target import Target
from lipsrl.certificates._clean_episodes import environments

# environments that are stepped side by side, and how many clean episodes the gradients are taken from
_SLOTS, _CLEAN = 40, 3


class ConstantBiasAttack(Attack):
    """``o + ε·z`` with one z of norm 1 for all steps of all episodes: a sensor that reads wrong, and stays wrong.

    What hurts a policy of low gain most. It hardly follows what changes from step to step, but holds the plant where
    the displaced sensors say that it should be, for as long as they say it. The attack is not greedy: z is chosen by
    whole episodes. For at most four numbers all sign patterns are played (l2: directions near them too); for more, the
    directions along which the mean action moves most and random ones, then coordinates are turned one by one
    (``candidates`` patterns at most). The lowest mean return counts; every pattern meets the same episodes, whose
    seeds are not those of an evaluation.

    Searching takes seconds, at the first observation that is attacked. It is kept: an attack and its scaled copies
    search once for each model and radius, in each process.

    Behind a frame stack only the newest frame is displaced, at every step; so after the first steps all frames are.

    Args:
        model, epsilon, norm, vec_normalize, units, frame_stack: as in :class:`~lipsrl.attacks.Attack`; the model's
            actor must be a plain feed-forward network.
        env: Gymnasium id or zero-argument factory for the search. None: made from the spec of the model's own
            environment.
        episodes: for each pattern, > 0; the last four are played three times as many further ones.
        candidates: most patterns that are tried, > 0; all sign patterns of up to four numbers in any case.
        search_seed: of the episodes and of random patterns, >= 0.
        per_strength: search again at every radius, so also for a scaled copy. False: search once, at ``epsilon`` as it
            was given here, and keep that pattern at every strength; for strengths that are drawn anew per episode.
        max_episode_steps: of the search, as in :func:`lipsrl.evaluate`.

    Raises:
        ValueError: no environment to search in.

    Other errors as in :class:`~lipsrl.attacks.Attack`.

    Example:
        >>> import numpy as np
        >>> from stable_baselines3 import PPO
        >>> model = PPO("MlpPolicy", "Pendulum-v1", seed=0, device="cpu")
        >>> attack = ConstantBiasAttack(model, epsilon=0.1, episodes=1, max_episode_steps=10)
        >>> attack.reset(seed=0)
        >>> observation = np.array([1.0, 0.0, 0.5])
        >>> np.abs(attack(observation) - observation).round(6).tolist()
        [0.1, 0.1, 0.1]
    """

    name = "bias"

    def __init__(
        self,
        model: Any,
        epsilon: float,
        norm: str = "linf",
        vec_normalize: NormalizeLike = None,
        units: Units = "normalized",
        *,
        frame_stack: int | None = None,
        env: EnvLike | None = None,
        episodes: int = 5,
        candidates: int = 64,
        search_seed: int = 0,
        per_strength: bool = True,
        max_episode_steps: int | None = None,
    ) -> None:
        self.env = check_env(env)
        self.episodes = positive_int("episodes", episodes)
        self.candidates = positive_int("candidates", candidates)
        if search_seed != 0:
            positive_int("search_seed", search_seed)
        self.search_seed = int(search_seed)
        self.per_strength = bool(per_strength)
        self.max_episode_steps = check_limit(max_episode_steps)
        # shared by all copies: identity of a target and radius -> what was found
        self._found: dict[tuple[Any, ...], FloatArray] = {}
        super().__init__(model, epsilon, norm, vec_normalize, units, frame_stack=frame_stack)
        self._given = self.epsilon

    @property
    def parameters(self) -> dict[str, Any]:
        own = ["env", "episodes", "candidates", "search_seed", "per_strength"]
        own += [] if self.max_episode_steps is None else ["max_episode_steps"]
        return {**super().parameters, **{name: getattr(self, name) for name in own}}

    def to_dict(self) -> dict[str, Any]:
        """As of every attack; an environment factory goes by its name."""
        return super().to_dict() | {"env": env_name(self.env)}

    def displacement(self, epsilon: float | None = None) -> FloatArray:
        """(dim,) what is added, in the budget's unit; searched for, if it is not known yet.

        Args:
            epsilon: radius, >= 0; the attack's own if not given.

        Raises:
            ValueError: the attack has no target model, or env does not fit the model.
        """
        if self.target is None:
            raise ValueError(
                f"{self!r} has no target model. Pass model=, or use attack.against(model, vec_normalize)."
            )
        radius = self.epsilon if epsilon is None else epsilon
        if radius == 0:
            return np.zeros(self.target.view.dim)
        searched = radius if self.per_strength else self._given
        key = (*self.target.identity, searched)
        if key not in self._found:
            self._found[key] = self._search(self.target.view, searched)
        return radius * self._found[key]

    def noise_shape(self, dim: int) -> tuple[int, int]:
        return 0, 0

    def displacements(
        self,
        observations: FloatArray,
        epsilon: FloatArray,
        noise: FloatArray,
        past: FloatArray,
        unmoved: FloatArray | None = None,
    ) -> FloatArray:
        radii, rows = np.unique(epsilon[:, 0], return_inverse=True)
        return self.ball.project(np.stack([self.displacement(float(r)) for r in radii])[rows], epsilon)

    def _aim(self, model: Any, target: Target) -> None:
        super()._aim(model, target)
        self._acting = actor_of(model)
        self._rooms = env_of(model, self.env, "ConstantBiasAttack plays episodes to find the worst bias")
        self._spaces = SimpleNamespace(
            observation_space=model.observation_space, action_space=model.action_space
        )

    def _search(self, view: View, epsilon: float) -> FloatArray:
        # the name is in the key, so that no evaluation draws these episodes
        sequence = np.random.SeedSequence(self.search_seed, spawn_key=(zlib.crc32(b"constant bias"),))
        rng = np.random.default_rng(sequence)
        seeds = rng.integers(2**31, size=seeds_needed(self.episodes)).tolist()
        with environments(self._rooms, _SLOTS, None, self.max_episode_steps) as made:
            check_stacked(self._spaces, made[0], view.frames)
            player = Player(self._acting, view, made)
            slopes = mean_slopes(self._acting, player.seen(seeds[:_CLEAN]), view)
            return worst_pattern(
                lambda patterns, chosen: player.returns(
                    self.ball.project(epsilon * patterns, np.full((len(patterns), 1), epsilon)), chosen
                ),
                self.ball,
                np.concatenate([slopes, -slopes]),
                seeds,
                candidates=self.candidates,
                episodes=self.episodes,
                rng=rng,
            )


def mean_slopes(acting: Acting, seen: FloatArray, view: View) -> FloatArray:
    """(outputs, dim) how far each output moves, on average over ``seen`` (n, frames·dim), per unit on all frames."""
    x = torch.tensor(seen, requires_grad=True)
    with torch.enable_grad():
        out = acting.mean(x)
        rows = [torch.autograd.grad(column.mean(), x, retain_graph=True)[0].sum(dim=0) for column in out.T]
    slopes: FloatArray = torch.stack(rows).reshape(len(rows), view.frames, view.dim).sum(dim=1).numpy()
    return slopes * view.slope
