"""A policy with memory acts on single observations as the model does behind its frame stack."""

import copy
import pickle

import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize

import lipsrl
from lipsrl.deployment import WindowPolicy
from lipsrl.disturbances import GaussianNoise
from tests.deployment.window_models import FRAMES, SLOTS, Drift, readings, trained

NORMALISED = ["inside", "around", "gymnasium", "gymnasium, around"]
HALF_RANGE = 2.0


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(where, dtype, folded) → (model, exported policy); each is made once."""
    folder, made = tmp_path_factory.mktemp("windows"), {}

    def get(where, dtype="float32", folded=False):
        if (where, dtype) not in made:
            made[where, dtype] = trained(where, dtype)
        model, path = made[where, dtype], folder / f"{where}-{dtype}-{folded}.safetensors"
        if not path.exists():
            lipsrl.export(model, path, folded=folded)
        return model, lipsrl.load_policy(path)

    return get


@pytest.fixture
def policy(models):
    return models("inside")[1]


@pytest.mark.parametrize(
    ("where", "dtype", "folded"),
    [
        *((where, "float32", folded) for where in NORMALISED for folded in (False, True)),
        *((where, "float64", False) for where in ("none", "inside", "around")),
        ("none", "float32", False),
    ],
)
def test_acts_as_the_model_through_episodes(models, where, dtype, folded):
    """Slots whose episodes end at different times; every way to call it."""
    model, policy = models(where, dtype, folded)
    assert type(policy) is WindowPolicy
    venv = model.get_env()
    seen, slots = venv.reset(), venv.num_envs
    state, starts, histories, actions = None, np.ones(slots, bool), [[] for _ in range(slots)], []
    for _ in range(60):
        expected = model.predict(seen, deterministic=True)[0]
        raw = readings(model)
        for history, start, reading in zip(histories, starts, raw, strict=True):
            history[:] = [*([] if start else history), reading]
        if starts[0]:
            policy.reset()
        action, state = policy.predict(raw, state, starts)
        alone = policy(raw[0])
        windows = [policy.stateless(np.array(history[-FRAMES:])) for history in histories]
        assert action.dtype == alone.dtype == expected.dtype
        assert action.shape == expected.shape
        for found, wanted in ((action, expected), (alone, expected[0]), (windows, expected)):
            np.testing.assert_allclose(np.divide(found, HALF_RANGE), wanted / HALF_RANGE, rtol=0, atol=1e-6)
        actions.append(expected)
        seen, _, starts, _ = venv.step(expected)
    assert np.std(actions) > 0.1


def test_what_it_says_of_itself(models):
    _, policy = models("inside")
    assert (policy.observation_shape, policy.action_shape, policy.frames) == ((3,), (2,), FRAMES)
    assert repr(policy).startswith(
        "WindowPolicy(PPO, observation (3,) × 4 frames, action (2,), 12 → 24 → 16 → 2, at "
    )


def test_the_three_ways_share_no_state(policy):
    rng = np.random.default_rng(0)
    episode = Drift.offset + Drift.spread * rng.standard_normal((6, 3))
    alone = [policy(observation) for observation in episode]
    policy.reset()
    for t, observation in enumerate(episode):
        policy.predict(rng.standard_normal((5, 3)), episode_start=np.ones(5, bool))
        policy.stateless(rng.standard_normal((2, 3)))
        np.testing.assert_array_equal(policy(observation), alone[t])
    np.testing.assert_allclose(policy.stateless(episode[-FRAMES:]), alone[-1], rtol=0, atol=1e-6)


def test_episodes_start_when_loaded_and_reset(policy):
    first, second = np.array([0.5, 21.0, -3.0]), np.array([-1.0, 18.0, -2.9])
    fresh = policy(first)
    policy(second)
    assert not np.array_equal(policy(first), fresh)
    policy.reset()
    np.testing.assert_array_equal(policy(first), fresh)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_start_an_episode_and_have_a_window_of_their_own(policy, how):
    first, second = np.array([0.5, 21.0, -3.0]), np.array([-1.0, 18.0, -2.9])
    fresh = policy(first)
    other = how(policy)
    np.testing.assert_array_equal(other(first), fresh)
    other(second)
    following = how(policy)
    following(first)
    np.testing.assert_array_equal(policy(second), following(second))


def test_a_reading_that_raises_does_not_enter_the_window(policy):
    episode = Drift.offset + Drift.spread * np.random.default_rng(0).standard_normal((6, 3))
    expected = [policy(observation) for observation in episode]
    policy.reset()
    state, starts = None, np.ones(1, bool)
    for t, observation in enumerate(episode):
        broken = observation.copy()
        broken[1] = np.nan
        with pytest.raises(ValueError, match=r"observation\[1\] is nan, so there is no action"):
            policy(broken)
        with pytest.raises(ValueError, match="shape"):
            policy(observation[:2])
        with pytest.raises(ValueError, match=r"observation\[0, 1\] is nan"):
            policy.predict(broken[None], state, starts)
        np.testing.assert_array_equal(policy(observation), expected[t])
        action, state = policy.predict(observation[None], state, starts)
        np.testing.assert_allclose(action[0], expected[t], rtol=0, atol=1e-6)
        starts = np.zeros(1, bool)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_an_infinite_reading_is_clipped_or_refused(models):
    reading = np.array([np.inf, 20.0, -3.0])
    _, policy = models("inside")
    ceiling = np.array([1e6, 20.0, -3.0])
    for at in (reading, reading, ceiling):
        assert np.isfinite(policy(at)).all()
    np.testing.assert_array_equal(policy.stateless([reading, reading]), policy.stateless([ceiling, ceiling]))
    _, plain = models("none")  # a tanh would hide it, and it would stay for three steps more
    with pytest.raises(ValueError, match=r"observation\[0\] is inf"):
        plain(reading)
    with pytest.raises(ValueError, match="overflows float32"):
        plain(np.array([1e300, 0.0, 0.0]))
    np.testing.assert_array_equal(plain(np.ones(3)), plain.stateless(np.ones((1, 3))))


def test_the_callers_arrays_are_their_own(policy):
    episode = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    expected = [policy(observation) for observation in episode]
    policy.reset()
    buffer = np.empty(3, np.float32)
    for t, observation in enumerate(episode):
        buffer[:] = observation
        action = policy(buffer)
        np.testing.assert_array_equal(action, expected[t])
        action[:], buffer[:] = 99.0, 99.0


def test_windows_that_the_episode_has_not_filled(models):
    for where in ("inside", "around", "none"):
        _, policy = models(where)
        episode = Drift.offset + Drift.spread * np.random.default_rng(0).standard_normal((5, FRAMES, 3))
        for j in range(1, FRAMES + 1):
            given = episode[:, FRAMES - j :]
            expected = np.stack([policy.stateless(one) for one in given])
            assert expected.shape == (5, 2)
            np.testing.assert_allclose(policy.stateless(given), expected, rtol=0, atol=1e-6)
            hidden = episode.copy()
            hidden[:, : FRAMES - j] = np.nan
            for flat in (hidden, hidden.reshape(5, -1)):
                np.testing.assert_allclose(policy.stateless(flat, filled=j), expected, rtol=0, atol=1e-6)
            np.testing.assert_array_equal(policy.stateless(hidden[0].ravel(), filled=j), expected[0])
        mixed = policy.stateless(episode, filled=[1, 2, 3, 4, 1])
        each = [policy.stateless(one[FRAMES - j :]) for one, j in zip(episode, [1, 2, 3, 4, 1], strict=True)]
        np.testing.assert_allclose(mixed, each, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(policy.stateless(episode.tolist()), policy.stateless(episode))
    assert policy.stateless(np.zeros((0, 2, 3))).shape == (0, 2)


def test_zeros_inside_are_no_raw_zeros(models):
    """What a caller would get wrong who stacked raw zeros."""
    _, policy = models("inside")
    reading = np.array([0.5, 21.0, -3.0])
    raw_zeros = np.concatenate([np.zeros(9), reading])
    assert np.abs(policy.stateless(raw_zeros) - policy(reading)).max() > 0.1
    np.testing.assert_allclose(policy.stateless(raw_zeros, filled=1), policy.stateless(reading[None]))
    _, around = models("around")
    np.testing.assert_array_equal(around.stateless(raw_zeros), around(reading))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: p(np.zeros(12)), r"shape \(3,\), one at a time: the policy keeps its 4 newest .*Received \(12,\)"),
        (lambda p: p(np.zeros(12)), r"Leave away what stacks frames"),
        (lambda p: p(np.zeros((2, 3))), r"Several slots: policy\.predict\(observations, state, episode_start\)"),
        (lambda p: p(np.zeros(4)), r"Received \(4,\)\. policy\.stateless"),
        (lambda p: p((np.zeros(3), {})), "give the first"),
        (lambda p: p({"a": np.zeros(3)}), "array of real numbers"),
        (lambda p: p.predict(np.zeros(3), deterministic=False), "deterministic=False"),
        (lambda p: p.predict(np.zeros(3)), r"needs the state .* or episode_start\. Expected predict"),
        (lambda p: p.predict(np.zeros((2, 12)), None, True), r"\(3,\) or \(n, 3\).* Received \(2, 12\)\. Leave away"),
        (lambda p: p.predict(np.zeros((2, 3)), None, np.ones(3)), "episode_start must be 2 bools"),
        (lambda p: p.predict(np.zeros((2, 3)), np.zeros((3, 3, 3))), r"same 2 slots, of shape \(2, 3, 3\), received"),
        (lambda p: p.predict(np.zeros((2, 3)), (None, None)), "state must be an array of real numbers"),
        (lambda p: p.predict(np.zeros(3), np.full((1, 3, 3), np.nan)), "observation .* overflows"),
        (lambda p: p.stateless(np.zeros(3)), r"1 to 4 observations.*Received \(3,\)"),
        (lambda p: p.stateless(np.zeros((5, 3))), r"Received \(5, 3\)\. Of a longer history give the last 4"),
        (lambda p: p.stateless(np.zeros((0, 3))), r"Received \(0, 3\)"),
        (lambda p: p.stateless(np.zeros(9)), r"whole and flat, \(12,\) or \(n, 12\)"),
        (lambda p: p.stateless(np.zeros((2, 5, 3))), r"Received \(2, 5, 3\)"),
        (lambda p: p.stateless(np.zeros((2, 3)), filled=3), "integer from 1 to 2, or 1 of them. Received 3"),
        (lambda p: p.stateless(np.zeros((2, 3)), filled=0), "from 1 to 2"),
        (lambda p: p.stateless(np.zeros((5, 2, 3)), filled=[1, 2]), r"or 5 of them"),
        (lambda p: p.stateless(np.zeros((2, 3)), filled=1.5), "integer"),
        (lambda p: p.stateless(np.full((2, 3), np.nan)), r"window\[2, 0\] is nan"),
        (lambda p: p.stateless([np.zeros((2, 3)), np.full((2, 3), np.nan)]), r"window\[1, 2, 0\] is nan"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_named(policy, call, words):
    with pytest.raises(ValueError, match=words):
        call(policy)


def test_predict_of_one_slot(policy):
    episode = Drift.offset + Drift.spread * np.random.default_rng(0).standard_normal((6, 3))
    state, start = None, True
    for observation in episode:
        action, state = policy.predict(observation, state, start)
        assert (action.shape, state.shape) == ((2,), (1, FRAMES - 1, 3))
        np.testing.assert_array_equal(action, policy(observation))
        start = False
    np.testing.assert_array_equal(state[0], episode[-3:])


@pytest.mark.parametrize("where", ["none", "inside", "around"])
def test_lipsrl_evaluates_it_as_the_model(models, where):
    model, policy = models(where)
    asked = {
        "disturbances": GaussianNoise(1.0), "strengths": (0.0, 0.2), "n_episodes": 6, "n_envs": 4,
        "max_episode_steps": 50,
    }  # fmt: skip
    frame, reference = (lipsrl.evaluate({"agent": one}, Drift, **asked).frame for one in (policy, model))
    assert reference["return"].std() > 0.1
    measured = reference.select_dtypes("number").columns.drop("seed")
    found, expected = (table[measured].to_numpy(np.float64, na_value=np.nan) for table in (frame, reference))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="Leave away what stacks frames"):
        lipsrl.evaluate(policy, Drift, n_episodes=1, frame_stack=FRAMES, max_episode_steps=50)


@pytest.mark.parametrize("where", ["none", "inside", "around"])
def test_sb3_evaluates_it_as_the_model(models, where):
    model, policy = models(where)

    def returns(agent, wrap):
        venv = VecMonitor(DummyVecEnv([Drift] * SLOTS))
        venv.seed(7)
        return evaluate_policy(agent, wrap(venv), n_eval_episodes=10, return_episode_rewards=True)

    def behind(venv):
        if where == "none":
            return VecFrameStack(venv, FRAMES)
        wrapped = VecNormalize(
            venv if where == "inside" else VecFrameStack(venv, FRAMES), training=False, clip_obs=2.0
        )
        wrapped.obs_rms = model.get_vec_normalize_env().obs_rms
        wrapped.norm_reward = False
        return VecFrameStack(wrapped, FRAMES) if where == "inside" else wrapped

    found, expected = returns(policy, lambda venv: venv), returns(model, behind)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
    assert found[1] == expected[1]
