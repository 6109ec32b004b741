"""The feasibility floor: no stabilising gain below it, a stabilising one not far above, the environment untouched."""

from __future__ import annotations

import copy
import importlib.util
import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces, wrappers
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

import lipsrl
from lipsrl.feasibility.floor import feasibility_floor
from lipsrl.feasibility.gain_floor import gain_floor
from lipsrl.feasibility.gain_search import lqr_gain, smallest_gain, spectral_radius
from lipsrl.feasibility.linearise import linearise
from lipsrl.feasibility.plant import MujocoPlant, borrowed
from lipsrl.feasibility.policy import feasibility_warnings, policy_units

needs_mujoco = pytest.mark.skipif(
    importlib.util.find_spec("mujoco") is None or importlib.util.find_spec("imageio") is None,
    reason="gymnasium's MuJoCo environments are not installed: pip install 'lipsrl[mujoco]'",
)
ROTATION = 1.1 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])


class Linear(gym.Env):
    """x⁺ = a x + b u, o = c x, in attributes that only its own functions know."""

    def __init__(self, a, b, c, noise=0.0):
        self.a, self.b, self.c = (np.array(m, dtype=float) for m in (a, b, c))
        self.noise = noise
        self.action_space = spaces.Box(-np.inf, np.inf, (self.b.shape[1],))
        self.observation_space = spaces.Box(-np.inf, np.inf, (len(self.c),))
        self.hidden = np.arange(1.0, len(self.a) + 1)

    def step(self, action):
        self.hidden[:] = self.a @ self.hidden + self.b @ action
        self.hidden += self.noise * self.np_random.standard_normal(len(self.hidden))
        return self.c @ self.hidden, 0.0, False, False, {}

    def put(self, state):
        self.hidden[:] = state

    def floor(self, **options):
        functions = {
            "get_state": lambda env: env.hidden,
            "set_state": Linear.put,
            "observe": lambda env: env.c @ env.hidden,
        }
        origin, rest = np.zeros(len(self.a)), np.zeros(self.b.shape[1])
        return feasibility_floor(self, origin, rest, **{**functions, **options})


def pendulum(**options):
    env = gym.make("Pendulum-v1", **options)
    env.reset(seed=3)
    return env


def random_gains(rng, shape, norm, n):
    """``n`` gains of spectral norm up to ``norm``, (n, *shape)."""
    gains = rng.standard_normal((n, *shape)) * rng.uniform(0, 2, (n, *shape)) ** 2
    norms = np.linalg.norm(gains, 2, axis=(1, 2), keepdims=True)
    return gains / norms * norm * rng.uniform(0.3, 1, (n, 1, 1)) ** 0.3


