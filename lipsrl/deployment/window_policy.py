"""A trained policy that keeps its newest observations itself, on NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsrl.deployment._safetensors import Tensors
from lipsrl.deployment._window import Window
from lipsrl.deployment.numpy_policy import NumpyPolicy, finite, not_finite, refuse_sampling

Array: TypeAlias = NDArray[Any]


class WindowPolicy(NumpyPolicy):
    """The policy of a model behind a frame stack: one raw observation in, an action out; the window is inside.

    Before an episode's first observation stands what stood there in training: zeros, after the normalisation where it
    is inside the stack. Three ways to call it:

    - ``policy(observation)`` pushes the observation and acts; ``policy.reset()`` before every episode but the first.
    - ``policy.predict(observation, state, episode_start)``, SB3's recurrent convention: the state is the caller's, one
      row per slot. ``evaluate_policy(policy, env)`` and ``lipsrl.evaluate(policy, env, …)`` work so, without a frame
      stack.
    - ``policy.stateless(window)``: the caller keeps the window.

    An observation that raises does not enter the window. ``policy(observation)`` has state: give each thread a
    ``copy.copy(policy)`` of its own. Copies, deep copies and pickles start an episode.

    Args:
        description, tensors, and further attributes: as of :class:`NumpyPolicy`.

    Attributes:
        observation_shape: of one observation, (dim,).
        frames: how many observations it sees.

    Raises:
        ValueError: the parts do not fit together, or hold NaN or infinity.

    Example::

        policy = lipsrl.load_policy("policy.safetensors")
        policy.reset()
        action = policy(observation)
    """

    def __init__(self, description: dict[str, Any], tensors: Tensors) -> None:
        self._window = Window(description["observation"])
        self.frames = self._window.frames
        self._dim = self._window.dim
        self._older = self._window.start
        super().__init__(description, tensors)
        self.reset()

    def __call__(self, observation: ArrayLike | Mapping[str, ArrayLike]) -> Array:
        """Push one raw observation (dim,) into the window, and act: ``action_shape``, a fresh array.

        Raises:
            ValueError: another shape, no numbers, or NaN or infinite values that would reach the action. The window
                is then as it was.
        """
        newest = self._window.one(observation)
        window = np.concatenate((self._older, newest))
        seen = self._normalise(window)
        if not finite(seen[-self._dim :]):
            raise not_finite(newest, seen)
        action = self._act(seen, True, newest)
        self._older = window[self._dim :]
        return action

    def reset(self) -> None:
        """Start an episode: forget all observations."""
        self._older = self._window.start

    def predict(
        self,
        observation: ArrayLike | Mapping[str, ArrayLike],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Array, Array]:
        """``(action, state)`` of one slot or many, as SB3's recurrent policies; the policy's own window is not touched.

        Args:
            observation: raw, (dim,) or (n, dim).
            state: what the last call returned for the same slots; None: all of them start an episode.
            episode_start: (n,) true where the observation is an episode's first.

        Returns:
            The actions, and the state to hand back: (n, frames - 1, dim), float64, the newest observations, raw.

        Raises:
            ValueError: ``deterministic=False``, neither a state nor episode_start, a state of other slots; or see
                :meth:`__call__`.
        """
        refuse_sampling(deterministic)
        rows, single = self._window.rows(observation)
        n = len(rows)
        windows = np.concatenate([self._window.older(state, episode_start, n), rows], axis=1)
        given = rows[0] if single else rows
        action = self._checked(windows, single, given)
        return action, windows[:, self._dim :].reshape(n, self.frames - 1, self._dim)

    def stateless(self, window: ArrayLike, filled: ArrayLike | None = None) -> Array:
        """The action for a window of raw observations, the newest last; the policy's own window is not touched.

        Args:
            window: (j, dim) or (n, j, dim) with 1 ≤ j ≤ ``frames``: what the episode has shown so far. What stood
                before it in training is put before it. Or whole windows, flat as VecFrameStack has them:
                (frames·dim,) or (n, frames·dim).
            filled: how many of the newest frames are observations, an int or (n,); the others are not looked at.
                None: all that are given.

        Returns:
            ``action_shape`` or ``(n, *action_shape)``.

        Raises:
            ValueError: another length, ``filled`` below 1 or above j; or see :meth:`__call__`.

        Example::

            policy.stateless(history[-policy.frames:])  # (t, dim)
        """
        windows, single = self._window.completed(window, filled)
        whole = windows.reshape(-1, self.frames, self._dim)
        return self._checked(windows, single, whole[0] if single else whole, "window")

    def _checked(self, windows: Array, single: bool, given: Array, name: str = "observation") -> Array:
        """The actions for windows (n, frames·dim); ``given`` is what errors speak of."""
        seen = self._normalise(windows[0] if single else windows)
        if not finite(seen):
            raise not_finite(given, seen, name)
        return self._act(seen, single, given, name)
