"""A regularised model through save, load, deepcopy, set_env and a resumed learn."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
import torch

import lipsrl
from lipsrl.regularizers import ASAP, CAPS, regularize, regularized, unregularize
from tests.policies.zoo import Tiny, build
from tests.regularizers.helpers import ALGORITHMS, same_training, tiny

METHOD = CAPS(temporal=0.5, spatial=0.5)


def logged(model):
    """What the last training logged of the losses."""
    return {key for key in model.logger.name_to_value if key.startswith("regularizers/")}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_learns_on_after_save_and_load_and_as_a_copy(algorithm, tmp_path):
    model = regularize(tiny(algorithm), METHOD).learn(24)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", env=Tiny())
    assert regularized(loaded) == (METHOD,)
    assert loaded.regularizers_state == model.regularizers_state
    updates = model.regularizers_state["updates"]
    twin = copy.deepcopy(model)
    for one in (loaded, twin):
        one.set_env(Tiny())
        one.learn(24, reset_num_timesteps=False)
        assert one.regularizers_state["updates"] > updates
        assert "regularizers/caps_temporal_weight" in logged(one)
    # none of them shares its state with the original
    assert model.regularizers_state["updates"] == updates


@pytest.mark.parametrize(
    "method",
    [METHOD, ASAP(2.0, 1.0, 1.0), CAPS(0.5, 0.5, target_fluctuation=1e-3)],
    ids=["CAPS", "ASAP", "target"],
)
def test_a_resumed_training_is_the_training_that_was_not_interrupted(method, tmp_path):
    """PPO on a finished rollout: the same minibatches, the same displaced observations."""

    def resume(model):
        torch.manual_seed(7)
        np.random.seed(7)  # noqa: NPY002
        model.set_env(Tiny())
        model.env.seed(7)
        return model.learn(24, reset_num_timesteps=False)

    model = regularize(tiny("PPO"), method).learn(24)
    model.save(tmp_path / "model.zip")
    loaded, twin = type(model).load(tmp_path / "model.zip", env=Tiny()), copy.deepcopy(model)
    state = copy.deepcopy(model.regularizers_state)
    resumed = resume(model)
    for other in (loaded, twin):
        # whoever learns on its own leaves the others as they were
        np.testing.assert_equal(other.regularizers_state, state)
        assert same_training(resumed, resume(other))
        np.testing.assert_equal(other.regularizers_state, model.regularizers_state)


def test_the_zip_has_plain_data_and_acts_where_only_sb3_is_known(tmp_path):
    model = regularize(tiny("SAC"), METHOD).learn(24)
    model.save(tmp_path / "model.zip")
    data = json.loads(zipfile.ZipFile(tmp_path / "model.zip").read("data"))
    assert data["regularizers"] == [
        {
            "name": "CAPS",
            "units": "normalised",
            "temporal": 0.5,
            "spatial": 0.5,
            "sigma": 0.2,
            "target_fluctuation": None,
        }
    ]
    observation = np.ones((1, 3), np.float32)
    code = f"""
        import sys
        sys.modules["lipsrl"] = None
        from stable_baselines3 import SAC
        model = SAC.load({str(tmp_path / "model.zip")!r})
        print(model.predict([[1.0, 1.0, 1.0]], deterministic=True)[0].tolist())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    np.testing.assert_allclose(
        json.loads(done.stdout), model.predict(observation, deterministic=True)[0], rtol=1e-6
    )


@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_load_agent_and_certify_take_it_as_any_other(algorithm, tmp_path):
    kwargs = {"lipschitz_bound": math.inf, "regularizers": [METHOD]}
    for model in (
        regularize(tiny(algorithm), METHOD),
        build(algorithm, **kwargs),
        build(algorithm, regularizers=[METHOD]),
    ):
        model.learn(24)
        model.save(tmp_path / "model.zip")
        agent = lipsrl.load_agent(tmp_path / "model.zip", vec_normalize=None)
        observation = np.ones((1, 3), np.float32)
        np.testing.assert_array_equal(
            agent.model.predict(observation, deterministic=True)[0],
            model.predict(observation, deterministic=True)[0],
        )
        found = lipsrl.certify(agent.model, vec_normalize=None)
        assert found.upper_bound == pytest.approx(lipsrl.certify(model).upper_bound)
        if model.policy_kwargs.get("lipschitz_bound") == 3.0:
            assert found.upper_bound <= 3.0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_policy_kwargs_say_the_same(algorithm, tmp_path):
    plain = regularize(build(algorithm, lipschitz_bound=math.inf), METHOD).learn(24)
    asked = build(algorithm, lipschitz_bound=math.inf, regularizers=[METHOD]).learn(24)
    as_data = build(algorithm, lipschitz_bound=math.inf, regularizers=[{"CAPS": {"temporal": 0.5}}]).learn(24)
    assert same_training(plain, asked)
    assert same_training(plain, as_data)
    asked.save(tmp_path / "model.zip")
    loaded = type(asked).load(tmp_path / "model.zip", env=Tiny())
    assert regularized(loaded) == (METHOD,)
    loaded.learn(24, reset_num_timesteps=False)
    assert loaded.regularizers_state["updates"] > plain.regularizers_state["updates"]


@pytest.mark.parametrize("observation", ["dict", "dict with image", "image", "discrete"])
@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
@pytest.mark.parametrize("bound", [math.inf, 3.0])
def test_all_kinds_of_observations(observation, algorithm, bound):
    method = CAPS(temporal=0.5, spatial=0.0) if observation == "discrete" else METHOD
    build(algorithm, observation=observation, lipschitz_bound=bound, regularizers=[method]).learn(20)


def test_unregularize_and_again():
    model = regularize(tiny("PPO"), METHOD).learn(16)
    unregularize(model)
    assert regularized(model) == ()
    before = model.logger
    model.learn(16)
    assert model.logger is not before
    assert not logged(model)
    regularize(model, CAPS(temporal=0.1, spatial=0.0)).learn(16)
    assert "regularizers/caps_temporal" in logged(model)


def test_a_subclass_that_calls_its_parents_train_is_regularised_once():
    model = tiny("PPO")
    cls = type(model)

    class Mine(cls):
        def train(self):
            super().train()

    model.__class__ = Mine
    regularize(model, METHOD).learn(16)
    assert model.regularizers_state["updates"] == 4


def test_nothing_is_left_on_the_model_after_training():
    for algorithm in ALGORITHMS:
        model = tiny(algorithm)
        before = {id(m): set(vars(m)) for m in model.policy.modules()}
        regularize(model, METHOD).learn(24)
        for module in model.policy.modules():
            extra = set(vars(module)) - before[id(module)]
            assert not any(callable(vars(module)[name]) for name in extra), (algorithm, extra)
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
        buffer = getattr(model, "rollout_buffer", None) or model.replay_buffer
        assert not {"_get_samples", "sample"} & set(vars(buffer))