class TestPendulum:
    def test_upright(self):
        """Statics: gravity moves θ̈ by 15 θ, torque by 3 u, so 5 N·m/rad hold it and no less can."""
        found = feasibility_floor(pendulum(), [0, 0], [0])
        assert found.floor == pytest.approx(5, rel=1e-6)
        assert found.floor <= found.found <= 5.001
        assert found.method == "polynomial"
        assert found.unstable == pytest.approx([1 + 0.01875 + np.sqrt(0.01875**2 + 0.0375)], rel=1e-6)
        np.testing.assert_allclose(found.linearisation.a, [[1.0375, 0.05], [0.75, 1]], atol=1e-7)
        np.testing.assert_allclose(found.linearisation.b, [[0.0075], [0.15]], atol=1e-7)
        np.testing.assert_allclose(found.linearisation.c, [[0, 0], [1, 0], [0, 1]], atol=1e-6)

    def test_regulator_with_the_weights_of_the_reward(self):
        found = feasibility_floor(pendulum(), [0, 0], [0], observation_cost=[0, 1, 0.1], action_cost=1e-3)
        assert found.lqr == pytest.approx(20.3842, abs=1e-3)
        np.testing.assert_allclose(found.lqr_gain, [[0, -19.6932, -5.2625]], atol=1e-3)

    def test_tilted(self):
        """At θ the slope of gravity is 15 cos θ, and the sensors turn by θ on the unit circle."""
        found = feasibility_floor(pendulum(), [0.2, 0], [-5 * np.sin(0.2)])
        assert found.floor == pytest.approx(5 * np.cos(0.2), rel=1e-5)
        direction = found.found_gain[0, :2] / np.linalg.norm(found.found_gain[0, :2])
        np.testing.assert_allclose(direction, [np.sin(0.2), -np.cos(0.2)], atol=1e-3)

    def test_hanging(self):
        found = feasibility_floor(pendulum(), [np.pi, 0], [0])
        assert (found.floor, found.method, len(found.unstable)) == (0, "neutral", 0)
        assert found.found < 1e-3

    def test_units(self):
        env = pendulum()
        raw = feasibility_floor(env, [0, 0], [0])
        halved = feasibility_floor(wrappers.RescaleAction(env, -1, 1), [0, 0], [0])
        gains = np.array([1.4, 2.0, 0.25])
        normalised = feasibility_floor(env, [0, 0], [0], observation_gain=gains)
        assert halved.floor == pytest.approx(2.5, rel=1e-6)
        assert normalised.floor == pytest.approx(2.5, rel=1e-6)
        assert raw.floor_for(gains) == pytest.approx(normalised.floor, rel=1e-9)
        assert normalised.lqr_gain * gains == pytest.approx(raw.lqr_gain, abs=1e-6)

    def test_units_without_the_environment(self):
        env, gains = pendulum(), np.array([1.4, 2.0, 0.25])
        expected = feasibility_floor(env, [0, 0], [0], observation_gain=gains)
        found = feasibility_floor(env, [0, 0], [0]).in_units(gains)
        assert found.floor == pytest.approx(expected.floor, rel=1e-9)
        assert found.found == pytest.approx(expected.found, rel=1e-4)
        np.testing.assert_allclose(found.lqr_gain, expected.lqr_gain, atol=1e-6)
        np.testing.assert_array_equal(found.observation_gain, gains)
        back = found.in_units(1.0)
        assert (back.floor, back.found) == pytest.approx((5, 5), rel=1e-4)

    def test_json(self):
        data = feasibility_floor(pendulum(), [0, 0], [0]).to_dict()
        assert json.loads(json.dumps(data, allow_nan=False)) == data
        assert data["floor"] == pytest.approx(5, rel=1e-6)
        assert data["unstable"] == [pytest.approx([1.2133, 0], abs=1e-4)]

    def test_observation_wrapper(self):
        env = wrappers.RescaleObservation(pendulum(), np.float32(-1), np.float32(1))
        assert feasibility_floor(env, [0, 0], [0]).floor == pytest.approx(
            5, rel=1e-5
        )  # sin θ keeps its range

    def test_environment_is_left_as_it_was(self):
        env, twin = pendulum(), pendulum()
        feasibility_floor(env, [0, 0], [0])
        for _ in range(5):
            action = np.array([0.7], np.float32)
            assert str(env.step(action)) == str(twin.step(action))
        assert env.unwrapped.last_u == twin.unwrapped.last_u
        assert str(env.reset()) == str(twin.reset())

    def test_environment_is_left_as_it_was_after_an_error(self):
        env = pendulum()
        before = dict(vars(env.unwrapped))
        values = copy.deepcopy((env.unwrapped.state, env.unwrapped.np_random.bit_generator.state))
        with pytest.raises(ValueError):
            feasibility_floor(env, [0.3, 0], [0])
        after = vars(env.unwrapped)
        assert list(after) == list(before)
        assert all(after[name] is before[name] for name in before)
        assert str((env.unwrapped.state, env.unwrapped.np_random.bit_generator.state)) == str(values)


class TestPendulumInClosedLoop:
    def run(self, gain, steps, start=1e-3):
        """|state| over time of the real environment, the torque clipped as it does."""
        env = pendulum().unwrapped
        env.state = np.array([start, 0.0])
        target = np.array([1.0, 0.0, 0.0])
        seen, path = env._get_obs(), []
        for _ in range(steps):
            seen = env.step(gain @ (seen - target))[0]
            path.append(np.abs(env.state).max())
            if path[-1] > 0.5:
                break
        return np.array(path)

    def test_found_and_regulator_stabilise(self):
        found = feasibility_floor(pendulum(), [0, 0], [0])
        assert self.run(found.lqr_gain, 400, start=0.05)[-1] < 1e-5
        # at the very edge a mode decays in 10⁴ steps; a little more gain shows it sooner
        edge = self.run(1.02 * found.found_gain, 20_000)
        assert edge.max() < 0.01
        assert edge[-100:].max() < 0.1 * edge[:1000].max()

    def test_nothing_below_the_floor_does(self):
        floor = feasibility_floor(pendulum(), [0, 0], [0]).floor
        gains = random_gains(np.random.default_rng(0), (1, 3), 0.97 * floor, 80)
        assert all(self.run(gain, 3000)[-1] > 0.1 for gain in gains)


