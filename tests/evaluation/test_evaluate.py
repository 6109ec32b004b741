"""`evaluate`: equal to SB3 where it can be, paired, seeded, and independent of how it is scheduled."""

import doctest
import importlib
import pkgutil

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from gymnasium.wrappers import RescaleAction
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import lipsrl.evaluation
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import COLUMNS, evaluate, random_return, rollout_trace

NOISE = GaussianNoise(1.0)


def steer(observations):
    """A linear policy with slope 3, far from the torque limit only near rest."""
    return 0.3 * observations @ np.array([[0.0], [8.0], [6.0]])


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules(lipsrl.evaluation.__path__)])
def test_docstring_examples(module):
    assert doctest.testmod(importlib.import_module(f"lipsrl.evaluation.{module}")).failed == 0


@pytest.mark.parametrize(
    ("fixture", "env_id"),
    [
        ("ppo", "Pendulum-v1"),
        ("sac", "Pendulum-v1"),
        ("normalized_ppo", "Pendulum-v1"),
        ("dqn", "CartPole-v1"),
    ],
)
def test_clean_returns_are_those_of_sb3(fixture, env_id, request):
    model = request.getfixturevalue(fixture)
    frame = evaluate(model, env_id, n_episodes=4).frame
    for row in frame.itertuples():
        venv = DummyVecEnv([lambda: Monitor(gym.make(env_id))])
        venv.seed(row.env_seed)
        if fixture == "normalized_ppo":
            attached = model.get_vec_normalize_env()
            venv = VecNormalize(venv, training=False, norm_reward=False)
            venv.obs_rms = attached.obs_rms
        returns, lengths = evaluate_policy(model, venv, n_eval_episodes=1, return_episode_rewards=True)
        assert row.length == lengths[0]
        assert frame.loc[row.Index, "return"] == pytest.approx(returns[0], rel=2e-3)


def test_table_follows_the_schema(ppo, sac):
    evaluation = evaluate(
        {"a": ppo, ("b", 7): sac, "c": steer},
        "Pendulum-v1",
        disturbances={"white": NOISE, "half": GaussianNoise([0.5, 0.5, 0.0])},
        strengths=(0.1, 0.0),
        n_episodes=3,
        floor=-1200.0,
    )
    frame = evaluation.frame
    # before pandas 3 texts are objects
    assert {k: t.replace("object", "str") for k, t in frame.dtypes.astype(str).items()} == COLUMNS
    assert len(frame) == 3 * 2 * 2 * 3
    assert frame.drop_duplicates("agent")["seed"].tolist() == [0, 7, pd.NA]
    assert frame["strength"].tolist()[:6] == [0.1] * 3 + [0.0] * 3
    assert frame["episode"].tolist()[:6] == [0, 1, 2] * 2
    assert frame.groupby("episode")["env_seed"].nunique().tolist() == [1, 1, 1]
    assert frame["env_seed"].nunique() == 3
    assert (frame["length"] == 200).all()
    assert not frame.drop(columns="seed").isna().any(axis=None)
    metadata = evaluation.metadata
    assert metadata["disturbances"]["half"] == {"name": "gaussian", "std": [0.5, 0.5, 0.0]}
    assert metadata["env_steps"] == 3 * (3 + 2 * 3) * 200  # strength 0 is run once for both disturbances
    assert (metadata["env"], metadata["floor"], metadata["strengths"]) == ("Pendulum-v1", -1200.0, [0.1, 0.0])
    assert [a["policy"] for a in metadata["agents"]] == ["ActorCriticPolicy", "SACPolicy", None]


def test_two_runs_are_the_same_bytes(ppo, tmp_path):
    for name in ("one", "two"):
        evaluate(ppo, "Pendulum-v1", disturbances=NOISE, strengths=(0, 0.2), n_episodes=5).save(
            tmp_path / f"{name}.parquet"
        )
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_an_episode_does_not_depend_on_what_runs_beside_it(ppo, sac):
    """Neither the number of slots, nor other strengths, models or episodes, change a bit of its row."""

    def run(models, strengths, n_episodes, n_envs):
        frame = evaluate(
            models,
            "Pendulum-v1",
            disturbances=NOISE,
            strengths=strengths,
            n_episodes=n_episodes,
            n_envs=n_envs,
        ).frame
        wanted = (frame["agent"] == "ppo") & (frame["strength"] == 0.2) & (frame["episode"] < 3)
        return frame[wanted].reset_index(drop=True)

    alone = run({"ppo": ppo}, (0.2,), 3, 2)
    pd.testing.assert_frame_equal(
        alone, run({"sac": sac, "ppo": ppo}, (0, 0.1, 0.2), 5, 64), check_exact=True
    )
    pd.testing.assert_frame_equal(alone, run({"ppo": ppo}, (0.2, 0.4), 40, 70), check_exact=True)


def test_another_seed_gives_other_episodes(ppo):
    frames = [evaluate(ppo, "Pendulum-v1", n_episodes=3, seed=seed).frame for seed in (0, 1)]
    assert not set(frames[0]["env_seed"]) & set(frames[1]["env_seed"])


