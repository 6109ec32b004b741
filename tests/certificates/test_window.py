"""``Certificate.window``: exact where the policy is linear, never below what a search reaches."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from benchmarks._window_search import QUESTIONS, Windows, steepest_window
from lipsrl import certify
from lipsrl.actors.normalization import observation_chain
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates import SensorWindow, WindowBounds

FEW = {"n_starts": 32}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Still(gym.Env):
    """Observations of ``size`` values around zero; two actuators that reach far, or three buttons."""

    def __init__(self, size: int = 2, buttons: bool = False) -> None:
        self.size = size  # HistoryWrapper writes into the space
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,))
        self.action_space = spaces.Discrete(3) if buttons else spaces.Box(-1e6, 1e6, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action):
        return self._draw(), 0.0, False, False, {}

    def _draw(self):
        return self.np_random.normal(size=self.size).astype(np.float32)


def normalised(env, *, clip: float = 10.0, alike: bool = True) -> VecNormalize:
    wrapped = VecNormalize(env, clip_obs=clip, training=False)
    rng = np.random.default_rng(7)
    size = env.observation_space.shape[0]
    wrapped.obs_rms.mean = rng.normal(size=size) if alike else np.linspace(-1.0, 1.0, size)
    wrapped.obs_rms.var = rng.uniform(0.2, 3.0, size=size)
    return wrapped


def model_of(
    frames: int, size: int = 2, *, place: str = "none", clip: float = 10.0, policy: str = "MlpPolicy", cls=PPO,
    env=None, **kwargs,
):  # fmt: skip
    """A policy behind ``frames`` frames, normalised inside or outside the stack."""
    venv = DummyVecEnv([lambda: Still(size, cls is DQN) if env is None else env()])
    if place == "inside":
        venv = normalised(venv, clip=clip)
    if frames > 1:
        venv = VecFrameStack(venv, frames)
    if place == "outside":
        venv = normalised(venv, clip=clip)
    kwargs.setdefault("net_arch", [12, 12])
    return cls(policy, venv, policy_kwargs=kwargs, seed=0, device="cpu")


def linear(weight: np.ndarray, frames: int, size: int, **options):
    """A policy that is ``weight`` (2, frames·size)."""
    model = model_of(frames, size, net_arch=[], **options)
    with torch.no_grad():
        model.policy.action_net.weight.copy_(torch.as_tensor(weight, dtype=torch.float32))
    return model


def shaken(model, seed: int = 0, size: float = 0.4):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return model


def weights(frames: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, frames * size)).astype(np.float32).astype(np.float64)


def searched(model, place: str, question: str, *, unit=1.0, norm="l2", **options) -> float:
    pipeline = Pipeline.of(model, observation_chain(model))
    return steepest_window(Windows.of(pipeline, place == "inside", unit, norm), question, **options).ratio


def norm_of(matrix: np.ndarray) -> float:
    return float(np.linalg.svd(matrix, compute_uv=False)[0])


def worst_response(blocks: np.ndarray) -> float:
    """blocks (out, frames, size)."""
    return max(
        norm_of(np.tensordot(blocks, np.exp(1j * omega * np.arange(blocks.shape[1])), (1, 0)))
        for omega in np.linspace(0, math.pi, 2001)
    )


@pytest.mark.parametrize(("frames", "size"), [(2, 1), (3, 2), (8, 3)])
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["agreeing", "alternating"])
def test_a_linear_policy_exactly(frames, size, sign):
    weight = np.abs(weights(frames, size)) * np.repeat(sign ** np.arange(frames), size)
    blocks = weight.reshape(2, frames, size)
    certificate = certify(linear(weight, frames, size), **FEW)
    window = certificate.window
    assert window.frames == frames
    assert window.whole == pytest.approx(norm_of(weight), rel=1e-8)
    assert (
        window.each == certificate.upper_bound == pytest.approx(math.sqrt(frames) * norm_of(weight), rel=1e-8)
    )
    assert window.newest == pytest.approx(norm_of(blocks[:, -1]), rel=1e-8)
    assert worst_response(blocks) <= window.signal * (1 + 1e-6)
    assert window.signal == pytest.approx(worst_response(blocks), rel=2e-4)
    partial = [norm_of(blocks[:, frames - j :].sum(axis=1)) for j in range(1, frames + 1)]
    assert window.bias == window.bias_unclipped == pytest.approx(max(partial), rel=1e-8)
    for sensor, alone in enumerate(window.per_sensor):
        column = blocks[:, :, [sensor]]
        assert alone.newest == pytest.approx(norm_of(column[:, -1]), rel=1e-6)
        assert alone.each == certificate.per_sensor[sensor]
        assert alone.signal == pytest.approx(worst_response(column), rel=2e-4)
        partial = [norm_of(column[:, frames - j :].sum(axis=1)) for j in range(1, frames + 1)]
        assert alone.bias == pytest.approx(max(partial), rel=1e-6)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("sensor", [None, 1])
def test_the_search_can_fail(question, sensor):
    """Bounds of a linear policy whose frames only differ in sign are exact: nine tenths of them are caught."""
    if question == "whole" and sensor is not None:
        pytest.skip("the window of one sensor is not stated")
    weight = np.tile(weights(1, 2), 4) * np.repeat([-1.0, 1.0, -1.0, 1.0], 2)
    model = linear(weight, 4, 2, place="inside", clip=100.0)
    window = certify(model, **FEW).window
    bound = getattr(window if sensor is None else window.per_sensor[sensor], question)
    found = searched(model, "inside", question, sensor=sensor, n=128, steps=60, length=48)
    if question == "bias":  # its bound counts a clip that nothing reaches here
        bound = (window if sensor is None else window.per_sensor[sensor]).bias_unclipped
    assert 0.9 * bound < found <= bound


LIPSCHITZ = {"policy": "LipschitzMlpPolicy", "lipschitz_bound": 3.0}


@pytest.mark.parametrize(
    ("place", "options", "norm"),
    [
        ("inside", {}, "l2"),
        ("outside", {"activation_fn": torch.nn.ReLU}, "l2"),
        ("inside", {"activation_fn": torch.nn.ReLU}, "l1"),
        ("inside", {**LIPSCHITZ, "layer": "sandwich"}, "l2"),
        ("outside", {**LIPSCHITZ, "layer": "sandwich"}, "l2"),
        (
            "none",
            {**LIPSCHITZ, "layer": "orthogonal", "activation": "maxmin", "observation_scale": [0.1, 3.0] * 5},
            "l2",
        ),
        ("inside", {**LIPSCHITZ, "layer": "sll"}, "l2"),
        ("inside", {**LIPSCHITZ, "layer": "linf", "norm": "linf"}, "linf"),
        ("outside", {"cls": DQN}, "l2"),
    ],
    ids=["tanh", "relu", "l1", "sandwich", "sandwich-outside", "maxmin-scaled", "sll", "linf", "dqn"],
)
def test_nothing_steeper_is_found(place, options, norm):
    options = dict(options)
    model = model_of(5, place=place, clip=0.5, **options)
    shaken(model, 1)
    unit = (0.1, 2.0)
    certificate = certify(model, norm=norm, sensor_scale=unit, **FEW)
    window = certificate.window
    assert (window.signal is None) == (norm != "l2")
    for question in QUESTIONS:
        for sensor in (None, 0):
            bound = getattr(window if sensor is None else window.per_sensor[sensor], question, None)
            if bound is not None:
                found = searched(
                    model, place, question, unit=unit, norm=norm, sensor=sensor, n=48, steps=12, length=12
                )
                assert found <= bound, (question, sensor)
    assert window.newest <= window.whole <= window.each
    for stated in (window, *window.per_sensor):
        assert stated.bias_unclipped <= stated.bias <= stated.each
        assert stated.newest <= stated.each
        assert stated.signal is None or stated.signal <= stated.each


def test_a_constant_does_not_fold_through_a_clip():
    """Alternating frames: a constant cancels, unless the clip has cut it out of every other frame."""
    frames = 4
    weight = np.zeros((2, frames))
    weight[0] = (-1.0) ** np.arange(frames)
    model = linear(weight, frames, 1, place="inside", clip=0.5)
    window = certify(model, **FEW).window
    pipeline = Pipeline.of(model, observation_chain(model))
    gain, mean = float(pipeline.gain[0]), float(pipeline.mean[0])
    step = 0.5 / gain
    clean = mean + step * np.array([[0.0, 9.0, 0.0, 9.0]])  # every other frame sits at the clip
    moved = pipeline.act(torch.as_tensor(clean + step)) - pipeline.act(torch.as_tensor(clean))
    assert window.bias_unclipped == pytest.approx(gain, rel=1e-6)
    assert float(moved.norm()) / step == pytest.approx(2 * gain, rel=1e-6)
    assert float(moved.norm()) / step <= window.bias
    assert window.bias == pytest.approx(2 * gain, rel=1e-6)
    assert searched(model, "inside", "bias", n=256, steps=60) > 1.5 * window.bias_unclipped


def test_a_clip_that_differs_by_frame_is_no_filter():
    """VecNormalize around the stack: the same value is cut in one frame and passes in another."""
    frames = 2
    weight = np.zeros((2, frames))
    weight[0] = (1.0, -1.0)
    model = linear(weight, frames, 1, place="outside", clip=0.1)
    statistics = model.get_env().obs_rms
    statistics.mean, statistics.var = np.array([-5.0, 5.0]), np.ones(frames)
    window = certify(model, **FEW).window
    assert window.signal == pytest.approx((2 + 2) / 2, rel=1e-3)
    assert certify(linear(weight, frames, 1), **FEW).window.bias == pytest.approx(1.0)
    assert window.bias == pytest.approx(1.0, rel=1e-3)
    statistics.var = np.array([1.0, 1e-4])
    steeper = certify(model, **FEW).window
    assert searched(model, "outside", "signal", n=128, steps=40) <= steeper.signal


def test_dead_units_zero_gains_and_extreme_scales():
    model = shaken(model_of(3, place="inside"), 3)
    with torch.no_grad():
        first = model.policy.mlp_extractor.policy_net[0]
        first.weight[:6] = 0.0
        first.bias[:6] = -100.0
        first.weight[:, [1, 3, 5]] = 0.0  # the second sensor is not looked at
    window = certify(model, **FEW).window
    assert window.per_sensor[1].newest <= 1e-4 * window.newest
    for unit in ((1e-12, 1.0), (1e-12, 1e12), (1e-6, 1e6)):
        scaled = certify(model, sensor_scale=unit, **FEW).window
        for question in QUESTIONS:
            for sensor in (None, 0, 1):
                bound = getattr(scaled if sensor is None else scaled.per_sensor[sensor], question, None)
                if bound is not None:
                    found = searched(
                        model, "inside", question, unit=unit, sensor=sensor, n=32, steps=10, length=8
                    )
                    assert found <= bound, (unit, question, sensor)
                assert bound is None or (np.isfinite(bound) and bound > 0)


def test_a_policy_that_never_moves():
    model = linear(np.zeros((2, 6)), 3, 2)
    assert certify(model, **FEW).window == WindowBounds(
        3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, (SensorWindow(0.0, 0.0, 0.0, 0.0, 0.0),) * 2
    )


def test_one_observation_has_no_window():
    assert certify(model_of(1), **FEW).window is None
    with pytest.raises(ValueError, match="frame_stack=2 frames of one length do not make the 3 values"):
        certify(model_of(1, 3), frame_stack=2, **FEW)


def test_methods_are_kept_apart():
    model = shaken(model_of(4, policy="LipschitzMlpPolicy", lipschitz_bound=2.0, layer="sandwich"))
    found = {m: certify(model, method=m, **FEW).window for m in ("auto", "product", "construction", "lipsdp")}
    for name in ("newest", "whole", "signal", "bias"):
        assert getattr(found["auto"], name) <= min(getattr(w, name) for w in found.values()) * (1 + 1e-3)
    assert found["construction"].signal == pytest.approx(2 * found["construction"].whole)
    assert found["lipsdp"].signal < found["construction"].signal
