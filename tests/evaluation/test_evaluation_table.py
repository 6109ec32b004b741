"""`Evaluation`: on disk, joined, summarised and compared."""

import hashlib
import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from stable_baselines3 import PPO

from lipsrl.attacks import ConstantBiasAttack, RandomAttack
from lipsrl.disturbances import GaussianNoise, Mixture
from lipsrl.evaluation import COLUMNS, Evaluation, evaluate
from lipsrl.metrics import normalized_auc
from lipsrl.statistics import bootstrap_ci, iqm

RNG = np.random.default_rng(0)


def table(agents=("a", "b"), seeds=(0, 1, 2, 3, 4), strengths=(0.0, 0.1, 0.2), episodes=4, **columns):
    """Returns that fall with strength; seeds and episodes have effects that all agents share."""
    rows = pd.MultiIndex.from_product(
        [agents, seeds, ["gaussian"], strengths, range(episodes)],
        names=["agent", "seed", "disturbance", "strength", "episode"],
    ).to_frame(index=False)
    rows["seed"] = rows["seed"].astype("Int64")
    common = 50 * rows["episode"] + 10.0 * rows["seed"].fillna(0).astype(float)
    better = np.where(rows["agent"] == "a", 20.0, 0.0)
    rows["return"] = -300.0 + common + better * (1 + rows["strength"]) - 1000 * rows["strength"]
    rows["env_seed"] = rows["episode"] + 1000
    rows["length"] = 200
    rows["action_fluctuation"] = np.where(rows["agent"] == "a", 0.6, 1.0) * (1 + rows["episode"])
    rows["nonfinite"] = ""
    for column in COLUMNS:
        if column not in rows:
            rows[column] = RNG.uniform(size=len(rows))
    return rows.assign(**columns)[list(COLUMNS)]


METADATA = {
    "schema_version": 1,
    "env": "Pendulum-v1",
    "seed": 0,
    "sensitivity_std": 0.001,
    "strengths": [0.0, 0.1, 0.2],
    "disturbances": {"gaussian": {"name": "gaussian", "std": 1.0}},
    "agents": [{"agent": "a"}, {"agent": "b"}],
    "n_episodes": 4,
    "floor": None,
    "env_steps": 100,
    "seconds": 1.5,
}


class TestFiles:
    def test_round_trip(self, tmp_path):
        frame = table()
        frame.loc[3, "jerk"] = np.nan
        frame.loc[:5, "seed"] = pd.NA
        frame.loc[:5, "agent"] = "ünbekannt"
        saved = Evaluation(frame.drop_duplicates(["agent", "seed", "strength", "episode"]), METADATA)
        path = saved.save(tmp_path / "sub" / "evaluation.parquet")
        loaded = Evaluation.load(path)
        pd.testing.assert_frame_equal(loaded.frame, saved.frame, check_exact=True)
        assert loaded.metadata == METADATA
        assert sorted(p.name for p in path.parent.iterdir()) == ["evaluation.json", "evaluation.parquet"]
        assert pd.read_parquet(path)["return"].equals(saved.frame["return"])

    def test_same_rows_same_bytes(self, tmp_path):
        first = Evaluation(table(jerk=1.0, total_variation=1.0), METADATA)
        # another way to the same rows: other column order, index and dtypes
        frame = first.frame[list(reversed(COLUMNS))].astype({"length": "float64", "agent": "object"})
        frame.index = frame.index + 7
        first.save(tmp_path / "one.parquet")
        Evaluation(frame, {"created": "another time"}).save(tmp_path / "two.parquet")
        assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()

    def test_errors(self, tmp_path):
        evaluation = Evaluation(table(), METADATA)
        with pytest.raises(ValueError, match=r"must end in .parquet"):
            evaluation.save(tmp_path / "evaluation.csv")
        path = evaluation.save(tmp_path / "evaluation.parquet")
        with pytest.raises(FileNotFoundError, match="nowhere"):
            Evaluation.load(tmp_path / "nowhere.parquet")
        (tmp_path / "evaluation.json").rename(tmp_path / "moved.json")
        with pytest.raises(FileNotFoundError, match=r"evaluation\.json"):
            Evaluation.load(path)
        (tmp_path / "evaluation.json").write_text("{")
        with pytest.raises(ValueError, match="is not an evaluation"):
            Evaluation.load(path)
        (tmp_path / "evaluation.json").write_text("{}")
        other = pq.read_table(path).replace_schema_metadata({"lipsrl_evaluation_schema": "99"})
        pq.write_table(other, path)
        with pytest.raises(ValueError, match="schema version 99"):
            Evaluation.load(path)

    def test_reads_version_1(self, tmp_path):
        """Which had no column ``nonfinite``."""
        path = Evaluation(table(), METADATA).save(tmp_path / "evaluation.parquet")
        old = pq.read_table(path).drop_columns("nonfinite")
        pq.write_table(old.replace_schema_metadata({"lipsrl_evaluation_schema": "1"}), path)
        path.with_suffix(".json").write_text(json.dumps(METADATA))  # nor a digest of the rows
        assert (Evaluation.load(path).frame["nonfinite"] == "").all()

    def test_nothing_half_written_stays(self, tmp_path):
        with pytest.raises(ValueError):
            Evaluation(table(), {"floor": float("nan")}).save(tmp_path / "x.parquet")
        assert list(tmp_path.iterdir()) == []

    def test_metadata_is_plain_json(self, tmp_path):
        Evaluation(table(), METADATA).save(tmp_path / "x.parquet")
        found = json.loads((tmp_path / "x.json").read_text())
        assert found.pop("rows_sha256") == hashlib.sha256((tmp_path / "x.parquet").read_bytes()).hexdigest()
        assert found == METADATA


