"""One student per K, measured in the same episodes, and the K that is recommended."""

import doctest
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env

import lipsrl
from lipsrl.distillation import TEACHER, Frontier, InterruptedWarning, _frontier, _parallel, frontier
from lipsrl.distillation._frontier import _orders
from lipsrl.evaluation import Evaluation

pytestmark = pytest.mark.filterwarnings("ignore:K=.*mean return", "ignore:The student's mean return")

BUDGET = {"net_arch": [8], "rounds": 1, "steps": 40}
MEASURED = {"strengths": [0.0, 0.2], "n_episodes": 6}


def weights(student):
    return student.model.policy.state_dict()


@pytest.fixture(scope="module")
def found(normalized_teacher, cart):
    return frontier(
        normalized_teacher,
        cart,
        bounds=[8.0, 2.0],
        noise_levels=[0.0, 0.2],
        n_workers=2,
        **MEASURED,
        **BUDGET,
    )


def test_the_documented_example_runs():
    assert doctest.testmod(_frontier).failed == 0


def test_one_student_per_k_and_noise_level(found):
    names = ["K=2", "K=2, shown 0.2", "K=8", "K=8, shown 0.2"]
    assert [s.name for s in found.students] == names
    assert [(s.lipschitz_bound, s.noise_level) for s in found.students] == [
        (2, 0),
        (2, 0.2),
        (8, 0),
        (8, 0.2),
    ]
    assert list(found.evaluation.frame["agent"].unique()) == [TEACHER, *names]
    for student in found.students:
        assert student.certificate.network.upper_bound <= student.lipschitz_bound
        assert student.model.policy.lipschitz_network.lipschitz_bound() <= student.lipschitz_bound


def test_a_student_is_that_of_distill(found, normalized_teacher, cart):
    alone = lipsrl.distill(normalized_teacher, cart, lipschitz_bound=8.0, **BUDGET)
    own = alone.policy.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in weights(found.students[2]).items())


def test_workers_change_nothing_and_their_students_learn_on(found, normalized_teacher, cart):
    here = frontier(normalized_teacher, cart, bounds=[2.0], **MEASURED, **BUDGET)
    student = found.students[0]
    assert all(
        torch.equal(value, weights(here.students[0])[name]) for name, value in weights(student).items()
    )
    mine = found.evaluation.frame[found.evaluation.frame["agent"] == "K=2"].reset_index(drop=True)
    theirs = here.evaluation.frame[here.evaluation.frame["agent"] == "K=2"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, theirs)
    assert student.model.get_vec_normalize_env() is not None
    student.model.learn(64)
    assert student.model.policy.lipschitz_network.lipschitz_bound() <= 2.0


def test_the_table(found):
    table = found.table()
    assert len(table) == 5 * 2
    teacher = table[table["agent"] == TEACHER].iloc[0]
    assert np.isnan(teacher["lipschitz_bound"])
    assert teacher["network_lower_bound"] == found.teacher_certificate.network.lower_bound
    students = table[table["agent"] != TEACHER]
    assert (students["network_lower_bound"] <= students["lipschitz_bound"]).all()
    assert {"return_low", "action_fluctuation", "upper_bound", "network_tightness"} <= set(table.columns)


def test_q_values_have_a_frontier(make_teacher, stepped_cart):
    teacher = make_teacher(DQN, make_vec_env(stepped_cart, 1))
    assert len(frontier(teacher, stepped_cart, bounds=[4.0], **MEASURED, **BUDGET).students) == 1


def a_frontier(returns, bounds):
    """From prescribed returns: agent → per strength (episodes,)."""
    rows = [
        {"agent": agent, "strength": strength, "episode": episode, "return": value}
        for agent, per_strength in returns.items()
        for strength, values in per_strength.items()
        for episode, value in enumerate(values)
    ]
    frame = pd.DataFrame(rows).assign(seed=0, disturbance="gaussian", env_seed=0, length=1, nonfinite="")
    for column in ("action_fluctuation", "total_variation", "jerk", "spectral_smoothness", "high_frequency_ratio",
                   "saturation", "action_sensitivity"):  # fmt: skip
        frame[column] = 0.0
    students = tuple(_parallel.Student(k, level, model=None, certificate=None) for k, level in bounds)
    return Frontier(Evaluation(frame), students, None)


def test_the_recommended_k_is_the_smallest_that_cannot_be_told_from_the_teacher():
    rng = np.random.default_rng(0)
    start = rng.normal(-100, 30, 40)  # of the episodes, which all share
    noise = lambda shift: start + rng.normal(shift, 2, 40)  # noqa: E731
    returns = {
        TEACHER: {0.0: start, 0.2: noise(-300)},
        "K=2": {0.0: noise(-200), 0.2: noise(-250)},
        "K=4": {0.0: noise(-5), 0.2: noise(-100)},  # less than its own spread, but always
        "K=6": {0.0: noise(0), 0.2: noise(-100)},
        "K=8": {0.0: noise(0), 0.2: noise(-200)},
    }
    found = a_frontier(returns, [(2, 0), (4, 0), (6, 0), (8, 0)])
    assert found.recommended().name == "K=6"
    assert found.recommended(0.2).name == "K=4"
    del returns["K=6"], returns["K=8"]
    assert a_frontier(returns, [(2, 0), (4, 0)]).recommended() is None
    with pytest.raises(ValueError, match=r"strength=0\.1 was not measured. Accepted: 0, 0\.2"):
        found.recommended(0.1)


