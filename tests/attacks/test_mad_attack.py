"""MAD: closed forms, every kind of policy, and the promise of a Lipschitz one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attack_models import LIPSCHITZ_BOUND, MAKERS, Stub, make_ppo, scale
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from lipsrl.actors.acting import Acting
from lipsrl.attacks import MADAttack, RandomAttack
from lipsrl.attacks._actor import actor_of

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])


def linear_ppo(weight, log_std=(0.0, 0.0)):
    """μ(s) = W s, exactly."""
    model = PPO("MlpPolicy", DummyVecEnv([Stub]), policy_kwargs={"net_arch": []}, device="cpu")
    with torch.no_grad():
        model.policy.action_net.weight.copy_(torch.tensor(weight))
        model.policy.action_net.bias.zero_()
        model.policy.log_std.copy_(torch.tensor(log_std))
    return model


class TestClosedForms:
    """Of a linear policy: the walk of ten steps of ε/10 ends within a tenth of the corner that is best."""

    WEIGHT = ((1.0, -2.0, 0.5), (0.0, 0.0, 0.0))

    @pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
    def test_the_action_moves_by_epsilon_times_the_dual_norm(self, norm, dual, observations, attacked, act):
        model = linear_ppo(self.WEIGHT)
        rows = 0.3 * observations  # away from the limits of the action
        moved = np.abs(act(model, attacked(MADAttack(model, 0.1, norm), rows)) - act(model, rows))[:, 0]
        best = 0.1 * np.linalg.norm(self.WEIGHT[0], ord=dual)
        assert moved.max() <= best * (1 + 1e-5)
        assert moved.min() >= 0.9 * best

    def test_it_does_not_start_where_the_gradient_vanishes(self, observations, attacked):
        """One step from the centre would go nowhere; from a random neighbour it climbs."""
        model = linear_ppo(self.WEIGHT)
        delta = attacked(MADAttack(model, 0.1, "l2", steps=1), observations) - observations
        assert (np.linalg.norm(delta, axis=1) > 0.05).all()

    def test_actions_are_weighed_by_their_standard_deviation(self, observations, attacked):
        """Both actions follow a sensor of their own equally steeply; the quieter one is worth more."""
        identity = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
        for log_std, quiet in (((0.0, -3.0), 1), ((-3.0, 0.0), 0)):
            attack = MADAttack(linear_ppo(identity, log_std), 0.1, "l2", steps=40)
            delta = np.abs(attacked(attack, observations) - observations).mean(axis=0)
            assert delta[quiet] > 0.08
            assert delta[1 - quiet] < 0.05

    def test_more_is_found_than_by_two_hundred_random_attacks(self, ppo, observations, attacked, act):
        clean = act(ppo, observations)
        found = np.abs(act(ppo, attacked(MADAttack(ppo, 0.2), observations)) - clean)[:, 0]
        tries = [attacked(RandomAttack(ppo, 0.2), observations, seed=64 * i) for i in range(200)]
        best = np.max([np.abs(act(ppo, points) - clean)[:, 0] for points in tries], axis=0)
        # now and then the walk climbs the lower of two hills
        assert (found >= 0.9 * best).mean() > 0.9
        assert found.mean() > best.mean()


@NORMS
@pytest.mark.parametrize("name", list(MAKERS))
def test_it_moves_the_action_further_than_chance(models, observations, attacked, act, name, norm):
    model = models[name]
    clean = act(model, observations)
    moved = {}
    for attack in (RandomAttack(model, 0.05, norm), MADAttack(model, 0.05, norm)):
        difference = act(model, attacked(attack, observations)) - clean
        moved[attack.name] = np.linalg.norm(difference, axis=1).mean()
    assert moved["mad"] > 1.5 * moved["random"] > 1e-4


@pytest.mark.parametrize("name", ["lipschitz-ppo", "lipschitz-sac"])
@pytest.mark.parametrize("epsilon", [0.01, 0.2])
def test_a_lipschitz_policy_keeps_its_promise(models, observations, attacked, act, name, epsilon):
    """‖Δa‖ <= K·ε under l2; rounding of float32 actions and observations is 1e-6. And the attack uses its budget."""
    model = models[name]
    difference = act(model, attacked(MADAttack(model, epsilon, "l2"), observations)) - act(
        model, observations
    )
    moved = np.linalg.norm(difference, axis=1)
    assert moved.max() <= LIPSCHITZ_BOUND * epsilon + 2e-6
    assert moved.max() > 0.1 * LIPSCHITZ_BOUND * epsilon  # ReLUs that are off, and the tanh, take the rest


class TestNormalization:
    """A normalised attack on the pipeline is the plain attack on the policy behind it."""

    @pytest.fixture
    def observations(self, observations):
        """Where the clip cuts nothing off."""
        return observations * np.array([0.2, 0.6, 0.3], np.float32)

    @NORMS
    def test_the_policy_sees_what_it_would_see_without_the_normalization(
        self, normalized, observations, attacked, norm
    ):
        venv = normalized.get_vec_normalize_env()
        seen = venv.normalize_obs(observations).astype(np.float64)
        assert np.abs(seen).max() < 2.8
        bare = PPO("MlpPolicy", "Pendulum-v1", device="cpu")
        bare.policy.load_state_dict(normalized.policy.state_dict())
        through = attacked(MADAttack(normalized, 0.1, norm), observations.astype(np.float64))
        np.testing.assert_allclose(
            (through - venv.obs_rms.mean) / np.sqrt(venv.obs_rms.var + venv.epsilon),
            attacked(MADAttack(bare, 0.1, norm), seen),
            atol=2e-6,  # `seen` is float32
        )

    @pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
    def test_raw_budgets_spend_on_what_the_policy_feels_most(
        self, normalized, observations, attacked, norm, dual
    ):
        """Of a linear policy: a raw sensor counts with its gain, 5 for cos θ and 1/3 for θ̇."""
        venv = normalized.get_vec_normalize_env()
        weight = np.array([0.1, -0.1, 0.2])
        model = linear_ppo((weight.tolist(), [0.0] * 3))
        attack = MADAttack(model, 0.02, norm, venv, units="raw")
        rows = observations.astype(np.float64)
        gain = 1 / np.sqrt(venv.obs_rms.var + venv.epsilon)
        moved = np.abs((attacked(attack, rows) - rows) * gain @ weight)
        best = 0.02 * np.linalg.norm(gain * weight, ord=dual)
        assert moved.max() <= best * (1 + 1e-9)
        assert moved.min() >= 0.9 * best

    @NORMS
    def test_sensors_at_the_clip_are_moved_to_where_they_are_seen(self, normalized, attacked, norm):
        """θ̇ is beyond the clip and reads 3: upwards nothing can be gained."""
        venv = normalized.get_vec_normalize_env()
        rows = np.tile(np.array([0.3, -0.2, 40.0]), (200, 1))
        rows[::2, 2] = 11.0
        model = linear_ppo(((0.0, 0.0, 1.0), (0.0, 0.0, 0.0)))
        shown = venv.normalize_obs(attacked(MADAttack(model, 0.5, norm, venv), rows))[:, 2]
        assert (shown <= 3 - 0.3).mean() > 0.95

    def test_a_raw_budget_is_not_spent_where_nothing_is_seen(self, normalized, attacked):
        """cos θ is far beyond the clip, so the whole l2 budget goes to the sensor that counts as much."""
        venv = normalized.get_vec_normalize_env()
        gain = 1 / np.sqrt(venv.obs_rms.var)
        rows = np.tile(np.array([5.0, -0.2, 1.0]), (64, 1))
        model = linear_ppo(((1 / gain[0], 1 / gain[1], 0.0), (0.0, 0.0, 0.0)))
        delta = np.abs(attacked(MADAttack(model, 0.1, "l2", venv, units="raw"), rows) - rows)
        assert (delta[:, 1] > 0.09).all()

    def test_forms_are_equal(self, normalized, observations, attacked, tmp_path):
        venv = normalized.get_vec_normalize_env()
        venv.save(tmp_path / "vecnormalize.pkl")
        expected = attacked(MADAttack(normalized, 0.1), observations)
        for given in (venv, tmp_path / "vecnormalize.pkl", str(tmp_path / "vecnormalize.pkl")):
            np.testing.assert_array_equal(
                attacked(MADAttack(normalized, 0.1, vec_normalize=given), observations), expected
            )

    def test_it_is_frozen_with_the_weights(self, observations, attacked):
        model = MAKERS["ppo-normalized"]()
        attack = MADAttack(model, 0.1)
        expected = attacked(attack, observations)
        model.get_vec_normalize_env().obs_rms.mean[:] = 2.0
        model.get_vec_normalize_env().obs_rms.var[:] = 100.0
        scale(model.policy.action_net, -3.0)
        np.testing.assert_array_equal(attacked(attack, observations), expected)
        assert not np.array_equal(attacked(MADAttack(model, 0.1), observations), expected)


class TestActor:
    @pytest.mark.parametrize("name", ["ppo-two-actions", "ppo-gsde", "ppo-gsde-quiet"])
    def test_mean_and_deviation_are_those_of_the_policy(self, models, observations, name):
        policy = models[name].policy
        tensor = torch.as_tensor(observations)
        with torch.no_grad():
            gaussian = policy.get_distribution(tensor).distribution
        actor = actor_of(models[name])
        mean, deviation = actor.mean(tensor.double()), actor.deviation(tensor.double())
        np.testing.assert_allclose(mean, gaussian.mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(deviation.expand_as(mean), gaussian.stddev, rtol=1e-4)
        if name == "ppo-gsde":
            assert deviation.std() > 1e-3

    @pytest.mark.parametrize("name", ["sac", "td3", "lipschitz-sac"])
    def test_squashed_means_are_the_actions_in_half_ranges(self, models, observations, act, name):
        mean = actor_of(models[name]).mean(torch.as_tensor(observations).double())
        np.testing.assert_allclose(2.0 * mean, act(models[name], observations), atol=1e-5)


@pytest.mark.parametrize("n", [1, 64, 200])
def test_one_pass_per_step_serves_all_rows(ppo, observations, monkeypatch, n):
    """Clean mean once, then eleven passes, whatever the number of slots."""
    passes = []
    forward = Acting.mean
    monkeypatch.setattr(Acting, "mean", lambda self, seen: passes.append(len(seen)) or forward(self, seen))
    MADAttack(ppo, 0.1).batch(n)(np.resize(observations, (n, 3)))
    assert passes == [n] * 12


def test_rows_at_rest_cost_nothing(ppo, observations, monkeypatch):
    passes = []
    forward = Acting.mean
    monkeypatch.setattr(Acting, "mean", lambda self, seen: passes.append(len(seen)) or forward(self, seen))
    batch = MADAttack(ppo, 0.1, steps=2).batch(4)
    for index in range(4):
        batch.reset(index, strength=float(index == 2))
    batch(observations[:4])
    assert passes == [1] * 4
    batch.reset(2, strength=0.0)
    batch(observations[:4])
    assert passes == [1] * 4


@pytest.mark.parametrize("reference", ["clean", "shown"])
def test_the_reference_is_always_named(ppo, reference):
    """Episodes of one are not taken for the other's in a resumed evaluation, whatever the default was then."""
    assert MADAttack(ppo, 0.1, reference=reference).to_dict()["reference"] == reference
    assert MADAttack(ppo, 0.1).to_dict()["reference"] == "clean"


def test_models_in_training_mode_are_attacked_as_they_act(observations, attacked):
    model = make_ppo()
    expected = attacked(MADAttack(model, 0.1), observations)
    model.policy.set_training_mode(True)
    np.testing.assert_array_equal(attacked(MADAttack(model, 0.1), observations), expected)
