"""`lipsrl check`: from a zip to a card, a verdict and an exit status."""

from __future__ import annotations

import json
import warnings
from collections import deque
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import lipsrl
from lipsrl.assessment import Limits, assess
from lipsrl.assessment._criteria import chatter, feasible, proven
from lipsrl.certificates import certify
from lipsrl.cli import main

SHORT = ["--episodes", "5", "--max-episode-steps", "12"]
LENIENT = ["--max-move", "1e9", "--max-chatter", "1e9", "--min-kept", "0", "--min-kept-attacked", "0"]


class Servo(gym.Env):
    """x ← x + 0.1·a towards 0: an agent that pushes back earns more than random actions."""

    def __init__(self):
        self.observation_space = gym.spaces.Box(-5, 5, (1,), np.float32)
        self.action_space = gym.spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(0.5, 1.0)
        return np.float32([self.x]), {}

    def step(self, action):
        self.x += 0.1 * float(action[0])
        return np.float32([self.x]), -abs(self.x), False, False, {}


gym.register("Servo-v0", Servo)


def servo(gain):
    """A stock PPO agent whose action is -gain·x."""
    model = PPO("MlpPolicy", Servo(), seed=0, device="cpu", policy_kwargs={"net_arch": []})
    with torch.no_grad():
        model.policy.action_net.weight.fill_(-gain)
        model.policy.action_net.bias.zero_()
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("servo")
    servo(1.0).save(folder / "servo.zip")
    return str(folder / "servo.zip")


def test_a_good_agent_passes_and_the_card_is_written(saved, capsys, tmp_path):
    card = tmp_path / "card.html"
    arguments = [saved, "--env", "Servo-v0", *SHORT, "--sensor-scale", "0.01", "--vec-normalize", "none"]
    assert main(["check", *arguments, "--output", str(card)]) == 0
    said = capsys.readouterr().out
    assert "PASS: all 9 criteria hold. 1 more is for information." in said
    text = card.read_text()
    assert "PASS: all 9 criteria hold. 1 more is for information." in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count(">pass<") == 9


