"""Q-networks grow in one direction and have a default layer of their own; earlier zips are what they were."""

import functools
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN
from stable_baselines3 import DQN

import lipsrl
from lipsrl.layers import growing_bounds, start_norms
from lipsrl.networks import LipschitzMLP
from lipsrl.policies import dqn, qrdqn
from lipsrl.policies._options import Twin

ALGORITHMS = {"DQN": DQN, "QRDQN": QRDQN}


def build(algorithm, **policy):
    if algorithm == "QRDQN":
        policy["n_quantiles"] = 5
    return ALGORITHMS[algorithm](
        "LipschitzMlpPolicy", "CartPole-v1", policy_kwargs={"lipschitz_bound": 50.0, "net_arch": [12, 8], **policy},
        seed=0, device="cpu", learning_starts=20, train_freq=2, buffer_size=200, learning_rate=1e-2,
    )  # fmt: skip


def q_values(model):
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    with torch.no_grad():
        return lipsrl.actor_network(model)(torch.as_tensor(x))


@pytest.fixture(params=sorted(ALGORITHMS))
def algorithm(request):
    return request.param


@pytest.fixture
def earlier(monkeypatch, tmp_path):
    """Zips as releases up to 0.2 wrote them, where Q-networks had no layer and no growth of their own."""

    def save(algorithm, **policy):
        given = {"layer": "sandwich", **policy}
        with monkeypatch.context() as patch:
            for module in (dqn, qrdqn):
                patch.setattr(module, "Twin", type("Earlier", (), {"of": functools.partial(_plain_of)}))
            model = build(algorithm, **given).learn(60)
        if "layer" not in policy:
            del model.policy_kwargs["layer"]
        assert model.policy.lipschitz_network.growth == "random"
        model.save(tmp_path / "earlier.zip")
        return tmp_path / "earlier.zip", q_values(model), model

    return save


def _plain_of(*modules, growth):
    return Twin.of(*modules)


def test_the_default_layer(algorithm):
    network = build(algorithm).policy.lipschitz_network
    assert (network.layer_name, network.growth) == ("spectral", "coherent")
    network = build(algorithm, layer="sandwich").policy.lipschitz_network
    assert (network.layer_name, network.growth) == ("sandwich", "random")