class TestKnownSystems:
    def test_one_state(self):
        """|1.5 + 2·4·g| < 1 for -0.3125 < g < -0.0625."""
        found = Linear([[1.5]], [[2]], [[4]]).floor(observation_cost=1 / 16)
        riccati = (1.25 + 4 + np.sqrt((1.25 + 4) ** 2 + 16)) / 8  # p = 1 + 2.25 p / (1 + 4 p)
        assert found.floor == pytest.approx(0.0625, rel=1e-9)
        assert found.found == pytest.approx(0.0625, rel=1e-4)
        assert found.lqr == pytest.approx(3 * riccati / (1 + 4 * riccati) / 4, rel=1e-9)

    def test_spiral(self):
        """The determinant, 1.21 (1 + g a⁻¹ b), must fall below 1: ‖g‖ ≥ 0.21 / 1.1."""
        found = Linear(ROTATION, [[0], [1]], np.eye(2)).floor()
        assert found.floor == pytest.approx(0.21 / 1.1, rel=1e-9)
        assert found.found == pytest.approx(0.21 / 1.1, rel=1e-3)

    def test_two_actions_on_a_spiral(self):
        """A normal matrix: its eigenvalues move by no more than ‖G‖ (Bauer-Fike), and -0.1/1.1 a gets there."""
        found = Linear(ROTATION, np.eye(2), np.eye(2)).floor()
        assert found.method == "eigenvalue path"
        assert 0.0995 <= found.floor <= 0.1 + 1e-12
        assert found.found == pytest.approx(0.1, rel=1e-3)

    def test_two_actions_that_act_as_one(self):
        found = Linear(np.diag([1.3, 0.5]), [[1, 1], [0, 0]], np.eye(2)).floor()
        assert found.method == "polynomial"
        assert found.floor == pytest.approx(0.3 / np.sqrt(2), rel=1e-8)  # finite differences: 7e-9
        assert found.found == pytest.approx(0.3 / np.sqrt(2), rel=1e-3)

    def test_stable(self):
        found = Linear([[0.9, 1], [0, 0.8]], [[0], [1]], np.eye(2)).floor()
        assert (found.floor, found.found, found.method) == (0, 0, "stable")
        assert found.warning(1e-9) is None

    def test_without_the_speed_no_static_gain_damps(self):
        found = Linear([[1.0375, 0.05], [0.75, 1]], [[0.0075], [0.15]], [[1, 0]]).floor()
        assert found.floor == pytest.approx(5, rel=1e-6)  # the determinant stays 1 at every gain
        assert found.found == found.lqr == np.inf
        assert found.found_gain is None

    def test_provably_impossible(self):
        """The trace, 2.4, is beyond 2 at every gain."""
        found = Linear([[1.2, 1], [0, 1.2]], [[0], [1]], [[1, 0]]).floor()
        assert found.floor == found.found == np.inf
        assert "lipschitz_bound=1000 is below" in found.warning(1000)

    def test_an_output_gain_is_found_where_the_regulator_does_not_help(self):
        """Of z³ - 1.3 z² + g (c₁ z + c₂) only two coefficients can be moved."""
        a = [[1.3, 0, 0], [1, 0, 0], [0, 1, 0]]
        found = Linear(a, [[1], [0], [0]], [[1, 0.2, 0], [0, 0, 0.01]]).floor()
        assert 0.9 * found.found <= found.floor <= found.found < 1

    def test_position_that_nothing_depends_on_is_left_out(self):
        a = [
            [1, 0.1, 0],
            [0, 1.2, 0],
            [0, 0, 1],
        ]  # an unseen position, an unstable mode, an unreachable target
        found = Linear(a, [[0], [1], [0]], [[0, 1, 0], [0, 0, 1]]).floor()
        np.testing.assert_allclose(found.left_out, [1, 1], atol=1e-6)
        assert found.floor == pytest.approx(0.2, rel=1e-6)
        assert found.linearisation.a.shape == (1, 1)

    def test_controllability_of_the_unstable_mode(self):
        weak = Linear(np.diag([1.3, 0.5]), [[1e-3], [1]], np.eye(2)).floor()
        assert weak.controllability == pytest.approx([1e-3], rel=0.5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 5), m=st.integers(1, 3), p=st.integers(1, 5))