def test_strengths_share_start_and_draws(ppo):
    traces = [
        rollout_trace(ppo, "Pendulum-v1", disturbance=NOISE, strength=strength)
        for strength in (0.0, 0.1, 0.2)
    ]
    starts = [t["observations"][0] for t in traces]
    np.testing.assert_array_equal(starts[0], starts[1])
    np.testing.assert_array_equal(starts[0], starts[2])
    np.testing.assert_array_equal(traces[0]["disturbed_observations"], traces[0]["observations"])
    weak, strong = (t["disturbed_observations"][:1] - t["observations"][:1] for t in traces[1:])
    np.testing.assert_allclose(strong, 2 * weak, atol=1e-6)
    assert np.abs(weak).max() > 1e-3


def test_disturbances_do_not_touch_the_environment(ppo):
    """Noise below the rounding of the observation leaves every number of the episode as it is."""
    frame = evaluate(ppo, "Pendulum-v1", disturbances=NOISE, strengths=(0, 1e-300), n_episodes=4).frame
    clean, silent = (frame[frame["strength"] == s].drop(columns="strength") for s in (0, 1e-300))
    pd.testing.assert_frame_equal(
        clean.reset_index(drop=True), silent.reset_index(drop=True), check_exact=True
    )


def test_policies_that_ignore_the_observation_get_the_same_return_at_every_strength():
    frame = evaluate(
        lambda o: np.full((len(o), 1), 0.7),
        "Pendulum-v1",
        disturbances=NOISE,
        strengths=(0, 1.0),
        n_episodes=4,
    ).frame
    clean, noisy = (frame.loc[frame["strength"] == s, "return"].to_numpy() for s in (0, 1.0))
    np.testing.assert_array_equal(clean, noisy)
    assert len(set(clean)) == 4


def test_noise_has_the_stated_size_in_raw_units():
    trace = rollout_trace(steer, "Pendulum-v1", disturbance=GaussianNoise([0.1, 0.2, 0.0]), strength=2.0)
    added = trace["disturbed_observations"] - trace["observations"]
    np.testing.assert_allclose(added.std(axis=0), [0.2, 0.4, 0.0], rtol=0.2)


@pytest.mark.parametrize("n_envs", [1, 3, 64])
def test_every_started_episode_is_finished_and_counted_once(countdown, n_envs):
    frame = evaluate(
        lambda o: o[:, :1], countdown, disturbances=NOISE, strengths=(0.5, 1.0), n_episodes=25, n_envs=n_envs
    ).frame
    env = countdown()
    true_lengths = [env.reset(seed=s)[0][1] for s in frame["env_seed"]]
    assert frame["length"].tolist() == true_lengths
    assert frame["return"].tolist() == true_lengths
    assert frame["episode"].tolist() == [*range(25)] * 2
    assert min(true_lengths) < 5 < 30 < max(true_lengths)


def test_cartpole_terminates_and_truncates():
    """A controller that holds the pole until the time limit, and one that drops it at once."""

    def hold(o):
        return (o @ np.array([0.1, 0.5, 4.0, 1.0]) > 0).astype(np.int64)

    frame = evaluate(
        {"hold": hold, "drop": lambda o: np.zeros(len(o), np.int64)}, "CartPole-v1", n_episodes=20
    ).frame
    lengths = frame.groupby("agent")["length"]
    assert lengths.min()["hold"] == 500
    assert 7 < lengths.min()["drop"] < lengths.max()["drop"] < 12
    drop = frame[frame["agent"] == "drop"]
    assert (drop["action_fluctuation"] == 0).all()
    assert drop[["jerk", "spectral_smoothness", "saturation", "action_sensitivity"]].isna().all(axis=None)
    # one row each: fluctuation is the rate of switches, total variation their number
    switches = frame["action_fluctuation"] * (frame["length"] - 1)
    np.testing.assert_allclose(switches, frame["total_variation"])


def test_metrics_are_of_the_action_that_the_environment_receives(ppo):
    row = evaluate(ppo, "Pendulum-v1", disturbances=NOISE, strengths=(0.3,), n_episodes=2).frame.iloc[1]
    trace = rollout_trace(ppo, "Pendulum-v1", disturbance=NOISE, strength=0.3, episode=1)
    assert np.abs(trace["actions"]).max() == 2.0
    assert row["return"] == trace["return"] == trace["rewards"].sum()
    assert row["action_fluctuation"] == trace["action_fluctuation"]
    assert row["total_variation"] == pytest.approx(np.abs(np.diff(trace["actions"], axis=0)).sum())
    assert row["saturation"] == pytest.approx((np.abs(trace["actions"]) > 1.998).mean())
    assert 0.02 < row["saturation"] < 1
    np.testing.assert_allclose(trace["time"][:3], [0.0, 0.05, 0.1])


def test_trace_shows_what_the_policy_saw(ppo):
    trace = rollout_trace(ppo, "Pendulum-v1", disturbance=NOISE, strength=0.3)
    actions, _ = ppo.predict(trace["disturbed_observations"], deterministic=True)
    np.testing.assert_allclose(actions, trace["actions"], atol=1e-5)


