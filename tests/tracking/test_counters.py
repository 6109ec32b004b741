"""Counters that go on: a resumed training, and a second learn()."""

import numpy as np
import pytest
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import CSVOutputFormat, Logger

from lipsrl.policies import LipschitzSchedule
from lipsrl.tracking import SmoothnessCallback, WandbWriter


class Bounds(BaseCallback):
    """K by step."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def _on_step(self):
        self.seen[self.num_timesteps] = self.model.policy.options.lipschitz_bound
        return True


def made(algorithm=PPO):
    sizes = {"n_steps": 64, "batch_size": 64, "n_epochs": 1} if algorithm is PPO else {"learning_starts": 10}
    return algorithm(
        "LipschitzMlpPolicy", "Pendulum-v1", seed=0, device="cpu",
        policy_kwargs={"lipschitz_bound": 50.0, "net_arch": [8]}, **sizes,
    )  # fmt: skip


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_a_schedule_goes_on_from_a_checkpoint(tmp_path, algorithm):
    whole = Bounds()
    made(algorithm).learn(512, callback=[LipschitzSchedule("exponential", end=5.0), whole])

    model = made(algorithm)
    stop = Bounds()
    stop._on_step = lambda: stop.num_timesteps < 256
    model.learn(512, callback=[LipschitzSchedule("exponential", end=5.0), stop])
    model.save(tmp_path / "checkpoint")
    rest = Bounds()
    model = algorithm.load(tmp_path / "checkpoint", env=model.get_env())
    model.learn(
        512 - 256, reset_num_timesteps=False, callback=[LipschitzSchedule("exponential", end=5.0), rest]
    )
    assert min(rest.seen) == 257
    for step, bound in rest.seen.items():
        assert bound == pytest.approx(whole.seen[step], rel=1e-6)
    assert model.policy.options.lipschitz_bound == pytest.approx(5.0)


def test_another_schedule_begins_where_the_first_one_left():
    model = made()
    model.learn(128, callback=LipschitzSchedule("linear", end=20.0))
    second = LipschitzSchedule("linear", end=10.0)
    model.learn(128, reset_num_timesteps=False, callback=second)
    assert second._own_start == pytest.approx(20.0)


def test_wandb_keeps_the_rows_of_a_second_learn(tmp_path):
    writer = WandbWriter(tmp_path, {}, name="two", mode="offline")
    arrived = []
    writer.run.log = lambda scalars, step: arrived.append(step)  # W&B drops what goes back
    model = made()
    model.set_logger(Logger(None, [writer]))
    model.learn(256)
    first = len(arrived)
    model.learn(256)
    writer.close()
    assert len(arrived) == 2 * first > 4
    assert (np.diff(arrived) >= 0).all()


def test_smoothness_is_recorded_in_a_second_learn(tmp_path):
    model, callback = made(), SmoothnessCallback(every=64)
    counts = []
    for name in ("first", "second"):
        model.set_logger(Logger(str(tmp_path), [CSVOutputFormat(str(tmp_path / f"{name}.csv"))]))
        model.learn(256, callback=callback)
        model.logger.close()
        counts.append(
            sum("smoothness/" in line for line in [(tmp_path / f"{name}.csv").read_text().split("\n")[0]])
        )
    assert counts == [1, 1]


def test_what_cannot_be_measured_is_refused_before_the_first_step():
    from sb3_contrib import RecurrentPPO

    model = RecurrentPPO("MlpLstmPolicy", "Pendulum-v1", device="cpu", n_steps=8, batch_size=8)
    with pytest.raises(ValueError, match="SmoothnessCallback cannot measure this RecurrentPPO policy"):
        model.learn(8, callback=SmoothnessCallback())


def test_a_run_of_the_users_own_goes_on(tmp_path):
    import wandb

    quiet = wandb.Settings(console="off", silent=True)
    mine = wandb.init(dir=str(tmp_path), project="mine", mode="offline", settings=quiet)
    try:
        writer = WandbWriter(tmp_path, {}, name="ours", mode="offline")
        assert writer.run is not mine
        writer.write({"a": 1.0}, {}, step=1)
        writer.close()
        assert wandb.run is mine
        mine.log({"b": 2.0})  # raises where the run is finished
        assert mine.summary["b"] == 2.0
    finally:
        mine.finish()