def test_no_gain_below_the_floor_stabilises(seed, n, m, p):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, n))
    a *= rng.uniform(1.02, 1.6) / spectral_radius(a)
    b, c = rng.standard_normal((n, m)), rng.standard_normal((p, n))
    floor, _ = gain_floor(a, b, c)
    assert floor > 0
    # beyond 10 the search has nothing to find, but the claim stays
    below = min(floor, 10) * (1 - 1e-6)
    gains = random_gains(rng, (m, p), below, 500)
    assert np.abs(np.linalg.eigvals(a + b @ gains @ c)).max(axis=1).min() > 1
    start = -lqr_gain(a, b, np.eye(n), np.eye(m)) @ np.linalg.pinv(c)
    found = smallest_gain(a, b, c, start)
    if found is not None:
        assert spectral_radius(a + b @ found @ c) < 1
        assert np.linalg.norm(found, 2) > below


@pytest.mark.parametrize("seed", range(8))
def test_the_floor_is_reached_with_two_states_and_one_action(seed):
    """The simplex is the stability region itself for polynomials of degree two."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((2, 2))
    a *= rng.uniform(1.05, 1.5) / spectral_radius(a)
    b = rng.standard_normal((2, 1))
    found = smallest_gain(a, b, np.eye(2), -lqr_gain(a, b, np.eye(2), np.eye(1)))
    assert np.linalg.norm(found) == pytest.approx(gain_floor(a, b, np.eye(2))[0], rel=2e-3)


class TestWarning:
    def test_three_answers(self):
        # four unstable modes and two actions: the floor is far below what is found
        found = Linear(np.diag([1.1, 1.2, 1.3, 1.4]), [[1, 0], [1, 1], [0, 1], [1, -1]], np.eye(4)).floor()
        assert found.floor < 0.9 * found.found
        assert "is below the feasibility floor" in found.warning(0.99 * found.floor)
        assert "is not known" in found.warning((found.floor + found.found) / 2)
        assert found.warning(1.001 * found.found) is None

    def test_text(self):
        text = str(feasibility_floor(pendulum(), [0, 0], [0]))
        assert "floor        5 " in text
        assert "λ = 1.2133" in text


class TestPolicies:
    """A promise is per unit of what the policy receives; the floor has to be in that unit too."""

    def model(self, bound, scale=None, variance=None, algorithm=PPO):
        env = make_vec_env("Pendulum-v1", n_envs=1)
        if variance is not None:
            env = VecNormalize(env)
            env.obs_rms.var = np.array(variance)
        size = {"n_steps": 8, "batch_size": 8} if algorithm is PPO else {"buffer_size": 10}
        options = {"lipschitz_bound": bound, "observation_scale": scale, "net_arch": [8]}
        return algorithm("LipschitzMlpPolicy", env, seed=0, device="cpu", policy_kwargs=options, **size)

    def test_units(self):
        model = self.model(5.0, scale=[1.0, 0.5, 8.0], variance=[1.0, 0.25, 64.0])
        np.testing.assert_allclose(policy_units(model), [1, 4, 1 / 64], rtol=1e-6)
        np.testing.assert_array_equal(policy_units(self.model(5.0)), 1)

    @pytest.mark.parametrize("algorithm", [PPO, SAC])
    @pytest.mark.parametrize(("bound", "below"), [(2.4, True), (2.6, False)])
    def test_the_promise_is_judged_in_the_policys_units(self, algorithm, bound, below):
        """sin θ is doubled by VecNormalize, so the floor of 5 per raw unit is one of 2.5."""
        model = self.model(bound, variance=[1.0, 0.25, 64.0], algorithm=algorithm)
        floor = feasibility_floor(pendulum(), [0, 0], [0])
        assert floor.floor_for(policy_units(model)) == pytest.approx(2.5, rel=1e-6)
        texts = feasibility_warnings(floor, lipsrl.certify(model), policy_units(model))
        assert (
            any(f"lipschitz_bound={bound:g} is below the feasibility floor 2.5" in t for t in texts) == below
        )

    def test_the_certified_bound_is_judged_in_raw_units(self):
        """An untrained policy hardly moves; what it has been promised would do."""
        model = self.model(100.0, variance=[1.0, 0.25, 64.0])
        floor = feasibility_floor(pendulum(), [0, 0], [0])
        certificate = lipsrl.certify(model)
        assert certificate.upper_bound < 5
        (text,) = feasibility_warnings(floor, certificate, policy_units(model))
        assert "the policy as it is now cannot stabilise this equilibrium" in text

    def test_other_units_are_refused(self):
        model = self.model(5.0)
        floor = feasibility_floor(pendulum(), [0, 0], [0])
        for wrong_floor, certificate in (
            (floor.in_units(2.0), lipsrl.certify(model)),
            (floor, lipsrl.certify(model, norm="linf")),
            (floor, lipsrl.certify(model, sensor_scale=2.0)),
        ):
            with pytest.raises(ValueError, match="must both be in l2 and raw units"):
                feasibility_warnings(wrong_floor, certificate, policy_units(model))


class TestErrors:
    def test_no_equilibrium(self):
        with pytest.raises(
            ValueError, match=r"one step moves it by \[0.00745.*, 0.149.*A Newton step leads to"
        ):
            feasibility_floor(pendulum(), [0.2, 0], [0])

    def test_discrete_actions(self):
        with pytest.raises(ValueError, match=r"Discrete\(2\)"):
            feasibility_floor(gym.make("CartPole-v1"), np.zeros(4), [0])

    def test_actuator_at_its_limit(self):
        with pytest.raises(ValueError, match="strictly inside its limits"):
            feasibility_floor(pendulum(), [np.arcsin(0.4), 0], [-2])

    def test_no_settable_state(self):
        system = Linear([[1.5]], [[1]], [[1]])
        with pytest.raises(ValueError, match="pass get_state="):
            feasibility_floor(system, [0], [0])
        with pytest.raises(ValueError, match="come as a pair"):
            feasibility_floor(system, [0], [0], get_state=lambda env: env.hidden)

    def test_before_the_first_reset(self):
        with pytest.raises(ValueError, match=r"call env.reset\(\) first"):
            feasibility_floor(gym.make("Pendulum-v1"), [0, 0], [0])

    def test_no_observation(self):
        with pytest.raises(ValueError, match="Pass observe="):
            Linear([[1.5]], [[1]], [[2]]).floor(observe=None)

    def test_uncontrollable_unstable_mode(self):
        with pytest.raises(ValueError, match=r"eigenvalue 1.5.*not reached by the action"):
            Linear(np.diag([1.5, 0.5]), [[0], [1]], np.eye(2)).floor()

    def test_unobservable_unstable_mode(self):
        with pytest.raises(ValueError, match=r"eigenvalue 1.5.*does not show in the observation"):
            Linear(np.diag([1.5, 0.5]), [[1], [1]], [[0, 1]]).floor()

    def test_noise(self):
        system = Linear([[1.5]], [[1]], [[1]], noise=1e-9)
        system.reset(seed=0)
        with pytest.raises(ValueError, match="noise, or a memory"):
            system.floor()

    def test_kink(self):
        class Backlash(Linear):
            def step(self, action):
                return super().step(action * (1 + (action > 0)))

        with pytest.raises(ValueError, match=r"not differentiable by action\[0\]"):
            Backlash([[1.5]], [[1]], [[1]]).floor()

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda env: wrappers.FrameStackObservation(env, 4),
            lambda env: wrappers.DelayObservation(env, 1),
            lambda env: wrappers.StickyAction(env, 0.1),
        ],
    )
    def test_wrapper_with_memory(self, wrap):
        with pytest.raises(ValueError, match="may depend on the past"):
            feasibility_floor(wrap(pendulum()), [0, 0], [0])

    def test_running_normalisation(self):
        env = wrappers.NormalizeObservation(pendulum())
        with pytest.raises(ValueError, match="update_running_mean = False"):
            feasibility_floor(env, [0, 0], [0])
        env.update_running_mean = False
        env.obs_rms.var[:] = [1, 0.25, 4]
        assert feasibility_floor(env, [0, 0], [0]).floor == pytest.approx(2.5, rel=1e-4)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"state": [0]}, "state must be 2 finite numbers"),
            ({"state": [0, np.nan]}, "state must be 2 finite numbers"),
            ({"action": [0, 0]}, "action must be 1 finite numbers"),
            ({"observation_gain": [1, 0, 1]}, "observation_gain must be > 0"),
            ({"observation_gain": [1, 1]}, "observation_gain must be one number"),
            ({"observation_cost": -1}, "observation_cost must be one number"),
            ({"action_cost": 0}, "action_cost must be a finite number > 0"),
            ({"step": 0}, "step must be a finite number > 0"),
        ],
    )
    def test_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            feasibility_floor(pendulum(), **{"state": [0, 0], "action": [0], **options})

    def test_no_environment(self):
        venv = gym.make_vec("Pendulum-v1", num_envs=1)
        with pytest.raises(TypeError, match="Pass one of its environments"):
            feasibility_floor(venv, [0, 0], [0])


class TestMountainCar:
    """Its state is float32 and its observation."""

    def env(self):
        env = gym.make("MountainCarContinuous-v0")
        env.reset(seed=0)
        return env

    def test_top(self):
        """0.0015 u against 0.0025 cos 3p, whose slope there is 0.0075."""
        found = feasibility_floor(self.env(), [np.pi / 6, 0], [0])
        assert found.floor == pytest.approx(5, rel=1e-4)
        assert 5 < found.found < 5.1  # with room for the errors of its float32 state

    def test_bottom(self):
        assert feasibility_floor(self.env(), [-np.pi / 6, 0], [0]).method == "neutral"


BALL = """
<mujoco>
  <option timestep="0.01" gravity="0 0 -10" integrator="Euler"/>
  <worldbody>
    <body>
      <joint name="ball" type="ball" damping="0.5"/>
      <geom type="sphere" size="0.1" pos="0 0 1" mass="1" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="ball" gear="2 0 0" ctrlrange="-9 9"/>
    <motor joint="ball" gear="0 2 0" ctrlrange="-9 9"/>
  </actuator>
