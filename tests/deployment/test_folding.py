"""VecNormalize merged into the first layer: the same policy, clip included, in one step less."""

import numpy as np
import onnxruntime
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import lipsrl
from lipsrl.deployment import NumpyPolicy
from lipsrl.deployment._folding import fold
from lipsrl.deployment._onnx import write_onnx
from tests.deployment.test_export import N, predict, raw_observations

NORMALISED = ["ppo", "ppo-relu", "ppo-lipschitz", "ppo-householder"]


@pytest.mark.parametrize("name", NORMALISED)
def test_acts_as_predict_does(exported, name, tmp_path):
    model, policy = exported(name)
    folded = NumpyPolicy(*fold(policy.description, policy._tensors))
    raw = raw_observations(model, N)
    expected = predict(model, raw)
    together, alone = folded(raw), np.stack([folded(observation) for observation in raw])
    assert together.dtype == alone.dtype == expected.dtype
    half_range = 2.0
    np.testing.assert_allclose(together / half_range, expected / half_range, rtol=0, atol=1e-6)
    np.testing.assert_allclose(alone / half_range, expected / half_range, rtol=0, atol=1e-6)
    write_onnx(tmp_path / "p.onnx", folded.description, folded._tensors)
    session = onnxruntime.InferenceSession(tmp_path / "p.onnx", providers=["CPUExecutionProvider"])
    (action,) = session.run(None, {"observation": raw})
    np.testing.assert_allclose(action / half_range, expected / half_range, rtol=0, atol=1e-6)


def test_the_clip_is_not_lost(exported):
    """Observations of which many are beyond the clip, where an affine map alone would go on."""
    model, policy = exported("ppo")
    folded = NumpyPolicy(*fold(policy.description, policy._tensors))
    raw = raw_observations(model)
    statistics = model.get_vec_normalize_env()
    normalised = (raw - statistics.obs_rms.mean) / np.sqrt(statistics.obs_rms.var)
    beyond = (np.abs(normalised) > statistics.clip_obs).any(axis=1)
    assert 0.02 < beyond.mean() < 0.98
    np.testing.assert_allclose(folded(raw)[beyond], policy(raw)[beyond], rtol=0, atol=2e-6)
    unclipped = {
        f"observation.{key}": np.full(3, value) for key, value in (("low", -np.inf), ("high", np.inf))
    }
    wrong = NumpyPolicy(folded.description, {**folded._tensors, **unclipped})
    assert np.abs(wrong(raw)[beyond] - policy(raw)[beyond]).max() > 1e-3


def far_from_zero(spaces_env, **vec_normalize):
    """Readings around 1e6 that spread by 0.5, as a pressure in Pascal: float32 knows them to 0.06."""
    env = spaces_env(spaces.Box(-np.inf, np.inf, (3,), np.float64), spaces.Box(-1.0, 1.0, (2,), np.float32))
    venv = VecNormalize(DummyVecEnv([lambda: env]), norm_reward=False, **vec_normalize)
    mean = np.array([1e6 + 0.03, 0.0, -3e5 - 0.01])  # no float32
    venv.obs_rms.mean, venv.obs_rms.var = mean, np.array([0.25, 1e-4, 1.0])
    return PPO("MlpPolicy", venv, seed=0, device="cpu", n_steps=8, batch_size=8)


@pytest.mark.parametrize("clip", [10.0, np.inf])
@pytest.mark.parametrize("suffix", ["safetensors", "onnx"])
def test_readings_far_from_zero(spaces_env, tmp_path, clip, suffix):
    model = far_from_zero(spaces_env, clip_obs=clip)
    path = lipsrl.export(model, tmp_path / f"p.{suffix}", folded=True)
    statistics = model.get_vec_normalize_env()
    rng = np.random.default_rng(0)
    raw = statistics.obs_rms.mean + rng.standard_normal((1000, 3)) * 3 * np.sqrt(statistics.obs_rms.var)
    if suffix == "onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (action,) = session.run(None, {"observation": raw})
    else:
        action = lipsrl.load_policy(path)(raw)
    expected = predict(model, raw)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(action, expected, rtol=0, atol=1e-6)


def test_what_the_file_says(exported, tmp_path):
    model, policy = exported("ppo-lipschitz")
    folded = lipsrl.load_policy(lipsrl.export(model, tmp_path / "p.safetensors", folded=True))
    assert folded.description["observation"] == {**policy.description["observation"], "folded": True}
    assert folded.certificate == policy.certificate
    assert folded._tensors["network.0.weight"].dtype == np.float64
    assert "observation.mean" not in folded._tensors
    assert {t.dtype for name, t in folded._tensors.items() if name.startswith("network.2")} == {
        np.dtype(np.float32)
    }


def test_where_there_is_nothing_to_fold(small_model, tmp_path):
    with pytest.raises(ValueError, match="no normalisation of observations to merge"):
        lipsrl.export(small_model, tmp_path / "p.safetensors", folded=True)
    assert not list(tmp_path.iterdir())


def test_a_first_layer_that_is_not_linear_is_refused(exported):
    _, policy = exported("ppo-residual")
    with pytest.raises(ValueError, match="begins with a linear layer, received Residual"):
        fold(policy.description, policy._tensors)


def test_a_missing_bias_is_made(exported):
    _, policy = exported("ppo")
    first, *others = policy.description["layers"]
    without = {**policy.description, "layers": [{**first, "bias": None}, *others]}
    raw = np.random.default_rng(0).standard_normal((50, 3))
    np.testing.assert_allclose(
        NumpyPolicy(*fold(without, policy._tensors))(raw),
        NumpyPolicy(without, policy._tensors)(raw), rtol=0, atol=2e-6,
    )  # fmt: skip