class TestSchema:
    @pytest.mark.parametrize(
        ("spoil", "match"),
        [
            (lambda f: f.drop(columns="jerk"), r"missing: \['jerk'\]"),
            (lambda f: f.assign(extra=1), r"unknown: \['extra'\]"),
            (lambda f: f.assign(episode=0), "two rows with"),
            (lambda f: f.assign(strength=np.nan), "given in every row"),
            (lambda f: f.assign(length="long"), "does not fit the schema"),
            (lambda f: f.assign(nonfinite="torque"), "nonfinite must be one of.*'torque'"),
        ],
    )
    def test_errors(self, spoil, match):
        with pytest.raises(ValueError, match=match):
            Evaluation(spoil(table()))

    def test_frame_is_a_copy(self):
        frame = table()
        evaluation = Evaluation(frame)
        frame.loc[0, "return"] = 0.0
        assert evaluation.frame.loc[0, "return"] != 0.0


class TestConcat:
    def test_joins_agents_and_strengths(self):
        parts = [
            Evaluation(table(agents=("a",)), {**METADATA, "agents": [{"agent": "a"}], "floor": -1200.0}),
            Evaluation(table(agents=("b",), strengths=(0.0, 0.4)), {**METADATA, "strengths": [0.0, 0.4]}),
        ]
        joined = Evaluation.concat(parts)
        assert len(joined.frame) == sum(len(p.frame) for p in parts)
        assert joined.metadata["strengths"] == [0.0, 0.1, 0.2, 0.4]
        assert joined.metadata["floor"] == -1200.0
        assert joined.metadata["agents"] == [{"agent": "a"}, {"agent": "b"}]
        again = Evaluation.concat([joined, Evaluation(table(agents=("c",)), METADATA)])
        assert len(again.metadata["parts"]) == 3
        assert Evaluation.concat(parts[:1]).metadata == parts[0].metadata

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"env": "Reacher-v5"}, "same env"),
            ({"seed": 1}, "same seed"),
            ({"disturbances": {"gaussian": {"name": "gaussian", "std": 2.0}}}, "stands for two disturbances"),
            ({"floor": -2.0}, "agree on the floor"),
        ],
    )
    def test_refuses_what_is_not_comparable(self, changes, match):
        one = Evaluation(table(agents=("a",)), {**METADATA, "floor": -1.0})
        two = Evaluation(table(agents=("b",)), {**METADATA, **changes})
        with pytest.raises(ValueError, match=match):
            Evaluation.concat([one, two])

    def test_episodes_measured_alike_count_once(self):
        one, two = (Evaluation(table(strengths=s, jerk=1.0), METADATA) for s in ((0.0, 0.1), (0.0, 0.4)))
        clean = one.frame["strength"] == 0
        two = Evaluation(pd.concat([one.frame[clean], two.frame[two.frame["strength"] > 0]]), METADATA)
        joined = Evaluation.concat([one, two])
        assert joined.frame.groupby("strength").size().to_dict() == {0.0: 40, 0.1: 40, 0.4: 40}

    def test_refuses_two_models_under_one_name(self):
        """Even where the rows are not the same ones."""
        known = [
            Evaluation(
                table(agents=("a",), seeds=(0,), strengths=(s,)),
                {**METADATA, "agents": [{"agent": "a", "seed": 0, "fingerprint": name}]},
            )
            for s, name in ((0.0, "one"), (0.1, "two"))
        ]
        with pytest.raises(ValueError, match="agent 'a' with training seed 0 stands for two models"):
            Evaluation.concat(known)
        assert known[0].fingerprints == {("a", 0): "one"}

    def test_refuses_repeated_episodes_and_nothing(self):
        one = Evaluation(table(), METADATA)
        other = Evaluation(one.frame.assign(jerk=2.0), METADATA)
        with pytest.raises(ValueError, match="two rows with"):
            Evaluation.concat([one, other])
        with pytest.raises(ValueError, match="at least one"):
            Evaluation.concat([])