def test_a_noisy_one_fails_and_says_by_what(saved, capsys, tmp_path):
    card = tmp_path / "card.json"
    arguments = [saved, "--env", "Servo-v0", *SHORT, "--sensor-scale", "0.4", "--json", "--output", str(card)]
    assert main(["check", *arguments, "--max-chatter", "0.01"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(card.read_text())
    assert not printed["passed"]
    assert "chatter in white noise" in printed["verdict"]
    by_name = {c["name"]: c for c in printed["criteria"]}
    # gain 1, tolerance .4, range 4: a tenth of the range, and the bound is tight
    assert by_name["action inside the tolerances"]["value"] == pytest.approx(0.1, rel=1e-5)
    assert by_name["action inside the tolerances"]["value"] >= 0.1
    assert printed["tolerance"] == [0.4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "card.pdf"], "output must end in .html or .json"),
        (["--min-kept", "90"], "min_kept is a share"),
        (["--sensor-scale", "0.1", "0.2"], "one for each of the 1 sensors"),
        (["--sensor-scale", "-1"], "tolerance must be one finite number > 0"),
        (["--equilibrium-action", "0"], "equilibrium_action needs equilibrium"),
        (["--output", "/dev/null/card.html"], "cannot be written"),
        (["--env", "Nope-v0", "--equilibrium", "0"], "Nope"),
    ],
)
def test_wrong_use_is_one_line(saved, capsys, arguments, message):
    assert main(["check", saved, "--env", "Servo-v0", *SHORT, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_actions_that_are_not_finite_fail_and_prove_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # evaluate says so, too
        card = assess(servo(np.nan), Servo, tolerance=0.01, n_episodes=5, max_episode_steps=5)
    found = {c.name: c for c in card.criteria}
    assert "not finite" in found["clean return"].found
    assert "no certificate" in found["action inside the tolerances"].found
    assert len(card.failed) == 9


@pytest.mark.parametrize("kind", ["lipschitz", "normalised"])
def test_the_proven_move_is_never_below_what_the_agent_does(kind):
    """Searched from outside: readings anywhere, each sensor off by up to its tolerance."""
    kwargs = {"net_arch": [16]}
    if kind == "lipschitz":
        policy, kwargs = "LipschitzMlpPolicy", {**kwargs, "lipschitz_bound": 3.0}
        env = gym.make("Pendulum-v1")
    else:
        policy, env = "MlpPolicy", VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
    model = PPO(policy, env, n_steps=64, seed=1, device="cpu", policy_kwargs=kwargs).learn(256)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(30) if kind == "normalised" else None
    tolerance = np.array([0.02, 0.05, 0.4])
    limits = Limits(max_move=1e9, max_chatter=1e9)
    card = assess(
        model, "Pendulum-v1", tolerance=tolerance, limits=limits, n_episodes=1, max_episode_steps=10
    )
    share = {c.name: c for c in card.criteria}["action inside the tolerances"].value
    rng = np.random.default_rng(0)
    readings = rng.uniform(-1, 1, (4000, 3)) * [1, 1, 8]
    off = readings + rng.choice([-1.0, 1.0], (4000, 3)) * tolerance
    statistics = model.get_vec_normalize_env()
    seen = [r if statistics is None else statistics.normalize_obs(r) for r in (readings, off)]
    network = lipsrl.actor_network(model)
    with torch.no_grad():
        one, other = (network(torch.as_tensor(s, dtype=torch.float32)).clamp(-2, 2).numpy() for s in seen)
    moved = np.abs(one - other).max() / 4
    assert 0.2 * share < moved <= share * (1 + 1e-5)


def test_few_episodes_pass_nothing(saved, capsys):
    arguments = [
        saved,
        "--env",
        "Servo-v0",
        "--max-episode-steps",
        "12",
        "--sensor-scale",
        "0.01",
        "--episodes",
        "1",
    ]
    assert main(["check", *arguments]) == 1
    assert "FAIL: 1 of 10 criteria do not hold (episodes)" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["model", "episodes"])
def test_normalisation_inside_the_environment_is_refused(where):
    """The certificate would speak of other readings than the faults and attacks."""

    def normalised():
        return gym.wrappers.NormalizeObservation(Servo())

    model = PPO("MlpPolicy", normalised() if where == "model" else Servo(), device="cpu")
    with pytest.raises(ValueError, match="NormalizeObservation stands around the environment"):
        assess(model, Servo if where == "model" else normalised, tolerance=0.01, n_episodes=5)


class Odd(Servo):
    """A sensor that never moves, an actuator without a range."""

    def __init__(self):
        super().__init__()
        self.observation_space = gym.spaces.Box(-5, 5, (2,), np.float32)
        self.action_space = gym.spaces.Box(np.float32([-2, 1]), np.float32([2, 1]))

    def reset(self, **options):
        return self.seen(super().reset(**options)[0]), {}

    def step(self, action):
        observation, *rest = super().step(action)
        return self.seen(observation), *rest

    def seen(self, observation):
        return np.float32([observation[0], 3.0])


def test_an_actuator_without_range_and_a_sensor_that_does_not_move():
    model = PPO("MlpPolicy", Odd(), seed=0, device="cpu", policy_kwargs={"net_arch": []})
    card = assess(model, Odd, n_episodes=5, max_episode_steps=6)
    assert any(
        "Sensors 1 did not move in those episodes: theirs is the smallest" in text
        for text in card.assumptions
    )
    assert card.tolerance[0] == card.tolerance[1]
    found = {c.name: c for c in card.criteria}
    assert found["action inside the tolerances"].value > 0
    stuck = gym.spaces.Box(np.float32([1]), np.float32([1]))
    assert "no actuator has a range" in proven(certify(model), "", stuck, 2, 0.5).found
    assert "no actuator has a range" in chatter(np.ones(3), stuck, 0.05).found


class Bits(Servo):
    def __init__(self):
        super().__init__()
        self.action_space = gym.spaces.MultiBinary(2)

    def step(self, action):
        return super().step(action - 0.5)


def test_what_cannot_be_measured_fails_and_is_no_error():
    """Actions that no attack moves; random actions whose return is not finite; a policy that has no certificate."""
    bits = PPO("MlpPolicy", Bits(), seed=0, device="cpu", policy_kwargs={"net_arch": []})
    found = {c.name: c for c in assess(bits, Bits, tolerance=0.1, n_episodes=5, max_episode_steps=5).criteria}
    assert "not measured" in found["worst attack"].found

    class Worthless(Servo):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, np.nan, *rest

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        card = assess(servo(1.0), Worthless, tolerance=0.1, n_episodes=5, max_episode_steps=5)
    assert {c.name.split(" (")[0] for c in card.failed} >= {"clean return", "white noise", "worst attack"}

    (criterion,) = feasible(SimpleNamespace(floor=5.0), None, "it remembers", None, None, None)
    assert criterion.holds is False
    assert "it remembers" in criterion.found


@pytest.mark.parametrize(
    ("options", "words"),
    [({"env": Servo()}, "received an environment"), ({"limits": {"max_move": 1}}, "limits must be a Limits")],
)
def test_wrong_arguments_are_refused_before_anything_is_measured(options, words):
    with pytest.raises(TypeError, match=words):
        assess(servo(1.0), **{"env": Servo, **options})


def test_a_return_far_below_the_trainings_is_said(saved, capsys, tmp_path):
    model = servo(1.0)
    model.ep_info_buffer = deque({"r": 500.0 + i, "l": 10, "t": 0.0} for i in range(20))
    model.save(tmp_path / "proud.zip")
    arguments = [str(tmp_path / "proud.zip"), "--env", "Servo-v0", *SHORT, "--sensor-scale", "0.01"]
    main(["check", *arguments, "--vec-normalize", "none"])
    assert "WARNING proud earns" in capsys.readouterr().err
