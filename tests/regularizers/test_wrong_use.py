"""Wrong use: the error says what was expected, what came, and what to do."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import pytest
import torch

from lipsrl.regularizers import (
    CAPS,
    METHODS,
    Regularizer,
    _attach,
    _methods,
    parse,
    register,
    regularize,
    regularized,
)
from lipsrl.regularizers._weights import DUAL_RANGE, Dual
from tests.policies.zoo import build
from tests.regularizers.helpers import tiny


@pytest.mark.parametrize("name", METHODS)
def test_weights_of_every_method(name):
    cls = METHODS[name]
    for term in (*cls.actor_terms, *cls.critic_terms):
        for wrong in (-0.1, math.nan, math.inf, "a", True, None):
            with pytest.raises(ValueError, match=rf"{name}: {term} must be a (finite )?number >= 0"):
                cls(**{term: wrong})
        with pytest.raises(ValueError, match="a pair"):
            cls(**{term: (1.0, 2.0, 3.0)})
    with pytest.raises(ValueError, match="units='metres' is not known"):
        cls(units="metres")
    with pytest.raises(TypeError, match="unexpected keyword"):
        cls(weight_of_nothing=1.0)


def test_arguments():
    with pytest.raises(ValueError, match="sigma must be a finite number > 0"):
        CAPS(sigma=0)
    with pytest.raises(ValueError, match="target_fluctuation must be a finite number > 0"):
        CAPS(target_fluctuation=0.0)
    with pytest.raises(ValueError, match="finds the weight of the temporal loss by itself"):
        CAPS(temporal=(0.1, 0.2), target_fluctuation=0.1)


def test_as_data():
    assert parse([{"name": "CAPS", "temporal": 0.3}]) == (CAPS(temporal=0.3),)
    assert parse({"CAPS": {"temporal": [0.0, 0.3]}}) == (CAPS(temporal=(0.0, 0.3)),)
    assert parse([{"CAPS": None}]) == (CAPS(),)
    with pytest.raises(ValueError, match=r"regularizer='CAPSS' is not known. Did you mean 'CAPS'"):
        parse([{"name": "CAPSS"}])
    with pytest.raises(ValueError, match=r"CAPS: argument='temproal' is not known. Did you mean 'temporal'"):
        parse([{"name": "CAPS", "temproal": 1}])
    with pytest.raises(ValueError, match="is given twice"):
        parse([CAPS(), CAPS(1.0)])
    with pytest.raises(TypeError, match="is the class: write"):
        parse([CAPS])
    with pytest.raises(TypeError, match="must be a list"):
        parse("CAPS")
    with pytest.raises(ValueError, match="a method as data"):
        parse([{"CAPS": 1, "temporal": 2}])
    with pytest.raises(TypeError, match="received float"):
        parse([0.1])


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [
        ("TRPO", "conjugate gradients"),
        ("DQN", "largest Q-value"),
        ("QRDQN", "largest Q-value"),
        ("ARS", "without gradients"),
        ("MaskablePPO", "discrete"),
        ("CrossQ", "running statistics"),
    ],
)
def test_algorithms_that_cannot(algorithm, reason):
    with pytest.raises(ValueError, match=f"{algorithm} cannot be regularised: .*{reason}.*Supported: PPO"):
        regularize(build(algorithm), CAPS())
    with pytest.raises(ValueError, match=f"{algorithm} cannot be regularised"):
        build(algorithm, regularizers=[CAPS()]).learn(30)


def test_discrete_actions():
    for how in (
        lambda m: regularize(build("PPO", action="discrete"), m),
        lambda m: build("PPO", action="discrete", regularizers=[m]),
    ):
        with pytest.raises(ValueError, match="Discrete actions cannot be regularised"):
            how(CAPS())


def test_twice():
    model = regularize(tiny("PPO"), CAPS())
    with pytest.raises(ValueError, match=r"regularised already, by CAPS\(.*all methods in one call"):
        regularize(model, CAPS())
    with pytest.raises(ValueError, match="regularised already"):
        regularize(build("PPO", regularizers=[CAPS()]), CAPS())
    with pytest.raises(ValueError, match="at least one method"):
        regularize(tiny("PPO"))


def test_discrete_observations_have_no_near_ones():
    with pytest.raises(ValueError, match="all entries of the observation are discrete"):
        build("PPO", observation="discrete", regularizers=[CAPS()]).learn(16)


def test_a_schedule_that_returns_no_weight():
    with pytest.raises(
        ValueError, match="what the schedule of CAPS: temporal returned must be a finite number >= 0"
    ):
        regularize(tiny("PPO"), CAPS(temporal=lambda progress: -1.0)).learn(16)


def test_unknown_buffers():
    model = tiny("SAC")

    class Odd(type(model.replay_buffer)):
        def _get_samples(self, batch_inds, env=None):
            return super()._get_samples(batch_inds, env)

    model.replay_buffer.__class__ = Odd
    with pytest.raises(ValueError, match="samples its rows in its own way"):
        regularize(model, CAPS())


def test_a_target_out_of_reach_is_said_once():
    dual = Dual("CAPS: temporal", 1e-3)
    with warnings.catch_warnings(record=True, action="always") as said:
        for _ in range(5000):
            dual.update(1.0)
    assert len(said) == 1
    assert "target 0.001 is out of reach: the weight has grown to 1000" in str(said[0].message)
    assert dual.value == DUAL_RANGE[1]


def test_a_train_that_no_longer_asks_the_actor_is_noticed():
    model = regularize(tiny("PPO"), CAPS())
    policy = model.policy
    # as if SB3 called another method than evaluate_actions
    cls = type(policy)
    other = cls.evaluate_actions
    model.policy.__class__ = type(cls.__name__, (cls,), {"other": other})
    train = type(model).train

    def changed(self):
        self.policy.evaluate = self.policy.evaluate_actions
        for samples in self.rollout_buffer.get(2):
            values, _, _ = type(self.policy).other(self.policy, samples.observations, samples.actions)
            values.sum().backward()

    model.__class__ = type("PPO", (type(model),), {})
    from lipsrl.regularizers._attach import _with_regularizers

    type(model).train = _with_regularizers(changed)
    with pytest.raises(RuntimeError, match="nothing was regularised"):
        model.learn(48)
    assert train is not None
    assert torch.is_grad_enabled()


@pytest.fixture
def unknown(monkeypatch):
    """A method of a user's own; whatever is registered is forgotten afterwards."""
    monkeypatch.setattr(_methods, "_KNOWN", known := dict(_methods._KNOWN))
    for module in (_methods, _attach):
        monkeypatch.setattr(module, "METHODS", known)

    @dataclass(frozen=True)
    class Effort(Regularizer):
        effort: float = 0.5
        name = "effort"
        actor_terms = ("effort",)

        def actor_losses(self, batch, terms):
            return {"effort": (batch.networks.mean(batch.observations) * batch.action_unit).square().mean()}

    return Effort


def test_a_method_of_ones_own_is_registered_and_survives_its_zip(unknown, tmp_path):
    with pytest.raises(TypeError, match="is not known by name"):
        regularize(tiny("PPO"), unknown())
    assert register(unknown) is unknown
    model = regularize(tiny("PPO"), unknown(0.7)).learn(16)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", env=model.env)
    assert regularized(loaded) == (unknown(0.7),)
    before = loaded.regularizers_state["updates"]
    assert loaded.learn(16).regularizers_state["updates"] > before > 0
    register(unknown)  # again, as a notebook does


def test_what_cannot_be_registered(unknown):
    for wrong in (CAPS(), object, Regularizer, type("Bare", (Regularizer,), {"name": "bare"})):
        with pytest.raises(TypeError, match="must be a dataclass"):
            register(wrong)
    for name, log in (("CAPS", "other"), ("Other", "caps")):
        cls = dataclass(frozen=True)(type(name, (Regularizer,), {"name": log}))
        with pytest.raises(ValueError, match="Give it another"):
            register(cls)
