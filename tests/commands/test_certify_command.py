"""``lipsrl certify``: what it prints and writes, and one line for each thing that can be wrong."""

from __future__ import annotations

import io
import json
import math
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

import lipsrl
from lipsrl import cli
from lipsrl.certificates import (
    ActionDivergence,
    Certificate,
    MarginCertificate,
    ReturnQuantileCertificate,
    action_divergence,
)

SMALL = {"net_arch": [8, 8]}


def save(folder, algorithm=PPO, env="Pendulum-v1", policy="MlpPolicy", **options):
    """An untrained model whose actions depend on the observation."""
    sizes = {PPO: {"n_steps": 8, "batch_size": 8}, A2C: {}}.get(algorithm, {"buffer_size": 10})
    kwargs = SMALL | options.pop("policy_kwargs", {})
    model = algorithm(policy, env, seed=0, device="cpu", policy_kwargs=kwargs, **sizes, **options)
    if policy == "MlpPolicy" and hasattr(model.policy, "action_net"):
        with torch.no_grad():
            model.policy.action_net.weight.mul_(50)
    model.save(folder / "model.zip")
    return model


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    """A PPO zip with its VecNormalize file."""
    folder = tmp_path_factory.mktemp("pendulum")
    venv = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=0))
    venv.obs_rms.var = np.array([0.5, 0.25, 9.0])
    save(folder, env=venv)
    venv.save(str(folder / "vecnormalize.pkl"))
    return folder


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cartpole")
    save(folder, env="CartPole-v1")
    return folder


