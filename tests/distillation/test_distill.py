"""The student does what its teacher does, within its bound, and is the best that was met on the way."""

import doctest
import importlib
import warnings

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

import lipsrl
from lipsrl.attacks import RandomAttack
from lipsrl.distillation import _distill
from lipsrl.distillation._imitation import Imitation
from lipsrl.distillation._rollouts import Rollouts, derived_seed
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation._environments import make_environments
from lipsrl.evaluation._seeding import environment_seed

pytestmark = pytest.mark.filterwarnings(
    "ignore:The student's mean return"
)  # the smallest budgets are too small

BUDGET = {"net_arch": [16, 16], "rounds": 2, "steps": 300}


def weights(model):
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def observations(n=4000):
    rng = np.random.default_rng(0)
    return rng.uniform([-1.5, -1.5], [1.5, 1.5], (n, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def student(teacher):
    return lipsrl.distill(
        teacher, lambda: type(teacher.env.envs[0].unwrapped)(), lipschitz_bound=4.0, **BUDGET | {"steps": 600}
    )


def test_the_documented_example_runs():
    assert doctest.testmod(_distill).failed == 0


def test_the_student_parks_the_cart_as_its_teacher_does(teacher, student, cart):
    models = {"teacher": teacher, "student": student, "idle": lambda o: np.zeros((len(o), 2), np.float32)}
    returns = lipsrl.evaluate(models, cart, n_episodes=20).frame.groupby("agent")["return"].mean()
    assert returns["student"] == pytest.approx(returns["teacher"], rel=0.12)  # it is half as steep
    assert returns["idle"] < 5 * returns["teacher"]


def test_the_student_keeps_its_bound_and_is_steep_enough_to_need_it(teacher, student):
    assert student.policy.lipschitz_network.lipschitz_bound() <= 4.0
    certificate = lipsrl.certify(student)
    assert 3.0 < certificate.lower_bound <= certificate.upper_bound <= 4.0
    assert lipsrl.certify(teacher).lower_bound > 6.0
    near = observations()
    far = near + np.random.default_rng(1).normal(scale=0.02, size=near.shape).astype(np.float32)
    moved = student.predict(near, deterministic=True)[0] - student.predict(far, deterministic=True)[0]
    slope = np.linalg.norm(moved, axis=1) / np.linalg.norm((near - far).astype(np.float64), axis=1)
    assert 3.0 < slope.max() <= 4.0 * (1 + 1e-4)  # float32 actions


@pytest.mark.parametrize("layer", ["spectral", "orthogonal"])
def test_every_layer_can_be_asked_for(teacher, cart, layer):
    student = lipsrl.distill(
        teacher, cart, lipschitz_bound=4.0, layer=layer, net_arch=[8], rounds=1, steps=40
    )
    assert student.policy.lipschitz_network.layer_name == layer
    assert student.policy.lipschitz_network.lipschitz_bound() <= 4.0


def test_the_seed_decides_everything_and_no_global_generator_moves(teacher, cart):
    def run(seed):
        return weights(
            lipsrl.distill(teacher, cart, lipschitz_bound=4.0, seed=seed, net_arch=[8], rounds=1, steps=40)
        )

    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002  (SB3 reseeds the global generator)
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    first = run(1)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])  # noqa: NPY002
    assert same(first, run(1))
    assert not same(first, run(2))


def test_gsde_noise_is_drawn_from_the_seed_too(make_teacher, cart):
    teacher = make_teacher(PPO, use_sde=True)

    def run():
        student = lipsrl.distill(teacher, cart, lipschitz_bound=4.0, net_arch=[8], rounds=1, steps=20)
        return student.policy.action_dist.exploration_mat

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = run()
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, run())


def test_the_teacher_is_not_changed(make_teacher, cart):
    teacher = make_teacher(PPO)
    before, kwargs = weights(teacher), dict(teacher.policy_kwargs)
    student = lipsrl.distill(teacher, cart, lipschitz_bound=4.0, net_arch=[8], rounds=1, steps=40)
    student.learn(128)
    assert same(before, weights(teacher))
    assert teacher.policy_kwargs == kwargs


def test_vec_normalize_is_used_and_taken_over_frozen(normalized_teacher, cart, tmp_path):
    theirs = normalized_teacher.get_vec_normalize_env()
    student = lipsrl.distill(normalized_teacher, cart, lipschitz_bound=8.0, **BUDGET)
    own = student.get_vec_normalize_env()
    assert own is not theirs
    assert not own.training
    np.testing.assert_array_equal(own.obs_rms.var, theirs.obs_rms.var)
    np.testing.assert_array_equal(own.ret_rms.var, theirs.ret_rms.var)
    assert (own.clip_obs, own.gamma) == (5.0, 0.97)
    frame = lipsrl.evaluate({"t": normalized_teacher, "s": student}, cart, n_episodes=20).frame
    returns = frame.groupby("agent")["return"].mean()
    assert returns["s"] == pytest.approx(returns["t"], rel=0.12)

    # K is per unit of the normalised observation; in raw units the largest gain comes on top
    certificate = lipsrl.certify(student)
    assert certificate.to_dict()["network"]["upper_bound"] <= 8.0
    assert certificate.upper_bound <= 8.0 / np.sqrt(0.25)
    student.learn(128)
    np.testing.assert_array_equal(own.obs_rms.var, theirs.obs_rms.var)

    # the same teacher from its files
    theirs.save(tmp_path / "vecnormalize.pkl")
    normalized_teacher.save(tmp_path / "teacher.zip")
    loaded = PPO.load(tmp_path / "teacher.zip", device="cpu")
    budget = {"lipschitz_bound": 8.0, "net_arch": [8], "rounds": 1, "steps": 40}
    again = lipsrl.distill(loaded, cart, vec_normalize=tmp_path / "vecnormalize.pkl", **budget)
    assert same(weights(again), weights(lipsrl.distill(normalized_teacher, cart, **budget)))


