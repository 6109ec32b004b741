"""Fine-tuning under the bound: two views of one observation, attacks that follow; what got worse is not kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import lipsrl
from lipsrl.attacks import CriticAttack, MADAttack
from lipsrl.distillation import InterruptedWarning, _fine_tune, _rollouts, fine_tune
from lipsrl.distillation._asymmetric import BothViews, asymmetric
from lipsrl.disturbances import Bias, GaussianNoise, Mixture

SHORT = {"net_arch": [8], "rounds": 1, "steps": 40}

pytestmark = pytest.mark.filterwarnings("ignore:The student's mean return")


@pytest.fixture
def student(normalized_teacher, cart):
    return lipsrl.distill(normalized_teacher, cart, lipschitz_bound=9.0, history=3, **SHORT)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(_fine_tune, "HELD_OUT", 3)
    monkeypatch.setattr(_rollouts, "HELD_OUT", 3)


def views(cart, disturbance, strength=1.0, n=2, frames=3, statistics=None):
    venv = DummyVecEnv([lambda: Monitor(cart())] * n)
    return BothViews(venv, statistics, frames, disturbance, lambda generator, steps: strength, 0)


def test_the_clean_view_is_what_sb3_stacks(cart, normalized_teacher):
    statistics = normalized_teacher.get_vec_normalize_env()
    both = views(cart, GaussianNoise(0.5), statistics=statistics)
    venv = VecNormalize(
        DummyVecEnv([lambda: Monitor(cart())] * 2), training=False, norm_reward=False, clip_obs=5.0
    )
    venv.obs_rms = statistics.obs_rms
    sb3 = VecFrameStack(venv, 3)
    both.seed(4)
    sb3.seed(4)
    seen, expected = both.reset(), sb3.reset()
    np.testing.assert_allclose(seen[:, 6:], expected, atol=1e-6)
    for _ in range(60):  # through the end of an episode
        action = np.full((2, 2), 0.3, np.float32)
        seen, rewards, dones, infos = both.step(action)
        expected, raw, _, sb3_infos = sb3.step(action)
        np.testing.assert_allclose(seen[:, 6:], expected, atol=1e-6)
        if dones[0]:
            last = infos[0]["terminal_observation"]
            np.testing.assert_allclose(last[6:], sb3_infos[0]["terminal_observation"], atol=1e-6)
    scale = np.sqrt(statistics.ret_rms.var + statistics.epsilon)
    np.testing.assert_allclose(rewards, raw / scale, rtol=1e-5)
    assert np.abs(seen[:, :6] - seen[:, 6:]).max() > 0.1


def test_rewards_are_those_that_the_critic_learned_from(cart, tmp_path):
    for normalised in (True, False):
        venv = VecNormalize(DummyVecEnv([lambda: Monitor(cart())]), norm_reward=normalised)
        venv.ret_rms.var, venv.ret_rms.count = np.float64(9.0), 100.0  # SB3 counts either way
        model = PPO("MlpPolicy", venv, n_steps=8, batch_size=8, device="cpu")
        model.save(tmp_path / "model.zip")
        venv.save(str(tmp_path / "vecnormalize.pkl"))
        opened = lipsrl.load_agent(tmp_path / "model.zip").vec_normalize
        assert not opened.norm_reward
        raw = DummyVecEnv([lambda: Monitor(cart())])
        both = views(cart, GaussianNoise(0.1), n=1, statistics=opened)
        both.seed(1)
        raw.seed(1)
        both.reset()
        raw.reset()
        action = np.ones((1, 2), np.float32)
        ratio = both.step(action)[1] / raw.step(action)[1]
        assert ratio == pytest.approx(1 / 3 if normalised else 1.0, rel=1e-5)


def test_a_strength_is_an_episodes(cart):
    both = views(cart, Bias(0.5), n=1, frames=1)
    seen = [both.reset()] + [both.step(np.zeros((1, 2), np.float32))[0] for _ in range(79)]
    offset = np.array([row[0, :2] - row[0, 2:] for row in seen])
    np.testing.assert_allclose(offset[:40], np.tile(offset[0], (40, 1)), atol=1e-5)
    np.testing.assert_allclose(offset[40:], np.tile(offset[40], (40, 1)), atol=1e-5)
    assert np.abs(offset[0] - offset[40]).max() > 1e-3
    clean = views(cart, Bias(0.5), strength=0.0).reset()
    np.testing.assert_array_equal(clean[:, :6], clean[:, 6:])


def test_the_actor_sees_one_half_and_the_critic_the_other(student):
    policy = asymmetric(student.policy_class)(
        views_space(12), student.action_space, lambda _: 1e-3, **student.policy_kwargs
    )
    policy.load_state_dict(student.policy.state_dict())
    rng = np.random.default_rng(0)
    obs = torch.as_tensor(rng.normal(size=(7, 12)), dtype=torch.float32)
    shown, clean = obs.chunk(2, dim=1)
    actions, values, log_prob = policy(obs, deterministic=True)
    reference = student.policy(shown, deterministic=True)
    torch.testing.assert_close(actions, reference[0])
    torch.testing.assert_close(log_prob, reference[2])
    torch.testing.assert_close(values, student.policy.predict_values(clean))
    torch.testing.assert_close(policy.predict_values(obs), values)
    again, log_prob, _ = policy.evaluate_actions(obs, actions)
    torch.testing.assert_close(again, values)
    torch.testing.assert_close(log_prob, reference[2])


def views_space(n):
    return spaces.Box(-np.inf, np.inf, (n,), np.float32)


def test_it_learns_under_its_bound_and_keeps_what_is_better(student, cart, few):
    before = {name: value.clone() for name, value in student.policy.state_dict().items()}
    mixture = Mixture([GaussianNoise(0.3), MADAttack(None, 0.2, steps=2)])
    changed = fine_tune(student, cart, timesteps=600, disturbance=mixture, learning_rate=3e-3)
    assert student.policy.lipschitz_network.lipschitz_bound() <= 9.0
    same = all(torch.equal(value, before[name]) for name, value in student.policy.state_dict().items())
    assert changed != same
    assert lipsrl.certify(student).network.upper_bound <= 9.0
    student.learn(64)


def test_what_got_worse_is_not_kept(student, cart, few, monkeypatch):
    found = iter([0.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0])
    monkeypatch.setattr(_fine_tune._Choice, "_return", lambda self: next(found))
    before = {name: value.clone() for name, value in student.policy.state_dict().items()}
    assert not fine_tune(student, cart, timesteps=300, disturbance=GaussianNoise(0.3), learning_rate=1e-2)
    assert all(torch.equal(value, before[name]) for name, value in student.policy.state_dict().items())


def test_a_seed_tells_all_that_is_drawn(normalized_teacher, cart, few, tmp_path):
    """Weights to the bit, wherever the global generators stand; these stay there, and no log begins."""

    def tuned(seed, noise):
        student = lipsrl.distill(normalized_teacher, cart, lipschitz_bound=9.0, history=3, **SHORT)
        student.tensorboard_log, student.verbose = str(tmp_path), 1
        np.random.seed(noise)  # noqa: NPY002
        torch.manual_seed(noise)
        before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
        given = {"disturbance": GaussianNoise(0.3), "learning_rate": 3e-3}
        assert fine_tune(student, cart, timesteps=300, seed=seed, **given)
        np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), before[1])
        return torch.cat([value.flatten() for value in student.policy.state_dict().values()])

    first = tuned(0, 1)
    assert torch.equal(first, tuned(0, 2))
    assert not torch.equal(first, tuned(5, 1))
    assert not list(tmp_path.iterdir())


def test_interrupted_the_best_so_far_is_kept(student, cart, few, monkeypatch):
    returns = iter([0.0, 1.0, -1.0])  # the second comparison is the best, the fourth is never made
    seen = []

    def measured(choice):
        seen.append({name: value.clone() for name, value in choice._student.policy.state_dict().items()})
        try:
            return next(returns)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(_fine_tune._Choice, "_return", measured)
    with pytest.warns(InterruptedWarning, match=r"fine_tune was interrupted after \d+ of 4000 steps"):
        changed = fine_tune(student, cart, timesteps=4000, disturbance=GaussianNoise(0.3), learning_rate=1e-2)
    assert changed
    assert len(seen) == 4
    assert all(torch.equal(value, seen[1][name]) for name, value in student.policy.state_dict().items())
    assert not all(torch.equal(value, seen[1][name]) for name, value in seen[3].items())


def test_attacks_follow_the_weights(student, cart, few, monkeypatch):
    seen = []
    original = MADAttack.refresh
    monkeypatch.setattr(
        MADAttack,
        "refresh",
        lambda self, model: (
            original(self, model),
            seen.append(next(self._actor.network.parameters()).sum().item()),
        ),
    )
    fine_tune(student, cart, timesteps=400, disturbance=MADAttack(None, 0.2, steps=1), learning_rate=1e-2)
    assert len(set(seen)) > 2


@pytest.mark.parametrize("algorithm", [A2C])
def test_other_algorithms(make_teacher, cart, few, algorithm):
    student = lipsrl.distill(make_teacher(algorithm), cart, lipschitz_bound=9.0, **SHORT)
    fine_tune(student, cart, timesteps=60, disturbance=GaussianNoise(0.3))
    assert student.policy.lipschitz_network.lipschitz_bound() <= 9.0


def test_wrong_input(student, make_teacher, cart):
    given = {"timesteps": 10, "disturbance": GaussianNoise(0.1)}
    with pytest.raises(ValueError, match=r"on-policy .* received SAC"):
        fine_tune(make_teacher(SAC), cart, **given)
    with pytest.raises(TypeError, match="disturbance must be a Disturbance"):
        fine_tune(student, cart, timesteps=10, disturbance=None)
    for share in (1.5, "a", None, float("nan")):
        with pytest.raises(ValueError, match="clean_share must be a number in"):
            fine_tune(student, cart, **given, clean_share=share)
    with pytest.raises(ValueError, match="was made for windows of 3 observations"):
        fine_tune(student, cart, **given, frame_stack=2)
    with pytest.raises(ValueError, match="timesteps"):
        fine_tune(student, cart, timesteps=0, disturbance=GaussianNoise(0.1))
    with pytest.raises(ValueError, match="cannot follow a model that learns"):
        fine_tune(student, cart, timesteps=10, disturbance=CriticAttack(None, 0.1))
    aimed = Mixture([GaussianNoise(0.1), MADAttack(student, 0.1)])
    with pytest.raises(ValueError, match="has a target model already"):
        fine_tune(student, cart, timesteps=10, disturbance=aimed)
    recurrent = RecurrentPPO("MlpLstmPolicy", DummyVecEnv([cart]), n_steps=8, batch_size=8)
    with pytest.raises(ValueError, match=r"feed-forward .* received RecurrentPPO"):
        fine_tune(recurrent, cart, **given)