</mujoco>
"""


def ball_on_a_stick(path):
    """A pendulum upright on a ball joint, with a quaternion in its state; actions are scaled on their way."""
    from gymnasium.envs.mujoco import MujocoEnv

    class BallEnv(MujocoEnv):
        metadata = {"render_modes": []}  # noqa: RUF012

        def step(self, action):
            self.do_simulation(3 * action, self.frame_skip)
            return self._get_obs(), 0.0, False, False, {}

        def _get_obs(self):
            return np.concatenate([self.data.qpos[1:], self.data.qvel])

    file = path / "ball.xml"
    file.write_text(BALL)
    return BallEnv(str(file), 4, spaces.Box(-np.inf, np.inf, (6,)))


@needs_mujoco
class TestMujoco:
    balanced = np.array([0, -np.arctan(1 / 600), 0, 0])  # the pole of the model leans

    def test_inverted_pendulum(self):
        found = feasibility_floor(gym.make("InvertedPendulum-v5"), self.balanced, [0])
        assert found.floor == pytest.approx(1.5216, abs=1e-4)
        assert found.floor <= found.found < 1.01 * found.floor
        assert found.lqr == pytest.approx(7.4332, abs=1e-3)
        assert found.unstable == pytest.approx([1.19916], abs=1e-5)

    def test_where_the_model_does_not_stand(self):
        with pytest.raises(ValueError, match=r"A Newton step leads to state=\[.*, -0.0016666"):
            feasibility_floor(gym.make("InvertedPendulum-v5"), np.zeros(4), [0])

    def test_closed_loop(self):
        env = gym.make("InvertedPendulum-v5").unwrapped
        found = feasibility_floor(env, self.balanced, [0])
        rng = np.random.default_rng(0)

        def falls(gain):
            env.set_state(self.balanced[:2] + np.array([0, 1e-3]), self.balanced[2:])
            for _ in range(1000):
                deviation = np.concatenate([env.data.qpos, env.data.qvel]) - self.balanced
                env.step(np.clip(gain @ deviation, -3, 3))
                if abs(env.data.qpos[1]) > 0.2:
                    return True
            return False

        assert not falls(found.lqr_gain)
        assert not falls(1.02 * found.found_gain)
        # the integrator of the cart position drifts slowly, so "falls" shows for clearly smaller gains only
        assert all(falls(gain) for gain in random_gains(rng, (1, 4), 0.9 * found.floor, 40))

    def test_double_pendulum(self):
        """Two unstable modes, one motor; sensors sin, cos, speeds and the constraint's force."""
        env = gym.make("InvertedDoublePendulum-v5")
        found = feasibility_floor(env, np.zeros(6), [0])
        assert found.method == "polynomial"
        assert found.unstable == pytest.approx([1.56045, 1.22784], abs=1e-4)
        assert found.floor == pytest.approx(0.71820, abs=1e-4)
        assert found.floor < found.found < 1.02 * found.floor
        assert found.lqr == pytest.approx(4.5956, abs=1e-3)
        assert found.linearisation.c.shape == (9, 6)

        def falls(gain):
            env.reset(seed=0)
            env.unwrapped.set_state(np.array([0, 1e-4, 0]), np.zeros(3))
            seen = env.unwrapped._get_obs()
            level = env.unwrapped._get_obs() * 0
            level[[3, 4]] = 1  # both cosines
            for _ in range(1000):
                seen, _, done, _, _ = env.unwrapped.step(np.clip(gain @ (seen - level), -1, 1))
                if done:
                    return True
            return False

        assert not falls(found.lqr_gain)
        gains = random_gains(np.random.default_rng(0), (1, 9), 0.95 * found.floor, 20)
        assert all(falls(gain) for gain in gains)

    def test_standing_hopper(self):
        """On its foot, held by a stiff servo until it rests; then three modes are unstable for a policy of torques."""
        env = gym.make("Hopper-v5")
        env.reset(seed=0)
        base = env.unwrapped
        base.set_state(base.init_qpos, np.zeros(6))
        for _ in range(2000):
            action = -2 * base.data.qpos[3:] - 0.1 * base.data.qvel[3:]
            base.do_simulation(action, base.frame_skip)
        state = np.concatenate([base.data.qpos, np.zeros(6)])
        assert base.data.ncon == 2
        found = feasibility_floor(env, state, action, step=1e-3)
        assert len(found.unstable) == 3
        assert len(found.left_out) == 1  # its place along the floor
        assert 0.015 < found.floor < found.found < 0.05
        with pytest.raises(ValueError, match="a contact, a limit"):  # a step of 0.1 lifts the foot
            feasibility_floor(env, state, action)

    def test_environment_is_left_as_it_was(self):
        env, twin = gym.make("InvertedPendulum-v5"), gym.make("InvertedPendulum-v5")
        for each in (env, twin):
            each.reset(seed=0)
            each.step(np.array([1.0], np.float32))
        feasibility_floor(env, self.balanced, [0])
        assert env.unwrapped.data.time == twin.unwrapped.data.time
        for _ in range(3):
            action = np.array([-0.5], np.float32)
            assert str(env.step(action)) == str(twin.step(action))

    def test_transition_derivative_is_that_of_the_step(self, tmp_path, monkeypatch):
        """mjd_transitionFD over four frames, through the scaled actions, against differences of env.step."""
        env = ball_on_a_stick(tmp_path)
        state, action = np.array([1.0, 0, 0, 0, 0, 0, 0]), np.zeros(2)
        plant = MujocoPlant(env, None)
        assert plant.has_transition_derivative
        with borrowed(plant, restore=False):
            one = linearise(plant, state, action, 0.1, 1e-6)
            monkeypatch.setattr(MujocoPlant, "has_transition_derivative", False)
            other = linearise(plant, state, action, 0.1, 1e-6)
        np.testing.assert_allclose(one.a, other.a, atol=1e-6)
        np.testing.assert_allclose(one.b, other.b, atol=1e-6)

    def test_ball_joint(self, tmp_path):
        """Holding each axis by itself takes 2·10/6 (N·m per q = θ/2); as a gyroscope it takes a third of that."""
        found = feasibility_floor(ball_on_a_stick(tmp_path), [1, 0, 0, 0, 0, 0, 0], [0, 0])
        assert 0.9 * found.found < found.floor < found.found < 0.4 * (2 * 10 / 6)
        (_, _, _, _, roll, _), (_, _, _, pitch, _, _) = found.found_gain
        assert roll == pytest.approx(-pitch, rel=1e-3)
        assert len(found.unstable) == 2
        assert len(found.left_out) == 1  # spinning around the stick
