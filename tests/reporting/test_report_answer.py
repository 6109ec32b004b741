"""The answer: every number is the evaluation's own, and the verb follows the interval."""

import math

import numpy as np
import pytest

from lipsrl.evaluation import Evaluation
from lipsrl.reporting import answer, findings_of, print_answer, reference_of
from lipsrl.reporting.degradation import Degradation, changes
from lipsrl.reporting.doubts import untrained

FLOOR = -1230.0
NOISES = {"gaussian": {"name": "gaussian", "std": 1.0}, "bias": {"name": "bias", "std": 1.0}}


@pytest.fixture
def findings(make_evaluation, make_certificate):
    def make(edit=None, **given):
        evaluation = given.pop("evaluation", None) or make_evaluation(disturbances=NOISES, n_episodes=12)
        evaluation.metadata["disturbances"] = NOISES
        if edit is not None:
            edit(evaluation.frame)
        agents = [str(a) for a in evaluation.frame["agent"].unique()]
        certificates = [make_certificate(agents[0]), *(make_certificate(a, promise=6.0) for a in agents[1:])]
        return findings_of(**({"evaluation": evaluation, "certificates": certificates} | given))

    return make


def worse(disturbance, agent, by):
    def edit(frame):
        rows = (frame["disturbance"] == disturbance) & (frame["agent"] == agent)
        frame.loc[rows, "return"] -= by * frame.loc[rows, "strength"]

    return edit


def test_changes_are_the_mean_over_strengths_minus_the_clean_twin(make_evaluation):
    evaluation = make_evaluation()
    table = changes(evaluation).frame.set_index(["agent", "episode"])["return"]
    frame = evaluation.frame.set_index(["agent", "episode", "strength"])["return"]
    for agent, episode in table.index:
        noisy = np.mean([frame[agent, episode, s] for s in (0.05, 0.1)])
        assert table[agent, episode] == pytest.approx(noisy - frame[agent, episode, 0.0])
    clean = Evaluation(evaluation.frame[evaluation.frame["strength"] == 0.0])
    assert changes(clean) is None


def test_paired_differences_are_those_of_compare(make_evaluation):
    evaluation = make_evaluation(seeds=range(5))
    degradation = Degradation(evaluation, FLOOR)
    spread = degradation.against("ppo-sandwich", "ppo")["gaussian"]
    row = changes(evaluation).compare("ppo-sandwich", "ppo", "return").iloc[0]
    assert (spread.value, spread.low, spread.high) == tuple(
        row[["difference", "difference_low", "difference_high"]]
    )
    kept = degradation.kept["ppo", "gaussian"]
    area = evaluation.normalized_auc(FLOOR).set_index("agent").loc["ppo"]
    assert (kept.value, kept.low) == (area["normalized_auc"], area["normalized_auc_low"])
    clean = degradation.clean("ppo-sandwich", "ppo")
    wanted = evaluation.compare("ppo-sandwich", "ppo", "return").set_index("strength").loc[0.0]
    assert clean.value == wanted["difference"]


def test_a_low_bound_that_loses_under_bias_is_said_to_lose(findings):
    found = answer(findings(edit=worse("bias", "ppo-sandwich", 4000.0)))
    text = " ".join(found.sentences)
    assert "It degrades more than ppo under constant bias" in text
    assert "degrades more than ppo under white noise" not in text
    area = Degradation(findings(edit=worse("bias", "ppo-sandwich", 4000.0)).evaluation, FLOOR).kept
    assert f"{100 * area['ppo-sandwich', 'bias'].value:.0f} %" in text


@pytest.mark.parametrize(
    ("by", "verb"),
    [
        (-3000.0, "degrades less than"),
        (3000.0, "degrades more than"),
        (0.0, "cannot be told apart from"),
    ],
)
def test_the_verb_follows_the_interval(findings, make_evaluation, by, verb):
    def edit(frame):
        # the same returns for both, so that only `by` tells them apart
        one = frame["agent"] == "ppo"
        frame.loc[~one, "return"] = frame.loc[one, "return"].to_numpy()
        worse("gaussian", "ppo-sandwich", by)(frame)

    text = answer(findings(evaluation=make_evaluation(n_episodes=12), edit=edit)).sentences[0]
    assert f"ppo-sandwich {verb} ppo" in text


