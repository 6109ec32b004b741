"""Files of policies with memory: what they say, what is refused, older ones, ONNX, and the command."""

import io
import json

import numpy as np
import onnxruntime
import pytest
from gymnasium import spaces
from rich.console import Console
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import lipsrl
from lipsrl._commands.export import Export
from lipsrl.deployment import NumpyPolicy, WindowPolicy, verify_onnx
from lipsrl.deployment._onnx import write_onnx
from lipsrl.deployment._schema import read_policy_file, write_policy_file
from tests.deployment.window_models import FRAMES, Drift, trained

LAYOUT = "oldest first, newest last"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(where, folded) → (model, its file); each is made once."""
    folder, made = tmp_path_factory.mktemp("windows"), {}

    def get(where, folded=False):
        if where not in made:
            made[where] = trained(where)
        path = folder / f"{where}-{folded}.safetensors"
        if not path.exists():
            lipsrl.export(made[where], path, folded=folded)
        return made[where], path

    return get


def episode(n=50):
    """(n, 4, 3) float32 windows of plausible readings."""
    rng = np.random.default_rng(0)
    return (Drift.offset + Drift.spread * rng.standard_normal((n, FRAMES, 3))).astype(np.float32)


def test_what_the_file_says(files):
    for where in ("none", "inside", "around", "gymnasium", "gymnasium, around"):
        model, path = files(where)
        description, _ = read_policy_file(path)
        observation = description["observation"]
        window = observation["window"]
        assert description["schema_version"] == 3
        assert (observation["shape"], observation["frames"]) == ([3], FRAMES)
        assert window["layout"] == LAYOUT
        inner = model.get_env().unwrapped.envs[0]
        statistics = model.get_vec_normalize_env()
        normalisation, before = {
            "none": ("none", np.zeros(3)),
            "inside": ("inside", getattr(getattr(statistics, "obs_rms", None), "mean", None)),
            "around": ("around", np.zeros(3)),
            "gymnasium": ("inside", getattr(getattr(inner, "obs_rms", None), "mean", None)),
            "gymnasium, around": ("inside and around", getattr(getattr(inner, "obs_rms", None), "mean", None)),
        }[where]  # fmt: skip
        assert window["normalisation"] == normalisation
        assert window["before"] == before.tolist()


def test_the_certificate_is_that_of_the_model(files):
    model, path = files("inside")
    assert lipsrl.load_policy(path).certificate == json.loads(json.dumps(lipsrl.certify(model).to_dict()))


def test_no_windows_steeper_than_certified(files):
    _, path = files("inside")
    policy, rng = lipsrl.load_policy(path), np.random.default_rng(1)
    a = episode(5000).astype(np.float64)
    step = rng.standard_normal(a.shape) * 10.0 ** rng.uniform(-3, 0, (len(a), 1, 1))
    largest_frame = np.linalg.norm(step, axis=2).max(axis=1)  # each frame may be off by one unit
    moved = np.linalg.norm(policy.stateless(a + step).astype(np.float64) - policy.stateless(a), axis=1)
    assert (moved <= policy.certificate["upper_bound"] * largest_frame + 1e-5).all()


def test_older_files_take_the_stack_as_before(files, tmp_path):
    model, path = files("around")
    description, tensors = read_policy_file(path)
    observation = {key: value for key, value in description["observation"].items() if key != "window"}
    older = {**description, "schema_version": 2, "observation": {**observation, "shape": [3 * FRAMES]}}
    write_policy_file(tmp_path / "old.safetensors", older, tensors)
    old, new, stacks = lipsrl.load_policy(tmp_path / "old.safetensors"), lipsrl.load_policy(path), episode()
    assert type(old) is NumpyPolicy
    assert (old.observation_shape, old.frames) == ((3 * FRAMES,), 1)
    np.testing.assert_array_equal(old(stacks.reshape(-1, 12)), new.stateless(stacks))
    assert old.predict(stacks[0].ravel())[1] is None
    returns = lipsrl.evaluate(old, Drift, n_episodes=2, frame_stack=FRAMES, max_episode_steps=50).frame[
        "return"
    ]
    reference = lipsrl.evaluate(model, Drift, n_episodes=2, max_episode_steps=50).frame["return"]
    np.testing.assert_allclose(returns, reference, rtol=1e-4)


def test_without_memory_nothing_is_new(small_file):
    description, _ = read_policy_file(small_file)
    assert description["schema_version"] == 2
    assert "window" not in description["observation"]
    policy = lipsrl.load_policy(small_file)
    assert type(policy) is NumpyPolicy
    assert policy.frames == 1
    policy.reset()
    observations = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_array_equal(policy.stateless(observations), policy(observations))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda o: o["window"].update(layout="newest first"), "layout is 'newest first', expected 'oldest first"),
        (lambda o: o["window"].update(before=[0.0]), "expected 3 finite numbers"),
        (lambda o: o["window"].pop("before"), "no 'before'"),
        (lambda o: o.update(frames=1), "a window of 1 observations"),
        (lambda o: o.update(frames=2.0), "a window of 2.0 observations"),
        (lambda o: o.update(frames=3), r"expected \(…, 9\)|expected \(9,\)"),
        (lambda o: o.update(kind="discrete"), "kind 'discrete'"),
        (lambda o: o.update(window=None), "no policy that can run"),
    ],
)  # fmt: skip
def test_windows_that_do_not_fit_are_refused_when_loaded(files, tmp_path, change, words):
    description, tensors = read_policy_file(files("inside")[1])
    change(description["observation"])
    write_policy_file(tmp_path / "p.safetensors", description, tensors)
    with pytest.raises(ValueError, match=words):
        lipsrl.load_policy(tmp_path / "p.safetensors")


def act(path, windows):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["action"], {"observation": windows})[0]


@pytest.mark.parametrize(
    ("where", "folded"),
    [("none", False), *((where, folded) for where in ("inside", "around") for folded in (False, True))],
)
def test_the_onnx_graph_takes_the_window(files, tmp_path, where, folded):
    _, path = files(where, folded)
    policy = lipsrl.load_policy(path)
    write_onnx(tmp_path / "p.onnx", policy.description, policy._tensors)
    assert verify_onnx(tmp_path / "p.onnx") == policy.description
    before = policy.description["observation"]["window"]["before"]
    for j in range(1, FRAMES + 1):  # as a robot would: its buffer holds `before` when an episode starts
        windows = episode().astype(np.float64 if where == "inside" else np.float32)
        windows[:, : FRAMES - j] = before
        action = act(tmp_path / "p.onnx", windows.reshape(-1, 12))
        np.testing.assert_allclose(action, policy.stateless(windows[:, -j:]), rtol=0, atol=2e-6)


def untrained(space, mean, var):
    class Env(Drift):
        observation_space = space

        def __init__(self):
            pass

        def look(self):
            return space.sample()

    venv = VecNormalize(DummyVecEnv([Env]), norm_reward=False)
    venv.obs_rms.mean, venv.obs_rms.var, venv.training = np.array(mean), np.array(var), False
    return PPO("MlpPolicy", VecFrameStack(venv, 2), seed=0, device="cpu", n_steps=8, batch_size=8)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(
    ("dtype", "mean", "var"),
    [
        # a pressure in Pascal, of which float32 knows a twentieth of the spread
        (np.float32, [1e6 + 0.03, -3e5 - 0.01], [0.1, 0.1]),
        (np.int32, [3.7, 0.2], [9.0, 9.0]),
    ],
)
def test_what_stands_before_is_zero_after_the_normalisation(tmp_path, dtype, mean, var, folded):
    model = untrained(spaces.Box(-1_000_000, 1_000_000, (2,), dtype), mean, var)
    model.policy.action_net.weight.data.mul_(30.0)
    policy = lipsrl.load_policy(lipsrl.export(model, tmp_path / "p.safetensors", folded=folded))
    lipsrl.export(model, tmp_path / "p.onnx", folded=folded)
    reading = np.array(mean).astype(dtype)  # the nearest to the mean that there is
    seen = model.get_vec_normalize_env().normalize_obs(reading)
    expected = model.predict(np.concatenate([np.zeros(2, np.float32), seen]), deterministic=True)[0]
    window = np.concatenate([policy.description["observation"]["window"]["before"], reading])
    for action in (policy(reading), act(tmp_path / "p.onnx", window[None])[0]):
        np.testing.assert_allclose(action, expected, rtol=0, atol=1e-6)


def test_stacks_of_stacks_and_images_are_taken_stacked(spaces_env, tmp_path):
    twice = VecFrameStack(VecFrameStack(DummyVecEnv([Drift]), 2), 2)
    camera = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    film = VecFrameStack(DummyVecEnv([lambda: spaces_env(camera, Drift.action_space)]), 2)
    for policy, venv in (("MlpPolicy", twice), ("CnnPolicy", film)):
        small = {"net_arch": [16, 12]}
        model = PPO(policy, venv, seed=0, device="cpu", n_steps=8, batch_size=8, policy_kwargs=small)
        loaded = lipsrl.load_policy(lipsrl.export(model, tmp_path / "p.safetensors"))
        assert type(loaded) is NumpyPolicy
        assert loaded.observation_shape == model.observation_space.shape
        stack = model.observation_space.sample()
        np.testing.assert_allclose(
            loaded(stack), model.predict(stack, deterministic=True)[0], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        ("safetensors", ["it keeps the 4 newest itself", "policy.reset() at every episode's start"]),
        (
            "onnx",
            [
                "the 4 newest observations as (n, 12) float64, oldest first",
                "those before an episode's first, [",
            ],
        ),
    ],
)
def test_the_command_says_how_to_use_it(files, tmp_path, suffix, words):
    model, _ = files("inside")
    model.save(tmp_path / "model.zip")
    model.get_vec_normalize_env().save(tmp_path / "vecnormalize.pkl")
    console, path = Console(file=io.StringIO(), width=1000), tmp_path / f"p.{suffix}"
    Export(tmp_path / "model.zip", str(tmp_path / "vecnormalize.pkl"), frame_stack=FRAMES, output=path).run(
        console
    )
    text = console.file.getvalue()
    for word in ["(3,) box, 4 frames, normalisation included", *words]:
        assert word in text
    if suffix == "safetensors":
        policy, reading = lipsrl.load_policy(path), np.array([0.5, 21.0, -3.0])
        assert type(policy) is WindowPolicy
        np.testing.assert_array_equal(policy(reading), lipsrl.load_policy(files("inside")[1])(reading))
