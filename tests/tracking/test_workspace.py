"""The saved view and the report: valid by W&B's own classes, of keys of the scheme, whatever the names are."""

import ast
import doctest
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lipsrl
from lipsrl.disturbances import Bias, GaussianNoise
from lipsrl.evaluation import Evaluation, evaluate
from lipsrl.tracking import _labels, report, workspace
from lipsrl.tracking._labels import cell, title
from lipsrl.tracking._wandb_workspaces import import_workspaces
from lipsrl.tracking.names import JOBS, NAMES, name_of
from lipsrl.tracking.workspace import COLUMNS
from tests.tracking.dashboard_keys import all_panels, asked_for, grids

ws, wr = import_workspaces()
COMMENTS = ("inlineComments", [])
LONG = "an-agent-whose-name-takes-all-of-the-eighty-characters-that-somebody-once-typed"
ODD = ["<script>alert(1)</script>", "agent 🚀 of mine", LONG, 'a|b*c_d`e"f', "ppo-sandwich", "a/b.c:d"]
AGENTS = [[], ["ppo"], ["ppo", "ppo-sandwich"], ODD, [f"agent-{i}" for i in range(50)]]


def spec(model):
    return model.spec.model_dump_json(by_alias=True, exclude_none=True)


def round_trip(view):
    parsed = ws.internal.WorkspaceViewspec.model_validate_json(spec(view._to_model()))
    model = ws.internal.View(
        entity=view.entity, project=view.project, display_name=view.name, name="", id="", spec=parsed
    )
    return ws.Workspace._from_model(model)


@pytest.mark.parametrize(
    "agents", [[], ["ppo"], ["ppo", "ppo-sandwich"], ODD, [f"agent-{i}" for i in range(50)]]
)
@pytest.mark.parametrize(
    "disturbances", [(), ("gaussian",), ("gaussian", "ar1:0.1/0.9", "<b>bias</b> 🚀", LONG)]
)
def test_the_view_survives_wandbs_own_classes(agents, disturbances):
    view = workspace("a-project", "somebody", disturbances=disturbances, agents=agents)
    assert spec(round_trip(view)._to_model()) == spec(view._to_model())
    assert len(round_trip(view).runset_settings.group_colors) == len(agents)
    again = workspace("a-project", "somebody", disturbances=disturbances, agents=agents)
    assert spec(again._to_model()) == spec(view._to_model())  # nothing is drawn at random


def comparable(text, *, layouts=True):
    """A report's spec without what wandb-workspaces 0.4.13 itself loses or adds in reading: empty lists of comments on
    headings, and (``layouts=False``: from models to its panels and back) the layouts of panels of tables."""

    def visit(value):
        if isinstance(value, list):
            return [visit(item) for item in value]
        if not isinstance(value, dict):
            return value
        of_table = value.get("viewType") == "Weave" and not layouts
        left = {"layout"} if of_table else set()
        return {
            key: visit(item) for key, item in value.items() if key not in left and (key, item) != COMMENTS
        }

    return visit(json.loads(text))


@pytest.mark.parametrize("agents", AGENTS)
def test_the_report_survives_wandbs_own_classes(agents):
    options = {"agents": agents, "disturbances": ("gaussian", "<b>bias</b> 🚀")}
    page = report("a-project", "somebody", **options)
    model = page._to_model()
    parsed = wr.internal.Spec.model_validate_json(spec(model))
    assert {type(block).__name__ for block in parsed.blocks} <= {
        "Paragraph", "TableOfContents", "Heading", "MarkdownBlock", "PanelGrid",
    }  # fmt: skip  # a block that it cannot read becomes an UnknownBlock
    assert comparable(parsed.model_dump_json(by_alias=True, exclude_none=True)) == comparable(spec(model))
    back = wr.Report._from_model(model)._to_model()
    assert comparable(spec(back), layouts=False) == comparable(spec(model), layouts=False)
    assert spec(report("a-project", "somebody", **options)._to_model()) == spec(
        model
    )  # nothing is drawn at random
    coloured = [agent for agent in agents if ":" not in agent]
    assert [len(grid.custom_run_colors) for grid in grids(page)] == [len(coloured)] * len(grids(page))


def test_panels_of_a_report_do_not_overlap():
    for grid in grids(report("p")):
        boxes = [panel.layout for panel in grid.panels]
        assert all(box.x + box.w <= 24 for box in boxes)
        for a, b in itertools.combinations(boxes, 2):
            assert a.x + a.w <= b.x or b.x + b.w <= a.x or a.y + a.h <= b.y or b.y + b.h <= a.y