def test_what_is_proven_and_the_figures_at_a_glance(findings):
    given = findings()
    found = answer(given)
    assert "at most 9.00 per raw unit of sensor error; that of ppo by 12.0." in found.sentences[-1]
    kept, clean, chatter, bound = found.cards
    evaluation = given.evaluation
    area = evaluation.normalized_auc(FLOOR).set_index(["agent", "disturbance"])["normalized_auc"]
    assert kept.value == f"{100 * area['ppo-sandwich', 'gaussian']:.0f} %"
    assert any("constant bias" in line for line in kept.beside)
    returns = evaluation.compare("ppo-sandwich", "ppo", "return").set_index(["disturbance", "strength"])
    assert float(clean.value.replace("−", "-")) == pytest.approx(
        returns.loc[("gaussian", 0.0), "difference"], abs=0.05
    )
    ratios = evaluation.compare("ppo-sandwich", "ppo", "action_fluctuation").set_index(
        ["disturbance", "strength"]
    )
    assert float(chatter.value) == pytest.approx(ratios.loc[("gaussian", 0.05), "ratio"], abs=5e-4)
    assert bound.value == "≤ 9.00"


def test_without_certificates_nothing_is_called_proven(findings):
    found = answer(findings(certificates=[]))
    assert found.sentences[-1] == "Nothing is proven: there is no certificate."
    assert found.cards[3].value == "–"


def test_what_is_proven_holds_of_every_training_seed(findings, make_evaluation, make_certificate):
    seeds = (0, 1, 2)
    evaluation = make_evaluation(seeds=seeds, disturbances=NOISES)
    certificates = [
        make_certificate(agent, seed, promise) | {"upper_bound": bound + seed}
        for agent, promise, bound in (("ppo", None, 50.0), ("ppo-sandwich", 6.0, 7.0))
        for seed in seeds
    ]
    found = answer(findings(evaluation=evaluation, certificates=certificates))
    assert (
        "at most 9.00 per raw unit of sensor error (the largest of 3 training seeds)" in found.sentences[-1]
    )
    assert "ppo by 52.0 (the largest of 3" in found.sentences[-1]
    assert found.cards[3].value == "≤ 9.00"
    some = answer(findings(evaluation=evaluation, certificates=certificates[:2] + certificates[3:5]))
    assert "at most 8.00 per raw unit of sensor error (2 of 3 training seeds)" in some.sentences[-1]
    endless = [c | {"upper_bound": math.inf} for c in certificates]
    endless = answer(findings(evaluation=evaluation, certificates=endless))
    assert endless.sentences[-1] == "Nothing is proven: the certified bound is infinite."


def test_of_one_episode_there_is_no_interval_and_no_verdict(findings, make_evaluation):
    evaluation = make_evaluation(n_episodes=1)
    found = answer(findings(evaluation=evaluation, edit=worse("gaussian", "ppo-sandwich", 3000.0)))
    assert "ppo-sandwich cannot be told apart from ppo" in found.sentences[0]
    assert "cannot be told apart by what they earn" in found.sentences[1]
    assert "[" not in found.sentences[0]


@pytest.mark.parametrize("strength", [0.0, 0.1])
def test_episodes_that_were_not_finite_are_named_in_the_answer(findings, strength):
    def edit(frame):
        rows = (frame["agent"] == "ppo-sandwich") & (frame["strength"] == strength) & (frame["episode"] == 3)
        frame.loc[rows, "return"] = math.nan
        frame.loc[rows, "nonfinite"] = "reward"

    first = answer(findings(edit=edit)).sentences[0]
    assert first == (
        "Who degrades less cannot be said: ppo-sandwich had episodes that were not finite, and nothing is averaged "
        "over them."
    )


def test_agents_without_an_episode_in_common_are_not_compared(findings, make_evaluation):
    evaluation = make_evaluation(seeds=(0, 1))
    frame = evaluation.frame
    frame.loc[frame["agent"] == "ppo", "seed"] += 5
    assert "no training seed and episode in common" in answer(findings(evaluation=evaluation)).sentences[0]


