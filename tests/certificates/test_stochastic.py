"""Gaussian policies: divergences against torch, and the return under attack against adversaries that are optimal."""

from __future__ import annotations

import io
import json
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation, TimeLimit
from scipy.stats import beta, binom, norm
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize
from torch.distributions import Independent, Normal, kl_divergence

from lipsrl.actors.normalization import normalization_of
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates import product_bound, steepest_pair
from lipsrl.certificates.stochastic import ActionDivergence, action_divergence
from lipsrl.certificates.stochastic.return_quantile import (
    ReturnQuantileCertificate,
    attacked_probability,
    clopper_pearson_lower,
    dkw_margin,
    return_quantile_certificate,
)

WEIGHT = torch.tensor([[0.8, -0.3, 0.0], [0.1, 0.5, 0.2]])
SIGMA = torch.tensor([1.2, 0.3])
RAW = np.array([1.0, -2.0, 0.5])
STEPS = 25


class Push(gym.Env):
    """The same observation for ever; the reward is the action along one direction, or its sign."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = spaces.Box(-100.0, 100.0, (2,))

    def __init__(self, direction=(1.0, 0.0), sign=False):
        self.direction, self.sign = np.array(direction), sign

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return RAW.copy(), {}

    def step(self, action):
        along = float(self.direction @ action)
        return RAW.copy(), float(along > 0) if self.sign else along, False, False, {}


def linear_model(algorithm=PPO, env=None, weight=WEIGHT, sigma=SIGMA):
    env = DummyVecEnv([Push]) if env is None else env
    size = {"batch_size": 8} if algorithm is PPO else {}
    model = algorithm(
        "MlpPolicy", env, n_steps=8, policy_kwargs={"net_arch": []}, seed=0, device="cpu", **size
    )
    with torch.no_grad():
        model.policy.action_net.weight.copy_(weight)
        model.policy.action_net.bias.zero_()
        model.policy.log_std.copy_(sigma.log())
    return model


def whitened(weight=WEIGHT, sigma=SIGMA):
    """(K, the most sensitive direction of the observation, the unit direction of the whitened action)."""
    u, s, vh = torch.linalg.svd(weight.double() / sigma.double().unsqueeze(1))
    return float(s[0]), vh[0].numpy(), u[:, 0].numpy()


def deep_model(lipschitz_bound=None):
    class Plant(gym.Env):
        observation_space = spaces.Box(-np.inf, np.inf, (3,))
        action_space = spaces.Box(-3.0, 3.0, (2,))

    venv = VecNormalize(DummyVecEnv([Plant]), clip_obs=3.0)
    venv.obs_rms.mean, venv.obs_rms.var = np.array([1.0, 0.0, -2.0]), np.array([0.04, 1.0, 25.0])
    options = {} if lipschitz_bound is None else {"lipschitz_bound": lipschitz_bound}
    model = PPO("MlpPolicy" if lipschitz_bound is None else "LipschitzMlpPolicy", venv, n_steps=8, batch_size=8,
                seed=0, device="cpu", policy_kwargs={"net_arch": [12, 12], **options})  # fmt: skip
    with torch.no_grad():
        if lipschitz_bound is None:
            model.policy.action_net.weight.mul_(100.0)
        else:
            model.policy.set_training_mode(True)
            model.policy.lipschitz_network.head.weight.mul_(1000.0)
            model.policy.set_training_mode(False)
        model.policy.log_std.copy_(torch.tensor([-1.0, 0.7]))
    return model


# -- divergences -------------------------------------------------------------------------------------------


def distribution(model, pipeline, x):
    """The policy's own, from SB3, in float64."""
    mean = pipeline.network(pipeline.normalise(x))
    return Independent(Normal(mean, model.policy.log_std.detach().double().exp()), 1)


