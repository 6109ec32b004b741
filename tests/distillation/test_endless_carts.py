"""Carts whose ride nothing ends: truncated where that is asked for, else what has been learnt is kept."""

import gymnasium as gym
import pytest
import torch
from gymnasium.wrappers import TimeLimit

import lipsrl
from lipsrl import _episodes
from lipsrl.cli import main
from lipsrl.distillation import InterruptedWarning, frontier
from lipsrl.distillation._rollouts import Rollouts
from lipsrl.evaluation import EndlessEpisodeError, Evaluation

pytestmark = pytest.mark.filterwarnings("ignore:K=.*mean return", "ignore:The student's mean return")

BUDGET = {"net_arch": [8], "rounds": 1, "steps": 40}
MEASURED = {"bounds": [4.0, 8.0], "strengths": [0.0], "n_episodes": 3}


@pytest.fixture
def endless(cart):
    """It rides on."""

    class Endless(cart):
        def step(self, action):
            observation, reward, *_ = super().step(action)
            return observation, reward, False, False, {}

    gym.register("Endless-v0", entry_point=Endless)
    yield Endless
    del gym.registry["Endless-v0"]


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(_episodes, "ENDLESS", 60)


@pytest.fixture
def soon_in_the_last_round(monkeypatch):
    """The first held-out rides are the teacher's, the second those of a student that is kept, the third never end."""
    original, calls = Rollouts.returns, []

    def returns(self, actor):
        calls.append(actor)
        if len(calls) == 3:
            monkeypatch.setattr(_episodes, "ENDLESS", 60)
            for env in self._environments:
                env._max_episode_steps = 10**9
            monkeypatch.setattr(_episodes, "time_limit", lambda env: None)
        return original(self, actor)

    monkeypatch.setattr(Rollouts, "returns", returns)


def same(a, b):
    ours, theirs = a.policy.state_dict(), b.policy.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


class TestTruncated:
    def test_distill_as_a_time_limit_truncates(self, teacher, endless):
        ours = lipsrl.distill(teacher, endless, lipschitz_bound=8.0, max_episode_steps=15, **BUDGET)
        limited = lipsrl.distill(teacher, lambda: TimeLimit(endless(), 15), lipschitz_bound=8.0, **BUDGET)
        longer = lipsrl.distill(teacher, lambda: TimeLimit(endless(), 25), lipschitz_bound=8.0, **BUDGET)
        assert same(ours, limited)
        assert not same(ours, longer)
        assert _episodes.time_limit(ours.get_env().envs[0]) is None  # to learn on in it as it is

    @pytest.mark.parametrize("n_workers", [1, 2])
    def test_frontier_as_a_time_limit_truncates(self, teacher, endless, n_workers):
        options = MEASURED | BUDGET | {"n_workers": n_workers}
        ours = frontier(teacher, endless, max_episode_steps=15, **options)
        theirs = frontier(teacher, lambda: TimeLimit(endless(), 15), **options)
        assert ours.evaluation.frame.equals(theirs.evaluation.frame)
        assert set(ours.evaluation.frame["length"]) == {15}
        assert all(same(a.model, b.model) for a, b in zip(ours.students, theirs.students, strict=True))


class TestEndless:
    @pytest.mark.usefixtures("soon")
    def test_without_a_student_it_is_an_error(self, teacher, endless):
        with pytest.raises(EndlessEpisodeError, match=r"Of the teacher, .* 60 steps.* max_episode_steps="):
            lipsrl.distill(teacher, endless, lipschitz_bound=8.0, **BUDGET)

    @pytest.mark.parametrize("n_workers", [1, 2])
    @pytest.mark.usefixtures("soon")
    def test_frontier_without_a_student(self, teacher, endless, n_workers):
        with pytest.raises(EndlessEpisodeError, match="Of the teacher, "):
            frontier(teacher, endless, n_workers=n_workers, **MEASURED, **BUDGET)

    @pytest.mark.usefixtures("soon_in_the_last_round")
    def test_a_student_that_was_there_is_kept(self, teacher, endless):
        with pytest.warns(InterruptedWarning, match=r"round 1 of 1\..* max_episode_steps=.* is returned"):
            student = lipsrl.distill(teacher, endless, lipschitz_bound=8.0, max_episode_steps=15, **BUDGET)
        assert student.policy.lipschitz_network.lipschitz_bound() <= 8.0

    def test_frontier_keeps_its_students(self, teacher, endless, monkeypatch):
        """One that cannot be made after one that was, and a table that cannot be made."""
        from lipsrl.distillation import _parallel

        original = _parallel.distill

        def distill(*arguments, **options):
            if options["lipschitz_bound"] > 4:
                raise EndlessEpisodeError.of("This ride")
            return original(*arguments, **options)

        monkeypatch.setattr(_parallel, "distill", distill)
        options = MEASURED | BUDGET | {"max_episode_steps": 15}
        with pytest.warns(InterruptedWarning, match="1 of 2 students are there. This ride has not ended"):
            found = frontier(teacher, endless, **options)
        assert [student.name for student in found.students] == ["K=4"]
        with pytest.warns(InterruptedWarning, match="1 of 2 students are there. This ride has not ended"):
            found = frontier(teacher, endless, n_workers=2, **options)
        assert [student.name for student in found.students] == ["K=4"]

    def test_the_error_of_its_table_has_the_students(self, teacher, endless, monkeypatch):
        from lipsrl.distillation import _frontier

        original = _frontier.evaluate

        def evaluate(*arguments, **options):
            monkeypatch.setattr(_episodes, "ENDLESS", 60)
            return original(*arguments, **options | {"max_episode_steps": None})

        monkeypatch.setattr(_frontier, "evaluate", evaluate)
        with pytest.raises(EndlessEpisodeError) as caught:
            frontier(teacher, endless, max_episode_steps=15, **MEASURED, **BUDGET)
        assert [student.name for student in caught.value.students] == ["K=4", "K=8"]
        assert caught.value.evaluation is None


class TestCommands:
    @pytest.fixture
    def arguments(self, teacher, endless, tmp_path):
        teacher.save(tmp_path / "teacher.zip")
        few = ["--net-arch", "8", "--rounds", "1", "--steps", "40", "--episodes", "3"]
        return [str(tmp_path / "teacher.zip"), "--env", "Endless-v0", *few]

    @pytest.mark.usefixtures("soon")
    def test_distill(self, arguments, tmp_path, capsys):
        own = ["--lipschitz-bound", "8", "--output", str(tmp_path / "student.zip")]
        assert main(["distill", *arguments, *own]) == 2
        assert "--max-episode-steps" in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "student.zip").exists()
        assert main(["distill", *arguments, *own, "--max-episode-steps", "15"]) == 0
        assert (tmp_path / "student.zip").exists()

    @pytest.mark.usefixtures("soon")
    def test_frontier(self, arguments, tmp_path):
        own = ["--bounds", "8", "--strengths", "0", "--workers", "1", "--output", str(tmp_path / "front")]
        assert main(["frontier", *arguments, *own, "--max-episode-steps", "15"]) == 0
        found = Evaluation.load(tmp_path / "front" / "evaluation.parquet")
        assert set(found.frame["length"]) == {15}
