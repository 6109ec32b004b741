"""Attacks where disturbances are used: in `evaluate`, in a trace, in the wrappers."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from lipsrl.attacks import MADAttack, MinimumOverAttacks, RandomAttack
from lipsrl.disturbances import Compose, GaussianNoise
from lipsrl.evaluation import Evaluation, evaluate, rollout_trace
from lipsrl.wrappers import ObservationDisturbance, VecObservationDisturbance


def short():
    return gym.make("Pendulum-v1", max_episode_steps=30)


def swing(observations):
    return 0 * observations[:, :1]


class TestEvaluate:
    def test_it_stands_beside_other_disturbances(self, ppo):
        disturbances = [GaussianNoise(1.0), RandomAttack(ppo, 1.0), MADAttack(ppo, 1.0, "l2")]
        evaluation = evaluate(ppo, short, disturbances=disturbances, strengths=(0, 0.1), n_episodes=3)
        frame = evaluation.frame
        assert frame["disturbance"].unique().tolist() == ["gaussian", "random", "mad"]
        returns = frame.pivot_table(index="episode", columns=["disturbance", "strength"], values="return")
        assert (returns[("mad", 0.0)] == returns[("gaussian", 0.0)]).all()
        assert returns.loc[:, (slice(None), 0.1)].nunique(axis=1).eq(3).all()
        described = evaluation.metadata["disturbances"]["mad"]
        assert described["norm"] == "l2"
        assert described["model"]["algorithm"] == "PPO"

    @pytest.mark.parametrize("norm", ["linf", "l2"])
    def test_what_was_shown_is_inside_the_scaled_budget(self, normalized, norm):
        venv = normalized.get_vec_normalize_env()
        trace = rollout_trace(
            normalized, short, disturbance=MADAttack(normalized, 0.5, norm), strength=0.4, seed=3
        )
        shown, clean = (
            venv.normalize_obs(trace[name]).astype(np.float64)
            for name in ("disturbed_observations", "observations")
        )
        distances = np.linalg.norm(shown - clean, ord=np.inf if norm == "linf" else 2, axis=1)
        assert distances.max() <= 0.2 + 1e-6
        assert np.median(distances) > 0.15

    def test_two_runs_are_equal_and_slots_do_not_matter(self, ppo):
        """Bit for bit for equal arguments; for other n_envs to the rounding of matrix products."""

        def run(n_envs):
            return evaluate(
                ppo, short, disturbances=MADAttack(ppo, 0.1), strengths=1.0, n_episodes=5, n_envs=n_envs
            ).frame

        pd.testing.assert_frame_equal(run(5), run(5), check_exact=True)
        pd.testing.assert_frame_equal(run(5), run(2), rtol=1e-6)

    def test_several_at_once_stand_beside_others(self, ppo):
        attacks = MinimumOverAttacks([RandomAttack(None, 1.0), MADAttack(None, 1.0, steps=1)])
        frame = evaluate(ppo, short, disturbances=["gaussian", attacks], strengths=0.1, n_episodes=1).frame
        assert frame["disturbance"].tolist() == ["gaussian", "random", "mad"]
        assert set(attacks.worst(frame)["attack"]) <= {"random", "mad"}

    def test_it_can_be_saved(self, ppo, tmp_path):
        evaluation = evaluate(ppo, short, disturbances=MADAttack(ppo, 0.1), strengths=1.0, n_episodes=2)
        evaluation.save(tmp_path / "evaluation.parquet")
        loaded = Evaluation.load(tmp_path / "evaluation.parquet")
        assert loaded.metadata["disturbances"]["mad"] == MADAttack(ppo, 0.1).to_dict()


class TestAim:
    """Without a model an attack is aimed at each agent that is evaluated; with one it stays with its model."""

    def test_each_agent_meets_its_own_attack(self, models, normalized):
        agents = {("plain", 0): models["ppo"], ("normalized", 0): normalized, ("sac", 0): models["sac"]}
        together = evaluate(
            agents, short, disturbances=MADAttack(None, 0.1, steps=4), strengths=1.0, n_episodes=2
        ).frame
        for key, model in agents.items():
            alone = evaluate(
                {key: model},
                short,
                disturbances=MADAttack(model, 0.1, steps=4),
                strengths=1.0,
                n_episodes=2,
            ).frame
            rows = together[together["agent"] == key[0]].reset_index(drop=True)
            pd.testing.assert_frame_equal(rows, alone, check_exact=True)

    def test_evaluations_of_different_agents_join(self, models):
        parts = [
            evaluate({(name, 0): models[name]}, short, disturbances=RandomAttack(None, 0.1), n_episodes=2)
            for name in ("ppo", "sac")
        ]
        joined = Evaluation.concat(parts)
        assert joined.metadata["disturbances"]["random"]["model"] is None

    def test_the_normalization_is_the_agents_own(self, models, normalized):
        """Given to `evaluate` alone, as for a model that was loaded from a zip."""
        venv = normalized.get_vec_normalize_env()
        given = rollout_trace(
            models["ppo"], short, disturbance=MADAttack(None, 0.1), seed=1, vec_normalize=venv
        )
        by_hand = rollout_trace(
            models["ppo"],
            short,
            disturbance=MADAttack(models["ppo"], 0.1, vec_normalize=venv),
            seed=1,
            vec_normalize=venv,
        )
        np.testing.assert_array_equal(given["disturbed_observations"], by_hand["disturbed_observations"])

    def test_an_attack_on_the_wrong_pipeline_is_refused(self, ppo, normalized):
        venv = normalized.get_vec_normalize_env()
        with pytest.raises(ValueError, match=r"another observation normalisation.*same vec_normalize"):
            evaluate(ppo, short, disturbances=MADAttack(ppo, 0.1), strengths=1.0, vec_normalize=venv)
        with pytest.raises(ValueError, match="another observation normalisation"):
            rollout_trace(ppo, short, disturbance=MADAttack(ppo, 0.1, vec_normalize=venv))

    def test_attacks_transfer(self, models):
        """Made for one model, met by another: weaker than that one's own."""
        attack = MADAttack(models["ppo"], 0.1)
        assert attack.against(models["sac"]) is attack
        assert attack.against(models["ppo"]) is attack
        frame = evaluate(
            {"sac": models["sac"], "still": swing}, short, disturbances=attack, strengths=1.0, n_episodes=2
        ).frame
        assert len(frame) == 4

    def test_what_cannot_be_attacked_is_refused_before_anything_runs(self, models):
        agents = {"ppo": models["ppo"], "still": swing}
        with pytest.raises(TypeError, match=r"needs the whole Stable-Baselines3 model.*received function"):
            evaluate(agents, short, disturbances=MADAttack(None, 0.1), strengths=1.0)


