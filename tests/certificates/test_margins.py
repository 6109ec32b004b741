"""Margin certificates: inside the radius the greedy action is the same, whoever searches."""

from __future__ import annotations

import json
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

import lipsrl
from lipsrl.actors.normalization import normalization_of
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates import product_bound
from lipsrl.certificates.deterministic.margins import MarginCertificate, margin_certificate
from lipsrl.tracking._live import bounds, on_states, read

SPACES = {
    "discrete": spaces.Discrete(4),
    "multi_discrete": spaces.MultiDiscrete([3, 1, 2]),
    "multi_binary": spaces.MultiBinary(3),
}
SPREAD = np.array([0.1, 1.0, 20.0])


def plant(space):
    """Sensors of very different size, behind VecNormalize; nobody steps it."""

    class Plant(gym.Env):
        observation_space = spaces.Box(-np.inf, np.inf, (3,))
        action_space = space

    venv = VecNormalize(DummyVecEnv([Plant]), clip_obs=2.0)
    venv.obs_rms.mean, venv.obs_rms.var = np.full(3, 3.0), SPREAD**2
    return venv


def make(algorithm, space, **policy):
    """An untrained model whose outputs differ."""
    name = "LipschitzMlpPolicy" if "lipschitz_bound" in policy else "MlpPolicy"
    options = {"buffer_size": 10} if algorithm is DQN else {"n_steps": 8}
    options |= {"batch_size": 8} if algorithm is PPO else {}
    model = algorithm(name, plant(SPACES[space]), seed=0, device="cpu",
                      policy_kwargs={"net_arch": [16, 16], **policy}, **options)  # fmt: skip
    with torch.no_grad():
        if algorithm is DQN:
            model.policy.q_net.q_net[-1].weight.mul_(5.0)
        elif "lipschitz_bound" in policy:
            model.policy.set_training_mode(True)
            model.policy.lipschitz_network.head.weight.mul_(1000.0)
            model.policy.set_training_mode(False)
        else:
            model.policy.action_net.weight.mul_(100.0)
    return model


def observations(n=80):
    return 3 + np.random.default_rng(0).normal(size=(n, 3)) * SPREAD * 1.5


CASES = [
    (DQN, "discrete", {}),
    (PPO, "discrete", {"activation_fn": nn.ReLU}),
    (PPO, "multi_discrete", {}),
    (A2C, "multi_binary", {}),
    (PPO, "discrete", {"lipschitz_bound": 3.0}),
    (PPO, "discrete", {"lipschitz_bound": 3.0, "layer": "orthogonal", "activation": "maxmin"}),
    (PPO, "multi_discrete", {"lipschitz_bound": 3.0, "layer": "linf", "norm": "linf"}),
    (PPO, "discrete", {"lipschitz_bound": 3.0, "layer": "sll", "net_arch": [16]}),
]


def flips(pipeline, space, raw, radii, norm, steps=25):
    """Projected gradient descent on the smallest margin (n, 3) inside the radius; True where an action changed."""
    x = torch.as_tensor(raw)
    radius = torch.as_tensor(radii).unsqueeze(1)
    first = pipeline.act(x).detach()

    def margins(outputs):
        if isinstance(space, spaces.MultiBinary):
            return outputs * first.sign()
        parts, start = [], 0
        for n in [space.n] if isinstance(space, spaces.Discrete) else space.nvec.tolist():
            part, best = outputs[:, start : start + n], first[:, start : start + n].argmax(1, keepdim=True)
            others = torch.zeros_like(part, dtype=torch.bool).scatter_(1, best, True)
            parts.append((part.gather(1, best) - part).masked_fill(others, math.inf))
            start += n
        return torch.cat(parts, dim=1)

    # each competitor is attacked on its own; they have another margin to lower at each observation
    changed = torch.zeros(len(x), dtype=torch.bool)
    for k in range(margins(first).shape[1]):
        delta = torch.zeros_like(x)
        for i in range(steps):
            delta.requires_grad_(True)
            margin = margins(pipeline.act(x + delta))
            changed |= (margin < 0).any(dim=1)
            target = margin[:, k]
            (gradient,) = torch.autograd.grad(target[torch.isfinite(target)].sum(), delta)
            with torch.no_grad():
                size = radius / (1 + i / 5)
                if norm == "linf":
                    delta = (delta - size * gradient.sign()).clamp(-radius, radius)
                else:
                    delta = delta - size * gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-300)
                    delta = delta * (radius / delta.norm(dim=1, keepdim=True).clamp_min(1e-300)).clamp(max=1)
                delta = delta.nan_to_num(0.0)
    return changed


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(("algorithm", "space", "policy"), CASES)
def test_no_search_flips_an_action_inside_the_radius(algorithm, space, policy, norm):
    model = make(algorithm, space, **policy)
    raw = observations()
    certificate = margin_certificate(model, raw, norm=norm)
    assert (certificate.radii > 0).mean() > 0.9
    pipeline = Pipeline.of(model, normalization_of(model, None))
    assert not flips(pipeline, SPACES[space], raw, certificate.radii * (1 - 1e-9), norm).any()
    assert flips(pipeline, SPACES[space], raw, certificate.radii * 100, norm).float().mean() > 0.3, (
        "the search is able to flip actions outside"
    )


