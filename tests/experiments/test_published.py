"""`experiments.published`: published weights, rows that outlive the runs, one table."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest

from agents import get_agent
from agents.regularized import PPO_METHODS, SAC_METHODS
from experiments import published
from experiments.published import COLUMNS, PUBLISHED, SCALES, TWINS, Args, study, table
from lipsrl.metrics import spectral_smoothness
from lipsrl.regularizers import ASAP, CAPS, L2C2, PAVE


@pytest.fixture
def trained(monkeypatch):
    """The trainings that were asked for; none is run, and what is measured depends on agent and seed."""
    ran = []

    class Trainings(published.Trainings):
        def run(self, wanted):
            ran.extend((path.name, *what) for path, what in wanted.items())

    def measured(folder, episodes):
        agent, seed = folder.name.rsplit("-", 1)
        size = 0.5 if "caps" in agent else 1.0
        return pd.DataFrame([[-150.0 - int(seed), size, 0.03, 2 * size]], columns=published.MEASURED)

    monkeypatch.setattr(published, "Trainings", Trainings)
    monkeypatch.setattr(published, "measured", measured)
    return ran


def test_every_method_is_trained_once_at_its_published_weights(trained, tmp_path, capsys):
    args = Args(output=tmp_path / "runs", results=tmp_path, seeds=2)
    study(args)
    assert {agent for _, agent, _, _ in trained} == {"ppo", *(f"ppo-{key}" for key in PPO_METHODS)}
    assert len(trained) == len(set(trained)) == 22
    assert {scale for _, agent, _, scale in trained if agent != "ppo-grad-caps"} == {1.0}
    assert SCALES["ppo-grad-caps"] * PPO_METHODS["grad-caps"][1].temporal == pytest.approx(0.01)
    printed = capsys.readouterr().out
    assert "| `ppo-caps` | −150 [−151, −150] | +0 [+0, +0] | 0.50 [0.50, 0.50] | ASAP −16 %" in printed
    assert "CATS −10 % | 0.030 | 0.50 [0.50, 0.50] |" in printed
    trained.clear()
    study(dataclasses.replace(args, seeds=3))
    assert {seed for _, _, seed, _ in trained} == {2}, "rows that are there are not made again"
    shutil.rmtree(args.output, ignore_errors=True)
    trained.clear()
    study(dataclasses.replace(args, seeds=1))
    assert not trained


def test_weights_of_sac_on_pendulum_are_those_of_the_comparison():
    def weights(agent, task="pendulum"):
        (method,) = get_agent(agent).regularizers[task]
        return method

    scale = 150  # of the rewards, by VecNormalize
    assert weights("sac-caps") == CAPS(1 / scale, 5 / scale)
    assert weights("sac-l2c2") == L2C2(lower=1 / scale, upper=100 / scale)
    assert weights("sac-asap") == ASAP(2.0, 5 / scale, 0.5 / scale)
    assert weights("sac-pave") == PAVE(field=0.005, curvature=0.5 / scale, margin=1 / scale)
    assert weights("sac-caps", "hopper") == CAPS(0.1, 0.5)
    assert Args(family="sac").agents()[:2] == ["sac", "sac-caps"]
    assert Args(family="sac").agents().index(TWINS["sac-pave"]) < Args(family="sac").agents().index(
        "sac-pave"
    )
    assert set(PUBLISHED) <= {f"ppo-{key}" for key in PPO_METHODS} | {f"sac-{key}" for key in SAC_METHODS}


def test_the_published_measure_is_ours_up_to_a_factor():
    noise = np.random.default_rng(0).normal(size=(200, 1))
    ratio = spectral_smoothness(noise, scaling="raw") / spectral_smoothness(noise)
    assert ratio == pytest.approx(99 * 100 / 200, rel=0.03)


def test_pave_is_compared_with_its_twin():
    agents = Args(family="sac").agents()
    size = {"sac": 1.0, "sac-silu": 4.0}
    rows = pd.DataFrame(
        [[agent, seed, 1, 1, -150.0, size.get(agent, 2.0), 0.1, 1.0] for agent in agents for seed in (0, 1)],
        columns=COLUMNS,
    )
    cells = {line.split("`")[1]: line for line in table(rows, agents).splitlines()[2:]}
    assert "| 0.50 [0.50, 0.50] |" in cells["sac-pave"]
    assert "| 2.00 [2.00, 2.00] |" in cells["sac-caps"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"family": "td3"}, "family"),
        ({"seeds": 0}, "seeds"),
        ({"episodes": 0}, "episodes"),
        ({"timesteps": -1}, "timesteps"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(options, words, trained, tmp_path):
    with pytest.raises(ValueError, match=words):
        study(Args(output=tmp_path, **options))
    assert not trained


def test_rows_of_another_study_are_refused(trained, tmp_path):
    args = Args(output=tmp_path, seeds=1)
    study(args)
    with pytest.raises(ValueError, match="episodes: not the same settings"):
        study(dataclasses.replace(args, episodes=2))
    with pytest.raises(ValueError, match="not the same settings"):
        study(dataclasses.replace(args, timesteps=5))
    args.file.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="columns a, b"):
        study(args)


def test_a_run_is_measured_without_noise(tmp_path):
    from experiments import train

    train.train(
        train.Args(
            agent="ppo",
            task="pendulum",
            timesteps=64,
            output=tmp_path / "ppo-0",
            track="disabled",
            progress=False,
        )
    )
    row = published.measured(tmp_path / "ppo-0", published.Episodes(2))
    assert list(row.columns) == published.MEASURED
    assert len(row) == 1
    assert row["chatter"][0] >= row["action_fluctuation"][0] > 0
    assert -2000 < row["return"][0] < 0 < row["spectral_smoothness"][0]
    assert (tmp_path / "ppo-0" / "with-and-without-noise.json").is_file()