def test_of_two_students_at_one_k_the_better_is_recommended():
    start = np.random.default_rng(0).normal(-100, 30, 40)
    returns = {TEACHER: {0.0: start}, "K=4": {0.0: start + 1}, "K=4, shown 0.2": {0.0: start + 2}}
    assert a_frontier(returns, [(4, 0), (4, 0.2)]).recommended().noise_level == 0.2


def test_what_a_distillation_says_is_said_with_its_k(teacher, cart):
    with pytest.warns(UserWarning, match=r"^K=0\.01: The student's mean return .* is below what this task"):
        found = frontier(teacher, cart, bounds=[0.01], **MEASURED, **BUDGET)
    assert "lipschitz_bound=0.01" in found.students[0].warnings[0]
    assert found.recommended() is None


def test_interrupted_it_holds_the_students_that_there_are(teacher, cart, monkeypatch):
    distill, begun = _parallel.distill, []

    def interrupted(*args, **kwargs):
        begun.append(kwargs["lipschitz_bound"])
        if len(begun) == 2:
            raise KeyboardInterrupt
        return distill(*args, **kwargs)

    monkeypatch.setattr(_parallel, "distill", interrupted)
    with pytest.warns(InterruptedWarning, match="1 of 3 students"):
        found = frontier(teacher, cart, bounds=[2.0, 4.0, 8.0], **MEASURED, **BUDGET)
    assert [s.name for s in found.students] == ["K=2"]
    begun[:] = [0.0]
    with pytest.raises(KeyboardInterrupt):
        frontier(teacher, cart, bounds=[2.0], **MEASURED, **BUDGET)


def test_a_student_that_was_cut_short_is_the_last(teacher, cart, monkeypatch):
    distill = _parallel.distill

    def cut_short(*args, **kwargs):
        _parallel.warnings.warn("cut short", InterruptedWarning, stacklevel=1)
        return distill(*args, **kwargs)

    monkeypatch.setattr(_parallel, "distill", cut_short)
    with pytest.warns(InterruptedWarning), pytest.warns(UserWarning, match="K=2: cut short"):
        found = frontier(teacher, cart, bounds=[2.0, 4.0], **MEASURED, **BUDGET)
    assert [s.name for s in found.students] == ["K=2"]


@pytest.fixture
def interruptible():
    """A job that a shell starts in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupted_workers_hand_in_what_they_have(teacher, cart, monkeypatch, interruptible):
    """The interrupt comes while the first one's student is taken in; the second may be anywhere."""
    monkeypatch.setattr(_parallel.tqdm, "set_postfix_str", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.warns(InterruptedWarning, match="of 3 students are there"):
        found = frontier(teacher, cart, bounds=[2.0, 4.0, 8.0], n_workers=2, **MEASURED, **BUDGET)
    assert 1 <= len(found.students) <= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bounds": []}, "bounds must be at least one number, all different, received []"),
        ({"bounds": [2.0, 2.0]}, "bounds must be at least one number, all different"),
        ({"bounds": [2.0, 2.0000001]}, "bounds must be at least one number, all different"),
        ({"bounds": [0.0]}, "each of bounds must be a finite number > 0"),
        ({"noise_levels": [-1.0]}, "each of noise_levels must be a finite number > 0"),
        ({"noise_levels": [(0.3, 0.0)]}, "each of noise_levels must be a finite number >= 0, or a range"),
        ({"noise_levels": [[0.3, 0.0]]}, "each of noise_levels must be a finite number >= 0, or a range"),
        ({"noise_levels": [(0, 0.3), [0, 0.3]]}, "noise_levels must be at least one number, all different"),
        ({"disturbance": "gauss"}, "disturbance='gauss' is not known. Did you mean 'gaussian'?"),
        ({"strengths": [-0.1]}, "strengths must be finite numbers >= 0"),
        ({"n_workers": 0}, "n_workers must be an integer > 0"),
        ({"n_episodes": 0}, "n_episodes must be an integer > 0"),
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_is_learned(teacher, cart, arguments, message):
    with pytest.raises(ValueError) as error:
        frontier(teacher, cart, **{"bounds": [2.0], "rounds": 10**6, "steps": 10**9} | arguments)
    assert message in str(error.value)


@pytest.mark.parametrize("level", [(0, 0.3), [0, 0.3]])
def test_a_range_of_noise_levels_may_be_a_list(level):
    assert [order.noise_level for order in _orders([2.0], [level, 0], [None])] == [0.0, (0.0, 0.3)]


def test_the_teacher_must_be_a_model(cart):
    with pytest.raises(TypeError, match="model must be a trained Stable-Baselines3 model"):
        frontier("teacher.zip", cart, bounds=[2.0])


def test_an_error_in_a_worker_is_the_same_error(cart):
    teacher = PPO("MlpPolicy", cart(), policy_kwargs={"activation_fn": torch.nn.SiLU}, device="cpu")
    with pytest.raises(ValueError, match="layer='sandwich' cannot be used with activation='silu'"):
        frontier(teacher, cart, bounds=[2.0, 4.0], n_workers=2, **MEASURED, **BUDGET)
