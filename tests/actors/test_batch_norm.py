"""CrossQ's batch renormalisation, and torch's, folded into the layers beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sb3_contrib import CrossQ
from sb3_contrib.common.torch_layers import BatchRenorm1d
from stable_baselines3 import PPO
from torch import nn

import lipsrl
from lipsrl.actors import actor_network
from lipsrl.actors._batch_norm import Affine, fold

FEW = {"n_starts": 64, "seed": 0}
MAKE = {"buffer_size": 10, "seed": 0, "device": "cpu"}


def live(module, seed):
    """Statistics and parameters as a training leaves them, far from (0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    n = len(module.weight if isinstance(module, nn.BatchNorm1d) else module.scale)
    names = ("running_mean", "running_var", "weight", "bias")
    if not isinstance(module, nn.BatchNorm1d):
        names = ("ra_mean", "ra_var", "scale", "bias")
    with torch.no_grad():
        getattr(module, names[0]).copy_(3 * torch.randn(n, generator=generator))
        getattr(module, names[1]).copy_(torch.rand(n, generator=generator) * 4)
        getattr(module, names[2]).copy_(torch.randn(n, generator=generator))
        getattr(module, names[3]).copy_(torch.randn(n, generator=generator))


@pytest.fixture
def crossq():
    def make(**policy):
        kwargs = {"net_arch": [24, 16]} | policy
        model = CrossQ("MlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, **MAKE)
        norms = [m for m in model.policy.actor.modules() if isinstance(m, BatchRenorm1d)]
        assert norms
        for seed, norm in enumerate(norms):
            live(norm, seed)
        return model

    return make


@pytest.mark.parametrize("policy", [{}, {"use_sde": True}, {"activation_fn": nn.Tanh}], ids=str)
def test_the_folded_network_does_what_predict_does(crossq, policy):
    model = crossq(**policy)
    observations = np.random.default_rng(0).normal(scale=3, size=(200, 3)).astype(np.float32)
    actions, _ = model.predict(observations, deterministic=True)
    network = actor_network(model)
    assert not any("Norm" in type(m).__name__ or isinstance(m, Affine) for m in network.modules())
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    own = network(torch.as_tensor(observations)).detach().numpy()
    np.testing.assert_allclose(own, actions, rtol=1e-4, atol=1e-4)


def test_the_network_in_float64_is_the_folded_one_without_rounding(crossq):
    model = crossq()
    parts = lipsrl.actors.actor_parts(model)
    x = torch.randn(50, 3, dtype=torch.float64)
    actor = model.policy.actor.double()
    with torch.no_grad():
        exact = actor.mu(actor.latent_pi(x))
        torch.testing.assert_close(parts.in_float64()(x), exact, rtol=1e-12, atol=1e-12)


def test_its_certificate_is_never_below_a_sampled_slope(crossq):
    model = crossq()
    certificate = lipsrl.certify(model, **FEW)
    rng = np.random.default_rng(1)
    actor = model.policy.actor.double()
    x = torch.as_tensor(rng.normal(scale=2, size=(4000, 3)))
    d = torch.as_tensor(rng.normal(size=(4000, 3)) * 10 ** rng.uniform(-5, 0, size=(4000, 1)))
    with torch.no_grad():
        act = lambda o: 2 * torch.tanh(actor.mu(actor.latent_pi(o)))  # noqa: E731
        slopes = (act(x + d) - act(x)).norm(dim=1) / d.norm(dim=1)
    assert float(slopes.max()) <= certificate.upper_bound
    assert 0.2 * certificate.lower_bound <= float(slopes.max())
    assert certificate.lower_bound <= certificate.upper_bound


def test_it_is_exported_evaluated_and_attacked(crossq, tmp_path):
    model = crossq()
    lipsrl.export(model, tmp_path / "policy.safetensors")
    policy = lipsrl.load_policy(tmp_path / "policy.safetensors")
    observations = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    np.testing.assert_allclose(
        policy.predict(observations)[0],
        model.predict(observations, deterministic=True)[0],
        rtol=1e-4,
        atol=1e-4,
    )
    attacks = {
        "mad": lipsrl.attacks.MADAttack(model, epsilon=0.1),
        "critic": lipsrl.attacks.CriticAttack(model, 0.1),
    }
    frame = lipsrl.evaluate(
        model, "Pendulum-v1", disturbances=attacks, strengths=(1.0,), n_episodes=1, max_episode_steps=5
    ).frame
    assert np.isfinite(frame["return"]).all()


@pytest.mark.parametrize(
    ("statistic", "value"),
    [("ra_mean", float("nan")), ("ra_mean", float("inf")), ("ra_var", float("nan")), ("ra_var", -2.0)],
)
def test_statistics_that_are_none_are_refused(crossq, statistic, value):
    model = crossq()
    norm = next(m for m in model.policy.actor.modules() if isinstance(m, BatchRenorm1d))
    getattr(norm, statistic)[1] = value
    with pytest.raises(ValueError, match=r"running statistics of a BatchRenorm1d .*not finite"):
        lipsrl.certify(model, **FEW)


def test_a_layer_that_stays_in_training_mode_is_refused(crossq):
    model = crossq()
    norm = next(m for m in model.policy.actor.modules() if isinstance(m, BatchRenorm1d))
    norm.train = lambda mode=True: norm
    norm.training = True
    with pytest.raises(ValueError, match="BatchRenorm1d in the actor is in training mode"):
        actor_network(model)


@pytest.mark.parametrize("track", [True, False])
def test_torchs_batch_norm_behind_a_linear_layer(track):
    model = PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, device="cpu")
    norm = nn.BatchNorm1d(64, track_running_stats=track)
    if track:
        live(norm, 0)
    net = model.policy.mlp_extractor.policy_net
    model.policy.mlp_extractor.policy_net = nn.Sequential(net[0], norm, *list(net)[1:])
    if not track:
        with pytest.raises(ValueError, match="keeps no running statistics"):
            actor_network(model)
        return
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    own = actor_network(model)(torch.as_tensor(observations)).detach().numpy().clip(-2, 2)
    np.testing.assert_allclose(own, model.predict(observations, deterministic=True)[0], rtol=1e-4, atol=1e-5)


def test_affine_maps_go_where_they_can():
    torch.manual_seed(0)

    def affine(n):
        return Affine(torch.randn(n).double(), torch.randn(n).double())

    maps = [affine(n) for n in (4, 4, 6, 6, 6, 2)]
    linear, last = nn.Linear(4, 6), nn.Linear(6, 2, bias=False)
    a, b, c, d, e, f = maps
    chain = [a, b, nn.Identity(), linear, c, nn.Tanh(), d, nn.ReLU(), e, last, f]
    x = torch.randn(9, 4, dtype=torch.float64)
    y = x
    for module in chain:
        y = module.gain * y + module.offset if isinstance(module, Affine) else module.double()(y)
    folded = fold(chain)
    assert [type(m).__name__ for m in folded] == [
        "Identity", "Linear", "Tanh", "Linear", "ReLU", "Linear",
    ]  # fmt: skip
    torch.testing.assert_close(nn.Sequential(*folded)(x), y)
    alone = fold([nn.ReLU(), affine(4)])
    assert [type(m) for m in alone] == [nn.ReLU, nn.Linear]
