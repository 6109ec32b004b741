"""From the raw observation to the action, through everything that may stand between."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import FlattenObservation, NormalizeObservation
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.envs import FakeImageEnv, IdentityEnv, SimpleMultiObsEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from lipsrl import certify
from lipsrl.actors._front import Front
from lipsrl.actors.normalization import observation_chain
from lipsrl.actors.pipeline import Pipeline
from lipsrl.layers._plain import Parallel, Scale
from lipsrl.policies._front import flatten

FEW = {"n_starts": 256}
POLICIES = (("Mlp", {}), ("LipschitzMlp", {"lipschitz_bound": 3.0}))


def pendulum() -> DummyVecEnv:
    return DummyVecEnv([lambda: gym.make("Pendulum-v1")])


def ppo(policy: str, env, **policy_kwargs) -> PPO:
    kwargs = {"net_arch": [16], **policy_kwargs}
    model = PPO(
        policy, env, n_steps=64, batch_size=32, n_epochs=2, seed=0, device="cpu", policy_kwargs=kwargs
    )
    return model.learn(128)


@pytest.mark.parametrize(("name", "options"), POLICIES)
@pytest.mark.parametrize("inside", [True, False], ids=["norm-inside", "norm-outside"])
def test_a_stack_of_normalised_frames(name, options, inside):
    env = pendulum()
    env = VecFrameStack(VecNormalize(env), 3) if inside else VecNormalize(VecFrameStack(env, 3))
    model = ppo(f"{name}Policy", env, **options)
    certificate = certify(model, **FEW)
    pipeline = Pipeline.of(model, observation_chain(model))

    assert certificate.sensors == ("observation[0]", "observation[1]", "observation[2]")
    assert len(certificate.per_sensor) == 3
    factors = {factor.name: factor.gain for factor in certificate.factors}
    assert factors["frame_stack"] == pytest.approx(np.sqrt(3))
    assert np.prod(list(factors.values())) == pytest.approx(certificate.upper_bound, rel=1e-9)
    assert 0 < certificate.lower_bound <= certificate.upper_bound

    # each frame is off by a vector of one length: the action moves no further than promised
    rng = np.random.default_rng(0)
    base = torch.as_tensor(rng.normal(size=(4096, 9)))
    change = rng.normal(size=(4096, 3, 3))
    change /= np.linalg.norm(change, axis=2, keepdims=True)
    moved = pipeline.act(base + 0.05 * torch.as_tensor(change.reshape(4096, 9))) - pipeline.act(base)
    assert float(moved.norm(dim=1).max()) <= 0.05 * certificate.upper_bound

    # and one sensor that is off in all frames moves it no further than that sensor's own bound
    for sensor in range(3):
        only = np.zeros((4096, 3, 3))
        only[:, :, sensor] = rng.choice([-1.0, 1.0], size=(4096, 3))
        moved = pipeline.act(base + 0.05 * torch.as_tensor(only.reshape(4096, 9))) - pipeline.act(base)
        assert float(moved.norm(dim=1).max()) <= 0.05 * certificate.per_sensor[sensor]


@pytest.mark.parametrize("inside", [True, False], ids=["norm-inside", "norm-outside"])
def test_the_stacked_pipeline_is_what_predict_sees(inside):
    env = pendulum()
    env = VecFrameStack(VecNormalize(env), 3) if inside else VecNormalize(VecFrameStack(env, 3))
    model = ppo("MlpPolicy", env)
    normalize = model.get_vec_normalize_env()
    normalize.training = False
    seen = model.env.reset()
    for _ in range(5):
        seen, _, _, _ = model.env.step(np.zeros((1, 1), dtype=np.float32))
        frames = seen.reshape(3, 3) if inside else None
        if inside:
            raw = np.concatenate([normalize.unnormalize_obs(frame[None])[0] for frame in frames])
            blank = (frames == 0).all(axis=1).repeat(3)
        else:
            raw = normalize.get_original_obs()[0]
            blank = np.zeros(9, dtype=bool)
    assert not blank.any()
    pipeline = Pipeline.of(model, observation_chain(model))
    expected, _ = model.predict(seen, deterministic=True)
    ours = pipeline.act(torch.as_tensor(raw[None].astype(np.float64)))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-3, atol=1e-4)


def test_the_frames_of_a_zip_are_named_by_hand(tmp_path):
    env = VecFrameStack(VecNormalize(pendulum()), 3)
    model = ppo("MlpPolicy", env)
    model.save(tmp_path / "model.zip")
    model.get_vec_normalize_env().save(str(tmp_path / "vecnormalize.pkl"))
    alone = PPO.load(tmp_path / "model.zip")
    with pytest.raises(ValueError, match="pass frame_stack=3"):
        certify(alone, vec_normalize=tmp_path / "vecnormalize.pkl", **FEW)
    named = certify(alone, vec_normalize=tmp_path / "vecnormalize.pkl", frame_stack=3, **FEW)
    assert named.upper_bound == pytest.approx(certify(model, **FEW).upper_bound, rel=1e-9)
    with pytest.raises(ValueError, match="3 stacked frames"):
        certify(model, frame_stack=2, **FEW)


def test_normalize_observation_inside_the_environment_is_counted():
    env = NormalizeObservation(gym.make("Pendulum-v1"))
    model = ppo("MlpPolicy", env)
    certificate = certify(model, **FEW)
    factors = {factor.name: factor.gain for factor in certificate.factors}
    gain = 1 / np.sqrt(env.obs_rms.var.astype(np.float64) + env.epsilon)
    assert factors["normalize_observation"] == pytest.approx(gain.max(), rel=1e-6)
    assert not certificate.warnings

    env.update_running_mean = False
    raw, _ = env.env.reset(seed=3)
    seen = env.observation(raw)
    pipeline = Pipeline.of(model, observation_chain(model))
    expected, _ = model.predict(seen, deterministic=True)
    np.testing.assert_allclose(
        pipeline.act(torch.as_tensor(raw[None]).double()).numpy()[0], expected, atol=1e-5
    )


def test_normalize_observation_and_vec_normalize_compose():
    model = ppo(
        "MlpPolicy", VecNormalize(DummyVecEnv([lambda: NormalizeObservation(gym.make("Pendulum-v1"))]))
    )
    factors = {factor.name: factor.gain for factor in certify(model, **FEW).factors}
    pipeline = Pipeline.of(model, observation_chain(model))
    assert factors["normalize_observation"] * factors["vec_normalize"] == pytest.approx(pipeline.gain.max())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: [NormalizeObservation(gym.make("Pendulum-v1")) for _ in range(2)], "has other statistics"),
        (
            lambda: [FlattenObservation(NormalizeObservation(gym.make("Pendulum-v1")))],
            "lies inside FlattenObservation",
        ),
    ],
)
def test_a_hidden_normalize_observation_is_warned_of(make, said):
    envs = make()
    model = ppo("MlpPolicy", DummyVecEnv([lambda env=env: env for env in envs]))
    (warning,) = certify(model, **FEW).warnings
    assert said in warning


@pytest.mark.parametrize(("name", "options"), POLICIES)
def test_discrete_observations_are_one_hot(name, options):
    model = ppo(f"{name}Policy", IdentityEnv(5), **options)
    certificate = certify(model, **FEW)
    assert len(certificate.per_sensor) == 5
    assert any("one-hot" in text for text in certificate.assumptions)
    pipeline = Pipeline.of(model, observation_chain(model))
    logits = pipeline.act(torch.as_tensor(flatten(model.observation_space, np.arange(5))))
    gaps = torch.cdist(logits, logits)
    assert float(gaps.max()) <= certificate.upper_bound * np.sqrt(2)


@pytest.mark.parametrize(
    ("name", "options"), [("MultiInput", {}), ("LipschitzMultiInput", {"lipschitz_bound": 3.0})]
)
@pytest.mark.parametrize("normalised", [False, True])
def test_dict_observations(name, options, normalised):
    env = DummyVecEnv([lambda: SimpleMultiObsEnv(discrete_actions=False)])
    if normalised:
        env = VecNormalize(env, norm_obs_keys=["vec"])
    kwargs = {"features_extractor_kwargs": {"cnn_output_dim": 16}, **options}
    model = PPO(
        f"{name}Policy", env, n_steps=64, batch_size=32, seed=0, policy_kwargs={"net_arch": [16], **kwargs}
    )
    certificate = certify(model, n_starts=32)
    assert certificate.sensors[0] == "img (image)"
    assert len(certificate.sensors) == 1 + 5
    assert 0 < certificate.lower_bound <= certificate.upper_bound

    pipeline = Pipeline.of(model, observation_chain(model))
    raw = env.observation_space.sample()
    batch = {key: value[None] for key, value in raw.items()}
    seen = env.normalize_obs({k: v.copy() for k, v in batch.items()}) if normalised else batch
    expected, _ = model.predict(seen, deterministic=True)
    x = torch.as_tensor(flatten(env.observation_space, batch))
    np.testing.assert_allclose(pipeline.act(x).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), [("Cnn", {}), ("LipschitzCnn", {"lipschitz_bound": 0.5})])
def test_images_are_in_grey_levels(name, options):
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=False)
    kwargs = {"features_extractor_kwargs": {"features_dim": 16}, "net_arch": [16], **options}
    model = PPO(f"{name}Policy", env, n_steps=32, batch_size=32, seed=0, policy_kwargs=kwargs)
    certificate = certify(model, n_starts=32)
    assert certificate.sensors == ("observation (image)",)
    assert any("grey levels" in text for text in certificate.assumptions)
    if options:
        assert certificate.upper_bound <= 0.5
    pipeline = Pipeline.of(model, observation_chain(model))
    image = np.random.default_rng(0).integers(0, 256, size=(1, 1, 36, 36), dtype=np.uint8)
    expected, _ = model.predict(image, deterministic=True)
    ours = pipeline.act(torch.as_tensor(image.reshape(1, -1)).double())
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="local bounds of images"):
        certify(model, states=image.reshape(1, -1), radius=1.0, n_starts=32)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_the_gain_of_a_front_is_never_below_the_truth(norm):
    torch.manual_seed(0)
    conv = torch.nn.Sequential(
        torch.nn.Unflatten(1, (2, 8, 8)), torch.nn.Conv2d(2, 3, 3, 2), torch.nn.ReLU(), torch.nn.Flatten()
    ).double()
    network = torch.nn.Sequential(
        Parallel(
            [torch.nn.Sequential(*conv), torch.nn.Sequential(Scale(0.25)), torch.nn.Sequential()], (128, 3, 2)
        ),
        torch.nn.Linear(27 + 5, 2).double(),
    )
    front = Front.of(network)
    assert not front.diagonal
    gain = torch.rand(133, dtype=torch.float64) + 0.1
    unit = front.gain(gain, norm)
    assert unit.shape == (32,)
    order = {"l2": 2.0, "linf": float("inf"), "l1": 1.0}[norm]
    x = torch.randn(2000, 133, dtype=torch.float64)
    y = x + torch.randn_like(x) * torch.rand(2000, 1, dtype=torch.float64)
    through = torch.nn.Sequential(*front.modules)
    moved = (through(x * gain) - through(y * gain)) / unit
    ratio = torch.linalg.vector_norm(moved, order, dim=1) / torch.linalg.vector_norm(x - y, order, dim=1)
    assert float(ratio.detach().max()) <= 1 + 1e-12  # the division of the check itself is rounded
    assert front.owners(torch.tensor([7] * 128 + [1, 2, 3, 4, 5])).tolist() == [7] * 27 + [1, 2, 3, 4, 5]


@pytest.mark.parametrize("algorithm", [A2C, DQN, SAC, TD3])
def test_stock_algorithms(algorithm):
    env = "CartPole-v1" if algorithm is DQN else "Pendulum-v1"
    model = algorithm("MlpPolicy", env, seed=0, policy_kwargs={"net_arch": [16, 16]})
    certificate = certify(model, **FEW)
    assert 0 < certificate.lower_bound <= certificate.upper_bound


@pytest.mark.parametrize("algorithm", ["TQC", "QRDQN", "TRPO", "ARS", "MaskablePPO"])
def test_stock_contrib_algorithms(algorithm):
    contrib = pytest.importorskip("sb3_contrib")
    if algorithm == "MaskablePPO":
        from sb3_contrib.common.envs import InvalidActionEnvDiscrete

        env = InvalidActionEnvDiscrete(dim=10, n_invalid_actions=2)
    else:
        env = "CartPole-v1" if algorithm == "QRDQN" else "Pendulum-v1"
    options = {"zero_policy": False} if algorithm == "ARS" else {}
    kwargs = {"net_arch": [16, 16]} | ({"n_quantiles": 6} if algorithm == "QRDQN" else {})
    model = getattr(contrib, algorithm)("MlpPolicy", env, seed=0, policy_kwargs=kwargs, **options)
    certificate = certify(model, **FEW)
    assert 0 < certificate.lower_bound <= certificate.upper_bound


def test_what_cannot_be_certified_is_named():
    contrib = pytest.importorskip("sb3_contrib")
    model = contrib.RecurrentPPO("MlpLstmPolicy", "Pendulum-v1")
    with pytest.raises(ValueError, match="recurrent"):
        certify(model)
