"""How long an episode may be: the TimeLimits around an environment, one more of them, and what is taken for endless."""

from __future__ import annotations

from typing import Any, TypeAlias

import gymnasium as gym
from gymnasium.wrappers import TimeLimit

from lipsrl._validation import positive_int

Env: TypeAlias = gym.Env[Any, Any]

#: Steps after which an episode is taken for one that never ends, where no TimeLimit says how long it may be.
ENDLESS = 100_000


class EndlessEpisodeError(RuntimeError):
    """An episode that nothing limits has not ended within 100 000 steps.

    Attributes:
        evaluation: the episodes that had ended before (an `Evaluation`), or None where there are none.
        students: of `frontier`, those that had been made before (of `Student`).
    """

    evaluation: Any = None
    students: tuple[Any, ...] = ()

    @classmethod
    def of(cls, episode: str) -> EndlessEpisodeError:
        """The error that says what to do.

        Args:
            episode: which one, in words.
        """
        return cls(
            f"{episode} has not ended within {ENDLESS:,} steps, and no TimeLimit says that it may be so long. Pass "
            "max_episode_steps= (on the command line --max-episode-steps), or wrap env in "
            "gymnasium.wrappers.TimeLimit: episodes are truncated there."
        )


def layers(env: Env) -> list[Env]:
    """``env``, what it wraps, and so on to the innermost."""
    found = [env]
    while isinstance(found[-1], gym.Wrapper):
        found.append(found[-1].env)
    return found


def time_limit(env: Env) -> int | None:
    """The most steps of an episode by the TimeLimits around ``env``; None where there is none."""
    return min((int(e._max_episode_steps) for e in layers(env) if isinstance(e, TimeLimit)), default=None)


def check_limit(max_episode_steps: Any) -> int | None:
    """The argument as an int > 0, or None; otherwise ``ValueError``."""
    return None if max_episode_steps is None else positive_int("max_episode_steps", max_episode_steps)


def limited(env: Env, max_episode_steps: int | None) -> Env:
    """``env``, whose episodes are truncated after so many steps; as it is where it is None or they already are."""
    own = time_limit(env)
    if max_episode_steps is None or (own is not None and own <= max_episode_steps):
        return env
    return TimeLimit(env, max_episode_steps)