class TestSummary:
    def test_seeds_are_averaged_then_trimmed(self):
        evaluation = Evaluation(table())
        row = evaluation.summary().iloc[1]
        rows = evaluation.frame.query("agent == 'a' and strength == 0.1")
        means = rows.groupby("seed")["return"].mean().to_numpy()
        assert (row["agent"], row["strength"], row["resampled"]) == ("a", 0.1, "seeds")
        assert (row["n_seeds"], row["n_episodes"]) == (5, 20)
        expected = bootstrap_ci(means)
        assert (row["return"], row["return_low"], row["return_high"]) == expected
        assert expected.estimate == iqm(means)

    @pytest.mark.parametrize("seeds", [(3,), (pd.NA,)])
    def test_one_seed_resamples_episodes(self, seeds):
        evaluation = Evaluation(table(seeds=seeds, episodes=30))
        row = evaluation.summary("return").iloc[0]
        rows = evaluation.frame.query("agent == 'a' and strength == 0.0")["return"]
        assert (row["resampled"], row["n_seeds"], row["n_episodes"]) == ("episodes", 1, 30)
        assert row["return"] == pytest.approx(rows.mean())
        assert row["return_low"] < rows.mean() < row["return_high"]

    def test_undefined_episodes_are_left_out(self):
        frame = table(seeds=(0,))
        frame.loc[0, "jerk"] = np.nan
        summary = Evaluation(frame).summary(["jerk", "saturation"])
        assert summary.loc[0, "jerk"] == pytest.approx(frame.loc[1:3, "jerk"].mean())
        nothing = Evaluation(frame.assign(jerk=np.nan)).summary(["jerk"])
        assert nothing[["jerk", "jerk_low", "jerk_high"]].isna().all(axis=None)

    def test_unknown_column(self):
        with pytest.raises(ValueError, match=r"column='jerkk'.*Did you mean 'jerk'"):
            Evaluation(table()).summary(["jerkk"])


class TestCurves:
    def test_auc_is_that_of_the_summary_curve(self):
        evaluation = Evaluation(table(), {**METADATA, "floor": -1000.0})
        numbers = evaluation.normalized_auc()
        for _, row in numbers.iterrows():
            curve = evaluation.summary("return").query(f"agent == '{row['agent']}'")
            expected = normalized_auc(curve["strength"], curve["return"], floor=-1000.0)
            assert row["normalized_auc"] == pytest.approx(float(expected))
            assert row["normalized_auc_low"] <= row["normalized_auc"] <= row["normalized_auc_high"]
            assert row["breakdown_strength"] == row["breakdown_strength_high"] == np.inf
        assert numbers["resampled"].tolist() == ["seeds", "seeds"]
        steep = evaluation.normalized_auc(floor=-500.0)
        assert (steep["normalized_auc"] < numbers["normalized_auc"]).all()
        assert steep["breakdown_strength"].between(0.1, 0.2).all()

    def test_a_single_seed_resamples_episodes(self):
        numbers = Evaluation(table(seeds=(0,))).normalized_auc(-1000.0)
        assert numbers["resampled"].tolist() == ["episodes", "episodes"]
        assert (numbers["normalized_auc_low"] < numbers["normalized_auc_high"]).all()

    def test_errors(self):
        with pytest.raises(ValueError, match="floor is needed"):
            Evaluation(table(), METADATA).normalized_auc()
        with pytest.raises(ValueError, match="starts at 0"):
            Evaluation(table(strengths=(0.1, 0.2))).normalized_auc(-1000.0)
        frame = table()
        gap = Evaluation(frame[~((frame["seed"] == 2) & (frame["strength"] == 0.1))])
        with pytest.raises(ValueError, match="every strength for each of its seeds"):
            gap.normalized_auc(-1000.0)


