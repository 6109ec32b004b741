"""What cannot be attacked, or not so, and what is said about it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attack_models import Switching, make_on_policy, make_ppo, make_sac
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from lipsrl.attacks import CriticAttack, MADAttack, RandomAttack, RobustSarsaAttack

EACH = pytest.mark.parametrize("attack_class", [RandomAttack, MADAttack, CriticAttack, RobustSarsaAttack])


@EACH
@pytest.mark.parametrize("epsilon", [-0.1, np.nan, np.inf, "0.1", None, True, [0.1, 0.1, 0.1]])
def test_what_is_no_radius_is_refused(ppo, attack_class, epsilon):
    with pytest.raises(ValueError, match="epsilon must be one finite number >= 0, received"):
        attack_class(ppo, epsilon)


@EACH
def test_names_are_checked(ppo, attack_class):
    with pytest.raises(
        ValueError, match=r"norm='l_inf' is not known. Did you mean 'linf'\? Accepted: 'l2', 'linf'"
    ):
        attack_class(ppo, 0.1, "l_inf")
    with pytest.raises(ValueError, match=r"units='normalised' is not known. Did you mean 'normalized'\?"):
        attack_class(ppo, 0.1, units="normalised")
    for wrong in ([1.0, 0.0, 1.0], [], [1.0, float("inf"), 1.0], 3):
        with pytest.raises(ValueError, match="one finite number > 0 per sensor"):
            attack_class(ppo, 0.1, units=wrong)
    with pytest.raises(ValueError, match="units must be 3 numbers, one per sensor, received 2"):
        attack_class(ppo, 0.1, units=[1.0, 2.0])


@pytest.mark.parametrize("steps", [0, -1, 2.0, True])
def test_steps_are_counted(ppo, steps):
    with pytest.raises(ValueError, match="steps must be an integer > 0, received"):
        MADAttack(ppo, 0.1, steps=steps)
    with pytest.raises(ValueError, match="restarts must be an integer > 0, received"):
        MADAttack(ppo, 0.1, restarts=steps)


@pytest.mark.parametrize("step_size", [0, -1.0, np.inf, "1"])
def test_steps_have_a_length(ppo, step_size):
    with pytest.raises(ValueError, match="step_size must be a finite number > 0, received"):
        CriticAttack(ppo, 0.1, step_size=step_size)


@EACH
@pytest.mark.parametrize("model", [lambda o: o, "model.zip", torch.nn.Linear(3, 1)])
def test_only_models_are_attacked(attack_class, model):
    with pytest.raises(TypeError, match="needs the whole Stable-Baselines3 model"):
        attack_class(model, 0.1)


@EACH
def test_a_policy_is_not_the_whole_model(ppo, attack_class):
    with pytest.raises(TypeError, match="received ActorCriticPolicy"):
        attack_class(ppo.policy, 0.1)


class Doubling(FlattenExtractor):
    def forward(self, observations):
        return 2 * super().forward(observations)


class TestActorsWithoutAGradient:
    """MAD refuses them; chance needs no gradient."""

    def test_actions_that_are_switches(self):
        model = make_on_policy(PPO, DummyVecEnv([Switching]))
        with pytest.raises(ValueError, match=r"PPO acts in MultiBinary\(2\). Use RandomAttack"):
            MADAttack(model, 0.1)
        assert CriticAttack(model, 0.1)(np.zeros(3, np.float32)).any()

    def test_robust_sarsa_needs_continuous_actions(self, dqn):
        with pytest.raises(ValueError, match=r"DQN acts in Discrete\(2\). Use CriticAttack or MADAttack"):
            RobustSarsaAttack(dqn, 0.1, env="CartPole-v1")

    def test_features_that_are_not_known(self):
        model = PPO(
            "MlpPolicy", "Pendulum-v1", device="cpu", policy_kwargs={"features_extractor_class": Doubling}
        )
        with pytest.raises(ValueError, match="features extractor is Doubling"):
            MADAttack(model, 0.1)
        with pytest.raises(ValueError, match=r"critic of ActorCriticPolicy cannot be attacked.*is Doubling"):
            CriticAttack(model, 0.1)
        assert RandomAttack(model, 0.1)(np.zeros(3, np.float32)).any()

    def test_weights_that_are_not_finite(self):
        model = make_ppo()
        with torch.no_grad():
            model.policy.action_net.bias.fill_(np.nan)
        with pytest.raises(ValueError, match=r"actor's weights hold NaN.*Load a checkpoint"):
            MADAttack(model, 0.1)
        with torch.no_grad():
            model.policy.value_net.bias.fill_(np.inf)
        with pytest.raises(ValueError, match=r"critic's weights hold NaN"):
            CriticAttack(model, 0.1)

    def test_critics_that_compute_something_else(self):
        model = make_sac()
        model.critic.forward = lambda states, actions: (states[:, :1], actions)
        with pytest.raises(ValueError, match="returns other values than its layers"):
            CriticAttack(model, 0.1)


class TestRobustSarsa:
    def test_without_an_environment(self, tmp_path):
        make_ppo().save(tmp_path / "model.zip")
        model = PPO.load(tmp_path / "model.zip", device="cpu")
        with pytest.raises(ValueError, match=r"this PPO has no environment.*Pass env="):
            RobustSarsaAttack(model, 0.1)

    def test_with_another_tasks_environment(self, ppo):
        with pytest.raises(ValueError, match="observation_space of env is"):
            RobustSarsaAttack(ppo, 0.1, env="CartPole-v1")

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"weight": -1.0}, "weight must be one finite number >= 0"),
            ({"train_epsilon": np.nan}, "train_epsilon must be one finite number >= 0"),
            ({"rollout_steps": 0}, "rollout_steps must be an integer > 0"),
            ({"updates": 1.5}, "updates must be an integer > 0"),
            ({"train_seed": -1}, "train_seed must be an integer"),
        ],
    )
    def test_bad_options(self, options, match):
        with pytest.raises(ValueError, match=match):
            RobustSarsaAttack(None, 0.1, **options)

    def test_an_environment_of_another_kind(self):
        with pytest.raises(TypeError, match="env must be a Gymnasium id, a zero-argument factory or None"):
            RobustSarsaAttack(None, 0.1, env=3)


class TestNormalization:
    def test_of_another_task(self, dqn, normalized):
        with pytest.raises(ValueError, match=r"of the model normalises observations of shape \(3,\)"):
            RandomAttack(dqn, 0.1, vec_normalize=normalized.get_vec_normalize_env())

    def test_a_file_that_is_not_there(self, ppo, tmp_path):
        with pytest.raises(FileNotFoundError, match="is not a file"):
            MADAttack(ppo, 0.1, vec_normalize=tmp_path / "none.pkl")

    def test_without_a_model(self, normalized):
        with pytest.raises(ValueError, match="vec_normalize belongs to a model, but model is None"):
            RandomAttack(None, 0.1, vec_normalize=normalized.get_vec_normalize_env())


@EACH
def test_without_a_model_nothing_can_be_attacked(attack_class, ppo):
    quick = {"rollout_steps": 60, "updates": 5} if attack_class is RobustSarsaAttack else {}
    attack = attack_class(None, 0.1, **quick)
    with pytest.raises(ValueError, match=r"\(None, epsilon=0.1.* has no target model"):
        attack(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="has no target model"):
        attack.batch(2)
    assert attack.against(ppo) == attack_class(ppo, 0.1, **quick)
    assert attack.target is None


def test_a_failed_aim_leaves_the_attack_as_it_was(dqn):
    attack = RobustSarsaAttack(None, 0.1)
    with pytest.raises(ValueError, match="continuous action"):
        attack.against(dqn)
    assert attack == RobustSarsaAttack(None, 0.1)
