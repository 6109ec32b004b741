"""Interrupted evaluations go on where they were, and stored episodes are used for what they belong to only."""

import copy
import multiprocessing
import os
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

import lipsrl  # noqa: F401  registers LipschitzMlpPolicy
from lipsrl.attacks import ConstantBiasAttack, MADAttack
from lipsrl.disturbances import Compose, GaussianNoise
from lipsrl.evaluation import Evaluation, NonFiniteError, evaluate, model_fingerprint

OPTIONS = {"disturbances": GaussianNoise(1.0), "strengths": (0, 0.2), "n_episodes": 10, "n_envs": 4}


class Interrupted:
    """A policy with a name of its own that stops at a call."""

    fingerprint = "interrupted"

    def __init__(self, at=None):
        self.at, self.calls = at, 0

    def __call__(self, observations):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return 0.1 * observations[:, :1]


@pytest.mark.parametrize("n_workers", [1, 2])
def test_an_interrupted_evaluation_goes_on(registered_countdown, tmp_path, n_workers):
    options = OPTIONS | {"resume": tmp_path / "partial"}
    with pytest.raises(KeyboardInterrupt):
        evaluate(Interrupted(90), registered_countdown, **options)
    policy = Interrupted()
    resumed = evaluate(policy, registered_countdown, n_workers=n_workers, **options)
    assert 4 <= resumed.metadata["resumed_episodes"] < 20
    fresh = evaluate(Interrupted(), registered_countdown, **OPTIONS)
    resumed.save(tmp_path / "a.parquet")
    fresh.save(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    again = Interrupted(1)
    evaluate(again, registered_countdown, **options)
    assert again.calls == 0


class Slow(Interrupted):
    """Says in which processes it was called."""

    def __init__(self, folder, pause=0.0):
        super().__init__()
        self.folder, self.pause = folder, pause

    def __call__(self, observations):
        (self.folder / str(os.getpid())).touch()
        time.sleep(self.pause)
        return super().__call__(observations)


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def within_a_minute(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_evaluation_leaves_no_workers_and_goes_on(registered_countdown, tmp_path):
    folder, pids = tmp_path / "partial", tmp_path / "pids"
    pids.mkdir()
    options = OPTIONS | {"resume": folder, "n_episodes": 40}
    process = multiprocessing.get_context("fork").Process(
        target=evaluate, args=(Slow(pids, 0.02), registered_countdown), kwargs=options | {"n_workers": 2}
    )
    process.start()
    within_a_minute(lambda: any(folder.glob("[!.]*.json")))
    process.kill()
    process.join()
    workers = [int(path.name) for path in pids.iterdir()]
    assert workers
    within_a_minute(lambda: not any(map(running, workers)))
    (folder / ".half-written.1.partial.json").write_text('{"key"')
    resumed = evaluate(Slow(pids), registered_countdown, **options)
    assert 0 < resumed.metadata["resumed_episodes"] < 80
    fresh = evaluate(Slow(pids), registered_countdown, **(options | {"resume": None}))
    pd.testing.assert_frame_equal(resumed.frame, fresh.frame, check_exact=True)


def test_a_finished_evaluation_can_be_extended(ppo, tmp_path):
    options = OPTIONS | {"n_episodes": 3, "resume": tmp_path}
    evaluate(ppo, "Pendulum-v1", **options)
    longer = options | {"n_episodes": 5, "strengths": (0, 0.2, 0.4), "n_envs": 64}
    extended = evaluate(ppo, "Pendulum-v1", **longer)
    assert extended.metadata["resumed_episodes"] == 6
    fresh = evaluate(ppo, "Pendulum-v1", **(longer | {"resume": None}))
    pd.testing.assert_frame_equal(extended.frame, fresh.frame, check_exact=True)


def test_attacks_are_resumed_in_whole_shards(ppo, tmp_path):
    options = OPTIONS | {"disturbances": MADAttack(None, 1.0, steps=1), "strengths": 0.1, "resume": tmp_path}
    env = gym.make("Pendulum-v1", max_episode_steps=20)
    first = evaluate(ppo, env, **options)
    assert first.metadata["resumed_episodes"] == 0
    again = evaluate(ppo, env, n_workers=2, **options)
    assert again.metadata["resumed_episodes"] == 10
    assert again.frame.equals(first.frame)
    other = evaluate(ppo, env, **(options | {"n_envs": 3}))
    assert other.metadata["resumed_episodes"] == 0


def test_what_a_stored_episode_depends_on(ppo, normalized_ppo, tmp_path):
    options = OPTIONS | {"n_episodes": 1, "strengths": 0.2, "resume": tmp_path}

    def resumed(model=ppo, env="Pendulum-v1", **changes):
        return evaluate({"a": model}, env, **(options | changes)).metadata["resumed_episodes"]

    assert [resumed(), resumed()] == [0, 1]
    retrained = copy.deepcopy(ppo.policy)
    with torch.no_grad():
        retrained.action_net.bias.add_(1e-3)
    statistics = normalized_ppo.get_vec_normalize_env()
    for changes in (
        {"model": retrained},
        {"vec_normalize": statistics},
        {"env": gym.make("Pendulum-v1", g=9.0)},
        {"env": gym.make("Pendulum-v1", max_episode_steps=100)},
        {"disturbances": GaussianNoise(2.0)},
        {"strengths": 0.3},
        {"seed": 1},
        {"sensitivity_std": 1e-2},
        {"on_nonfinite_action": "record"},
    ):
        assert resumed(**changes) == 0, changes
        assert resumed(**changes) == 1, changes
    assert resumed(env=lambda: gym.make("Pendulum-v1"), n_envs=3, floor=-1.0) == 1


def test_what_cannot_be_recognised_is_refused(ppo, countdown, tmp_path):
    with pytest.raises(ValueError, match=r"recognise model 'policy', but a function has no weights"):
        evaluate(lambda o: o[:, :1], "Pendulum-v1", resume=tmp_path)
    with pytest.raises(ValueError, match="no complete specification"):
        evaluate(Interrupted(), countdown, resume=tmp_path)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(ValueError, match="must be a folder"):
        evaluate(ppo, "Pendulum-v1", resume=tmp_path / "a.parquet")
    (tmp_path / "damaged.json").write_text("{")
    with pytest.raises(ValueError, match=r"damaged\.json.*Delete it"):
        evaluate(ppo, "Pendulum-v1", resume=tmp_path)


def test_what_ended_before_an_error_is_kept(registered_countdown, tmp_path):
    class Fails(Interrupted):
        def __call__(self, observations):
            self.calls += 1
            return np.full((len(observations), 1), np.nan if self.calls == self.at else 0.0)

    with pytest.raises(NonFiniteError) as caught:
        evaluate(Fails(90), registered_countdown, resume=tmp_path, **OPTIONS)
    kept = caught.value.evaluation.frame
    assert 4 <= len(kept) < 20
    resumed = evaluate(Fails(), registered_countdown, resume=tmp_path, **OPTIONS)
    assert resumed.metadata["resumed_episodes"] == len(kept)
    both = resumed.frame.merge(kept[["strength", "episode"]], on=["strength", "episode"])
    assert both.equals(kept)


class TestFingerprint:
    @pytest.mark.parametrize("policy", ["MlpPolicy", "LipschitzMlpPolicy"])
    def test_survives_the_zip(self, policy, tmp_path):
        options = {"lipschitz_bound": 4.0} if policy.startswith("Lip") else {}
        model = PPO(policy, "Pendulum-v1", policy_kwargs=options, seed=0, device="cpu", n_steps=64)
        before = model_fingerprint(model)
        assert model_fingerprint(model.policy) == before
        model.learn(64)
        trained = model_fingerprint(model)
        assert trained != before
        model.save(tmp_path / "model.zip")
        assert model_fingerprint(PPO.load(tmp_path / "model.zip")) == trained

    def test_sees_settings_that_are_no_weights(self):
        relu, tanh = (
            PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"activation_fn": a}, seed=0, device="cpu")
            for a in (torch.nn.ReLU, torch.nn.Tanh)
        )
        assert model_fingerprint(relu) != model_fingerprint(tanh)
        assert model_fingerprint(relu, frame_stack=2) != model_fingerprint(relu)

    def test_sees_the_normalisation(self, ppo):
        one, two = (VecNormalize(make_vec_env("Pendulum-v1", 1)) for _ in range(2))
        assert model_fingerprint(ppo, one) == model_fingerprint(ppo, two) != model_fingerprint(ppo)
        two.obs_rms.mean[0] = 1e-9
        assert model_fingerprint(ppo, one) != model_fingerprint(ppo, two)

    def test_is_recorded(self, ppo):
        evaluation = evaluate({"a": ppo, "b": lambda o: o[:, :1]}, "Pendulum-v1", n_episodes=1)
        assert evaluation.fingerprints == {("a", 0): model_fingerprint(ppo), ("b", None): None}