@pytest.mark.parametrize("space_norm", ["l2", "linf"])
@pytest.mark.parametrize("bound", [None, 4.0])
def test_found_pairs_never_diverge_further(bound, space_norm):
    model = deep_model(bound)
    pipeline = Pipeline.of(model, normalization_of(model, None))
    sigma = model.policy.log_std.detach().double().exp()
    scale = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)
    order = {"l2": 2, "linf": math.inf}[space_norm]
    generator = torch.Generator().manual_seed(0)
    starts = torch.tensor([1.0, 0.0, -2.0]) + scale * torch.randn(
        512, 3, dtype=torch.float64, generator=generator
    )
    pair = steepest_pair(lambda x: pipeline.network(pipeline.normalise(x)) / sigma, starts, scale)
    epsilon = float((pair.x - pair.x_prime).norm(p=order))
    promise = action_divergence(model, epsilon, norm=space_norm)
    p, q = distribution(model, pipeline, pair.x), distribution(model, pipeline, pair.x_prime)
    for found in (kl_divergence(p, q), kl_divergence(q, p)):
        assert float(found) <= promise.kl
        # the bound is not vacuous; l-inf goes through l2 here
        assert float(found) >= (0.3 if space_norm == "l2" else 0.05) * promise.kl
    shift = float(((p.mean - q.mean) / sigma).norm())
    assert total_variation(shift) <= promise.total_variation
    assert float((p.mean - q.mean).norm()) <= promise.wasserstein
    many = starts[:256], starts[256:]
    gaps = (many[0] - many[1]).norm(dim=1, p=order)
    kl = kl_divergence(distribution(model, pipeline, many[0]), distribution(model, pipeline, many[1]))
    assert (kl.detach() <= promise.kl * (gaps / epsilon) ** 2).all()


def total_variation(shift):
    """Of N(0, 1) and N(shift, 1), by quadrature: half of the integral of the difference."""
    x = torch.linspace(-12, 12 + shift, 200_001, dtype=torch.float64)
    p, q = Normal(0.0, 1.0).log_prob(x).exp(), Normal(shift, 1.0).log_prob(x).exp()
    return float(torch.trapezoid((p - q).abs(), x)) / 2


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_a_linear_policy_is_exact(algorithm):
    """Σ^(-1/2)·W decides, not the norm of W over the smallest σ."""
    model = linear_model(algorithm)
    k, direction, _ = whitened()
    epsilon = 0.3
    promise = action_divergence(model, epsilon)
    assert promise.whitened_bound == pytest.approx(k, rel=1e-6)
    assert promise.whitened_bound < 0.95 * float(torch.linalg.matrix_norm(WEIGHT, 2) / SIGMA.min())
    x, y = torch.as_tensor(RAW), torch.as_tensor(RAW + epsilon * direction)
    p, q = (Independent(Normal(WEIGHT.double() @ z, SIGMA.double()), 1) for z in (x, y))
    assert float(kl_divergence(p, q)) == pytest.approx(promise.kl, rel=1e-6)
    assert total_variation(k * epsilon) == pytest.approx(promise.total_variation, rel=1e-6)
    spectral = float(torch.linalg.matrix_norm(WEIGHT.double(), 2))
    assert promise.wasserstein == pytest.approx(spectral * epsilon, rel=1e-6)


def test_vec_normalize_is_in_the_units():
    venv = VecNormalize(DummyVecEnv([Push]), clip_obs=10.0)
    venv.obs_rms.var = np.array([0.25, 1.0, 4.0])
    gain = 1 / np.sqrt(venv.obs_rms.var + venv.epsilon)
    model = linear_model(env=venv)
    exact = np.linalg.svd(WEIGHT.double().numpy() * gain / SIGMA.double().numpy()[:, None])[1][0]
    assert action_divergence(model, 0.1).whitened_bound == pytest.approx(exact, rel=1e-6)
    assert action_divergence(model, 0.1, norm="linf").whitened_bound > exact


def test_stacked_frames_may_be_off_together():
    stack = VecFrameStack(DummyVecEnv([Push]), 4)
    weight = torch.cat([WEIGHT] * 4, dim=1)  # the mean of the same push in every frame
    model = linear_model(env=stack, weight=weight)
    expected = 2 * np.linalg.svd((weight / SIGMA[:, None]).double().numpy())[1][0]
    assert action_divergence(model, 0.1).whitened_bound == pytest.approx(expected, rel=1e-6)
    shipped = PPO.load(_saved(model), device="cpu")
    assert action_divergence(shipped, 0.1).whitened_bound == pytest.approx(expected / 2, rel=1e-6)
    assert action_divergence(shipped, 0.1, frame_stack=4).whitened_bound == pytest.approx(expected, rel=1e-6)
    certificate = certificate_of(None, shipped, returns=[1.0], frame_stack=4)
    assert certificate.whitened_bound == pytest.approx(expected, rel=1e-6)
    assert "each of the 4 stacked frames" in str(certificate)


