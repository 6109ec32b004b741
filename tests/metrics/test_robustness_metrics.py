"""Sensitivity, saturation and return curves against their closed forms."""

import numpy as np
import pytest
import torch

from lipsrl.metrics import (
    action_sensitivity,
    breakdown_strength,
    jacobian_norm,
    jacobians,
    normalized_auc,
    saturation,
    sensitivity_ratios,
    sensor_sensitivity,
)

RNG = np.random.default_rng(0)


def test_linear_isometry_has_its_gain_as_sensitivity():
    columns, _ = np.linalg.qr(RNG.normal(size=(5, 3)))
    states = RNG.normal(size=(50, 3))
    assert action_sensitivity(lambda s: 2.5 * s @ columns.T, states, std=0.1) == pytest.approx(2.5, abs=1e-6)


def test_one_perturbed_sensor_gives_the_gain_of_its_column():
    weight = RNG.normal(size=(2, 3))
    states = RNG.normal(size=(50, 3))
    sensitivity = action_sensitivity(lambda s: s @ weight.T, states, std=[0.0, 0.1, 0.0], draws=3)
    assert sensitivity == pytest.approx(np.linalg.norm(weight[:, 1]), abs=1e-6)


def test_rank_one_policy_has_the_mean_cosine():
    """E|cos| of a uniform direction in the plane is 2/π."""
    row = np.array([3.0, 4.0])
    sensitivity = action_sensitivity(lambda s: s @ row, np.zeros((200_000, 2)), std=1.0)
    assert sensitivity == pytest.approx(5 * 2 / np.pi, rel=5e-3)


def test_sensitivity_is_below_the_spectral_norm_and_seeded():
    weight = RNG.normal(size=(4, 6))
    states = RNG.normal(size=(100, 6))

    def measure(seed):
        return action_sensitivity(lambda s: s @ weight.T, states, std=0.1, seed=seed)

    assert measure(1) == measure(1) != measure(2)
    assert measure(1) <= np.linalg.norm(weight, 2)


def test_displacement_is_measured_after_rounding():
    """At 1000 units a float32 displacement of 1e-3 is off by per cents; its slope must not be."""
    states = np.full((100, 2), 1000.0, dtype=np.float32)
    dtypes = []

    def policy(batch):
        dtypes.append(batch.dtype)
        return 2.0 * batch.astype(np.float64)

    assert action_sensitivity(policy, states, std=1e-3) == pytest.approx(2.0, abs=1e-6)
    assert dtypes == [np.float32]


def test_recorded_ratios():
    ratios = sensitivity_ratios(np.zeros((2, 2)), [[3.0, 4.0], [0.0, 0.0]], [[0.5, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(ratios, [10.0, 0.0])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([[0.0]], [[1.0], [2.0]], [[1.0]]), "as many"),
        (([[0.0]], [[1.0]], [[0.0, 0.0]]), "row 0 is"),
        (([[np.inf]], [[1.0]], [[1.0]]), "actions must be finite"),
    ],
)
def test_bad_recorded_arrays(arguments, match):
    with pytest.raises(ValueError, match=match):
        sensitivity_ratios(*arguments)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"std": [0.1, 0.1]}, "one per dimension"),
        ({"std": -0.1}, "std must be"),
        ({"std": 0.0}, "moves no state"),
        ({"std": 1e-30}, "below the rounding of float64"),
        ({"states": np.zeros(3)}, "states must be"),
        ({"states": np.full((2, 3), np.nan)}, "states must be finite"),
        ({"policy": lambda s: s[:1]}, "one row per observation"),
        ({"policy": lambda s: s * np.nan}, "actions must be finite"),
        ({"draws": 0}, "draws must be"),
    ],
)
def test_bad_sensitivity_arguments(changes, match):
    arguments = {"policy": lambda s: s, "states": np.ones((4, 3)), "std": 0.1} | changes
    with pytest.raises(ValueError, match=match):
        action_sensitivity(arguments.pop("policy"), arguments.pop("states"), **arguments)


def linear(weight):
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0]).double()
    layer.weight.data.copy_(torch.from_numpy(weight))
    return layer