def test_panels_are_of_the_scheme_and_named_apart():
    view = workspace("p")
    panels = all_panels(view)
    for panel in panels:
        keys, patterns = asked_for(panel)
        assert keys | patterns
        for key in keys:
            entry = name_of(key) or name_of(key.removesuffix("_table"))
            assert entry is not None, key
            assert entry.kind != "text"
    assert len({panel._id for panel in panels}) == len(panels)
    names = [section.name for section in view.sections]
    assert names == [
        "answer",
        "learning",
        "robustness",
        "certificates",
        "actions",
    ]


def test_what_no_panel_shows_is_left_out_on_purpose():
    asked = [asked_for(panel) for panel in all_panels(workspace("p"))]
    shown = {name_of(key) or name_of(key.removesuffix("_table")) for keys, _ in asked for key in keys}
    patterns = {pattern.replace("[0-9]+", "<i>") for _, found in asked for pattern in found}
    left = {name.key for name in NAMES if name not in shown and name.key not in patterns}
    assert left == {
        # SB3's own curves; W&B has them under any other view
        "time/*", "rollout/*", "train/*",
        # said by what is shown: means beside a largest value, bounds in the other units, layers without their budget
        "smoothness/sensitivity", "smoothness/raw_lipschitz_bound", "smoothness/layer_norm/<i>",
        "smoothness/certified_radius", "robustness/clean_action_fluctuation", "robustness/noisy_strength",
        "robustness/<disturbance>/breakdown", "robustness/worst_attack_epsilon", "robustness/worst_attack_name",
        "certificate/network_tightness", "certificate/promise", "certificate/method", "certificate/window_frames",
        "certificate/window_newest", "certificate/window_each", "certificate/window_whole", "certificate/window_signal",
        # the same lines as the panels over strength; frontiers are of many agents at once
        "curves/<disturbance>", "tables/frontier", "curves/frontier",
    }  # fmt: skip


def test_the_table_of_runs_is_grouped_by_agent_and_pins_what_matters():
    settings = workspace("p").runset_settings
    assert [(group.name, type(group).__name__) for group in settings.groupby] == [("agent", "Config")]
    assert settings.pinned_columns == ["run:displayName", *COLUMNS]
    for column in COLUMNS:
        section, name = column.split(":")
        assert section in ("config", "run") or name_of(name) is not None


def test_more_than_ten_runs_are_shown():
    view = workspace("p")
    assert view.settings.max_runs == 500
    limits = [p.max_runs_to_show for p in all_panels(view) if hasattr(p, "max_runs_to_show")]
    assert set(limits) == {500}


def test_panels_of_jobs_that_were_not_run_are_left_out():
    trained = [asked_for(panel)[0] for panel in all_panels(workspace("p", jobs=["train"]))]
    assert trained
    for keys in trained:
        assert all("train" in (name_of(key) or name_of(key.removesuffix("_table"))).jobs for key in keys)
    assert len(all_panels(workspace("p", jobs=["train", "evaluate"]))) > len(trained)
    with pytest.raises(ValueError, match=r"jobs='evalute' is not known\. Did you mean 'evaluate'"):
        workspace("p", jobs=["evalute"])
    with pytest.raises(ValueError, match=f"of {', '.join(JOBS)}"):
        workspace("p", jobs=[])


@pytest.mark.parametrize("project", ["", "  ", "a/b", "a#b", "<b>x</b>", "x" * 129, "a\nb"])
def test_projects_that_wandb_refuses_are_refused_here(project):
    for make in (workspace, report):
        with pytest.raises(ValueError, match="project must be 1 to 128 characters"):
            make(project)


def test_entity_of_the_environment(monkeypatch):
    monkeypatch.setenv("WANDB_ENTITY", "a-team")
    assert workspace("p").entity == report("p").entity == "a-team"
    assert workspace("p", "another").entity == "another"
    monkeypatch.delenv("WANDB_ENTITY")
    assert workspace("p").entity == ""
    with pytest.raises(ValueError, match="entity must be"):
        workspace("p", "a/b")


def test_names_with_symbols_are_cleaned_in_titles():
    assert report("smoothness 🚀 <b>").title == "lipsrl: smoothness of smoothness b"
    assert len(report("x" * 128).title) == 128
    assert title("👩‍🚀  ok") == "ok"
    assert cell("a\n|<b>") == "a &#124;&lt;b&gt;"


def agents_of(names, *, seeds=(0,), **options):
    models = {(name, seed): lambda obs, gain=i: np.clip(-gain * obs[..., 2:3], -2, 2)
              for i, name in enumerate(names) for seed in seeds}  # fmt: skip
    return evaluate(models, "Pendulum-v1", disturbances=[GaussianNoise(1.0), Bias(1.0)], strengths=(0, 0.1),
                    n_episodes=2, floor=-1300.0, max_episode_steps=20, **options)  # fmt: skip