@pytest.mark.parametrize("how", ["SB3", "lipsrl"])
def test_a_zip_of_an_earlier_release_is_what_it_was(algorithm, how, earlier):
    path, expected, saved = earlier(algorithm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = ALGORITHMS[algorithm].load(path) if how == "SB3" else lipsrl.load_agent(path).model
    networks = [model.policy.lipschitz_network, *model.policy.lipschitz_targets()]
    assert [(n.layer_name, n.growth) for n in networks] == [("sandwich", "random")] * 2
    assert torch.equal(q_values(model), expected)
    bounds = [[layer.bound for layer in m.policy.lipschitz_network._held()] for m in (model, saved)]
    assert bounds[0] == bounds[1]
    assert model.policy.options.layer == "sandwich"


def test_it_learns_on_as_it_would_have(algorithm, earlier):
    path, _, saved = earlier(algorithm)
    model = ALGORITHMS[algorithm].load(path, env=gym.make("CartPole-v1"))
    state = model.policy.optimizer.state
    assert len(state) == len(list(model.policy.lipschitz_network.parameters()))
    for ours, theirs in zip(state.values(), saved.policy.optimizer.state.values(), strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    model.learn(60)
    network = model.policy.lipschitz_network
    assert not torch.equal(network.layers[0].stack, saved.policy.lipschitz_network.layers[0].stack)
    assert network.lipschitz_bound() <= 50.0
    assert [type(layer).__name__ for layer in model.policy.optimizer.projected_layers] == [
        "Sandwich", "Sandwich", "Spectral",
    ]  # fmt: skip


def test_it_is_saved_again_as_what_it_is(algorithm, earlier, tmp_path):
    path, expected, _ = earlier(algorithm)
    model = ALGORITHMS[algorithm].load(path)
    model.save(tmp_path / "again.zip")
    assert torch.equal(q_values(ALGORITHMS[algorithm].load(tmp_path / "again.zip")), expected)
    model.policy.save(tmp_path / "policy.pt")
    policy = type(model.policy).load(tmp_path / "policy.pt")
    assert policy.lipschitz_network.layer_name == "sandwich"


def test_of_a_layer_that_was_named_only_the_growth_is_read(algorithm, earlier):
    path, expected, _ = earlier(algorithm, layer="spectral")
    model = ALGORITHMS[algorithm].load(path)
    assert model.policy.lipschitz_network.growth == "random"
    assert torch.equal(q_values(model), expected)


def test_weights_of_neither_family_are_refused(algorithm):
    model = build(algorithm)
    state = model.policy.state_dict()
    wrong = {key.replace("layers.0.weight", "layers.0.other"): value for key, value in state.items()}
    with pytest.raises(RuntimeError, match=r"layers\.0\.other"):
        model.policy.load_state_dict(wrong)


@pytest.mark.parametrize("layer", ["spectral", "orthogonal", "sandwich"])
def test_a_network_reads_weights_of_the_other_growth(layer):
    random, coherent = (
        LipschitzMLP(4, 2, (16, 16), 30.0, layer, budget="growing", growth=growth)
        for growth in ("random", "coherent")
    )
    coherent.load_state_dict(random.state_dict())
    x = torch.randn(32, 4)
    assert torch.equal(coherent.eval()(x), random.eval()(x))
    assert coherent.growth == "random"
    coherent.set_bound(20.0)
    assert coherent.lipschitz_bound() <= 20.0
    again = LipschitzMLP(4, 2, (16, 16), 20.0, layer, budget="growing", growth="coherent")
    again.load_state_dict(coherent.state_dict())
    assert again.growth == "random"


def test_the_split_of_coherent_growth():
    sizes = (4, 256, 256, 2)
    starts = start_norms("linear", sizes)
    bounds = growing_bounds(1e4, sizes, starts, "coherent")
    grown = [
        (bound - start) / (m * n) ** 0.5
        for bound, start, m, n in zip(bounds, starts, sizes[1:], sizes[:-1], strict=True)
    ]
    assert grown == pytest.approx([grown[0]] * 3)
    assert np.prod(bounds) == pytest.approx(1e4)
    with pytest.raises(ValueError, match="coherent"):
        growing_bounds(1.0, sizes, starts, "coherently")
    with pytest.raises(ValueError, match="random"):
        LipschitzMLP(4, 2, growth="randomly")


def test_a_suggested_bound_lets_the_layers_grow_as_stocks_did():
    model = DQN("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [12, 8]}, seed=0, device="cpu")
    with torch.no_grad():
        for weight in (layer.weight for layer in model.q_net.q_net if hasattr(layer, "weight")):
            weight.mul_(5.0)
    norms = [
        float(torch.linalg.matrix_norm(m.weight, 2).detach())
        for m in model.q_net.q_net
        if hasattr(m, "weight")
    ]
    found = lipsrl.suggest_bound(model)
    assert np.prod(norms) > 2.5 * found.slope
    assert np.prod(norms) * 0.999 <= found.bound <= 1.1 * np.prod(norms)
    assert "product" in str(found)
    contrib = QRDQN(
        "MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8], "n_quantiles": 3}, seed=0, device="cpu"
    )
    assert lipsrl.suggest_bound(contrib).bound >= 2 * lipsrl.suggest_bound(contrib).slope


class InTwoGroups(torch.optim.Adam):
    """Biases without weight decay, as in many recipes."""

    def __init__(self, params, **options):
        params = list(params)
        groups = [[p for p in params if p.ndim > 1], [p for p in params if p.ndim < 2]]
        super().__init__([{"params": groups[0]}, {"params": groups[1], "weight_decay": 0.0}], **options)


def test_an_optimizer_of_several_groups_holds_the_earlier_layers(algorithm, earlier):
    path, expected, saved = earlier(algorithm, optimizer_class=InTwoGroups)
    model = ALGORITHMS[algorithm].load(path, env=gym.make("CartPole-v1"))
    assert torch.equal(q_values(model), expected)
    ours, theirs = (m.policy.optimizer.state_dict() for m in (model, saved))
    assert [g["params"] for g in ours["param_groups"]] == [g["params"] for g in theirs["param_groups"]]
    assert len(ours["state"]) == len(theirs["state"]) > 0
    before = model.policy.lipschitz_network.layers[0].stack.detach().clone()
    model.learn(60)
    assert not torch.equal(model.policy.lipschitz_network.layers[0].stack, before)


@pytest.mark.filterwarnings("ignore:The loaded weights had Lipschitz bound")
def test_what_is_refused_changes_nothing(algorithm, earlier):
    path, expected, saved = earlier(algorithm)
    now = build(algorithm)
    # below the policy, whose optimizer would not know of other layers
    inner = {"DQN": "q_net", "QRDQN": "quantile_net"}[algorithm]
    before = q_values(now)
    with pytest.raises(RuntimeError, match="stack"):
        getattr(now.policy, inner).load_state_dict(getattr(saved.policy, inner).state_dict())
    assert now.policy.lipschitz_network.layer_name == "spectral"
    # weights of this release into an agent of the earlier one
    model = ALGORITHMS[algorithm].load(path)
    with pytest.raises(RuntimeError, match="stack"):
        model.set_parameters(now.get_parameters())
    assert torch.equal(q_values(model), expected)
    # of another size
    other = build(algorithm, net_arch=[12, 12])
    before = q_values(other)
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.set_parameters(str(path))
    assert torch.equal(q_values(other), before)
    assert other.policy.lipschitz_network.layer_name == "spectral"
    # the head alone says nothing of how the others were saved
    head = {key: value for key, value in saved.policy.state_dict().items() if "head" in key}
    now.policy.load_state_dict(head, strict=False)
    assert now.policy.lipschitz_network.budget == "growing"


@pytest.mark.parametrize("scale", [0.01, 100.0, [1.0, 10.0, 100.0, 1000.0]])
def test_a_suggested_bound_is_in_the_policys_units(scale):
    found = [lipsrl.suggest_bound(build("DQN", observation_scale=given)).bound for given in (1.0, scale)]
    assert found[0] == found[1] > 0.0


def test_of_images_the_norms_are_per_grey_level():
    class Grey(gym.Env):
        observation_space = gym.spaces.Box(0, 255, (4, 4, 1), np.uint8)
        action_space = gym.spaces.Discrete(2)

    model = DQN("MlpPolicy", Grey(), policy_kwargs={"net_arch": [8]}, seed=0, device="cpu", buffer_size=10)
    layers = [m.weight for m in model.q_net.q_net if hasattr(m, "weight")]
    product = np.prod([float(torch.linalg.matrix_norm(weight, 2).detach()) for weight in layers]) / 255
    found = lipsrl.suggest_bound(model)
    assert max(product, 2 * found.slope) * 0.999 <= found.bound <= 1.1 * max(product, 2 * found.slope)