def _saved(model):
    stream = io.BytesIO()
    model.save(stream)
    stream.seek(0)
    return stream


def test_divergences_saturate_and_speak():
    promise = action_divergence(linear_model(), 1e9)
    assert promise.total_variation == 1.0
    assert math.isfinite(promise.kl)
    assert json.loads(json.dumps(promise.to_dict()))["kl"] == promise.kl
    assert "total variation" in str(promise)


# -- the theorem -------------------------------------------------------------------------------------------


def certificate_of(env, model, **arguments):
    return return_quantile_certificate(model, env, **{"epsilon": 0.05, "horizon": STEPS, **arguments})


def attacked_returns(model, direction, epsilon, n, env):
    """Returns when the adversary moves the observation by the same δ at each step; SB3 samples."""
    seen = np.repeat((RAW + epsilon * direction)[None], n, axis=0).astype(np.float32)
    total = np.zeros(n)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for _ in range(STEPS):
            along = model.predict(seen, deterministic=False)[0] @ env.direction
            total += along > 0 if env.sign else along
    return total


def tight_case():
    """Reward along the direction in which observation and action are most sensitive: R ~ N(T·m, T) when whitened."""
    k, direction, action = whitened()
    env = Push(action / SIGMA.double().numpy())
    mean = STEPS * float(env.direction @ WEIGHT.double().numpy() @ RAW)
    return env, k, direction, mean


def test_the_theorem_is_tight_for_the_sum_of_actions():
    """Here the constant push -ε along the steepest direction is the optimal adversary, and its return is Gaussian.

    P_attack(R ≥ r) = Φ(Φ⁻¹(P_clean(R ≥ r)) - √T·K·ε) exactly: any smaller μ would be broken.
    """
    env, k, direction, mean = tight_case()
    model, epsilon, n = linear_model(), 0.05, 20_000
    clean = attacked_returns(model, direction, 0.0, n, env)
    certificate = certificate_of(None, model, epsilon=epsilon, returns=clean)
    assert certificate.mu == pytest.approx(math.sqrt(STEPS) * k * epsilon, rel=1e-6)
    r = mean + math.sqrt(STEPS) * np.linspace(-4, 3, 29)
    truth = norm.sf(r, mean - STEPS * k * epsilon, math.sqrt(STEPS))
    np.testing.assert_allclose(
        attacked_probability(norm.sf(r, mean, math.sqrt(STEPS)), certificate.mu), truth, atol=1e-6
    )
    assert (certificate.probability(r) <= truth).all()
    near = np.array([certificate.probability_at(point) for point in r])
    assert (np.abs(near - truth) < 0.02).all(), "what is missing is the margin of the finite sample"
    attacked = attacked_returns(model, -direction, epsilon, n, env)
    frequency = (attacked[:, None] >= r).mean(axis=0)
    np.testing.assert_allclose(frequency, truth, atol=dkw_margin(n, 1 - 1e-6))


def test_no_adversary_beats_it_where_signs_are_counted():
    """The optimum is known as well: each step has the smallest chance, the count is binomial. Not tight, so strict."""
    k, direction, action = whitened()
    env = Push(action / SIGMA.double().numpy(), sign=True)
    model, epsilon, n, step = linear_model(), 0.05, 20_000, 0.8
    mean = float(env.direction @ WEIGHT.double().numpy() @ RAW)
    with torch.no_grad():
        model.policy.action_net.bias.copy_(torch.tensor(action) * SIGMA * (step - mean))
    r = np.arange(STEPS + 1)
    clean_truth = binom.sf(r - 1, STEPS, norm.cdf(step))
    truth = binom.sf(r - 1, STEPS, norm.cdf(step - k * epsilon))
    assert (attacked_probability(clean_truth, math.sqrt(STEPS) * k * epsilon) <= truth + 1e-12).all()
    certificate = certificate_of(
        None, model, epsilon=epsilon, returns=attacked_returns(model, direction, 0.0, n, env)
    )
    assert (certificate.probability(r) <= truth).all()
    inside = (truth > 0.1) & (truth < 0.95)
    assert (certificate.probability(r)[inside] >= truth[inside] - 0.08).all()
    assert inside.sum() >= 4
    frequency = (attacked_returns(model, -direction, epsilon, n, env)[:, None] >= r).mean(axis=0)
    np.testing.assert_allclose(frequency, truth, atol=dkw_margin(n, 1 - 1e-6))