def test_one_agent_alone(findings, make_evaluation):
    found = answer(findings(evaluation=make_evaluation(agents=("only",))))
    assert found.subject is None
    assert found.sentences[0].startswith("only keeps ")
    assert len(found.cards) == 4


def test_of_many_agents_the_best_is_named_for_each_disturbance(findings, make_evaluation):
    evaluation = make_evaluation(agents=("plain", "a", "b"), disturbances=NOISES, n_episodes=12)
    worse("gaussian", "a", -4000.0)(evaluation.frame)
    worse("bias", "b", -2000.0)(evaluation.frame)
    found = answer(findings(evaluation=evaluation))
    assert found.subject == "a"
    assert "Of the 3 agents most is kept by a under white noise; by b under constant bias." in found.sentences


def test_untrained_agents_are_called_so_and_are_no_answer(findings, make_evaluation):
    def edit(frame):
        rows = frame["agent"] == "ppo-sandwich"
        frame.loc[rows, "return"] = FLOOR + 10.0 + frame.loc[rows, "episode"]

    given = findings(edit=edit)
    found = answer(given)
    assert list(found.untrained) == ["ppo-sandwich"]
    assert "hardly beats random actions" in found.untrained["ppo-sandwich"]
    assert found.cards[0].value == "–"
    assert found.sentences[0].startswith("ppo-sandwich has not learned the task")

    def both(frame):
        frame["return"] = FLOOR + 10.0 + frame["episode"]

    nothing = answer(findings(edit=both, reference_return=-172.0))
    assert len(nothing.untrained) == 2
    assert nothing.sentences == [
        "There is no answer yet: no agent here does better than random actions by more than a little."
    ]


def test_an_untrained_agent_is_not_said_to_keep_most(findings, make_evaluation):
    evaluation = make_evaluation(agents=("plain", "a", "b", "flat"), n_episodes=12)
    frame = evaluation.frame
    frame.loc[frame["agent"] == "flat", "return"] = FLOOR + 10.0
    said = " ".join(answer(findings(evaluation=evaluation)).sentences)
    assert "Of the 3 agents that learned most is kept by" in said
    assert "flat" not in said


def test_trained_agents_are_not_doubted(make_evaluation):
    assert untrained(make_evaluation(), FLOOR, -172.0) == {}
    assert untrained(make_evaluation(), None) == {}


def test_the_unconstrained_agent_is_the_reference_whatever_the_order(make_evaluation, make_certificate):
    certificates = [
        make_certificate("b", promise=5.0),
        make_certificate("a", promise=3.0),
        make_certificate("plain"),
    ]
    agents = ["b", "a", "plain"]
    assert reference_of(agents, certificates) == "plain"
    assert reference_of(agents, certificates[:2]) == "b"
    assert reference_of(agents, [], None) == "b"
    assert reference_of(agents, [make_certificate("a", promise=math.inf)]) == "a"
    assert reference_of(agents, certificates, "a") == "a"
    with pytest.raises(ValueError, match="Did you mean 'plain'"):
        reference_of(agents, certificates, "plian")
    given = findings_of(evaluation=make_evaluation(agents=agents), certificates=certificates)
    assert given.agents == ["plain", "b", "a"]


def test_the_terminal_says_the_answer_and_a_compact_table(findings, capsys):
    from rich.console import Console

    given = findings()
    print_answer(Console(width=100), given)
    said = capsys.readouterr().out
    assert answer(given).sentences[-1] in " ".join(said.split())
    assert "Clean return" in said
    assert "Certified bound" in said
    assert len(said.splitlines()) < 30


def test_attacks_are_told_from_disturbances_of_the_same_name(make_evaluation):
    evaluation = make_evaluation(disturbances=("gaussian", "mad"))
    evaluation.metadata["disturbances"]["mad"] = {"name": "mad", "epsilon": 1.0, "norm": "linf"}
    given = findings_of(evaluation=evaluation)
    assert given.disturbances == ["gaussian"]
    assert set(given.attacks.frame["disturbance"]) == {"mad"}
    biased = make_evaluation(disturbances=("bias",))
    biased.metadata["disturbances"]["bias"] = {"name": "bias", "std": 1.0}
    assert findings_of(evaluation=biased).disturbances == ["bias"]