@pytest.mark.parametrize(("algorithm", "space", "policy"), CASES[:4])
def test_the_actions_are_those_of_predict(algorithm, space, policy):
    model = make(algorithm, space, **policy)
    raw = observations()
    certificate = margin_certificate(model, raw)
    statistics = model.get_vec_normalize_env()
    acted, _ = model.predict(statistics.normalize_obs(raw).astype(np.float32), deterministic=True)
    np.testing.assert_array_equal(certificate.actions, acted.reshape(len(raw), -1))


def linear_model(weight, bias, space=None):
    class Stub(gym.Env):
        observation_space = spaces.Box(-np.inf, np.inf, (len(weight[0]),))
        action_space = space or spaces.Discrete(3)

    model = PPO("MlpPolicy", Stub(), n_steps=8, batch_size=8, policy_kwargs={"net_arch": []}, device="cpu")
    with torch.no_grad():
        model.policy.action_net.weight.copy_(torch.tensor(weight))
        model.policy.action_net.bias.copy_(torch.tensor(bias))
    return model


def test_a_linear_policy_has_the_exact_distance_to_the_nearest_boundary():
    """No hidden layer: the radius is the distance to a hyperplane, in each norm."""
    weight, bias = [[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]], [0.0, 0.5, -20.0]
    model = linear_model(weight, bias)
    raw = np.array([[1.0, 0.0], [0.0, 1.0], [10.0, 10.0], [0.5, 0.0]])
    w, outputs = np.array(weight), raw @ np.array(weight).T + np.array(bias)
    for norm, dual, size in (("l2", 2, 1.0), ("linf", 1, math.sqrt(2))):
        certificate = margin_certificate(model, raw, norm=norm)
        for k, best in enumerate(outputs.argmax(axis=1)):
            others = [j for j in range(3) if j != best]
            distances = [
                (outputs[k, best] - outputs[k, j]) / np.linalg.norm(w[best] - w[j], ord=dual) for j in others
            ]
            assert min(distances) / size <= certificate.radii[k] * (1 + 1e-9)
            assert certificate.radii[k] <= min(distances)
            if norm == "l2":
                assert certificate.radii[k] == pytest.approx(min(distances), rel=1e-9)
    assert certificate.radii[3] == 0.0, "a tie"


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_gains_and_rows_reach_the_radius_whole(norm):
    """Linear policies behind VecNormalize: never beyond the exact distance, and within √d of it in l-inf."""
    rng = np.random.default_rng(0)
    for case in range(12):
        weight = (
            np.ones((2, 3)) * [[1], [-1]] if case == 0 else rng.normal(size=(2, 3)) * rng.choice([1, 9], 3)
        )
        venv = plant(spaces.Discrete(2))
        venv.obs_rms.var = np.full(3, 0.25) if case == 0 else rng.choice([0.01, 1.0, 400.0], 3)
        venv.clip_obs = 1e9
        model = PPO("MlpPolicy", venv, n_steps=8, batch_size=8, policy_kwargs={"net_arch": []}, device="cpu")
        with torch.no_grad():
            model.policy.action_net.weight.copy_(torch.as_tensor(weight))
            model.policy.action_net.bias.zero_()
        raw = observations(10)
        row = np.subtract(*model.policy.action_net.weight.detach().double().numpy())
        row = row / np.sqrt(venv.obs_rms.var + venv.epsilon)
        exact = np.abs((raw - venv.obs_rms.mean) @ row) / np.linalg.norm(row, ord={"l2": 2, "linf": 1}[norm])
        radii = margin_certificate(model, raw, norm=norm).radii
        assert (radii <= exact * (1 + 1e-12)).all()
        assert (radii >= exact / (1.0 + 1e-9 if norm == "l2" else math.sqrt(3))).all()