class TestJacobians:
    WEIGHT = RNG.normal(size=(2, 3))
    STATES = RNG.normal(size=(20, 3))

    def test_of_a_linear_policy(self):
        np.testing.assert_allclose(
            jacobians(linear(self.WEIGHT), self.STATES), np.tile(self.WEIGHT, (20, 1, 1)), atol=1e-12
        )
        largest = np.linalg.svd(self.WEIGHT, compute_uv=False)[0]
        np.testing.assert_allclose(jacobian_norm(linear(self.WEIGHT), self.STATES), largest, atol=1e-6)
        rows = np.abs(self.WEIGHT).sum(axis=1).max()
        np.testing.assert_allclose(
            jacobian_norm(linear(self.WEIGHT), self.STATES, norm="linf"), rows, atol=1e-6
        )

    def test_of_a_sine(self):
        """a = A·sin(ω·o) has the slope A·ω·cos(ω·o)."""

        class Sine(torch.nn.Module):
            def forward(self, x):
                return 1.5 * torch.sin(4.0 * x)

        points = np.linspace(-1, 1, 30)
        np.testing.assert_allclose(
            jacobian_norm(Sine(), points), np.abs(6.0 * np.cos(4.0 * points)), atol=1e-6
        )

    def test_through_the_normalization(self):
        """Gains multiply columns; a sensor beyond the clip is not felt."""
        mean, gain = np.array([1.0, 0.0, -2.0]), np.array([2.0, 0.5, 10.0])
        states = np.array([[1.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
        slopes = jacobians(linear(self.WEIGHT), states, normalization=(mean, gain, 5.0))
        np.testing.assert_allclose(slopes[0], self.WEIGHT * gain, atol=1e-12)
        np.testing.assert_allclose(slopes[1], self.WEIGHT * gain * [1, 1, 0], atol=1e-12)

    def test_through_the_clip_of_the_action(self):
        network = linear(np.eye(2))
        network.bias.data.zero_()
        slopes = jacobians(network, [[0.5, 2.0], [-3.0, 0.0]], limits=([-1.0, -1.0], [1.0, 1.0]))
        np.testing.assert_array_equal(slopes, [np.diag([1.0, 0.0]), np.diag([0.0, 1.0])])

    def test_equals_finite_differences_and_leaves_the_network_alone(self):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
        slopes = jacobians(network, self.STATES)
        assert next(network.parameters()).dtype == torch.float32
        assert next(network.parameters()).requires_grad
        exact = network.double()
        for sensor, step in enumerate(1e-6 * np.eye(3)):
            with torch.no_grad():
                above, below = (exact(torch.from_numpy(self.STATES + d)).numpy() for d in (step, -step))
            np.testing.assert_allclose(slopes[:, :, sensor], (above - below) / 2e-6, atol=1e-6)

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="states must be finite"):
            jacobians(linear(self.WEIGHT), [[np.nan, 0.0, 0.0]])
        with pytest.raises(ValueError, match="norm='l1' is not known"):
            jacobian_norm(linear(self.WEIGHT), self.STATES, norm="l1")


class TestSensorSensitivity:
    WEIGHT = RNG.normal(size=(2, 3))
    STATES = RNG.normal(size=(40, 3))

    def test_of_a_linear_policy_are_the_norms_of_the_columns(self):
        for std in (0.1, [0.1, 5.0, 1e-3]):
            np.testing.assert_allclose(
                sensor_sensitivity(lambda s: s @ self.WEIGHT.T, self.STATES, std=std),
                np.linalg.norm(self.WEIGHT, axis=0),
                atol=1e-6,
            )

    def test_a_sensor_without_noise_is_not_measured(self):
        found = sensor_sensitivity(lambda s: s @ self.WEIGHT.T, self.STATES, std=[0.1, 0.0, 0.1])
        np.testing.assert_array_equal(np.isnan(found), [False, True, False])

    @pytest.mark.parametrize(
        ("std", "match"), [(0.0, "moves no state"), ([0.1, 0.1], "one per dimension"), (-0.1, "std must be")]
    )
    def test_bad_arguments(self, std, match):
        with pytest.raises(ValueError, match=match):
            sensor_sensitivity(lambda s: s, self.STATES, std=std)
        with pytest.raises(ValueError, match="states must be"):
            sensor_sensitivity(lambda s: s, np.zeros(3), std=0.1)


def test_saturation_counts_entries():
    actions = [[-5.0, 0.0], [0.0, 0.9995], [1.0, 0.5], [0.0, 0.0]]
    assert saturation(actions, -1.0, [1.0, 1.0]) == pytest.approx(3 / 8)
    assert saturation(actions, -1.0, 1.0, tolerance=0.0) == pytest.approx(2 / 8)
    assert saturation(actions, -np.inf, np.inf) == 0.0


def test_saturation_of_a_squashed_sine():
    """|sin| >= 1 − τ for a share 2·arccos(1 − τ)/π of the time."""
    wave = np.sin(2 * np.pi * (np.arange(100_000) + 0.5) / 100_000)
    assert saturation(wave, -1.0, 1.0, tolerance=0.1) == pytest.approx(2 * np.arccos(0.9) / np.pi, abs=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "tolerance", "match"),
    [
        (1.0, -1.0, 0.0, "low <= high"),
        ([0.0, 0.0, 0.0], 1.0, 0.0, "one per channel"),
        (0.0, np.nan, 0.0, "low <= high"),
        (0.0, 1.0, 1.0, "tolerance"),
    ],
)
def test_bad_limits(low, high, tolerance, match):
    with pytest.raises(ValueError, match=match):
        saturation(np.zeros((2, 2)), low, high, tolerance=tolerance)


GRID = np.array([0.0, 0.1, 0.4])


def test_auc_of_straight_lines():
    assert normalized_auc(GRID, [-200.0] * 3, floor=-1000.0) == pytest.approx(1.0, abs=1e-12)
    falling = -200.0 - 800.0 * GRID / 0.4
    assert normalized_auc(GRID, falling, floor=-1000.0) == pytest.approx(0.5, abs=1e-12)


def test_auc_keeps_leading_axes_and_knows_when_it_means_nothing():
    curves = np.array([[[10.0, 5.0, 5.0], [0.0, 0.0, 0.0]]])
    auc = normalized_auc(GRID, curves, floor=0.0)
    assert auc.shape == (1, 2)
    assert auc[0, 0] == pytest.approx((0.1 * 0.75 + 0.3 * 0.5) / 0.4)
    assert np.isnan(auc[0, 1])


def test_auc_does_not_depend_on_the_zero_of_the_return():
    curve = np.array([30.0, 20.0, 0.0])
    assert normalized_auc(GRID, curve, floor=-10.0) == pytest.approx(
        normalized_auc(GRID, curve + 500.0, floor=490.0), abs=1e-12
    )


def test_breakdown_interpolates_and_may_not_happen():
    curves = [[10.0, 8.0, 2.0], [10.0, 9.0, 6.0], [10.0, 5.0, 9.0], [0.0, 0.0, 0.0], [10.0, np.nan, 0.0]]
    np.testing.assert_allclose(
        breakdown_strength(GRID, curves, floor=0.0), [0.25, np.inf, 0.1, np.nan, np.nan], atol=1e-12
    )
    assert breakdown_strength(GRID, curves[0], floor=0.0, fraction=0.2) == pytest.approx(0.1)


@pytest.mark.parametrize("curve_metric", [normalized_auc, breakdown_strength])
@pytest.mark.parametrize(
    ("strengths", "returns", "floor", "match"),
    [
        ([0.1, 0.2], [1.0, 1.0], 0.0, "starts at 0"),
        ([0.0, 0.2, 0.1], [1.0] * 3, 0.0, "rises"),
        ([0.0], [1.0], 0.0, "at least two"),
        ([0.0, 0.1], [1.0] * 3, 0.0, "one value per strength"),
        ([0.0, 0.1], [1.0] * 2, np.nan, "floor"),
    ],
)
def test_bad_curves(curve_metric, strengths, returns, floor, match):
    with pytest.raises(ValueError, match=match):
        curve_metric(strengths, returns, floor=floor)


def test_bad_fraction():
    with pytest.raises(ValueError, match="fraction"):
        breakdown_strength([0.0, 0.1], [1.0, 0.0], floor=0.0, fraction=0.0)