def test_no_adaptive_adversary_beats_it():
    """The event |Σ z_t| ≤ b: the best push depends on where the sum is. Optimal adversary by dynamic programming."""
    steps, c, b = 12, 0.1, 4.0
    z = np.linspace(-9, 9, 241)
    weights = norm.pdf(z) / norm.pdf(z).sum()
    s = np.linspace(-30, 30, 1201)
    value = (np.abs(s) <= b).astype(float)
    clean = value.copy()

    def after(v, shift):
        return np.interp((s + shift)[:, None] + z, s, v) @ weights

    for _ in range(steps):
        pushed = [after(value, v) for v in np.linspace(-c, c, 5)]
        value, clean = np.minimum.reduce(pushed), after(clean, 0.0)
    start = len(s) // 2
    constant = norm.cdf(b, steps * c, math.sqrt(steps)) - norm.cdf(-b, steps * c, math.sqrt(steps))
    assert clean[start] == pytest.approx(norm.cdf(b / math.sqrt(steps)) * 2 - 1, abs=5e-3)
    assert value[start] < constant - 0.01, "adapting pays"
    assert attacked_probability(clean[start], math.sqrt(steps) * c) <= value[start]


def test_episodes_are_run_as_sb3_samples_them():
    """Clean returns of the tight case: their mean and spread are known, and repeat with the seed."""
    env, _, _, mean = tight_case()
    model = linear_model()
    state = torch.random.get_rng_state()
    first = certificate_of(lambda: Push(env.direction), model, n_episodes=400, seed=3)
    assert torch.equal(state, torch.random.get_rng_state())
    assert len(first.returns) == 400
    assert first.returns.mean() == pytest.approx(mean, abs=4 * math.sqrt(STEPS / 400))
    assert first.returns.std() == pytest.approx(math.sqrt(STEPS), rel=0.15)
    again = certificate_of(lambda: Push(env.direction), model, n_episodes=400, seed=3)
    np.testing.assert_array_equal(first.returns, again.returns)
    other = certificate_of(lambda: Push(env.direction), model, n_episodes=400, seed=4)
    assert (first.returns != other.returns).any()


def test_the_normalisation_acts_and_is_not_updated():
    venv = VecNormalize(DummyVecEnv([Push]), clip_obs=10.0, training=False)
    venv.obs_rms.mean, venv.obs_rms.var = RAW.copy(), np.ones(3)
    model = linear_model(env=venv)
    count = venv.obs_rms.count
    certificate = certificate_of(Push(), model, n_episodes=200)
    assert venv.obs_rms.count == count
    # the policy sees 0 and acts around 0
    assert certificate.returns.mean() == pytest.approx(0.0, abs=4 * 1.2 * math.sqrt(STEPS / 200))
    assert "frozen" in str(certificate)


def test_episodes_that_end_are_not_run_on():
    class Short(Push):
        def reset(self, *, seed=None, options=None):
            self.left = 1 + seed % 3
            return super().reset(seed=seed)

        def step(self, action):
            self.left -= 1
            return RAW.copy(), 1.0, self.left == 0, False, {}

    model = linear_model()
    returns = certificate_of(Short, model, n_episodes=60).returns
    assert set(returns) == {1.0, 2.0, 3.0}
    assert set(certificate_of(Short, model, n_episodes=60, horizon=2).returns) == {1.0, 2.0}


def certificate_of_steps(env, **arguments):
    return return_quantile_certificate(linear_model(), env, epsilon=0.1, n_episodes=2, **arguments)


def test_the_horizon_is_the_time_limit():
    assert certificate_of_steps(TimeLimit(Push(), 7)).horizon == 7
    assert certificate_of_steps(lambda: TimeLimit(Push(), 7), horizon=5).horizon == 5
    assert certificate_of_steps(lambda: TimeLimit(Push(), 7), horizon=9).horizon == 7
    assert certificate_of_steps(TimeLimit(Push(), 7), returns=[1.0, 2.0]).horizon == 7
    with pytest.raises(ValueError, match="no TimeLimit around env"):
        certificate_of_steps(Push())


# -- the finite sample -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (7, 10), (10, 10), (480, 500)])
def test_clopper_pearson_is_the_exact_test(k, n):
    limit = clopper_pearson_lower(k, n, 0.95)
    if k:
        assert binom.sf(k - 1, n, limit) == pytest.approx(0.05, rel=1e-9)
        assert limit == pytest.approx(beta.ppf(0.05, k, n - k + 1), rel=1e-9)
    else:
        assert limit == 0.0
    assert limit >= k / n - dkw_margin(n, 0.95), "never looser than DKW"