def test_sensitivity_is_the_slope_of_a_linear_policy():
    one_sensor = np.array([[0.0], [0.0], [0.2]])
    frame = evaluate(
        lambda o: o.astype(np.float64) @ one_sensor,
        "Pendulum-v1",
        n_episodes=2,
        sensitivity_std=[0.0, 0.0, 0.01],
    ).frame
    # up to the rounding of the float32 action; |θ̇| <= 8 keeps it inside the torque limit
    np.testing.assert_allclose(frame["action_sensitivity"], 0.2, rtol=1e-3)
    saturated = evaluate(lambda o: o[:, :1] + 50, "Pendulum-v1", n_episodes=2).frame
    assert (saturated["action_sensitivity"] == 0).all()
    assert (saturated["saturation"] == 1).all()


class TestVecNormalize:
    """Noise is added in raw units, then normalised with statistics that stay as they are."""

    @pytest.fixture
    def statistics(self, normalized_ppo):
        return normalized_ppo.get_vec_normalize_env()

    def test_forms_are_equal(self, normalized_ppo, statistics, tmp_path):
        statistics.save(tmp_path / "vecnormalize.pkl")
        options = {"disturbances": NOISE, "strengths": (0.2,), "n_episodes": 2}
        attached = evaluate({"a": normalized_ppo}, "Pendulum-v1", **options).frame
        for given in (
            statistics,
            tmp_path / "vecnormalize.pkl",
            str(tmp_path / "vecnormalize.pkl"),
            {"a": statistics},
        ):
            frame = evaluate({"a": normalized_ppo}, "Pendulum-v1", vec_normalize=given, **options).frame
            pd.testing.assert_frame_equal(frame, attached, check_exact=True)

    def test_each_model_has_its_own(self, ppo, normalized_ppo):
        both = evaluate(
            {("a", 0): normalized_ppo, ("b", 0): ppo}, "Pendulum-v1", vec_normalize={"b": None}, n_episodes=2
        ).frame
        alone = evaluate({("b", 0): ppo}, "Pendulum-v1", n_episodes=2).frame
        pd.testing.assert_frame_equal(both[both["agent"] == "b"].reset_index(drop=True), alone)

    def test_is_applied_after_the_noise(self, statistics):
        seen = []

        def record(observations):
            seen.append(observations.copy())
            return np.zeros((len(observations), 1))

        trace = rollout_trace(
            record, "Pendulum-v1", disturbance=NOISE, strength=0.5, vec_normalize=statistics
        )
        expected = statistics.normalize_obs(trace["disturbed_observations"])
        np.testing.assert_array_equal(np.stack([batch[0] for batch in seen]), expected)

    def test_is_not_updated(self, normalized_ppo, statistics):
        assert statistics.training
        before = statistics.obs_rms.mean.copy(), statistics.obs_rms.count
        evaluate(normalized_ppo, "Pendulum-v1", n_episodes=2)
        np.testing.assert_array_equal(statistics.obs_rms.mean, before[0])
        assert statistics.obs_rms.count == before[1]

    def test_sensitivity_is_per_raw_unit(self, statistics):
        """The normalisation's gain on θ̇ is 1/√(9 + 1e-8)."""
        frame = evaluate(
            lambda o: 0.2 * o[:, 2:],
            "Pendulum-v1",
            vec_normalize=statistics,
            sensitivity_std=[0.0, 0.0, 0.05],
            n_episodes=2,
        ).frame
        np.testing.assert_allclose(frame["action_sensitivity"], 0.2 / 3, rtol=1e-3)


def test_environment_forms_are_equal(ppo):
    given = gym.make("Pendulum-v1", render_mode="rgb_array")
    frames = [
        evaluate(ppo, env, n_episodes=2).frame
        for env in ("Pendulum-v1", lambda: gym.make("Pendulum-v1"), given)
    ]
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0], check_exact=True)
    given.close()


def test_wrappers_of_a_given_environment_are_kept(ppo):
    scaled = RescaleAction(gym.make("Pendulum-v1", max_episode_steps=17), np.float32(-1), np.float32(1))
    frame = evaluate(lambda o: np.clip(o[:, 2:], -1, 1), scaled, n_episodes=2).frame
    assert (frame["length"] == 17).all()
    with pytest.raises(ValueError, match=r"model 'PPO' \(training seed 0\) was trained on actions Box\(-2"):
        evaluate(ppo, scaled)


def test_random_return_is_a_seeded_floor():
    floor = random_return("Pendulum-v1", n_episodes=20)
    assert floor == random_return("Pendulum-v1", n_episodes=20)
    assert -1450 < floor < -1000
    assert 15 < random_return("CartPole-v1", n_episodes=20) < 35


def test_progress_bar(ppo, capsys):
    evaluate(ppo, "Pendulum-v1", n_episodes=2)
    assert capsys.readouterr().err == ""
    evaluate(ppo, "Pendulum-v1", n_episodes=2, progress=True)
    assert "2/2" in capsys.readouterr().err
