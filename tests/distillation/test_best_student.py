"""Which student is kept: the best, whatever comes between; and what is said about it."""

import numpy as np
import pytest
import torch

import lipsrl
from lipsrl.distillation._imitation import Imitation
from lipsrl.distillation._rollouts import HELD_OUT, Rollouts

pytestmark = pytest.mark.filterwarnings(
    "ignore:The student's mean return"
)  # the smallest budgets are too small


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def scored(monkeypatch):
    """Hand out prescribed mean returns: the teacher's, then those of the rounds; note who got which."""
    met = []

    def prescribe(*scores):
        remaining = list(scores)

        def returns(self, actor):
            if actor is not self.teacher:
                met.append({k: v.clone() for k, v in actor._policy.lipschitz_network.state_dict().items()})
                assert not actor._policy.training
            return np.full(HELD_OUT, remaining.pop(0))

        monkeypatch.setattr(Rollouts, "returns", returns)
        return met

    return prescribe


def test_the_best_student_of_all_rounds_is_kept(teacher, cart, scored):
    met = scored(-5.0, -9.0, -5.1, -7.0)
    student = lipsrl.distill(teacher, cart, lipschitz_bound=4.0, net_arch=[8], rounds=2, steps=60)
    assert len(met) == 3
    assert same(student.policy.lipschitz_network.state_dict(), met[1])
    assert not same(met[1], met[2])


def test_an_interruption_keeps_the_best_student_so_far(teacher, cart, scored, monkeypatch):
    met = scored(-5.0, -5.3, -5.2, -5.1)
    fit, calls = Imitation.fit, []

    def interrupted(self, steps, after_step):
        calls.append(steps)
        if len(calls) == 3:
            fit(self, 5, after_step)
            self._policy.set_training_mode(True)
            raise KeyboardInterrupt
        fit(self, steps, after_step)

    monkeypatch.setattr(Imitation, "fit", interrupted)
    with pytest.warns(UserWarning, match=r"interrupted in round 2 of 2.*-5\.2 against the teacher's -5"):
        student = lipsrl.distill(teacher, cart, lipschitz_bound=4.0, net_arch=[8], rounds=2, steps=60)
    assert same(student.policy.lipschitz_network.state_dict(), met[1])
    assert not student.policy.training
    assert student.policy.lipschitz_network.lipschitz_bound() <= 4.0


def test_an_interruption_before_the_first_student_is_an_interruption(teacher, cart, monkeypatch):
    def interrupted(self, steps, after_step):
        raise KeyboardInterrupt

    monkeypatch.setattr(Imitation, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lipsrl.distill(teacher, cart, lipschitz_bound=4.0, net_arch=[8], rounds=1, steps=40)


def test_a_bound_below_what_the_task_needs_is_said(teacher, cart):
    with pytest.warns(UserWarning, match=r"lipschitz_bound=0\.01 is below what this task"):
        lipsrl.distill(teacher, cart, lipschitz_bound=0.01, net_arch=[8], rounds=1, steps=40)


def test_the_progress_bar_counts_the_steps(teacher, cart, capsys):
    lipsrl.distill(teacher, cart, lipschitz_bound=4.0, net_arch=[8], rounds=1, steps=40, progress=True)
    shown = capsys.readouterr().err
    assert "40/40" in shown
    assert "round 1 of 1" in shown