def test_confidence_is_kept_over_many_samples():
    """The share of samples of size n whose band leaves the truth anywhere; Clopper–Pearson at one point."""
    rng = np.random.default_rng(0)
    n, repeats, confidence = 40, 4000, 0.9
    uniform = np.sort(rng.random((repeats, n)), axis=1)
    # empirical P(U ≥ u) is too large most just at an order statistic: 1 - k/n there, 1 - u in truth
    excess = ((1 - np.arange(n) / n) - (1 - uniform)).max(axis=1)
    missed = (excess > dkw_margin(n, confidence)).mean()
    assert 0.05 < missed <= 0.1 + 3 * math.sqrt(0.09 / repeats)
    limits = np.array([clopper_pearson_lower(k, n, confidence) for k in range(n + 1)])
    missed = (limits[(uniform > 0.2).sum(axis=1)] > 0.8).mean()
    assert 0.02 < missed <= 0.1 + 3 * math.sqrt(0.09 / repeats)


def test_the_curve_its_quantiles_and_one_point():
    returns = np.arange(100.0)[::-1]
    certificate = certificate_of(None, linear_model(), epsilon=1e-6, returns=returns, confidence=0.9)
    margin = dkw_margin(100, 0.9)
    assert certificate.clean_frequency([0.0, 0.5, 50.0, 99.0, 100.0]).tolist() == pytest.approx(
        [1.0, 0.99, 0.5, 0.01, 0.0]
    )
    r, curve = certificate.curve()
    np.testing.assert_array_equal(r, np.arange(100.0))
    np.testing.assert_allclose(curve, np.maximum(1 - r / 100 - margin, 0.0), atol=1e-4)
    assert (np.diff(curve) <= 0).all()
    assert certificate.quantile(0.5) == pytest.approx(50 - 100 * margin, abs=1.0)
    assert certificate.probability(certificate.quantile(0.5)) >= 0.5
    assert certificate.quantile(0.99) == -math.inf
    assert certificate.probability_at(0.0) == pytest.approx(0.1 ** (1 / 100), abs=1e-4)
    for point in (0.0, 20.0, 50.0, 98.0, 120.0):
        assert certificate.probability_at(point) >= certificate.probability(point)
    assert certificate_of(None, linear_model(), epsilon=100.0, returns=returns).probability(0.0) == 0.0


def test_the_largest_budget_is_where_the_probability_is_just_kept():
    returns = np.arange(200.0)
    certificate = certificate_of(None, linear_model(), returns=returns)
    epsilon = certificate.largest_epsilon(40.0, 0.3)
    there = certificate_of(None, linear_model(), returns=returns, epsilon=epsilon)
    assert there.probability(40.0) == pytest.approx(0.3, rel=1e-9)
    assert certificate.largest_epsilon(40.0, 0.9) == 0.0
    still = certificate_of(None, linear_model(weight=torch.zeros(2, 3)), returns=returns)
    assert still.largest_epsilon(40.0, 0.3) == math.inf
    assert still.probability(40.0) == pytest.approx(0.8 - dkw_margin(200, 0.95))


def test_json_and_words():
    certificate = certificate_of(None, linear_model(), returns=[3.0, 1.0, 2.0] * 30)
    data = json.loads(json.dumps(certificate.to_dict()))
    assert data["curve"]["return"] == [1.0, 2.0, 3.0]
    assert data["curve"]["certified"] == certificate.curve()[1].tolist()
    assert data["mu"] == certificate.mu
    text = str(certificate)
    assert f"each of {STEPS} steps" in text
    assert "deterministic execution is not covered" in text


