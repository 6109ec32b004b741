"""Every normalisation that the certificate counts is in the file: Dicts, frames, gymnasium's own."""

import gymnasium as gym
import numpy as np
import onnxruntime
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import lipsrl
from lipsrl.actors.normalization import load_vec_normalize
from lipsrl.deployment._onnx import write_onnx
from tests.deployment.test_observations import row_of, samples

TORQUE = spaces.Box(-2.0, 2.0, (2,), np.float32)
SENSORS = spaces.Box(-5.0, 5.0, (3,), np.float32)
DICT = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (36, 36, 1), np.uint8),
        "fast": SENSORS,
        "gear": spaces.Discrete(3),
        "slow": spaces.Box(-50.0, 50.0, (2,), np.float32),
    }
)


def ppo(policy, venv):
    for _ in range(30 if isinstance(venv, VecNormalize) else 0):
        venv.reset()  # statistics of something
    return PPO(
        policy, venv, seed=0, device="cpu", n_steps=8, batch_size=8, policy_kwargs={"net_arch": [16, 12]}
    )


def both(model, tmp_path, raw, **options):
    """The actions of both formats on a batch, and those of NumPy one by one; of windows where the policy keeps one."""
    policy = lipsrl.load_policy(lipsrl.export(model, tmp_path / "p.safetensors", **options))
    write_onnx(tmp_path / "p.onnx", policy.description, policy._tensors)
    session = onnxruntime.InferenceSession(tmp_path / "p.onnx", providers=["CPUExecutionProvider"])
    inputs = (
        {f"observation.{k}": v for k, v in raw.items()} if isinstance(raw, dict) else {"observation": raw}
    )
    alone = np.stack([policy.stateless(row_of(raw, i)) for i in range(len(next(iter(inputs.values()))))])
    if session.get_inputs()[0].type == "tensor(double)":
        inputs["observation"] = raw.astype(np.float64)
    return policy, (policy.stateless(raw), alone, session.run(None, inputs)[0])


def assert_alike(actions, expected):
    assert np.ptp(expected) > 0.01
    for action in actions:
        np.testing.assert_allclose(action / 2, expected / 2, rtol=0, atol=1e-6)


def test_some_entries_of_a_dict(spaces_env, tmp_path):
    venv = DummyVecEnv([lambda: spaces_env(DICT, TORQUE)])
    model = ppo("MultiInputPolicy", VecNormalize(venv, norm_obs_keys=["slow"], clip_obs=1.5))
    raw = samples(model.observation_space)
    normalised = model.get_vec_normalize_env().normalize_obs(raw)
    assert 0.05 < (np.abs(normalised["slow"]) == 1.5).mean() < 0.95
    expected = model.predict(normalised, deterministic=True)[0]
    policy, actions = both(model, tmp_path, raw)
    assert_alike(actions, expected)
    assert np.isinf(policy._tensors["observation.clip"]).sum() == len(policy._tensors["observation.clip"]) - 2


@pytest.mark.parametrize("outermost", ["stack", "normalisation"])
@pytest.mark.parametrize("folded", [False, True])
def test_stacked_frames(spaces_env, tmp_path, outermost, folded):
    venv = DummyVecEnv([lambda: spaces_env(SENSORS, TORQUE)])
    inner = VecNormalize(venv) if outermost == "stack" else VecFrameStack(venv, 2)
    for _ in range(30):
        inner.reset()
    whole = VecFrameStack(inner, 2) if outermost == "stack" else VecNormalize(inner)
    model = ppo("MlpPolicy", whole)
    if outermost == "stack":  # the model's environment cannot be followed, a zip's file can be named
        statistics, model = (
            inner,
            ppo("MlpPolicy", VecFrameStack(venv, 2)),
        )
        statistics.save(tmp_path / "vecnormalize.pkl")
        given = {"vec_normalize": load_vec_normalize(tmp_path / "vecnormalize.pkl")}
    else:
        statistics, given = whole, {}
    raw = samples(spaces.Box(-5.0, 5.0, (6,), np.float32))
    halves = [raw] if outermost == "normalisation" else [raw[:, :3], raw[:, 3:]]
    normalised = np.concatenate([statistics.normalize_obs(half) for half in halves], axis=1)
    policy, actions = both(model, tmp_path, raw, folded=folded, **given)
    assert_alike(actions, model.predict(normalised, deterministic=True)[0])
    assert policy.description["observation"]["frames"] == 2


@pytest.mark.parametrize("folded", [False, True])
def test_gymnasiums_own_normalisation(spaces_env, tmp_path, folded):
    """The file takes what the sensors give, as the certificate says."""
    env = gym.wrappers.NormalizeObservation(spaces_env(SENSORS, TORQUE))
    for seed in range(30):
        env.reset(seed=seed)
    model = ppo("MlpPolicy", env)
    raw = samples(SENSORS)
    seen = ((raw - env.obs_rms.mean) / np.sqrt(env.obs_rms.var + env.epsilon)).astype(np.float32)
    expected = model.predict(seen, deterministic=True)[0]
    policy, actions = both(model, tmp_path, raw, folded=folded)
    assert_alike(actions, expected)
    assert "normalize_observation" in [factor["name"] for factor in policy.certificate["factors"]]