def text_of(page):
    return "\n".join(block.text for block in page.blocks if type(block).__name__ == "MarkdownBlock")


def test_the_report_begins_with_the_answer_and_its_intervals():
    evaluation = agents_of(ODD, seeds=(0, 1))
    certificates = [{"agent": ODD[0], "upper_bound": 3.00001}, {"agent": ODD[0], "upper_bound": 2.0}]
    page = report("p", agents=ODD, evaluations=[evaluation], certificates=certificates)
    text = text_of(page)
    curves = evaluation.normalized_auc()
    first = curves[(curves["agent"] == LONG) & (curves["disturbance"] == "gaussian")].iloc[0]
    auc = f"{first['normalized_auc']:.2f} [{first['normalized_auc_low']:.2f}, {first['normalized_auc_high']:.2f}]"
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {LONG}") and auc in line][:1]
    assert line.count(" | ") == 7
    assert "≤ 3.001" in text  # rounded up, and of several seeds the largest
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert text.index("keeps most of its return") < text.index("```bash")
    assert "over seeds" in text


def test_a_certificate_of_another_task_is_not_shown():
    certificates = [
        {"agent": "a", "upper_bound": 3.5, "env": "Pendulum-v1"},
        {"agent": "a", "upper_bound": 7.0, "env": "Reacher-v5"},
        {"agent": "a", "upper_bound": float("nan")},
    ]
    text = text_of(report("p", evaluations=[agents_of(["a"])], certificates=certificates))
    assert "≤ 3.5 |" in text
    assert "≤ 7" not in text


def test_an_untrained_agent_is_named_and_keeps_most_of_nothing():
    evaluation = agents_of(["a", "b", "c"])
    frame = evaluation.frame.copy()
    frame.loc[frame["agent"] == "c", "return"] = -1299.0 - frame["episode"] / 100
    text = text_of(report("p", evaluations=[Evaluation(frame, evaluation.metadata)]))
    assert "c hardly beats random actions" in text
    assert "c keeps most" not in text
    assert "keeps most of its return" in text
    assert "nan" not in text


def test_a_winner_is_named_only_where_intervals_are_apart():
    evaluation = agents_of(["still"])
    frame = evaluation.frame.assign(agent="same")
    twins = Evaluation(
        pd.concat([evaluation.frame, frame]),
        evaluation.metadata | {"agents": [{"agent": "still"}, {"agent": "same"}]},
    )
    assert "but its interval meets that of another" in text_of(report("p", evaluations=[twins]))
    lost = frame.assign(**{"return": np.where(frame["strength"] > 0, -1300.0, frame["return"])})
    worse = Evaluation(pd.concat([evaluation.frame, lost]), twins.metadata)
    assert "above all others" in text_of(report("p", evaluations=[worse]))
    assert "keeps most" not in text_of(report("p", evaluations=[evaluation]))  # one agent alone


def test_returns_that_are_not_finite_are_called_so():
    evaluation = agents_of(["a", "b"])
    frame = evaluation.frame.copy()
    hit = (frame["agent"] == "b") & (frame["strength"] > 0)
    frame.loc[hit, "return"] = np.nan
    frame.loc[hit, "nonfinite"] = "reward"
    text = text_of(report("p", evaluations=[Evaluation(frame, evaluation.metadata)]))
    assert text.count("not finite") >= 2
    assert "nan" not in text


def test_without_a_floor_there_is_no_auc_and_that_is_said():
    evaluation = agents_of(["a"])
    text = text_of(
        report("p", evaluations=[Evaluation(evaluation.frame, evaluation.metadata | {"floor": None})])
    )
    assert "No AUC: floor is needed" in text
    assert "–" in text


def test_without_wandb_workspaces_one_line_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "wandb_workspaces"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    for make in (workspace, report):
        with pytest.raises(
            ImportError, match=r"^W&B dashboards need .*: pip install 'lipsrl\[dashboards\]'\.$"
        ):
            make("p")


def test_no_file_of_the_library_imports_wandb_workspaces_on_being_imported():
    folder = Path(lipsrl.__file__).parent
    importing = []
    for file in folder.rglob("*.py"):
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [getattr(statement, "module", None), *(a.name for a in getattr(statement, "names", []))]
            if isinstance(statement, ast.Import | ast.ImportFrom) and any(
                str(name).split(".")[0] == "wandb_workspaces" for name in names
            ):
                importing.append(file.name)
    assert importing == []


def test_examples_of_the_labels():
    assert doctest.testmod(_labels).attempted == 2
    assert doctest.testmod(_labels).failed == 0
