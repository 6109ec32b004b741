import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lipsrl.evaluation import Evaluation, evaluate, rollout_trace
from lipsrl.reporting import Portrait, write_report
from lipsrl.reporting.figures.worst import worst_case

VOID = {"meta", "link", "br", "hr", "img"}
SECTIONS = ["answer", "agents", "disturbances", "actions", "statistics", "certificates", "origin"]


class Page(HTMLParser):
    """What a browser would see: visible text, tags with attributes, scripts, the tables' cells."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.scripts, self.cells, self.styles = [], [], {}, []
        self.open, self.pieces = [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "td" and "data-agent" in attributes:
            self.cells[(attributes["data-row"], attributes["data-agent"])] = float(attributes["data-value"])

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] == "style":
            self.styles.append(data)
        else:
            self.pieces.append(data)

    def figures(self):
        """Names of the figures, and how many panels each has."""
        found, name = {}, None
        for tag, attributes in self.tags:
            if tag == "figure":
                name = attributes["id"].removeprefix("figure-")
                found[name] = 0
            elif attributes.get("class") == "plot":
                found[name] += 1
        return found


@pytest.fixture
def report(tmp_path, make_evaluation, make_certificate, make_trace):
    """Write a report, with what is not given made up, and return its parsed page."""

    def make(**given):
        evaluation = given.get("evaluation", make_evaluation())
        agents = [str(a) for a in evaluation.frame["agent"].unique()]
        arguments = {
            "evaluation": evaluation,
            "certificates": [
                make_certificate(agents[0]),
                *(make_certificate(a, promise=6.0) for a in agents[1:]),
            ],
            "traces": {agent: make_trace() for agent in agents},
            "commands": ["python -m experiments.train --agent ppo"],
        }
        path = write_report(tmp_path / "report.html", **(arguments | given))
        html = path.read_text(encoding="utf-8")
        page = Page(html)
        page.size = path.stat().st_size
        assert not page.open, f"never closed: {page.open}"
        return page

    return make


def test_the_page_asks_nothing_of_the_network(report):
    page = report()
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert not re.match(r"\s*(https?:)?//", attributes.get(name) or ""), (tag, attributes)
        assert tag not in {"iframe", "object", "embed", "form", "base"}
        assert not (tag == "script" and "src" in attributes)
        assert not (attributes.get("href") or "").startswith(("http", "file"))
    assert not re.search(r"@import|url\(", "".join(page.styles))
    (policy,) = [a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert "*" not in policy


@pytest.mark.parametrize("seeds", [(0,), range(6)])
def test_table_numbers_are_those_of_the_frame(report, make_evaluation, make_certificate, seeds):
    evaluation = make_evaluation(seeds=seeds)
    certificates = [make_certificate(agent, seed) for agent in ("ppo", "ppo-sandwich") for seed in seeds]
    page = report(evaluation=evaluation, certificates=certificates)
    summary = evaluation.summary().set_index(["agent", "strength"])
    for agent in ("ppo", "ppo-sandwich"):
        for strength in (0.0, 0.05, 0.1):
            assert page.cells[(f"return@{strength:g}", agent)] == summary.loc[(agent, strength), "return"]
        assert page.cells[("fluctuation", agent)] == summary.loc[(agent, 0.05), "action_fluctuation"]
        assert page.cells[("upper_bound", agent)] == 12.0
    assert f"−{-summary.loc[('ppo', 0.0), 'return']:.0f}" in page.text
    assert ("6 training seeds" in page.text) is (len(seeds) > 1)
    assert ("one training seed" in page.text) is (len(seeds) == 1)


def test_every_agent_and_section_is_there(report):
    page = report()
    for word in (
        "ppo",
        "ppo-sandwich",
        "Pendulum-v1",
        "σ = 0.05",
        "VecNormalize",
        "Promised constant K",
        "bound",
    ):
        assert word in page.text
    assert "python -m experiments.train --agent ppo" in page.text
    assert "torch 2.13.0" in page.text
    assert "stable-baselines3 2.9.2" in page.text
    assert "VecNormalize is frozen." in page.text
    sections = [a["id"] for t, a in page.tags if t == "section"]
    assert sections == [*SECTIONS[:3], "sensors", *SECTIONS[3:]]
    figures = page.figures()
    assert figures == {"disturbance-gaussian": 2, "sensors": 1, "actions-1": 2, "spectrum": 1, "profiles": 2}
    links = [a["href"][1:] for t, a in page.tags if t == "a"]
    assert links == sections[1:]
    named = [a["id"] for _, a in page.tags if "id" in a]
    assert len(named) == len(set(named))


def test_many_agents_are_all_in_the_tables_and_what_is_drawn_is_said(report, make_evaluation):
    agents = [f"agent-{i}" for i in range(9)]
    page = report(evaluation=make_evaluation(agents=agents, n_episodes=3))
    assert {agent for _, agent in page.cells} == set(agents)
    assert "the 7 agents that keep most of their return; the tables have all 9" in page.text


def test_two_disturbances_have_two_tables_and_figures_each(report, make_evaluation):
    page = report(evaluation=make_evaluation(disturbances=("gaussian", "uniform")))
    assert {"disturbance-gaussian", "disturbance-uniform"} < set(page.figures())
    assert page.text.count("Numbers:") == 2


def test_the_answer_comes_first_and_metadata_last(report):
    text = report().text
    places = [
        text.index(word) for word in ("told apart from", "Certified bound", "Evaluation seed", "2.13.0")
    ]
    assert places == sorted(places)
    assert places[0] < 200


def test_the_reference_is_the_plain_agent_and_can_be_chosen(report, make_evaluation, make_certificate):
    evaluation = make_evaluation(agents=("ppo-sandwich", "ppo"))
    certificates = [make_certificate("ppo-sandwich", promise=6.0), make_certificate("ppo")]
    given = {"evaluation": evaluation, "certificates": certificates}
    assert "ppo-sandwich minus ppo, gaussian" in report(**given).text
    assert "ppo minus ppo-sandwich, gaussian" in report(**given, reference="ppo-sandwich").text
    with pytest.raises(ValueError, match="reference='sac' is not known"):
        report(**given, reference="sac")


def test_attacks_learning_sensors_portraits_and_k_have_their_sections(
    report, make_evaluation, make_certificate
):
    evaluation = make_evaluation(agents=("ppo", "K=2", "K=4"))
    attacks = make_evaluation(agents=("ppo", "K=2", "K=4"), disturbances=("random", "mad"))
    grid = np.linspace(-1.0, 1.0, 9).reshape(3, 3)
    log = pd.DataFrame({"time/total_timesteps": [1e3, 2e3], "rollout/ep_rew_mean": [-9.0, -5.0]})
    page = report(
        evaluation=evaluation,
        certificates=[
            make_certificate("ppo"),
            *(make_certificate(f"K={k}", promise=float(k)) for k in (2, 4)),
        ],
        attacks=attacks,
        learning={"ppo": [log]},
        portraits={"ppo": Portrait((-1, 1), (-1, 1), "angle (rad)", "velocity (rad/s)", grid, abs(grid))},
        sensitivities={"ppo": [1.0, 2.0]},
        sensors=("θ (rad)", "ω (rad/s)"),
        feasibility_floor=5.0,
        recommendations=["Take K = 4."],
    )
    assert [a["id"] for t, a in page.tags if t == "section"] == [
        "answer", "agents", "learning", "disturbances", "worst", "sensors", "actions", "portrait", "frontier",
        "statistics", "certificates", "origin",
    ]  # fmt: skip
    assert {"learning", "worst-case", "sensors", "portrait", "frontier"} < set(page.figures())
    for said in ("Take K = 4.", "θ (rad)", "Feasibility floor: 5.00", "feasibility floor: 5.00"):
        assert said in page.text
    worst = worst_case(attacks).set_index(["agent", "strength"])["return"]
    assert page.cells[("worst@0.1", "K=2")] == worst["K=2", 0.1]


def test_untrained_agents_are_warned_of(report, make_evaluation):
    evaluation = make_evaluation()
    evaluation.frame["return"] = -1235.0 + 20.0 * (evaluation.frame["episode"] % 2)  # the floor is -1230
    page = report(evaluation=evaluation)
    assert len([a for t, a in page.tags if a.get("role") == "alert"]) == 2
    assert "There is no answer yet" in page.text
    assert page.text.count("hardly beats random actions") == 2


def test_sizes(report, make_evaluation):
    """Seconds: the bootstrap intervals of twenty agents under three disturbances."""
    two = report(evaluation=make_evaluation(disturbances=("a", "b", "c")))
    twenty = report(
        evaluation=make_evaluation(
            agents=[f"agent {i}" for i in range(20)], disturbances=("a", "b", "c"), n_episodes=3
        )
    )
    assert two.size < 1_500_000
    assert twenty.size < 4_000_000


def test_data_is_escaped_wherever_it_is_shown(report, make_evaluation, make_certificate, make_trace):
    evil = "</script><script>alert(1)</script><b>&amp;"
    evaluation = make_evaluation(agents=(evil, "b"), disturbances=(evil,), env=evil, versions={evil: evil})
    certificate = make_certificate(
        evil,
        method=evil,
        assumptions=[evil],
        warnings=[evil],
        factors=[{"name": evil, "gain": 1.0, "detail": evil}],
    )
    page = report(
        evaluation=evaluation,
        certificates=[certificate],
        traces={evil: make_trace() | {"disturbance": evil}},
        commands=[evil],
        title=evil,
        notes=evil,
    )
    assert len([t for t, _ in page.tags if t == "script"]) == 1
    assert "b" not in {t for t, _ in page.tags}
    assert page.text.count(evil) >= 12


def test_optional_parts_may_be_missing(report, make_evaluation):
    bare = make_evaluation(agents=("only",), seeds=(None,))
    page = report(evaluation=Evaluation(bare.frame), certificates=[], traces={}, commands=[])
    sections = [a["id"] for t, a in page.tags if t == "section"]
    assert sections == ["answer", "agents", "disturbances", "statistics", "certificates", "origin"]
    assert "No certificate was given." in page.text
    assert "strength 0.05" in page.text  # the metadata does not say that it is a standard deviation
    clean = bare.frame[bare.frame["strength"] == 0.0]
    page = report(evaluation=Evaluation(clean), certificates=[], traces={}, commands=[])
    assert set(page.figures()) == {"profiles"}
    assert ("return@0", "only") in page.cells


def test_at_most_three_action_channels_are_drawn(report, make_trace):
    page = report(traces={"ppo": make_trace(6), "ppo-sandwich": make_trace(6)})
    actions = [name for name in page.figures() if name.startswith("actions")]
    assert actions == ["actions-1", "actions-2", "actions-3"]
    assert "Actions, channel 3 of 6" in page.text


def test_a_certificate_that_does_not_fit_the_evaluation_is_called_out(report, make_certificate):
    page = report(certificates=[make_certificate("ppo", upper_bound=0.5, lower_bound=0.4)])
    alerts = [a for t, a in page.tags if a.get("role") == "alert"]
    assert len(alerts) == 1
    assert "is above the upper bound 0.500" in page.text
    assert not [a for t, a in report().tags if a.get("role") == "alert"]


def test_floor_notes_and_title(report):
    page = report(floor=-999.0, notes=["First.", "Second."], title="Three words here")
    assert "a return of −999 counts as nothing" in page.text
    assert "<p>" not in page.text
    assert "First. Second." in page.text
    assert page.text.count("Three words here") == 2  # in the head and as the heading


def test_versions_of_joined_evaluations_are_all_named(report, make_evaluation):
    evaluation = make_evaluation(
        versions={}, parts=[{"versions": {"torch": v}} for v in ("2.12.0", "2.13.0")]
    )
    assert "torch 2.12.0, 2.13.0" in report(evaluation=evaluation).text


def test_two_agents_of_one_name_are_refused(tmp_path, make_evaluation, make_certificate):
    doubled = SimpleNamespace(frame=pd.concat([make_evaluation().frame] * 2), metadata={})
    path = tmp_path / "report.html"
    rest = {"traces": {}, "commands": []}
    with pytest.raises(ValueError, match=r"two rows with .*'ppo'"):
        write_report(path, evaluation=doubled, certificates=[], **rest)
    twice = [make_certificate(), make_certificate()]
    with pytest.raises(ValueError, match="two of agent 'ppo' with training seed 0"):
        write_report(path, evaluation=make_evaluation(), certificates=twice, **rest)
    empty = Evaluation(make_evaluation().frame.iloc[:0])
    with pytest.raises(ValueError, match="at least one episode"):
        write_report(path, evaluation=empty, certificates=[], **rest)
    assert list(tmp_path.iterdir()) == []


def test_the_same_arguments_give_the_same_bytes_and_nothing_else_is_left(
    tmp_path, make_evaluation, make_trace
):
    arguments = {
        "evaluation": make_evaluation(),
        "certificates": [],
        "traces": {"ppo": make_trace()},
        "commands": "make demo",
    }
    path = tmp_path / "new folder" / "report.html"
    assert write_report(str(path), **arguments) == path
    first = path.read_bytes()
    write_report(path, **arguments)
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert ">make demo</pre>" in first.decode()


def test_a_real_evaluation_and_real_episodes(report):
    def gain(k):
        return lambda o: -k * o[:, 2:]

    policies = {"steep": gain(1.0), "flat": gain(0.2)}
    evaluation = evaluate(policies, "Pendulum-v1", n_episodes=2)
    page = report(
        evaluation=evaluation,
        certificates=[],
        traces={name: rollout_trace(policy, "Pendulum-v1") for name, policy in policies.items()},
    )
    summary = evaluation.summary().set_index("agent")
    assert page.cells[("return@0", "flat")] == summary.loc["flat", "return"]
    assert page.cells[("action_sensitivity", "flat")] == summary.loc["flat", "action_sensitivity"]
    assert "steep, return" in page.text


def test_episodes_that_were_not_finite_are_named_at_the_top(report, make_evaluation):
    evaluation = make_evaluation()
    assert "not finite" not in report(evaluation=evaluation).text
    evaluation.frame.loc[0, ["return", "nonfinite"]] = [float("nan"), "reward"]
    text = report(evaluation=evaluation).text
    assert "ppo: 1 of 18 episodes ended at an observation, action or reward that was not finite" in text
    assert "1 of 6 not finite" in text
