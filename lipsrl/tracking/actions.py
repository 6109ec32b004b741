"""What the agents did: their actions over an episode, the spectrum of those, and how it looked."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from lipsrl.evaluation._environments import EnvLike
from lipsrl.evaluation._seeding import environment_seed
from lipsrl.tracking.evaluation_log import line_chart

#: A clip has at most so many frames, each at most so high; actions of more channels than this are not all drawn.
MOST_FRAMES, HEIGHT, MOST_CHANNELS = 80, 160, 4

#: agent → what `lipsrl.evaluation.rollout_trace` returns
Traces = Mapping[str, Mapping[str, Any]]


def log_actions(run: Any, traces: Traces) -> None:
    """``actions/trace`` and ``actions/spectrum`` of one episode of each agent.

    Args:
        run: a W&B run.
        traces: agent → what `lipsrl.evaluation.rollout_trace` returns.
    """
    over_time, over_frequency = {}, {}
    for agent, trace in traces.items():
        given = np.asarray(trace["actions"], dtype=np.float64)
        actions = given.reshape(len(given), math.prod(given.shape[1:]))
        time = np.asarray(trace.get("time", np.arange(len(actions))), dtype=np.float64)
        for channel in range(min(actions.shape[1], MOST_CHANNELS)):
            name = agent if actions.shape[1] == 1 else f"{agent}, action {channel}"
            over_time[name] = (time.tolist(), actions[:, channel].tolist())
            if len(actions) > 1:
                step = float(time[1] - time[0])
                frequency, power = power_spectrum(actions[:, channel], step)
                over_frequency[name] = (frequency.tolist(), power.tolist())
    charts = {
        "actions/trace": line_chart(over_time, "action over an episode", "time (s, or steps)"),
        "actions/spectrum": line_chart(over_frequency, "power of the action", "frequency (Hz, or 1/step)"),
    }
    run.log({key: chart for key, chart in charts.items() if chart is not None})


def power_spectrum(signal: NDArray[Any], step: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Frequencies above 0 and the power in each; the powers add up to the variance of ``signal`` (T,) (Parseval)."""
    n = len(signal)
    power = np.abs(np.fft.rfft(signal - signal.mean())) ** 2 / n**2
    power[1 : (n + 1) // 2] *= 2  # these bins stand for ±f; for even T the last one is single
    return np.fft.rfftfreq(n, step)[1:], power[1:]


def log_clip(run: Any, env: EnvLike, traces: Traces, *, seed: int, episode: int = 0) -> str:
    """``actions/clip``: the episodes of ``traces``, played again side by side as a GIF.

    Args:
        run: a W&B run.
        env: what `rollout_trace` was given.
        traces: as of :func:`log_actions`; their actions are repeated from the same start.
        seed, episode: of the traces.

    Returns:
        Why there is no clip, in words; empty where there is one.
    """
    import wandb

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.gif"
        try:
            render_clip(path, env, traces, seed=seed, episode=episode)
        except Exception as error:  # a renderer is a library of another kind in every environment
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            return f"no clip: the episodes cannot be rendered ({reason})"
        run.log({"actions/clip": wandb.Video(str(path), format="gif", caption=" | ".join(traces))})
    return ""


def render_clip(path: Path, env: EnvLike, traces: Traces, *, seed: int, episode: int = 0) -> None:
    """Write the GIF of :func:`log_clip`; raises whatever the renderer does.

    Raises:
        ValueError: nothing to show, or an environment that does not render.
    """
    from PIL import Image, ImageDraw

    make = rendering(env)
    columns = []
    length = max((len(trace["actions"]) for trace in traces.values()), default=0)
    stride = max(1, -(-length // MOST_FRAMES))
    for agent, trace in traces.items():
        pictures = []
        with _runtime_folder():
            frames = _frames(make, np.asarray(trace["actions"]), environment_seed(seed, episode), stride)
        for frame in frames:
            picture = Image.fromarray(frame).convert("RGB")
            picture.thumbnail((4 * HEIGHT, HEIGHT))
            ImageDraw.Draw(picture).text((4, 2), agent[:40], fill=(200, 30, 30))
            pictures.append(picture)
        if pictures:
            columns.append(pictures)
    if not columns:
        raise ValueError("the episodes have no step")
    whole = []
    for i in range(max(map(len, columns))):
        now = [column[min(i, len(column) - 1)] for column in columns]  # who has ended stays where it is
        sheet = Image.new("RGB", (sum(p.width for p in now), max(p.height for p in now)), "white")
        left = 0
        for picture in now:
            sheet.paste(picture, (left, 0))
            left += picture.width
        whole.append(sheet.quantize(64))
    whole[0].save(path, save_all=True, append_images=whole[1:], duration=60, loop=0, optimize=True)


@contextmanager
def _runtime_folder() -> Iterator[None]:
    """SDL (Pygame) complains on the terminal where nobody has logged in and so nothing says where its sockets go."""
    if "XDG_RUNTIME_DIR" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["XDG_RUNTIME_DIR"]


def rendering(env: EnvLike) -> Callable[[], gym.Env[Any, Any]]:
    """How to make ``env`` once more, with ``render_mode="rgb_array"``.

    Raises:
        ValueError: it does not render so.
    """
    if isinstance(env, str):
        return lambda: _rendering(gym.make(env, render_mode="rgb_array"))
    given = env if isinstance(env, gym.Env) else env()
    if given.render_mode == "rgb_array" and not isinstance(env, gym.Env):
        given.close()
        return env
    spec = given.spec
    if given is not env:
        given.close()
    if spec is None:
        raise ValueError("the environment has no spec and no render_mode='rgb_array'")
    return lambda: _rendering(gym.make(spec, render_mode="rgb_array"))


def _rendering(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    if env.render_mode != "rgb_array":
        env.close()
        raise ValueError("the environment has no render_mode='rgb_array'")
    return env


def _frames(
    make: Callable[[], gym.Env[Any, Any]], actions: NDArray[Any], seed: int, stride: int
) -> list[NDArray[np.uint8]]:
    found = []
    env = make()
    try:
        env.reset(seed=seed)
        for i, action in enumerate(actions):
            if i % stride == 0:
                frame: Any = env.render()
                found.append(np.asarray(frame, dtype=np.uint8))
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                break
    finally:
        env.close()
    return found
