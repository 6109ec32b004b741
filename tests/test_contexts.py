"""Where a network is called from, and who writes its weights, changes nothing that it promises."""

import copy
import io
import warnings

import gymnasium as gym
import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from torch import nn

from lipsrl import LipschitzMLP
from lipsrl.layers import LAYERS, project_after_step
from lipsrl.policies.nature_cnn import LipschitzNatureCNN

FAMILIES = sorted(LAYERS)
L2 = [name for name in FAMILIES if LAYERS[name].norm == "l2"]


def network(layer, budget="output", bound=3.0, activation="tanh", seed=0):
    torch.manual_seed(seed)
    norm = LAYERS[layer].norm
    if LAYERS[layer].name in ("sll",):
        activation = "relu"
    return LipschitzMLP(4, 2, (16, 16), bound, layer, activation, norm, budget=budget)


def loss_of(net, n=32):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(1))
    return (net(x) - 5 * x[:, :2]).square().mean()


# -- gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", FAMILIES)
@pytest.mark.parametrize("keeps", [False, True])
def test_a_network_in_eval_mode_has_the_gradients_of_training(layer, keeps):
    net = network(layer)
    with torch.no_grad():  # aol has a kink where it starts
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    net.project()
    net.eval()
    net.cache_in_eval = keeps
    loss_of(net).backward()
    found = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    net.train()
    loss_of(net).backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_after_predict_a_loss_reaches_every_weight_of_the_actor(algorithm):
    def gradients(policy, **kwargs):
        model = algorithm(policy, "Pendulum-v1", policy_kwargs=kwargs, device="cpu", seed=0)
        model.predict(np.zeros(3, np.float32))
        observations = torch.randn(8, 3)
        model.policy.zero_grad()
        model.policy._predict(observations, deterministic=True).square().sum().backward()
        return sum(p.grad is not None for p in model.policy.parameters())

    ours = gradients("LipschitzMlpPolicy", lipschitz_bound=5, layer="spectral")
    assert ours == gradients("MlpPolicy") > 0


def test_frozen_weights_and_no_grad_use_what_is_kept():
    net = network("sandwich").eval()
    net.cache_in_eval = True
    with torch.no_grad():
        assert net._current_stages() is net._kept
    net.requires_grad_(False)
    assert net._current_stages() is net._kept


# -- contexts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", FAMILIES)
def test_what_is_filled_in_inference_mode_serves_a_backward_pass(layer):
    net = network(layer)
    net.cache_in_eval = True
    with torch.inference_mode():
        net.eval()
        expected = net(torch.ones(1, 4)).clone()
    x = torch.ones(1, 4, requires_grad=True)
    torch.testing.assert_close(net(x).detach(), expected)
    net(x).sum().backward()
    assert x.grad.abs().sum() > 0
    net.requires_grad_(False)  # what is kept, then
    net(x).sum().backward()
    net.train()
    net.requires_grad_(True)
    loss_of(net).backward()


@pytest.mark.parametrize("layer", FAMILIES)
def test_what_is_filled_under_autocast_is_not_rounded(layer):
    net, plain = network(layer), network(layer)
    for n in (net, plain):
        n.cache_in_eval = True
    plain.eval()
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            net.eval()
            assert net(torch.ones(1, 4)).dtype == torch.bfloat16
        torch.testing.assert_close(net(torch.ones(1, 4)), plain(torch.ones(1, 4)), rtol=0, atol=0)
    assert net.lipschitz_bound() == plain.lipschitz_bound() <= 3


@pytest.mark.parametrize("layer", FAMILIES)
@pytest.mark.parametrize("exact", [False, True])
def test_training_under_autocast_keeps_the_bound(layer, exact):
    net = network(layer)
    optimizer = project_after_step(torch.optim.Adam(net.parameters(), lr=1e-2), net, exact=exact)
    for _ in range(5):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
    net.eval()
    assert net.lipschitz_bound() <= 3
    assert all(p.dtype == torch.float32 for p in net.parameters())