def test_the_teacher_is_asked_on_clean_observations_while_the_student_is_shown_noise(teacher, cart):
    environments = make_environments(cart, 4)
    rollouts = Rollouts(teacher, environments, None, GaussianNoise(0.3), 0)
    shown, targets = rollouts.collect(rollouts.teacher, 6)
    guessed = teacher.predict(shown, deterministic=True)[0]
    assert np.abs(guessed - targets).mean() > 0.1
    clean = Rollouts(teacher, environments, None, None, 0)
    shown, targets = clean.collect(clean.teacher, 6)
    np.testing.assert_allclose(teacher.predict(shown, deterministic=True)[0], targets, atol=1e-6)


def test_a_student_shown_noise_chatters_less_than_one_that_was_not(teacher, student, cart):
    noise = GaussianNoise(0.4)
    filtered = lipsrl.distill(teacher, cart, lipschitz_bound=4.0, disturbance=noise, **BUDGET)
    models = {"clean": student, "filtered": filtered}
    frame = lipsrl.evaluate(models, cart, disturbances=noise, strengths=[1.0], n_episodes=20).frame
    fluctuation = frame.groupby("agent")["action_fluctuation"].mean()
    assert fluctuation["filtered"] < 0.85 * fluctuation["clean"]


def test_an_attack_can_be_the_disturbance(teacher, cart):
    attack = RandomAttack(None, epsilon=0.1)
    rollouts = Rollouts(teacher, make_environments(cart, 4), None, attack, 0)
    shown, targets = rollouts.collect(rollouts.teacher, 4)
    assert np.abs(teacher.predict(shown, deterministic=True)[0] - targets).max() > 0.1
    lipsrl.distill(teacher, cart, lipschitz_bound=4.0, disturbance=attack, net_arch=[8], rounds=1, steps=40)


def test_a_student_that_saturates_on_the_wrong_side_finds_back(cart):
    student = PPO(
        "LipschitzMlpPolicy", cart(), policy_kwargs={"lipschitz_bound": 4.0, "net_arch": [8]}, device="cpu"
    )
    with torch.no_grad():
        student.policy.lipschitz_network.head.bias.fill_(3.0)  # beyond both motors' limits, 2 and 1.5
    imitation = Imitation(student.policy, 800, seed=0)
    imitation.add(observations(512), np.full((512, 2), [-2.0, -0.5]))
    imitation.fit(800, lambda: None)
    np.testing.assert_allclose(
        student.predict(observations(512), deterministic=True)[0].mean(0), [-2.0, -0.5], atol=0.1
    )


def test_held_out_episodes_are_neither_learned_from_nor_evaluated_on():
    kinds = [{environment_seed(derived_seed(0, kind), i) for i in range(200)} for kind in range(2)]
    evaluated = {environment_seed(seed, i) for seed in range(20) for i in range(200)}
    assert not kinds[0] & kinds[1]
    assert not (kinds[0] | kinds[1]) & evaluated


def test_distill_is_exported():
    assert lipsrl.distill is importlib.import_module("lipsrl.distillation").distill
    assert "distill" in dir(lipsrl)


@pytest.mark.slow
def test_a_trained_pendulum_agent_has_a_smooth_twin():
    """At K = 8, of the teacher's steepest 13.6: its return, and about half of its chatter at raw σ = .05."""
    venv = VecNormalize(make_vec_env("Pendulum-v1", 4, seed=0), gamma=0.95)
    teacher = PPO(
        "MlpPolicy", venv, n_steps=512, batch_size=128, gamma=0.95, learning_rate=1e-3, seed=0, device="cpu",
        policy_kwargs={"log_std_init": -0.5},
    )  # fmt: skip
    teacher.learn(150_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        student = lipsrl.distill(teacher, "Pendulum-v1", lipschitz_bound=8.0)
    frame = lipsrl.evaluate(
        {"teacher": teacher, "student": student},
        "Pendulum-v1",
        disturbances=GaussianNoise(0.05),
        strengths=(0.0, 1.0),
    ).frame
    mean = frame.groupby(["agent", "strength"])[["return", "action_fluctuation"]].mean()
    assert mean.loc[("teacher", 0.0), "return"] > -250
    assert mean.loc[("student", 0.0), "return"] > 1.1 * mean.loc[("teacher", 0.0), "return"]
    chatter = mean["action_fluctuation"].xs(1.0, level="strength")
    assert chatter["student"] < 0.7 * chatter["teacher"]
    assert lipsrl.certify(student).to_dict()["network"]["upper_bound"] <= 8.0
