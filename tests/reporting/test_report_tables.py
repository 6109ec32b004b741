import math

import pandas as pd
import pytest

from lipsrl.attacks import RandomAttack
from lipsrl.disturbances import Compose, Delay, GaussianNoise, Quantization
from lipsrl.evaluation import Evaluation
from lipsrl.reporting import read_progress
from lipsrl.reporting.certificate_table import certificate_rows
from lipsrl.reporting.consistency import by_agent, contradictions
from lipsrl.reporting.headline import headline_rows
from lipsrl.reporting.paired import paired_tables
from lipsrl.reporting.wording import averaging, describe_disturbance, nonfinite_sentences


def by_key(rows):
    return {row.key: row for row in rows}


@pytest.mark.parametrize("seeds", [(0,), tuple(range(6))])
def test_headline_numbers_are_the_evaluations_own(make_evaluation, seeds):
    evaluation = make_evaluation(seeds=seeds)
    rows = by_key(headline_rows(evaluation, "gaussian", floor=-1230.0))
    summary = evaluation.summary().set_index(["agent", "strength"])
    for agent in ("ppo", "ppo-sandwich"):
        for strength in (0.0, 0.05, 0.1):
            assert rows[f"return@{strength:g}"].cell(agent).value == summary.loc[(agent, strength), "return"]
        assert rows["fluctuation"].cell(agent).value == summary.loc[(agent, 0.05), "action_fluctuation"]
    compared = evaluation.compare("ppo-sandwich", "ppo", "action_fluctuation").set_index("strength")
    assert rows["fluctuation_ratio"].cell("ppo-sandwich").value == compared.loc[0.05, "ratio"]
    assert rows["fluctuation_ratio"].cell("ppo").value == 1.0
    areas = evaluation.normalized_auc(-1230.0).set_index("agent")["normalized_auc"]
    assert rows["auc"].cell("ppo-sandwich").value == areas["ppo-sandwich"]


def test_one_seed_is_the_mean_over_episodes_and_several_are_the_iqm_over_seeds(make_evaluation):
    one = make_evaluation(seeds=(3,))
    clean = one.frame[(one.frame["agent"] == "ppo") & (one.frame["strength"] == 0.0)]["return"]
    assert headline_rows(one, "gaussian")[0].cell("ppo").value == pytest.approx(clean.mean())
    several = make_evaluation(seeds=range(8))
    of_ppo = several.frame[(several.frame["agent"] == "ppo") & (several.frame["strength"] == 0.0)]
    middle = of_ppo.groupby("seed")["return"].mean().sort_values().iloc[2:6].mean()
    assert headline_rows(several, "gaussian")[0].cell("ppo").value == pytest.approx(middle)


def test_interval_stands_below_the_estimate_with_the_same_decimals(make_evaluation):
    cell = headline_rows(make_evaluation(), "gaussian")[0].cell("ppo")
    assert cell.detail.startswith("[−")
    assert cell.detail.endswith("]")
    assert "." not in cell.text
    assert "." not in cell.detail


def test_each_disturbance_has_its_own_rows(make_evaluation):
    evaluation = make_evaluation(disturbances=("gaussian", "uniform"))
    evaluation.frame.loc[evaluation.frame["disturbance"] == "uniform", "return"] -= 1000.0
    first, second = (headline_rows(evaluation, name)[0].cell("ppo").value for name in ("gaussian", "uniform"))
    assert second == pytest.approx(first - 1000.0)


def test_rows_without_numbers_are_left_out(make_evaluation):
    evaluation = make_evaluation(agents=("alone",))
    keys = by_key(headline_rows(evaluation, "gaussian"))
    assert "fluctuation_ratio" not in keys
    assert "auc" not in keys
    clean = Evaluation(evaluation.frame[evaluation.frame["strength"] == 0.0], evaluation.metadata)
    keys = by_key(headline_rows(clean, "gaussian", floor=-1230.0))
    assert list(keys) == ["return@0", "fluctuation"]
    assert "no noise" in keys["fluctuation"].label


