"""Episodes that nothing ends: truncated where that is asked for, else stopped by an error that keeps what has ended."""

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO

from lipsrl import _episodes
from lipsrl.cli import main
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import (
    EndlessEpisodeError,
    Evaluation,
    NonFiniteError,
    evaluate,
    random_return,
    rollout_trace,
)

OPTIONS = {"disturbances": GaussianNoise(1.0), "strengths": (0, 0.2), "n_episodes": 6, "n_envs": 4}


class Orbit(gym.Env):
    """A linear system without an end, unless its first coordinate starts below 0: then after 7 steps."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.steps = self.np_random.uniform(-1.0, 1.0, 2), 0
        self.short = self.state[0] < 0
        return self.state.astype(np.float32), {}

    def step(self, action):
        x, y = self.state
        self.state = np.array([0.9 * x - 0.3 * y, 0.3 * x + 0.9 * y + 0.1 * float(action[0])])
        self.steps += 1
        reward = 1.0 - float(self.state @ self.state)
        return self.state.astype(np.float32), reward, bool(self.short and self.steps == 7), False, {}


class Damp:
    fingerprint = "damp"

    def __call__(self, observations):
        return -0.5 * observations[:, :1]


@pytest.fixture
def orbit():
    gym.register("Orbit-v0", entry_point=Orbit)
    yield "Orbit-v0"
    del gym.registry["Orbit-v0"]


@pytest.fixture
def soon(monkeypatch):
    """The longest episode without a time limit, so that a test need not wait for it."""
    monkeypatch.setattr(_episodes, "ENDLESS", 50)
    return 50


class TestTruncated:
    @pytest.mark.parametrize("n_workers", [1, 2])
    @pytest.mark.parametrize("limit", [5, 30])
    def test_as_a_time_limit_truncates(self, orbit, limit, n_workers):
        ours = evaluate(Damp(), orbit, max_episode_steps=limit, n_workers=n_workers, **OPTIONS)
        theirs = evaluate(Damp(), lambda: TimeLimit(Orbit(), limit), **OPTIONS)
        pd.testing.assert_frame_equal(ours.frame, theirs.frame, check_exact=True)
        lengths = set(ours.frame["length"])
        assert lengths == ({limit} if limit < 7 else {7, limit})
        assert ours.metadata["max_episode_steps"] == theirs.metadata["max_episode_steps"] == limit

    def test_the_environments_own_limit_stays(self, orbit):
        def own():
            return TimeLimit(Orbit(), 10)

        shorter, longer = (evaluate(Damp(), own, max_episode_steps=n, **OPTIONS) for n in (4, 99))
        assert shorter.frame["length"].max() == shorter.metadata["max_episode_steps"] == 4
        assert longer.frame["length"].max() == longer.metadata["max_episode_steps"] == 10

    def test_an_environment_that_cannot_be_rebuilt_stays_as_it_is(self):
        class Watched(Orbit):
            closed = False

            def close(self):
                self.closed = True

        env = Watched()
        kept = evaluate(Damp(), env, max_episode_steps=9, **OPTIONS)
        theirs = evaluate(Damp(), lambda: TimeLimit(Orbit(), 9), **OPTIONS)
        assert kept.frame.equals(theirs.frame)
        assert not env.closed

    @pytest.mark.usefixtures("soon")
    def test_limits_beyond_what_is_taken_for_endless(self):
        """It is only where nobody has said how long an episode may be."""
        asked = evaluate(Damp(), Orbit, max_episode_steps=60, n_episodes=4)
        own = evaluate(Damp(), lambda: TimeLimit(Orbit(), 60), n_episodes=4)
        assert asked.frame.equals(own.frame)
        assert asked.frame["length"].max() == 60

    def test_one_episode_and_random_actions(self):
        trace = rollout_trace(Damp(), Orbit, seed=3, max_episode_steps=6)
        theirs = rollout_trace(Damp(), lambda: TimeLimit(Orbit(), 6), seed=3)
        assert len(trace["rewards"]) == 6
        assert trace["return"] == theirs["return"]
        ours = random_return(Orbit, n_episodes=3, max_episode_steps=6)
        assert ours == random_return(lambda: TimeLimit(Orbit(), 6), n_episodes=3)

    @pytest.mark.parametrize("limit", [0, -1, 2.5, True, "9"])
    def test_a_limit_is_a_number_of_steps(self, limit):
        with pytest.raises(ValueError, match="max_episode_steps must be an integer > 0"):
            evaluate(Damp(), Orbit, max_episode_steps=limit)


@pytest.mark.usefixtures("soon")
class TestEndless:
    @pytest.mark.parametrize("n_workers", [1, 2])
    def test_the_error_says_what_to_do_and_keeps_what_has_ended(self, orbit, tmp_path, n_workers):
        options = OPTIONS | {"n_episodes": 40, "n_envs": 8, "n_workers": n_workers, "resume": tmp_path}
        with pytest.raises(EndlessEpisodeError) as caught:
            evaluate({"damp": Damp()}, orbit, **options)
        message = str(caught.value)
        for words in (
            "model 'damp'",
            "has not ended within 50 steps",
            "max_episode_steps=",
            "--max-episode-steps",
            "gymnasium.wrappers.TimeLimit",
        ):
            assert words in message
        kept = caught.value.evaluation
        assert 0 < len(kept.frame) < 80
        assert set(kept.frame["length"]) == {7}
        assert kept.metadata["max_episode_steps"] is None
        limited = evaluate({"damp": Damp()}, orbit, max_episode_steps=50, **options | {"resume": None})
        both = limited.frame.merge(kept.frame[["strength", "episode"]], on=["strength", "episode"])
        assert both.equals(kept.frame)

        # what the folder keeps belongs to no limit
        with pytest.raises(EndlessEpisodeError) as again:
            evaluate({"damp": Damp()}, orbit, **options)
        assert len(again.value.evaluation.frame) >= len(kept.frame)
        assert (
            evaluate({"damp": Damp()}, orbit, max_episode_steps=50, **options).metadata["resumed_episodes"]
            == 0
        )

    def test_nothing_has_ended(self):
        class Longer(Orbit):
            def reset(self, **options):
                answer = super().reset(**options)
                self.short = False
                return answer

        with pytest.raises(EndlessEpisodeError) as caught:
            evaluate(Damp(), Longer, n_episodes=2)
        assert caught.value.evaluation is None
        with pytest.raises(EndlessEpisodeError):
            rollout_trace(Damp(), Longer)
        with pytest.raises(EndlessEpisodeError):
            random_return(Longer)

    def test_an_episode_that_ends_in_the_last_step_has_ended(self):
        class Punctual(Orbit):
            def step(self, action):
                observation, reward, *_ = super().step(action)
                return observation, reward, self.steps == 50, False, {}

        assert set(evaluate(Damp(), Punctual, n_episodes=3).frame["length"]) == {50}

    def test_other_errors_are_what_they_were(self):
        def broken(observations):
            return np.full((len(observations), 1), np.nan)

        with pytest.raises(NonFiniteError):
            evaluate(broken, Orbit)


def test_stored_episodes_belong_to_their_limit(orbit, tmp_path):
    def resumed(env=orbit, limit=None):
        options = OPTIONS | {"resume": tmp_path, "max_episode_steps": limit}
        return evaluate(Damp(), env, **options).metadata["resumed_episodes"]

    assert [resumed(limit=8), resumed(limit=8)] == [0, 12]
    assert resumed(limit=9) == 0
    assert resumed(gym.make(orbit, max_episode_steps=8)) == 0
    assert resumed(limit=8) == 12


def test_evaluations_of_several_limits_are_not_joined():
    def part(name, **limit):
        return evaluate({name: Damp()}, lambda: TimeLimit(Orbit(), 20), n_episodes=2, **limit)

    a, b, c = part("a", max_episode_steps=8), part("b", max_episode_steps=9), part("c", max_episode_steps=8)
    with pytest.raises(ValueError, match=r"same max_episode_steps, received \[8, 9\]"):
        Evaluation.concat([a, b])
    assert Evaluation.concat([a, c]).metadata["max_episode_steps"] == 8
    older = Evaluation(b.frame, {k: v for k, v in b.metadata.items() if k != "max_episode_steps"})
    assert len(Evaluation.concat([a, older]).frame) == 4
    assert "max_episode_steps" not in Evaluation.concat([older, older]).metadata


class TestCommand:
    @pytest.fixture
    def zip_file(self, tmp_path):
        PPO("MlpPolicy", TimeLimit(Orbit(), 20), n_steps=64, seed=0, device="cpu").save(
            tmp_path / "model.zip"
        )
        return str(tmp_path / "model.zip")

    def test_evaluate(self, orbit, zip_file, tmp_path, capsys, soon):
        output = tmp_path / "table.parquet"
        arguments = ["evaluate", zip_file, "--env", orbit, "--strengths", "0", "--episodes", "6", "--output"]
        assert main([*arguments, str(output), "--max-episode-steps", "11"]) == 0
        limited = Evaluation.load(output)
        assert limited.metadata["max_episode_steps"] == limited.frame["length"].max() == 11
        output.unlink()
        assert main([*arguments, str(output)]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "--max-episode-steps" in said
        assert "table-incomplete.parquet" in said
        assert not output.exists()
        assert set(Evaluation.load(tmp_path / "table-incomplete.parquet").frame["length"]) == {7}

    def test_report(self, orbit, zip_file, tmp_path, capsys, soon):
        page = tmp_path / "page.html"
        arguments = ["report", zip_file, "--env", orbit, "--strengths", "0", "0.1", "--episodes", "6"]
        assert main([*arguments, "--output", str(page), "--max-episode-steps", "11"]) == 0
        assert page.exists()
        page.unlink()
        assert main([*arguments, "--output", str(page)]) == 2
        assert "page-incomplete.parquet" in " ".join(capsys.readouterr().err.split())

    def test_attack(self, orbit, zip_file, tmp_path):
        output = tmp_path / "table.parquet"
        arguments = [
            "--attack",
            "mad",
            "--epsilon",
            "0.1",
            "--steps",
            "1",
            "--episodes",
            "2",
            "--output",
            str(output),
        ]
        assert main(["attack", zip_file, "--env", orbit, *arguments, "--max-episode-steps", "11"]) == 0
        assert Evaluation.load(output).frame["length"].max() <= 11