class TestWrappers:
    def test_gymnasium(self, ppo):
        env = ObservationDisturbance(gym.make("Pendulum-v1"), MADAttack(ppo, 0.1))
        observation, info = env.reset(seed=0)
        steps = [(observation, info)]
        for _ in range(3):
            observation, _, _, _, info = env.step(np.zeros(1, np.float32))
            steps.append((observation, info))
        deltas = [np.abs(shown - info["clean_observation"]).max() for shown, info in steps]
        assert max(deltas) <= 0.1
        assert min(deltas) > 0.05

    def test_a_specification_cannot_bring_the_model_back(self, ppo):
        env = ObservationDisturbance(gym.make("Pendulum-v1"), MADAttack(ppo, 0.1))
        with pytest.raises(ValueError, match="'mad' is an attack on a model"):
            gym.make(env.spec)

    def test_vectorised(self, normalized):
        """Under a VecNormalize with the same statistics the budget is in its units."""
        inner = DummyVecEnv([lambda: gym.make("Pendulum-v1")] * 3)
        venv = VecNormalize(
            VecObservationDisturbance(inner, MADAttack(normalized, 0.1), seed=0), training=False
        )
        trained = normalized.get_vec_normalize_env()
        venv.obs_rms, venv.clip_obs = trained.obs_rms, trained.clip_obs
        shown = venv.reset()
        clean = trained.normalize_obs(np.array([i["clean_observation"] for i in venv.venv.reset_infos]))
        assert 0.05 < np.abs(shown - clean).max() <= 0.1 + 1e-6


class TestChain:
    """An attack as a part of a `Compose` meets each model as it would alone."""

    def test_it_is_aimed_at_the_model_that_is_evaluated(self, normalized):
        noise = GaussianNoise(0.01)
        given, by_hand = (
            rollout_trace(normalized, short, disturbance=Compose([noise, Compose([attack])]), seed=1)
            for attack in (MADAttack(None, 0.1), MADAttack(normalized, 0.1))
        )
        np.testing.assert_array_equal(given["disturbed_observations"], by_hand["disturbed_observations"])
        alone = rollout_trace(normalized, short, disturbance=noise, seed=1)
        assert (given["disturbed_observations"] != alone["disturbed_observations"]).any()

    def test_each_model_meets_its_own_and_a_resumed_table_is_the_same(self, models, tmp_path):
        chain = Compose([GaussianNoise(0.1), MADAttack(None, 0.5, steps=2)])
        agents = {("ppo", 0): models["ppo"], ("sac", 0): models["sac"]}
        options = {"disturbances": chain, "strengths": (0, 1), "n_episodes": 3, "resume": tmp_path}
        first, second = (evaluate(agents, short, **options) for _ in range(2))
        assert (first.metadata["resumed_episodes"], second.metadata["resumed_episodes"]) == (0, 12)
        pd.testing.assert_frame_equal(first.frame, second.frame, check_exact=True)
        alone = evaluate(
            {("sac", 0): models["sac"]}, short, disturbances=chain, strengths=(0, 1), n_episodes=3
        )
        rows = first.frame[first.frame["agent"] == "sac"].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, alone.frame, check_exact=True)

    def test_what_cannot_be_attacked_is_refused(self):
        with pytest.raises(TypeError, match="needs the whole Stable-Baselines3 model"):
            evaluate(swing, short, disturbances=Compose([MADAttack(None, 0.1)]), strengths=1.0)