@pytest.mark.parametrize(("layer", "own"), [("orthogonal", "l2"), ("linf", "linf")])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_promise_of_a_constrained_policy_counts_the_difference_of_two_outputs(norm, layer, own):
    """Rows of K·I or of K and -K: a difference moves √2·K or 2K, through the gains of the normalisation."""
    venv = plant(spaces.Discrete(2))
    venv.obs_rms.var = np.full(3, 0.25)
    model = PPO("LipschitzMlpPolicy", venv, n_steps=8, batch_size=8, device="cpu", policy_kwargs={
        "net_arch": [], "lipschitz_bound": 3.0, "layer": layer, "norm": own, "observation_scale": [2.0, 1.0, 1.0],
    })  # fmt: skip
    rows = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]] if own == "l2" else [[0.4, 0.3, 0.3], [-0.4, -0.3, -0.3]]
    with torch.no_grad():
        model.policy.set_training_mode(True)
        model.policy.lipschitz_network.head.weight.copy_(2.999 * torch.tensor(rows))
        model.policy.set_training_mode(False)
    gains = 1 / np.sqrt(venv.obs_rms.var + venv.epsilon) / [2.0, 1.0, 1.0]
    row = 2.999 * np.subtract(*rows) * gains
    raw = observations(10)
    exact = np.linalg.norm(row, ord={"l2": 2, "linf": 1}[norm])
    # a bound that never wins leaves the promise alone to answer
    bound = margin_certificate(model, raw, norm=norm, network_bound=lambda network: math.inf).pair_bounds[0]
    assert exact <= bound
    expected = {
        ("l2", "l2"): math.sqrt(2) * gains.max(),
        ("linf", "l2"): math.sqrt(2) * np.linalg.norm(gains),
        ("l2", "linf"): 2 * gains.max(),
        ("linf", "linf"): 2 * gains.max(),
    }[norm, own]
    assert bound == pytest.approx(3.0 * expected, rel=1e-3)


def test_pairs_beat_the_norm_of_the_whole_output():
    """Rows that hardly differ: √2·K knows nothing of it, the difference does."""
    model = linear_model([[1.0, 1.0], [1.0, 1.1], [-1.0, -1.0]], [0.1, 0.0, -50.0])
    certificate = margin_certificate(model, [[0.0, 0.0]])
    k = lipsrl.certify(model, method="product", n_starts=64).upper_bound
    assert certificate.radii[0] == pytest.approx(0.1 / 0.1, rel=1e-6)
    assert certificate.radii[0] > 30 * 0.1 / (math.sqrt(2) * k)
    assert certificate.pairs == ((0, 1), (0, 2))


def test_a_tie_has_radius_zero_and_a_constant_difference_an_infinite_one():
    model = linear_model([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]], [1.0, 0.0, 0.0])
    assert margin_certificate(model, [[0.0, 0.0]]).radii[0] == math.inf
    model = linear_model([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]], [1.0, 1.0, 0.0])
    certificate = margin_certificate(model, [[0.0, 0.0], [4.0, 5.0]])
    assert certificate.radii.tolist() == [0.0, 0.0]
    assert certificate.certified_fraction(0.0) == 0.0
    bits = linear_model([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0], spaces.MultiBinary(2))
    assert margin_certificate(bits, [[0.0, 3.0], [-2.0, 3.0]]).radii == pytest.approx([0.0, 2.0])


def test_a_margin_below_its_rounding_error_is_a_tie():
    """Two outputs of 1e13 that differ by two units in the last place: that margin says nothing."""
    model = linear_model([[1e10, 0.0], [1e10, 0.0], [0.0, 0.0]], [4e-3, 0.0, 0.0])
    certificate = margin_certificate(model, [[1e3, 0.0], [0.0, 0.0]])
    assert certificate.radii[0] == 0.0
    assert certificate.radii[1] > 0.0