def test_an_agent_with_other_episodes_has_no_ratio_but_keeps_its_returns(make_evaluation):
    frame = make_evaluation().frame
    odd = frame["agent"] == "ppo-sandwich"
    frame.loc[odd, "episode"] += 100
    rows = by_key(headline_rows(Evaluation(frame), "gaussian"))
    assert "fluctuation_ratio" not in rows
    assert not math.isnan(rows["return@0"].cell("ppo-sandwich").value)
    assert paired_tables(Evaluation(frame)) == []


def test_paired_numbers_are_those_of_compare(make_evaluation):
    evaluation = make_evaluation(seeds=range(5))
    (table,) = paired_tables(evaluation)
    returns = evaluation.compare("ppo-sandwich", "ppo", "return").sort_values("strength")
    assert [row.return_difference.value for row in table.rows] == list(returns["difference"])
    assert [row.return_difference.decisive for row in table.rows] == [
        low > 0 or high < 0
        for low, high in zip(returns["difference_low"], returns["difference_high"], strict=True)
    ]
    ratios = evaluation.compare("ppo-sandwich", "ppo", "action_fluctuation").sort_values("strength")["ratio"]
    assert [row.fluctuation_ratio.value for row in table.rows] == list(ratios)
    assert all(row.fluctuation_ratio.decisive for row in table.rows)  # 0.6, far from 1
    assert {row.pairs for row in table.rows} == {"5 seeds"}


def test_certificate_rows_hold_the_certificates_numbers(make_evaluation, make_certificate):
    certificates = [make_certificate("ppo"), make_certificate("ppo-sandwich", promise=6.0)]
    rows = by_key(certificate_rows(certificates, make_evaluation()))
    sandwich = {key: row.cell("ppo-sandwich").value for key, row in rows.items()}
    assert sandwich["promise"] == 6.0
    assert (sandwich["factor:vec_normalize"], sandwich["factor:network"]) == (1.5, 6.0)
    assert (sandwich["upper_bound"], sandwich["lower_bound"]) == (9.0, pytest.approx(8.1))
    assert (sandwich["tightness"], sandwich["network_tightness"]) == (0.9, 0.95)
    assert rows["promise"].cell("ppo").text == "none"
    assert {row.kind for row in rows.values()} == {"setting", "bound", "search", "estimate"}


def test_sensitivity_is_that_of_the_noise_free_episodes(make_evaluation, make_certificate):
    evaluation = make_evaluation()
    clean = evaluation.summary().set_index(["agent", "strength"]).loc[("ppo", 0.0), "action_sensitivity"]
    rows = by_key(certificate_rows([make_certificate()], evaluation))
    assert rows["action_sensitivity"].cell("ppo").value == clean


def test_several_seeds_are_shown_as_median_and_range(make_evaluation, make_certificate):
    certificates = [make_certificate(seed=s, upper_bound=u) for s, u in enumerate((10.001, 12.0, 30.0))]
    cell = by_key(certificate_rows(certificates, make_evaluation(seeds=range(3))))["upper_bound"].cell("ppo")
    assert cell.value == 12.0
    assert cell.detail == "10.1 to 30.0"  # an upper bound is rounded up


def test_a_stage_that_one_pipeline_lacks_has_gain_one(make_evaluation, make_certificate):
    bare = make_certificate("ppo", factors=[{"name": "network", "gain": 8.0, "detail": ""}])
    rows = by_key(certificate_rows([bare, make_certificate("ppo-sandwich")], make_evaluation()))
    assert rows["factor:vec_normalize"].cell("ppo").value == 1.0
    assert rows["factor:vec_normalize"].cell("ppo-sandwich").value == 1.5


def test_missing_parts_of_a_certificate_leave_their_rows_out(make_evaluation):
    rows = by_key(certificate_rows([{"agent": "ppo", "upper_bound": 3.0}], make_evaluation()))
    assert set(rows) == {"promise", "upper_bound", "action_sensitivity"}


def test_two_certificates_of_one_agent_and_seed_are_refused(make_certificate):
    with pytest.raises(ValueError, match=r"two of agent 'ppo' with training seed 0"):
        by_agent([make_certificate(), make_certificate()])
    with pytest.raises(ValueError, match=r"agent's name.*received agent=None"):
        by_agent([{"upper_bound": 1.0}])