def printed(capsys, *arguments):
    assert cli.main(["certify", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def as_json(capsys, *arguments):
    return json.loads(printed(capsys, *arguments, "--json"), parse_constant=pytest.fail)


def refused(capsys, *arguments):
    """The message of a failed call, which is all that it prints."""
    assert cli.main(["certify", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


class TestText:
    def test_it_fits_into_a_pipe(self, pendulum, capsys):
        zipped, statistics = pendulum / "model.zip", pendulum / "vecnormalize.pkl"
        text = printed(capsys, zipped, "--vec-normalize", statistics)
        certificate = lipsrl.certify(PPO.load(zipped, device="cpu"), vec_normalize=statistics)
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text, "rich cuts what does not fit"
        for factor in certificate.factors:
            assert factor.name in text
        for column in ("Stage", "Gain", "Where it comes from", "Sensor", "At most"):
            assert column in text
        (upper,) = [line.split()[2] for line in text.splitlines() if "Upper bound" in line]
        assert certificate.upper_bound <= float(upper) <= certificate.upper_bound * (1 + 1e-5)

    def test_all_certificates_of_epsilon(self, pendulum, capsys):
        text = printed(
            capsys, pendulum / "model.zip", "--epsilon", 1e-3, "--env", "Pendulum-v1", "--episodes", 2
        )
        for words in ("KL divergence", "Return under attack", "2 clean episodes"):
            assert words in text
        assert max(map(len, text.splitlines())) <= 80


class TestStates:
    @pytest.mark.parametrize("suffix", ["npy", "csv"])
    def test_local_bounds(self, pendulum, capsys, tmp_path, suffix):
        states = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
        file = tmp_path / f"states.{suffix}"
        if suffix == "npy":
            np.save(file, states)
        else:
            np.savetxt(file, states, delimiter=",")
        data = as_json(
            capsys, pendulum / "model.zip", "--states", file, "--radius", 0.01, "--vec-normalize", "none"
        )
        model = PPO.load(pendulum / "model.zip", device="cpu")
        expected = lipsrl.certify(model, states=states, radius=0.01, vec_normalize="none")
        assert data["local"]["upper_bounds"] == pytest.approx(expected.local.upper_bounds)
        assert Certificate.from_dict(data) == expected

    def test_errors(self, pendulum, capsys, tmp_path):
        zipped = pendulum / "model.zip"
        np.save(tmp_path / "wide.npy", np.zeros((2, 4)))
        (tmp_path / "names.csv").write_text("cos,sin,speed\n1,0,0\n")
        (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
        (tmp_path / "states.txt").write_text("1 0 0")
        for file, message in (
            ("wide.npy", "of shape (n, 3)"),
            ("names.csv", "without a header"),
            ("cut.npy", "cannot be read"),
            ("states.txt", ".npy or .csv"),
            ("none.npy", "is not a file"),
        ):
            assert message in refused(capsys, zipped, "--states", tmp_path / file, "--radius", 0.1)
        assert "radius needs states" in refused(capsys, zipped, "--radius", 0.1)
        assert "states needs another option" in refused(capsys, zipped, "--states", tmp_path / "wide.npy")
        np.save(tmp_path / "rows.npy", np.zeros((2, 3)))
        given = ("--states", tmp_path / "rows.npy", "--epsilon", 0.1)
        assert "states with epsilon are for discrete actions" in refused(capsys, zipped, *given)
        for option in ("--episodes", "--horizon", "--seed"):
            assert "is of the clean episodes" in refused(capsys, zipped, option, 3)


class TestEpsilon:
    def test_divergences(self, pendulum, capsys):
        zipped, statistics = pendulum / "model.zip", pendulum / "vecnormalize.pkl"
        data = as_json(capsys, zipped, "--vec-normalize", statistics, "--epsilon", 0.01)
        divergence = ActionDivergence.from_dict(data["divergence"])
        expected = action_divergence(PPO.load(zipped, device="cpu"), 0.01, statistics)
        assert divergence == expected
        assert data["divergence"]["kl"] == expected.kl
        assert "return_quantile" not in data

    def test_returns(self, pendulum, capsys, tmp_path):
        zipped, output = pendulum / "model.zip", tmp_path / "certificate.json"
        arguments = (zipped, "--vec-normalize", pendulum / "vecnormalize.pkl", "--epsilon", 1e-3)
        arguments += ("--env", "Pendulum-v1", "--episodes", 20, "--output", output)
        data = as_json(capsys, *arguments)
        assert json.loads(output.read_text()) == data
        found = ReturnQuantileCertificate.from_dict(data["return_quantile"])
        assert found.horizon == 200
        assert len(found.returns) == 20
        assert found.whitened_bound == data["divergence"]["whitened_bound"]
        assert (
            as_json(capsys, *arguments, "--seed", 1)["return_quantile"]["returns"] != found.returns.tolist()
        )
        assert Certificate.load(output).upper_bound == data["upper_bound"]

    @pytest.mark.parametrize("algorithm", [PPO, A2C, DQN])
    def test_margins_at_visited_states(self, capsys, tmp_path, algorithm):
        save(tmp_path, algorithm, "CartPole-v1")
        arguments = (tmp_path / "model.zip", "--epsilon", 0.001, "--env", "CartPole-v1", "--episodes", 3)
        found = MarginCertificate.from_dict(as_json(capsys, *arguments)["margin"])
        assert found.algorithm == algorithm.__name__
        assert len(found.radii) > 10
        share = math.floor(1000 * float(found.certified_fraction(0.001))) / 10
        assert f"{share:.1f} % of them at epsilon = 0.001" in printed(capsys, *arguments)

    def test_the_visited_states_are_those_of_greedy_episodes(self, cartpole):
        model = PPO.load(cartpole / "model.zip", device="cpu")
        visited = lipsrl.certificates.visited_observations(model, "CartPole-v1", None, n_episodes=20, seed=3)
        env, steps = gym.make("CartPole-v1"), 0
        seen = {tuple(observation) for observation in visited}
        for seed in np.random.SeedSequence(3).generate_state(21)[:20] >> 1:
            observation, done = env.reset(seed=int(seed))[0], False
            while not done:
                assert tuple(observation) in seen
                action = model.predict(observation, deterministic=True)[0]
                observation, _, terminated, truncated, _ = env.step(action)
                done, steps = terminated or truncated, steps + 1
        assert steps == len(visited)

    def test_margins_at_given_states(self, cartpole, capsys, tmp_path):
        states = np.random.default_rng(0).normal(size=(7, 4)) / 10
        np.save(tmp_path / "states.npy", states)
        data = as_json(capsys, cartpole / "model.zip", "--states", tmp_path / "states.npy", "--epsilon", 0.01)
        assert len(data["margin"]["radii"]) == 7
        assert data["local"] is None

    @pytest.mark.parametrize(
        ("algorithm", "options", "reason"),
        [
            (PPO, {"use_sde": True}, "gSDE's noise depends on"),
            (SAC, {}, "its σ is an output of the network"),
            (TD3, {}, "its policy is deterministic"),
        ],
    )
    def test_refusals(self, capsys, tmp_path, algorithm, options, reason):
        save(tmp_path, algorithm, **options)
        assert reason in refused(capsys, tmp_path / "model.zip", "--epsilon", 0.1)

    def test_errors(self, pendulum, cartpole, capsys):
        zipped = pendulum / "model.zip"
        for arguments, message in (
            (("--env", "Pendulum-v1"), "env needs another option"),
            (("--epsilon", 0.1, "--env", "Pendulum-v9"), "Pendulum-v9"),
            (("--epsilon", 0.1, "--env", "CartPole-v1"), "observation_space of env"),
            (("--epsilon", 0.1, "--sensor-scale", 2), "sensor_scale cannot be combined with"),
            (("--epsilon", -1), "epsilon must be a finite number > 0"),
            (("--epsilon", 0.1, "--norm", "l1"), "norm='l1' is not known"),
            (
                ("--epsilon", 0.1, "--env", "Pendulum-v1", "--episodes", 0),
                "n_episodes must be an integer > 0",
            ),
        ):
            assert message in refused(capsys, zipped, *arguments)
        assert "pass --env ID to visit some" in refused(capsys, cartpole / "model.zip", "--epsilon", 0.1)


class TestEquilibrium:
    def test_the_floor_and_a_policy_below_it(self, capsys, tmp_path):
        save(tmp_path, policy="LipschitzMlpPolicy", policy_kwargs={"lipschitz_bound": 3.0})
        arguments = (tmp_path / "model.zip", "--env", "Pendulum-v1", "--equilibrium", 0, 0)
        data = as_json(capsys, *arguments)["feasibility"]
        assert data["floor"] == pytest.approx(5, rel=1e-6)
        promise, now = data["warnings"]
        assert "lipschitz_bound=3 is below the feasibility floor 5" in promise
        assert "the policy as it is now cannot" in now
        assert "feasibility floor 5" in " ".join(printed(capsys, *arguments).split())
        lighter = as_json(capsys, *arguments, "--env-kwargs", "g:4.0")["feasibility"]
        assert lighter["floor"] == pytest.approx(2, rel=1e-6)  # m g l / 2

    def test_errors(self, pendulum, capsys):
        zipped = pendulum / "model.zip"
        for arguments, message in (
            (("--equilibrium", 0, 0), "equilibrium needs env"),
            (("--equilibrium", 0, "--env", "Pendulum-v1"), "state must be 2 finite numbers"),
            (("--equilibrium", 0.3, 0, "--env", "Pendulum-v1"), "is no equilibrium"),
            (("--equilibrium", 0, 0, "--env", "CartPole-v1"), "continuous (Box) actions only"),
            (("--equilibrium", 0, 0, "--env", "Pendulum-v9"), "cannot be made"),
            (("--equilibrium-action", 0), "equilibrium_action needs equilibrium"),
            (("--env-kwargs", "g:4"), "env_kwargs needs another option"),
            (("--env-kwargs", "g:4", "--epsilon", 0.1), "env_kwargs needs another option"),
            (("--equilibrium", 0, 0, "--env", "Pendulum-v1", "--env-kwargs", "h:4"), "cannot be made"),
            (("--equilibrium", 0, 0, "--env", "Pendulum-v1", "--norm", "linf"), "both be in l2"),
        ):
            assert message in refused(capsys, zipped, *arguments)


def rewritten(source, target, name, change):
    """A copy of the zip ``source`` with the content of one file changed, or left out where ``change`` is None."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.namelist():
            content = old.read(item)
            if item == name:
                if change is None:
                    continue
                content = change(content)
            new.writestr(item, content)
    return target


def renamed_parameters(content):
    weights = {f"old_{name}": value for name, value in torch.load(io.BytesIO(content)).items()}
    stream = io.BytesIO()
    torch.save(weights, stream)
    return stream.getvalue()


def of_a_lost_module(content):
    data = json.loads(content)
    data["policy_class"][":serialized:"] = "Y2dvbmVfbW9kdWxlCkdvbmUKLg=="  # the pickle of gone_module.Gone
    return json.dumps(data)


class TestDamage:
    def test_missing(self, capsys, tmp_path):
        assert "is not a file" in refused(capsys, tmp_path / "nowhere.zip")

    def test_no_zip(self, capsys, tmp_path):
        (tmp_path / "model.zip").write_text("hello")
        assert "not a readable Stable-Baselines3 zip" in refused(capsys, tmp_path / "model.zip")

    def test_cut(self, pendulum, capsys, tmp_path):
        whole = (pendulum / "model.zip").read_bytes()
        (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
        assert "not a readable Stable-Baselines3 zip" in refused(capsys, tmp_path / "cut.zip")

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("policy.pth", lambda content: b"garbage", "It is damaged, or was saved by other versions"),
            ("policy.pth", lambda content: content[: len(content) // 2], "It is damaged"),
            ("policy.pth", renamed_parameters, "saved by other versions of Stable-Baselines3"),
            ("policy.pth", None, "the weights of 'policy' are missing"),
            (
                "data",
                of_a_lost_module,
                "needs gone_module.Gone, which is not among the classes that are opened unseen",
            ),
            ("data", lambda content: content[:60], "not a readable Stable-Baselines3 zip"),
        ],
    )
    def test_stale_or_corrupt_parts(self, pendulum, capsys, tmp_path, name, change, message):
        bad = rewritten(pendulum / "model.zip", tmp_path / "bad.zip", name, change)
        assert message in refused(capsys, bad)

    def test_a_lost_module_of_ones_own(self, pendulum, capsys, tmp_path):
        bad = rewritten(pendulum / "model.zip", tmp_path / "bad.zip", "data", of_a_lost_module)
        assert "needs the module 'gone_module'" in refused(capsys, bad, "--trust")

    def test_nan_weights(self, capsys, tmp_path):
        model = save(tmp_path)
        with torch.no_grad():
            model.policy.action_net.weight[0, 0] = math.nan
        model.save(tmp_path / "model.zip")
        assert "NaN or infinite" in refused(capsys, tmp_path / "model.zip")

    def test_vec_normalize(self, pendulum, cartpole, capsys, tmp_path):
        (tmp_path / "text.pkl").write_text("hello")
        for model, file, message in (
            (cartpole, pendulum / "vecnormalize.pkl", "It belongs to another task"),
            (pendulum, tmp_path / "none.pkl", "is not a file"),
            (pendulum, tmp_path / "text.pkl", "holds no VecNormalize: it is damaged or another kind of file"),
        ):
            assert message in refused(capsys, model / "model.zip", "--vec-normalize", file)


def test_the_normalisation_beside_the_zip_is_used_and_that_is_said(pendulum, capsys):
    def bounds(*arguments):
        assert cli.main(["certify", str(pendulum / "model.zip"), "--json", *map(str, arguments)]) == 0
        said = capsys.readouterr()
        return json.loads(said.out), said.err

    found, said = bounds()
    assert "normalised by" in said
    assert "vecnormalize.pkl" in said
    named, _ = bounds("--vec-normalize", pendulum / "vecnormalize.pkl")
    assert found == named
    none, said = bounds("--vec-normalize", "none")
    assert said == ""
    assert none["upper_bound"] != found["upper_bound"]
    assert any("says that there is no VecNormalize" in text for text in none["assumptions"])


def test_control_c_ends_a_command_in_one_line(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lipsrl._commands.certify.open_source", interrupted)
    assert cli.main(["certify", "model.zip"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