def test_one_choice_cannot_change():
    model = linear_model([[1.0, 0.0]], [0.0], spaces.Discrete(1))
    certificate = margin_certificate(model, [[0.0, 0.0]])
    assert certificate.radii.tolist() == [math.inf]
    assert certificate.pairs == ()


def test_certified_fraction_is_a_function_of_the_radius():
    model = make(DQN, "discrete")
    certificate = margin_certificate(model, observations())
    radii = np.sort(certificate.radii)
    asked = np.array([[0.0, radii[0]], [radii[39], np.inf]])
    np.testing.assert_allclose(certificate.certified_fraction(asked), [[1.0, 0.9875], [0.5, 0.0]])
    np.testing.assert_allclose(
        certificate.certified_fraction(radii), [(certificate.radii > r).mean() for r in radii]
    )
    with pytest.raises(ValueError, match="radius must be >= 0, received -1"):
        certificate.certified_fraction([0.0, -1.0])


def test_any_sound_bound_can_be_plugged_in():
    """It gets the difference of two outputs behind the gains of VecNormalize; LipSDP is never looser."""
    model = make(DQN, "discrete")
    raw = observations(20)
    seen = []

    def tenfold(network):
        seen.append(network)
        return 10.0 * product_bound(network)

    product = margin_certificate(model, raw, network_bound=product_bound)
    np.testing.assert_allclose(
        margin_certificate(model, raw, network_bound=tenfold).radii, product.radii / 10, rtol=1e-9
    )
    assert (margin_certificate(model, raw).radii > product.radii * 1.05).all()
    pipeline = Pipeline.of(model, normalization_of(model, None))
    outputs = pipeline.act(torch.as_tensor(raw))
    clipped = pipeline.normalise(torch.as_tensor(raw)) / torch.as_tensor(pipeline.gain)  # in raw units
    for network, (i, j) in zip(seen, product.pairs, strict=True):
        torch.testing.assert_close(network(clipped)[:, 0], outputs[:, i] - outputs[:, j])


def test_json_and_words():
    model = linear_model([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]], [1.0, 0.0, -9.0])
    certificate = margin_certificate(model, [[0.0, 0.0], [1.0, 1.0]], norm="linf")
    data = json.loads(json.dumps(certificate.to_dict()))
    assert data["radii"] == certificate.radii.tolist()
    assert data["norm"] == "linf"
    assert "greedy action stays" in str(certificate)
    assert "linf" in str(certificate)
    constant = linear_model([[1.0, 0.0]] * 3, [1.0, 0.0, 0.0])
    assert margin_certificate(constant, [[0.0, 0.0]]).to_dict()["radii"] == [None]


def test_stacked_frames_may_be_off_together():
    model = linear_model([[1.0, 0.0] * 4, [0.0, 1.0] * 4, [0.0, 0.0] * 4], [1.0, 0.0, -9.0])
    raw = np.full((1, 8), 0.1)
    one, all_of_them = margin_certificate(model, raw), margin_certificate(model, raw, frame_stack=4)
    np.testing.assert_allclose(all_of_them.radii, one.radii / 2, rtol=1e-9)
    # the worst push, the same in every frame, changes the action just beyond that radius
    push = np.array([[-1.0, 1.0] * 4]) / np.sqrt(2) * all_of_them.radii[0]
    for factor, expected in ((0.999, 0), (1.001, 1)):
        assert model.predict((raw + factor * push).astype(np.float32), deterministic=True)[0] == expected


@pytest.mark.parametrize("space", ["discrete", "multi_discrete", "multi_binary"])
def test_file_round_trip(tmp_path, space):
    certificate = margin_certificate(make(PPO, space), observations(5), network_bound=product_bound)
    certificate.radii[0] = np.inf
    loaded = MarginCertificate.load(certificate.save(tmp_path / "margin.json"))
    assert loaded.to_dict() == certificate.to_dict()
    assert (loaded.radii.dtype, loaded.actions.dtype) == (certificate.radii.dtype, certificate.actions.dtype)
    np.testing.assert_array_equal(loaded.radii, certificate.radii)
    assert loaded.certified_fraction(1e9) == pytest.approx(0.2)
    assert str(loaded) == str(certificate)
    with pytest.raises(ValueError, match="margin certificate has schema_version=None"):
        MarginCertificate.from_dict({})


