"""What cannot be attacked, or not so, and what is said about it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attack_models import make_ppo
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import FlattenExtractor

from lipsrl.attacks import MADAttack, RandomAttack

BOTH = pytest.mark.parametrize("attack_class", [RandomAttack, MADAttack])


@BOTH
@pytest.mark.parametrize("epsilon", [-0.1, np.nan, np.inf, "0.1", None, True, [0.1, 0.1, 0.1]])
def test_what_is_no_radius_is_refused(ppo, attack_class, epsilon):
    with pytest.raises(ValueError, match="epsilon must be one finite number >= 0, received"):
        attack_class(ppo, epsilon)


@BOTH
def test_names_are_checked(ppo, attack_class):
    with pytest.raises(
        ValueError, match=r"norm='l_inf' is not known. Did you mean 'linf'\? Accepted: 'l2', 'linf'"
    ):
        attack_class(ppo, 0.1, "l_inf")
    with pytest.raises(ValueError, match=r"units='normalised' is not known. Did you mean 'normalized'\?"):
        attack_class(ppo, 0.1, units="normalised")


@pytest.mark.parametrize("steps", [0, -1, 2.0, True])
def test_steps_are_counted(ppo, steps):
    with pytest.raises(ValueError, match="steps must be an integer > 0, received"):
        MADAttack(ppo, 0.1, steps=steps)


@BOTH
@pytest.mark.parametrize("model", [lambda o: o, "model.zip", torch.nn.Linear(3, 1)])
def test_only_models_are_attacked(attack_class, model):
    with pytest.raises(TypeError, match="needs the whole Stable-Baselines3 model"):
        attack_class(model, 0.1)


@BOTH
def test_a_policy_is_not_the_whole_model(ppo, attack_class):
    with pytest.raises(TypeError, match="received ActorCriticPolicy"):
        attack_class(ppo.policy, 0.1)


class Doubling(FlattenExtractor):
    def forward(self, observations):
        return 2 * super().forward(observations)


class TestActorsWithoutAGradient:
    """MAD refuses them; chance needs no gradient."""

    def test_discrete_actions(self, dqn):
        with pytest.raises(
            ValueError, match=r"moves a continuous action, but DQN acts in Discrete\(2\).*RandomAttack"
        ):
            MADAttack(dqn, 0.1)
        assert RandomAttack(dqn, 0.1)(np.zeros(4, np.float32)).any()

    def test_features_that_are_not_known(self):
        model = PPO(
            "MlpPolicy", "Pendulum-v1", device="cpu", policy_kwargs={"features_extractor_class": Doubling}
        )
        with pytest.raises(ValueError, match="features extractor is Doubling"):
            MADAttack(model, 0.1)
        assert RandomAttack(model, 0.1)(np.zeros(3, np.float32)).any()

    def test_weights_that_are_not_finite(self):
        model = make_ppo()
        with torch.no_grad():
            model.policy.action_net.bias.fill_(np.nan)
        with pytest.raises(ValueError, match=r"actor's weights hold NaN.*Load a checkpoint"):
            MADAttack(model, 0.1)


class TestNormalization:
    def test_of_another_task(self, dqn, normalized):
        with pytest.raises(
            ValueError, match=r"of the attacked model normalises observations of shape \(3,\)"
        ):
            RandomAttack(dqn, 0.1, vec_normalize=normalized.get_vec_normalize_env())

    def test_a_file_that_is_not_there(self, ppo, tmp_path):
        with pytest.raises(FileNotFoundError, match="is not a file"):
            MADAttack(ppo, 0.1, vec_normalize=tmp_path / "none.pkl")

    def test_without_a_model(self, normalized):
        with pytest.raises(ValueError, match="vec_normalize belongs to a model, but model is None"):
            RandomAttack(None, 0.1, vec_normalize=normalized.get_vec_normalize_env())


@BOTH
def test_without_a_model_nothing_can_be_attacked(attack_class, ppo):
    attack = attack_class(None, 0.1)
    with pytest.raises(ValueError, match=r"\(None, epsilon=0.1.* is aimed at no model"):
        attack(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="is aimed at no model"):
        attack.batch(2)
    assert attack.against(ppo) == attack_class(ppo, 0.1)
    assert attack.target is None


def test_a_failed_aim_leaves_the_attack_as_it_was(dqn):
    attack = MADAttack(None, 0.1)
    with pytest.raises(ValueError, match="continuous action"):
        attack.against(dqn)
    assert attack == MADAttack(None, 0.1)