def test_infinite_settings_of_an_environment_can_be_written(countdown, tmp_path):
    """Such as Hopper-v5's healthy_state_range."""

    class Ranged(countdown):
        def __init__(self, healthy=(-np.inf, np.inf)):
            self.healthy = healthy

    gym.register("Ranged-v0", entry_point=Ranged)
    try:
        env = gym.make("Ranged-v0", healthy=(-1.0, np.inf))
        evaluation = evaluate(Interrupted(), env, n_episodes=1, resume=tmp_path / "partial")
    finally:
        del gym.registry["Ranged-v0"]
    evaluation.save(tmp_path / "a.parquet")
    assert Evaluation.load(tmp_path / "a.parquet").metadata["env_spec"]["kwargs"] == {
        "healthy": [-1.0, "inf"]
    }


def test_an_attack_that_searches_in_a_factory_is_not_recognised(ppo, tmp_path):
    attack = ConstantBiasAttack(None, 1.0, env=lambda: gym.make("Pendulum-v1", g=20.0))
    options = {"strengths": (0.1,), "n_episodes": 1, "max_episode_steps": 3, "resume": tmp_path / "kept"}
    for disturbance in (attack, Compose([attack, GaussianNoise(0.1)])):
        with pytest.raises(ValueError, match=r"resume= needs to recognise where .* searches"):
            evaluate(ppo, "Pendulum-v1", disturbances=disturbance, **options)
    assert not (tmp_path / "kept").exists()


def test_rows_and_metadata_of_two_evaluations_are_not_one(ppo, tmp_path):
    """As where a process is killed between the two renames."""
    options = {"strengths": (0.0,), "max_episode_steps": 3}
    one = evaluate(ppo, "Pendulum-v1", n_episodes=1, **options)
    two = evaluate(ppo, "Pendulum-v1", n_episodes=2, **options)
    one.save(tmp_path / "a.parquet")
    two.save(tmp_path / "b.parquet")
    assert Evaluation.load(tmp_path / "b.parquet").metadata == two.metadata
    (tmp_path / "b.json").replace(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"'a\.json' is of other rows"):
        Evaluation.load(tmp_path / "a.parquet")
