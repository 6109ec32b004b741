"""Worker processes change the time that an evaluation takes, and nothing else."""

import os
import signal

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch

from lipsrl.attacks import MADAttack
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import NonFiniteError, _workers, evaluate
from lipsrl.evaluation._controller import Controller

NOISE = GaussianNoise(1.0)


def test_same_bytes_for_any_number_of_workers(ppo, sac, tmp_path):
    """Under noise and under an attack, which sees all its rows at once."""
    for n_workers in (1, 2, 3):
        evaluation = evaluate(
            {"ppo": ppo, "sac": sac},
            lambda: gym.make("Pendulum-v1", max_episode_steps=40),
            disturbances=[NOISE, MADAttack(None, 1.0, steps=1)],
            strengths=(0, 0.1),
            n_episodes=11,
            n_envs=5,
            n_workers=n_workers,
        )
        evaluation.save(tmp_path / f"{n_workers}.parquet")
        assert evaluation.metadata["n_workers"] == n_workers
        assert evaluation.metadata["env_steps"] == 2 * 3 * 11 * 40
    contents = {(tmp_path / f"{n}.parquet").read_bytes() for n in (1, 2, 3)}
    assert len(contents) == 1


def test_number_of_torch_threads_does_not_change_a_bit_and_is_left_as_it_was(ppo):
    frames = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        frames.append(evaluate(ppo, "Pendulum-v1", n_episodes=2).frame)
        assert torch.get_num_threads() == threads
    assert frames[0].equals(frames[1])


def test_local_factories_and_callables_reach_the_workers(countdown):
    gain = np.array([[0.1], [0.0]])
    frames = [
        evaluate(
            lambda o: o @ gain,
            lambda: countdown(),
            disturbances=NOISE,
            strengths=(0, 1),
            n_episodes=20,
            n_workers=n,
        ).frame
        for n in (1, 2)
    ]
    assert frames[0].equals(frames[1])


def test_what_is_sent_to_a_spawned_worker_is_small(normalized_ppo):
    """The policy and its normalisation, without the environments, the buffers and the algorithm around them."""
    env = gym.make("Pendulum-v1")
    statistics = normalized_ppo.get_vec_normalize_env()
    controller = Controller(normalized_ppo, env, statistics, "model")
    attack = controller.disturbance_for_model(MADAttack(None, 1.0))
    sent = cloudpickle.dumps((controller, attack))
    assert len(sent) < 2 * len(cloudpickle.dumps(normalized_ppo.policy))
    again, aimed = cloudpickle.loads(sent)
    assert again.disturbance_for_model(aimed).to_dict() == attack.to_dict()
    observations = np.random.default_rng(0).normal(size=(64, 3))
    np.testing.assert_array_equal(again.propose(observations), controller.propose(observations))


@pytest.mark.slow
def test_spawned_workers_agree_with_forked_ones(normalized_ppo, monkeypatch):
    """As on systems without fork: everything is pickled, the model without its environment and buffers."""
    options = {"disturbances": MADAttack(None, 1.0, steps=1), "strengths": 0.1, "n_episodes": 2, "n_envs": 1}
    here = evaluate(normalized_ppo, lambda: gym.make("Pendulum-v1", max_episode_steps=20), **options).frame
    monkeypatch.setattr(_workers, "start_method", lambda: "spawn")
    there = evaluate(
        normalized_ppo, lambda: gym.make("Pendulum-v1", max_episode_steps=20), n_workers=2, **options
    ).frame
    assert here.equals(there)


def test_errors_come_back_from_the_workers(ppo):
    options = {"disturbances": NOISE, "strengths": (0, 0.1), "n_episodes": 20, "n_workers": 2}
    with pytest.raises(ValueError, match=r"actions of shape \(64, 1\)"):
        evaluate(lambda o: o, "Pendulum-v1", **options)
    with pytest.raises(NonFiniteError, match=r"an action of model 'bad'.*is not finite") as caught:
        evaluate({"good": ppo, "bad": lambda o: o[:, :1] * np.nan}, "Pendulum-v1", **options)
    kept = caught.value.evaluation
    assert set(kept.frame["agent"]) <= {"good"}


def test_a_worker_that_dies(ppo):
    parent = os.getpid()

    def dies(observations):
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return observations[:, :1]

    with pytest.raises(RuntimeError, match="worker process died"):
        evaluate(dies, "Pendulum-v1", n_episodes=20, n_workers=2)