def test_contradictions_are_named(make_evaluation, make_certificate):
    evaluation = make_evaluation()  # sensitivities of ppo are about 3
    assert contradictions([make_certificate(upper_bound=4.0, lower_bound=3.9)], evaluation) == []
    (below,) = contradictions([make_certificate(upper_bound=2.0, lower_bound=1.0)], evaluation)
    assert "ppo (training seed 0): the measured action sensitivity" in below
    (crossed,) = contradictions([make_certificate(upper_bound=5.0, lower_bound=6.0)], evaluation)
    assert "lower bound 6.00 is above the upper bound 5.00" in crossed
    other_norm = make_certificate(upper_bound=2.0, lower_bound=1.0, norm="linf")
    assert contradictions([other_norm], evaluation) == []


@pytest.mark.parametrize(
    ("seeds", "said", "few"), [((0,), "mean over 6 episodes", False), (range(3), "3 training seeds", True)]
)
def test_what_is_averaged_is_said(make_evaluation, seeds, said, few):
    text = " ".join(averaging(make_evaluation(seeds=seeds).summary()))
    assert said in text
    assert ("too narrow" in text) is few


def test_unlike_agents_are_described_one_by_one(make_evaluation):
    one, many = make_evaluation(agents=("a",)), make_evaluation(agents=("b",), seeds=range(5))
    both = Evaluation(pd.concat([one.frame, many.frame], ignore_index=True))
    sentences = averaging(both.summary())
    assert [s.split(":")[0] for s in sentences] == ["For a", "For b"]


@pytest.mark.parametrize(
    ("name", "disturbance", "said"),
    [
        ("gaussian", GaussianNoise(0.1), "gaussian (std = 0.1)"),
        ("delay", Delay([0, 2]), "delay (steps = [0.0, 2.0])"),
        ("encoder", Quantization(0.5), "encoder (quantization, step = 0.5)"),
        (
            "imu",
            Compose([GaussianNoise(0.1), Compose([Delay(2)])]),
            "imu: gaussian (std = 0.1), then compose: delay (steps = 2)",
        ),
        ("random", RandomAttack(None, 1.0), "random (epsilon = 1, norm = linf, units = normalized)"),
    ],
)
def test_a_disturbance_is_described_in_words(name, disturbance, said):
    assert describe_disturbance(name, disturbance.to_dict()) == said


def test_the_model_of_an_attack_is_named():
    definition = {"name": "mad", "epsilon": 0.1, "model": {"algorithm": "PPO", "weights_sha256": "ab" * 32}}
    assert describe_disturbance("mad", definition) == "mad (epsilon = 0.1, model = PPO abababab)"


def test_episodes_that_were_not_finite_are_counted_where_numbers_are_missing(make_evaluation):
    frame = make_evaluation().frame
    broken = (frame["agent"] == "ppo") & (frame["strength"] == 0.1) & (frame["episode"] < 2)
    frame.loc[broken, ["return", "nonfinite"]] = [math.nan, "reward"]
    evaluation = Evaluation(frame)
    cell = by_key(headline_rows(evaluation, "gaussian"))["return@0.1"].cell("ppo")
    assert math.isnan(cell.value)
    assert cell.detail == "2 of 6 not finite"
    (said,) = nonfinite_sentences(evaluation.summary(["return"]))
    assert said.startswith("ppo: 2 of 18 episodes ended")
    assert "(2 under gaussian at strength 0.1)" in said
    (table,) = paired_tables(evaluation)
    assert [row.pairs for row in table.rows] == ["6 episodes", "6 episodes", "6 episodes, 2 not finite"]
    assert nonfinite_sentences(make_evaluation().summary(["return"])) == []


def test_a_log_that_is_no_table_is_named(tmp_path):
    (tmp_path / "progress.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.warns(UserWarning, match=r"progress\.csv cannot be read, so its curves are left out"):
        assert read_progress(tmp_path) is None
