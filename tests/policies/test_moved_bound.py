"""K moved by hand, then saved: the zip is the function that was saved, or says that it is not."""

import numpy as np
import pytest
import stable_baselines3
import torch

import lipsrl
from lipsrl.policies._loaded_weights import KEY

FAMILIES = ("PPO", "SAC", "TD3", "DQN")


def made(name, budget="growing", bound=5.0):
    env = "CartPole-v1" if name == "DQN" else "Pendulum-v1"
    options = {"lipschitz_bound": bound, "budget": budget, "net_arch": [16, 16]}
    return getattr(stable_baselines3, name)("LipschitzMlpPolicy", env, policy_kwargs=options, seed=0)


def answers(model):
    size = model.observation_space.shape[0]
    observations = torch.as_tensor(np.random.default_rng(0).normal(size=(256, size)), dtype=torch.float32)
    network = model.policy.lipschitz_network
    with torch.no_grad():
        return network(observations)


@pytest.mark.parametrize("budget", ["output", "growing", "even"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_smaller_bound_comes_back(name, budget, tmp_path):
    model = made(name, budget)
    model.policy.set_lipschitz_bound(2.0)
    model.save(tmp_path / "moved")
    loaded = type(model).load(tmp_path / "moved")
    assert loaded.policy.options.lipschitz_bound == 2.0
    assert torch.equal(answers(loaded), answers(model))
    loaded.save(tmp_path / "again")
    again = lipsrl.load_agent(tmp_path / "again.zip").model
    assert torch.equal(answers(again), answers(model))
    assert lipsrl.certify(again).network.upper_bound <= 2.0


@pytest.mark.filterwarnings(
    "ignore:The loaded weights had"
)  # true, too, where layers do not fit into the smaller K
@pytest.mark.parametrize("budget", ["output", "growing", "even"])
def test_a_larger_bound_is_refused_aloud_and_comes_back_when_asked(budget, tmp_path):
    model = made("PPO", budget)
    model.policy.set_lipschitz_bound(8.0)
    model.save(tmp_path / "moved")
    with pytest.warns(UserWarning, match="are of lipschitz_bound=8"):
        kept = type(model).load(tmp_path / "moved")
    assert kept.policy.lipschitz_network.lipschitz_bound() <= 5.0
    asked = {"policy_kwargs": {**model.policy_kwargs, "lipschitz_bound": 8.0}}
    loaded = type(model).load(tmp_path / "moved", custom_objects=asked)
    assert torch.equal(answers(loaded), answers(model))


def test_no_entry_where_nothing_moved():
    model = made("SAC")
    assert KEY not in model.policy.state_dict()
    model.policy.set_lipschitz_bound(3.0)
    assert KEY in model.policy.state_dict()
    model.policy.set_lipschitz_bound(5.0)
    assert KEY not in model.policy.state_dict()


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), [1.0, 2.0]])
def test_a_wrong_entry_changes_nothing(bad):
    model = made("PPO")
    before = answers(model)
    with pytest.raises(ValueError, match="one finite number > 0"):
        model.policy.load_state_dict({**model.policy.state_dict(), KEY: torch.tensor(bad)})
    assert torch.equal(answers(model), before)


def test_what_is_refused_leaves_the_bound():
    model = made("PPO")
    before, state = answers(model), model.policy.state_dict()
    state.pop("log_std")
    with pytest.raises(RuntimeError, match="log_std"):
        model.policy.load_state_dict({**state, KEY: torch.tensor(2.0)})
    assert model.policy.options.lipschitz_bound == 5.0
    assert torch.equal(answers(model), before)
    stock = stable_baselines3.PPO("MlpPolicy", "Pendulum-v1")
    with pytest.raises(RuntimeError, match=KEY):
        stock.policy.load_state_dict({**stock.policy.state_dict(), KEY: torch.tensor(2.0)})
