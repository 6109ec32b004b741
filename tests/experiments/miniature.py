"""Trainings of moments, and processes that are killed in them."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import time

import torch

from agents import get_agent
from experiments import train
from lipsrl.tracking import SmoothnessCallback

QUICK = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}


def small(name):
    """A recipe whose episodes, rollouts and networks on Pendulum are small."""
    recipe = get_agent(name)
    settings = recipe.settings["pendulum"]
    options = QUICK if recipe.algorithm.__name__ == "PPO" else {"learning_starts": 8, "batch_size": 8}
    policy = {**settings.policy, "net_arch": [8]}
    algorithm = {**settings.algorithm, **options}
    quick = dataclasses.replace(settings, algorithm=algorithm, n_envs=1, policy=policy, max_episode_steps=16)
    return dataclasses.replace(recipe, settings={"pendulum": quick})


def args(output, name="ppo", **options):
    return train.Args(agent=name, output=output, **{"track": "disabled", "progress": False, **options})


def _begin(output, name, options, before):
    """In the process to be killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    train.get_agent = small
    train.certified, train.floor_of = (lambda *_: None), (lambda task: None)
    train.live_smoothness = lambda *_: SmoothnessCallback(every=32)
    if before is not None:
        before()
    train.train(args(output, name, **options))


def process(output, name="ppo", before=None, **options):
    """A training in a process of its own, from a server that has imported all of it once.

    Args:
        before: called in the process first.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.experiments.miniature"])
    started = context.Process(target=_begin, args=(output, name, options, before))
    started.start()
    return started


def killed(started, when):
    """Kill -9 as soon as ``when()`` is true; the process must still be there."""
    end = time.monotonic() + 120
    while not when():
        assert started.is_alive(), "it ended by itself"
        assert time.monotonic() < end, "what was waited for never came"
        time.sleep(0.002)
    os.kill(started.pid, signal.SIGKILL)
    started.join()
    assert started.exitcode == -signal.SIGKILL


def slow_steps():
    """Environment steps of a millisecond: time to be killed in."""
    from gymnasium.envs.classic_control import pendulum

    step = pendulum.PendulumEnv.step

    def slowly(self, action):
        time.sleep(0.001)
        return step(self, action)

    pendulum.PendulumEnv.step = slowly


def half_checkpoint():
    """The second checkpoint is half written, and its process hangs there."""
    import cloudpickle

    dump, written = cloudpickle.dump, []

    def dump_half(state, file, **options):
        written.append(state["steps"])
        if len(written) < 2:
            dump(state, file, **options)
            return
        file.write(cloudpickle.dumps(state)[:5000])
        file.flush()
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(600)

    cloudpickle.dump = dump_half