# -- other writers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", FAMILIES)
def test_a_foreign_optimizer_trains_the_function_that_acts(layer):
    net = network(layer, bound=2.0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss_of(net).backward()
        optimizer.step()
    fitted = loss_of(net).item()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.eval()
        with torch.no_grad():
            assert loss_of(net).item() == pytest.approx(fitted, abs=1e-6, rel=1e-4)
    assert net.lipschitz_bound() <= 2

    own = network(layer, bound=2.0)
    optimizer = project_after_step(torch.optim.Adam(own.parameters(), lr=1e-2), own)
    for _ in range(150):
        optimizer.zero_grad()
        loss_of(own).backward()
        optimizer.step()
    own.eval()
    assert fitted < 1.15 * loss_of(own).item() + 1e-3


def test_a_projection_that_moves_the_function_says_so():
    net = network("orthogonal")
    with torch.no_grad():
        net.layers[1].weight.mul_(3).add_(torch.randn(16, 16))
    with pytest.warns(UserWarning, match="orthogonal layer were outside the set of its bound"):
        net.eval()
    assert net.lipschitz_bound() <= 3


@pytest.mark.parametrize("layer", FAMILIES)
def test_writes_that_torch_does_not_count_are_seen_at_the_next_predict(layer):
    def made(seed):
        activation = "relu" if layer == "sll" else "tanh"
        kwargs = {
            "lipschitz_bound": 3.0,
            "layer": layer,
            "norm": LAYERS[layer].norm,
            "activation": activation,
        }
        model = PPO("LipschitzMlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, device="cpu", seed=seed)
        for p in model.policy.parameters():
            p.data.add_(0.05 * torch.randn_like(p))
        return model

    one, other = made(0), made(1)
    observation = np.array([0.5, -0.5, 2.0], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = one.predict(observation, deterministic=True)[0]
        expected = other.predict(observation, deterministic=True)[0]
        for p, q in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
            p.data.copy_(q.data)
        after = one.predict(observation, deterministic=True)[0]
    assert (before != expected).any()
    np.testing.assert_array_equal(after, expected)


def test_weights_in_shared_memory_are_seen_at_the_next_predict():
    kwargs = {"lipschitz_bound": 3.0}
    model = PPO("LipschitzMlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, device="cpu", seed=0)
    model.policy.share_memory()
    observation = np.array([0.5, -0.5, 2.0], np.float32)
    before = model.predict(observation, deterministic=True)[0]
    head = model.policy.lipschitz_network.head
    learner = head.bias.detach().numpy()  # as another process has it
    learner += 0.7
    assert model.predict(observation, deterministic=True)[0] == pytest.approx(before + 0.7, abs=1e-6)


# -- graphs -------------------------------------------------------------------------------------------------


#: Whose stages differ in kind: merged, residual, computed in float64, plain; and another norm.
KINDS = ["sandwich", "sll", "cayley", "spectral", "linf"]


@pytest.mark.parametrize(
    ("layer", "copied", "dynamo"),
    [(layer, bool(i % 2), False) for i, layer in enumerate(FAMILIES)]
    + [(layer, bool((i + 1) % 2), True) for i, layer in enumerate(KINDS)],
)
def test_onnx_graphs_of_networks_and_copies_compute_what_they_do(layer, copied, dynamo, recwarn):
    if dynamo:
        pytest.importorskip("onnxscript")
    net = network(layer, budget="growing" if LAYERS[layer].norm == "l2" else "output").eval()
    if copied:
        net = copy.deepcopy(net)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    buffer = io.BytesIO()
    torch.onnx.export(net, (x,), buffer, dynamo=dynamo, input_names=["x"])
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = net(x).numpy()
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", FAMILIES)
def test_a_trace_computes_what_the_network_does(layer):
    net = network(layer).eval()
    x = torch.randn(5, 4)
    traced = torch.jit.trace(net, x)
    with torch.no_grad():
        torch.testing.assert_close(traced(2 * x), net(2 * x))


def test_a_traced_network_still_learns():
    net = network("sandwich").eval()
    torch.jit.trace(net, torch.randn(1, 4))
    net.train()
    loss_of(net).backward()
    assert all(p.grad is not None for p in net.parameters())
    assert isinstance(net.head.bias, nn.Parameter)


class Exported(nn.Module):
    """As SB3's documentation exports a policy."""

    def __init__(self, policy):
        super().__init__()
        self.policy = policy

    def forward(self, observation):
        return self.policy(observation, deterministic=True)[0]


@pytest.mark.parametrize("image", [False, True])
def test_a_policy_is_exported_as_sb3_says(image, recwarn):
    space = spaces.Box(0, 255, (1, 36, 36), np.uint8) if image else spaces.Box(-1, 1, (3,), np.float32)

    class Env(gym.Env):
        observation_space, action_space = space, spaces.Box(-1, 1, (2,), np.float32)

        def reset(self, *, seed=None, options=None):
            return space.sample(), {}

        def step(self, action):
            return space.sample(), 0.0, True, False, {}

    name = "LipschitzCnnPolicy" if image else "LipschitzMlpPolicy"
    model = PPO(
        name, Env(), policy_kwargs={"lipschitz_bound": 400.0}, n_steps=8, batch_size=8, device="cpu", seed=0
    )
    with torch.no_grad():
        model.policy.action_net.weight.mul_(50)
    model.policy.set_training_mode(False)
    x = torch.as_tensor(np.stack([space.sample() for _ in range(1)]))
    buffer = io.BytesIO()
    # the other exporter stumbles over torch's Normal, in stock policies too
    torch.onnx.export(Exported(model.policy), (x,), buffer, dynamo=False, input_names=["x"])
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    expected = model.policy._predict(x, deterministic=True).detach().numpy()
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-3)


def test_an_image_policy_trains_and_acts_under_autocast_and_foreign_optimizers():
    space = spaces.Box(0, 255, (1, 36, 36), np.uint8)
    net = LipschitzNatureCNN(space, features_dim=16)
    x = torch.rand(4, 1, 36, 36)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(5):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            optimizer.zero_grad()
            (-net(x).float().square().mean()).backward()
            optimizer.step()
    trained = net(x).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        net.eval()
    assert net.lipschitz_bound() <= net.bound * (1 + 1e-9)
    torch.testing.assert_close(net(x).detach(), trained, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # imitation's own
def test_behaviour_cloning_of_imitation_fits_what_acts():
    """Where imitation is importable (its pins do not allow this gymnasium: pip install --no-deps imitation)."""
    bc = pytest.importorskip("imitation.algorithms.bc")
    from imitation.data.types import Transitions

    rng = np.random.default_rng(0)
    observations = rng.normal(size=(512, 3)).astype(np.float32)
    actions = np.clip(observations @ np.array([[0.7], [0.9], [0.4]], np.float32), -2, 2)
    empty, ends = np.array([{}] * 512), np.zeros(512, dtype=bool)
    model = PPO(
        "LipschitzMlpPolicy", "Pendulum-v1", policy_kwargs={"lipschitz_bound": 5.0}, device="cpu", seed=0
    )
    trainer = bc.BC(
        observation_space=model.observation_space, action_space=model.action_space, rng=rng, policy=model.policy,
        demonstrations=Transitions(obs=observations, acts=actions, infos=empty, next_obs=observations, dones=ends),
        batch_size=64, device="cpu",
    )  # fmt: skip
    assert not hasattr(trainer.optimizer, "projected_layers")
    trainer.train(n_epochs=5, progress_bar=False)
    model.policy.set_training_mode(True)
    with torch.no_grad():
        mean = model.policy.get_distribution(torch.as_tensor(observations)).mode().numpy()
    training = np.square(np.clip(mean, -2, 2) - actions).mean()
    acting = np.square(model.predict(observations, deterministic=True)[0] - actions).mean()
    assert acting == pytest.approx(training, abs=1e-6)


@pytest.mark.filterwarnings("ignore")  # imitation's own
def test_dagger_of_imitation_fits_what_acts(tmp_path):
    """Likewise: its trainer makes the optimizer and goes back and forth between episodes and cloning."""
    bc = pytest.importorskip("imitation.algorithms.bc")
    from imitation.algorithms.dagger import SimpleDAggerTrainer
    from imitation.data.wrappers import RolloutInfoWrapper
    from stable_baselines3.common.env_util import make_vec_env

    venv = make_vec_env("Pendulum-v1", 2, seed=0, wrapper_class=RolloutInfoWrapper)
    expert = PPO("MlpPolicy", venv, n_steps=64, seed=1, device="cpu", policy_kwargs={"net_arch": [16]})
    model = PPO("LipschitzMlpPolicy", venv, policy_kwargs={"lipschitz_bound": 5.0}, seed=0, device="cpu")
    cloning = bc.BC(
        observation_space=model.observation_space, action_space=model.action_space, rng=np.random.default_rng(0),
        policy=model.policy, batch_size=32, device="cpu",
    )  # fmt: skip
    SimpleDAggerTrainer(
        venv=venv, scratch_dir=tmp_path, expert_policy=expert.policy, bc_trainer=cloning, rng=np.random.default_rng(0)
    ).train(
        400, rollout_round_min_episodes=2, rollout_round_min_timesteps=200,
        bc_train_kwargs={"n_epochs": 1, "progress_bar": False},
    )  # fmt: skip
    observations = np.random.default_rng(1).normal(size=(512, 3)).astype(np.float32)
    asked, _ = expert.predict(observations, deterministic=True)
    model.policy.set_training_mode(True)
    with torch.no_grad():
        mean = model.policy.get_distribution(torch.as_tensor(observations)).mode().numpy()
    training = np.square(np.clip(mean, -2, 2) - asked).mean()
    acting = np.square(model.predict(observations, deterministic=True)[0] - asked).mean()
    assert acting == pytest.approx(training, abs=1e-6)