def test_file_round_trip(tmp_path):
    divergence = action_divergence(linear_model(), 0.1)
    assert ActionDivergence.load(divergence.save(tmp_path / "divergence.json")) == divergence
    certificate = certificate_of(None, linear_model(), returns=[3.0, 1.0, 2.0] * 30)
    loaded = ReturnQuantileCertificate.load(certificate.save(tmp_path / "returns.json"))
    assert loaded.to_dict() == certificate.to_dict()
    assert loaded.quantile(0.5) == certificate.quantile(0.5)
    for kind in (ActionDivergence, ReturnQuantileCertificate):
        with pytest.raises(ValueError, match="schema_version=None"):
            kind.from_dict({})
        with pytest.raises(ValueError, match=r"has no '(sigma|epsilon)'"):
            kind.from_dict({"schema_version": 1})


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "env", "options", "reason"),
    [
        (PPO, "Pendulum-v1", {"use_sde": True, "n_steps": 8, "batch_size": 8}, "gSDE's noise depends on"),
        (A2C, "Pendulum-v1", {"use_sde": True}, "gSDE's noise depends on"),
        (SAC, "Pendulum-v1", {"buffer_size": 10}, "its σ is an output of the network"),
        (TD3, "Pendulum-v1", {"buffer_size": 10}, "its policy is deterministic"),
        (DQN, "CartPole-v1", {"buffer_size": 10}, "its policy is deterministic"),
        (PPO, "CartPole-v1", {"n_steps": 8, "batch_size": 8}, "come from CategoricalDistribution"),
    ],
)
def test_policies_without_a_fixed_gaussian_are_refused(algorithm, env, options, reason):
    model = algorithm("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [4]}, **options)
    with pytest.raises(ValueError, match=reason):
        action_divergence(model, 0.1)
    with pytest.raises(ValueError, match=reason):
        return_quantile_certificate(model, env, epsilon=0.1)


def test_a_log_std_that_is_computed_is_refused():
    model = linear_model()
    del model.policy.log_std
    model.policy.log_std = torch.nn.Linear(3, 2)
    with pytest.raises(ValueError, match="log_std is no parameter"):
        action_divergence(model, 0.1)
    model = linear_model(sigma=torch.tensor([0.3, 0.0]))
    with pytest.raises(ValueError, match="σ of the policy must be finite and > 0"):
        action_divergence(model, 0.1)


def test_a_normalisation_that_still_learns_is_refused(tmp_path):
    venv = VecNormalize(DummyVecEnv([Push]))
    model = linear_model(env=venv)
    with pytest.raises(ValueError, match="still updating its statistics"):
        certificate_of(Push, model, n_episodes=2)
    with pytest.raises(ValueError, match="still updating its statistics"):
        certificate_of(Push, model, n_episodes=2, vec_normalize=venv)
    venv.save(str(tmp_path / "vn.pkl"))  # a file does not learn
    assert certificate_of(Push, model, n_episodes=2, vec_normalize=tmp_path / "vn.pkl").horizon == STEPS
    inner = NormalizeObservation(Push())
    with pytest.raises(ValueError, match="NormalizeObservation inside env is still updating"):
        certificate_of(inner, linear_model(env=DummyVecEnv([lambda: NormalizeObservation(Push())])))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be a finite number > 0"),
        ({"epsilon": math.nan}, "epsilon must be a finite number > 0"),
        ({"confidence": 1.0}, r"confidence must be in \(0, 1\)"),
        ({"confidence": 0.3}, r"confidence must be in \[0.5, 1\)"),
        ({"returns": []}, "finite and of shape"),
        ({"returns": [[1.0]]}, "finite and of shape"),
        ({"returns": [1.0, math.nan]}, "finite and of shape"),
        ({"returns": None}, "Give env, to run clean episodes in"),
        ({"norm": "l1"}, "norm='l1' is not known"),
        ({"horizon": 0}, "horizon must be an integer > 0"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        return_quantile_certificate(
            linear_model(), **{"epsilon": 0.1, "horizon": 5, "returns": [1.0, 2.0], **arguments}
        )


def test_what_is_no_environment_is_refused():
    model = linear_model()
    with pytest.raises(TypeError, match="A VecEnv is not needed"):
        certificate_of(DummyVecEnv([Push]), model)
    with pytest.raises(ValueError, match="observation_space of env"):
        certificate_of("Pendulum-v1", model)
    with pytest.raises(TypeError, match="must be a Stable-Baselines3 model"):
        certificate_of(Push, model.policy)


def test_any_sound_bound_can_be_plugged_in():
    model = deep_model()
    loose = action_divergence(model, 0.1, network_bound=product_bound)
    tight = action_divergence(model, 0.1)
    assert tight.whitened_bound < 0.95 * loose.whitened_bound
    ten = action_divergence(model, 0.1, network_bound=lambda network: 10 * product_bound(network))
    assert ten.kl == pytest.approx(100 * loose.kl)