class TestCompare:
    def test_pairs_by_seed(self):
        compared = Evaluation(table()).compare("a", "b")
        assert compared["strength"].tolist() == [0.0, 0.1, 0.2]
        np.testing.assert_allclose(compared["difference"], [20.0, 22.0, 24.0])
        # what seeds and episodes have in common cancels: the difference is the same in each pair
        np.testing.assert_allclose(compared["difference_low"], compared["difference_high"])
        np.testing.assert_allclose(compared["difference"], compared["a"] - compared["b"])
        assert (compared["resampled"] == "seeds").all()
        assert (compared["n_pairs"] == 5).all()
        assert (compared["n_unpaired"] == 0).all()

    def test_ratio(self):
        compared = Evaluation(table()).compare("a", "b", column="action_fluctuation")
        np.testing.assert_allclose(compared[["ratio", "ratio_low", "ratio_high"]], 0.6)

    def test_single_models_are_paired_by_episode_whatever_their_seeds(self):
        frame = pd.concat([table(("a",), seeds=(0,), episodes=9), table(("b",), seeds=(5,), episodes=7)])
        compared = Evaluation(frame).compare("a", "b", "action_fluctuation")
        assert (compared["resampled"] == "episodes").all()
        assert (compared["n_pairs"] == 7).all()
        assert (compared["n_unpaired"] == 2).all()
        np.testing.assert_allclose(compared["a"], 0.6 * 4)
        np.testing.assert_allclose(compared["ratio"], 0.6)

    def test_only_common_seeds_count(self):
        frame = pd.concat([table(("a",), seeds=(0, 1, 2)), table(("b",), seeds=(1, 2, 3))])
        compared = Evaluation(frame).compare("a", "b")
        assert (compared["n_pairs"] == 2).all()
        assert (compared["n_unpaired"] == 8).all()
        np.testing.assert_allclose(compared["difference"], [20.0, 22.0, 24.0])

    def test_errors(self):
        evaluation = Evaluation(table(("plain", "smooth")))
        with pytest.raises(ValueError, match=r"b='smoth'.*Did you mean 'smooth'"):
            evaluation.compare("plain", "smoth")
        with pytest.raises(ValueError, match="column='returns'"):
            evaluation.compare("plain", "smooth", "returns")
        frame = pd.concat([table(("a",), seeds=(0, 1)), table(("b",), seeds=(2, 3))])
        with pytest.raises(ValueError, match="'return' in common"):
            Evaluation(frame).compare("a", "b")


def test_attacks_are_told_from_disturbances_of_the_same_name():
    model = PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, device="cpu", seed=0)
    faced = {
        "bias": ConstantBiasAttack(
            None, 0.1, env="Pendulum-v1", episodes=1, candidates=2, max_episode_steps=2
        ),
        "mixed": Mixture([GaussianNoise(0.1), RandomAttack(None, 0.1)]),
        "noise": GaussianNoise(0.1),
    }
    options = {"strengths": (0, 1), "n_episodes": 1, "max_episode_steps": 2}
    assert evaluate(model, "Pendulum-v1", disturbances=faced, **options).attacks == ["bias", "mixed"]
    plain = evaluate(model, "Pendulum-v1", disturbances=["bias", "gaussian"], **options)
    assert plain.attacks == []
    frame = plain.frame.replace({"disturbance": {"gaussian": "mad"}})
    assert Evaluation(frame, {}).attacks == ["mad"]