def test_errors():
    model = linear_model([[1.0, 0.0]] * 3, [1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"shape \(n, 2\) with n > 0, received \(3,\)"):
        margin_certificate(model, [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="NaN or infinite"):
        margin_certificate(model, [[0.0, np.nan]])
    with pytest.raises(ValueError, match="norm='l1' is not known"):
        margin_certificate(model, [[0.0, 0.0]], norm="l1")
    with pytest.raises(TypeError, match="must be a Stable-Baselines3 model"):
        margin_certificate(model.policy, [[0.0, 0.0]])
    continuous = PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, device="cpu")
    with pytest.raises(ValueError, match="needs discrete actions"):
        margin_certificate(continuous, [[0.0, 0.0, 0.0]])


class MaskedBits(gym.Env):
    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.MultiBinary(2)


def test_maskable_ppo_chooses_every_bit_of_two():
    """Two logits per bit, where SB3's own algorithms have one: the smaller of two large ones decides nothing."""
    model = MaskablePPO("MlpPolicy", MaskedBits(), seed=0, device="cpu", policy_kwargs={"net_arch": [16]})
    with torch.no_grad():
        model.policy.action_net.bias[:] = torch.tensor([5.0, 5.001, 7.0, 7.001])
    rows = np.random.default_rng(0).uniform(-1, 1, (40, 3)).astype(np.float32)
    actions, _ = model.predict(rows, deterministic=True)
    assert len(np.unique(actions, axis=0)) > 1
    found = margin_certificate(model, rows)
    assert np.array_equal(found.actions, actions)
    assert any("no action is masked" in text for text in found.assumptions)
    for i, radius in enumerate(found.radii):
        others = (actions != actions[i]).any(axis=1)
        assert np.linalg.norm(rows[others] - rows[i], axis=1).min() >= radius

    pipeline = read(model)
    bound = bounds(pipeline)["lipschitz_bound"]
    live = on_states(pipeline, model.observation_space, list(rows), [False] * len(rows), bound)
    assert live["action_changes"] == pytest.approx(np.mean((np.diff(actions, axis=0) != 0).any(axis=1)))
    assert live["certified_radius"] < 1.0


@pytest.mark.parametrize("space", [
    spaces.Discrete(4), spaces.MultiDiscrete([4]), spaces.MultiDiscrete([3, 4]),
    spaces.Dict({"a": spaces.Box(-1, 1, (2,))}),
], ids=str)  # fmt: skip
def test_codes_are_never_off_by_a_little(space):
    class Codes(gym.Env):
        observation_space, action_space = space, spaces.Discrete(3)

    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    model = DQN(policy, Codes(), policy_kwargs={"net_arch": [4]}, buffer_size=10, seed=0, device="cpu")
    shape = (2,) if space.shape is None else (2, *space.shape)
    with pytest.raises(ValueError, match="observations that can be off by a little"):
        margin_certificate(model, np.zeros(shape))


def test_codes_have_no_local_bounds():
    class Codes(gym.Env):
        observation_space, action_space = spaces.Discrete(5), spaces.Box(-1, 1, (1,))

    model = PPO("MlpPolicy", Codes(), policy_kwargs={"net_arch": [4]}, n_steps=8, batch_size=8, device="cpu")
    with pytest.raises(ValueError, match="are codes"):
        lipsrl.certify(model, states=np.arange(5), radius=0.1, n_starts=64)
    assert lipsrl.certify(model, n_starts=64).upper_bound > 0


def test_images_come_with_their_channels_first_or_last():
    class Camera(gym.Env):
        observation_space, action_space = spaces.Box(0, 255, (6, 5, 1), np.uint8), spaces.Discrete(3)

    model = DQN("MlpPolicy", Camera(), policy_kwargs={"net_arch": [8]}, buffer_size=10, seed=0, device="cpu")
    rows = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 1), np.uint8)
    last, first = (margin_certificate(model, given) for given in (rows, rows.transpose(0, 3, 1, 2)))
    assert np.array_equal(last.radii, first.radii)
    assert np.array_equal(last.actions[:, 0], model.predict(rows, deterministic=True)[0])
