"""`experiments.results`: studies of run folders, the numbers of the results page, and what is said of wrong input."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tyro

from experiments import memory
from experiments._collect import collect, joined
from experiments._results_page import page
from experiments._scores import AR1, CLEAN, FLUCTUATION, WHITE, WORST, Scores, balanced, task_iqm
from experiments._study import COLUMNS, Run, Setting, Study, studies
from experiments.results import Args, beside, run, write_page, write_study
from lipsrl.statistics import iqm, performance_profile

ROOT = Path(__file__).parents[2]
LEVELS = [0.0, 0.1, 0.2]


def study(returns, floors=None, name="made-up"):
    """A study of {(task, agent): [(clean, half, noisy) per seed]}; fluctuation is a tenth of ``clean``."""
    rows, runs = [], []
    for (task, agent), seeds in returns.items():
        for seed, curve in enumerate(seeds):
            runs.append(
                Run(
                    task, agent, seed, seconds=360.0, upper_bound=10.0, lower_bound=5.0, network_tightness=0.8
                )
            )
            for kind in ("white", "ar1"):
                rows += [(task, agent, seed, "noise", kind, s, 3, r, curve[0] / 10, 0.0)
                         for s, r in zip(LEVELS, curve, strict=True)]  # fmt: skip
            rows += [(task, agent, seed, "attacks", attack, epsilon, 3, curve[2] - less, 1.0, 0.0)
                     for attack, less in (("mad", 1.0), ("bias", 2.0)) for epsilon in (0.5, 1.0)]  # fmt: skip
    tasks = dict.fromkeys(task for task, _ in returns)
    floors = dict.fromkeys(tasks, 0.0) | (floors or {})
    settings = {
        task: Setting(task, f"{task}-v0", "ppo", floors[task], LEVELS, 0.1, [0.5, 1.0, 2.0]) for task in tasks
    }
    agents = {agent: "an agent" for _, agent in returns}
    return Study(name, "teacher", agents, ["a command"], settings, runs, pd.DataFrame(rows, columns=COLUMNS))


#: One task with two seeds, one with three; the plain agent's clean IQM is 100 and 10.
TWO = {
    ("far", "teacher"): [(90.0, 40.0, 10.0), (110.0, 60.0, 10.0)],
    ("far", "window"): [(100.0, 100.0, 100.0), (100.0, 80.0, 60.0)],
    ("near", "teacher"): [(10.0, 5.0, 0.0)] * 3,
    ("near", "window"): [(10.0, 10.0, 5.0)] * 3,
    ("near", "filter"): [(5.0, 5.0, 5.0)],
}


def test_scores_of_a_run_by_hand():
    scores = Scores(study(TWO))
    assert scores.raw("far", "teacher", WHITE) == pytest.approx({0: 45.0, 1: 60.0})  # (90/2 + 40 + 10/2)/2, …
    assert scores.raw("far", "teacher", WORST) == {0: 8.0, 1: 8.0}  # bias takes 2, at the second radius
    assert scores.span("far", CLEAN) == (0.0, 100.0)
    assert scores.normalized("far", "window", AR1) == pytest.approx({0: 1.0, 1: 0.8})
    assert scores.normalized("near", "window", FLUCTUATION) == {0: 1.0, 1: 1.0, 2: 1.0}


def test_a_floor_is_the_zero_of_scores():
    scores = Scores(study(TWO, floors={"far": -100.0}))
    assert scores.normalized("far", "window", CLEAN) == {0: 1.0, 1: 1.0}
    assert scores.normalized("far", "teacher", CLEAN) == pytest.approx({0: 0.95, 1: 1.05})


def test_every_task_weighs_the_same():
    scores = Scores(
        study({("far", "teacher"): [(1.0, 1.0, 1.0)], ("near", "teacher"): [(1.0, 0.0, 0.0)] * 9})
    )
    assert scores.iqm("teacher", CLEAN).estimate == 1.0
    above = scores.profile("teacher", WHITE, np.array([0.1, 0.5]))
    assert above.share.tolist() == [1.0, 0.5]  # of ten runs nine have 0.25


def test_as_many_runs_on_each_task_are_the_definitions_of_agarwal_et_al():
    values = np.random.default_rng(0).normal(size=(7, 3))
    assert task_iqm([7, 7, 7])(values.T.ravel(), axis=-1) == pytest.approx(iqm(values))
    curves = {(f"task {i}", "teacher"): [(1.0, v, v) for v in column] for i, column in enumerate(values.T)}
    scores, grid = Scores(study(curves)), np.linspace(-1, 1, 5)
    strata = [list(v.values()) for v in scores.strata("teacher", WHITE).values()]
    expected = performance_profile(strata, grid)
    found = scores.profile("teacher", WHITE, grid)
    assert found.share == pytest.approx(expected.share)
    assert np.abs(found.low - expected.low).max() < 0.1
    assert np.abs(found.high - expected.high).max() < 0.1


def test_balanced_places():
    assert balanced([2, 3]).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4]


def test_improvement_and_ratio_by_hand():
    scores = Scores(study(TWO))
    # far: 100, 80 beat 45, 60 always; near: 0.875 beats 0.5 always
    assert scores.improvement("window", WHITE).estimate == 1.0
    # far: one of two plain runs is below 100, one above; near: all are ties
    assert scores.improvement("window", CLEAN).estimate == 0.5
    assert scores.improvement("teacher", WORST).estimate == 0.5
    # a quarter is cut at each end of (0.45, 0.45, 0.45, 0.6, 0.6, 0.6 | 0.5 × 6): 0.5 is left
    assert scores.iqm("teacher", WHITE).estimate == pytest.approx(0.5)
    # of (1, 1, 1, 0.8, 0.8, 0.8 | 0.875 × 6) all of 0.875
    assert scores.ratio("window", WHITE).estimate == pytest.approx(0.875 / 0.5)
    assert scores.ratio("filter", CLEAN) == pytest.approx((0.5, 0.5, 0.5))  # on near alone, seed 0


def test_the_most_that_keeping_the_return_can_give():
    scores = Scores(study(TWO))
    assert scores.nothing_lost("window", WHITE) == pytest.approx(1 / 0.5)
    assert scores.nothing_lost("filter", WHITE) == pytest.approx(1 / 0.5)  # on near alone
    assert scores.nothing_lost("filter", WORST) is None  # the plain agent is below the floor
    kept = Scores(study({("far", "teacher"): [(90.0, 40.0, 10.0)], ("far", "window"): [(90.0, 90.0, 90.0)]}))
    assert kept.ratio("window", WHITE).estimate == pytest.approx(kept.nothing_lost("window", WHITE))
    row = next(line for line in page([scores], []).splitlines() if line.startswith("| `window` | **1.0"))
    assert " of 2.000" in row.split("|")[3]
    assert " of " not in row.split("|")[2]


def test_nothing_above_the_floor_to_divide_by():
    scores = Scores(study({("far", "teacher"): [(1.0, 0.0, 0.0)], ("far", "window"): [(1.0, 1.0, 1.0)]}))
    assert scores.ratio("window", WORST) is None  # the plain agent is at −2
    assert "| `window` | 1.000 [1.000, 1.000] |" not in page([scores], [])  # not of one seed


def test_the_page_says_which_tasks_and_seeds_and_what_one_seed_is():
    text = page([Scores(study(TWO))], ["old"])
    assert "| `teacher` | far (2), near (3) |" in text
    assert "| `filter` | near (1) |" in text
    assert "**near**: one seed only of filter" in text
    assert "`experiments/results/old`" in text
    assert "| all | 11 | 11 | 1.10 |" in text
    assert "10.0, 10.0 to 10.0 | 50% | 80% |" in text
    row = next(line for line in text.splitlines() if line.startswith("| `filter` | 1 |"))
    assert row.split("|")[3:5] == [" 5.00 ", " 0.500 "]  # no interval


def test_bold_where_the_aim_is_met():
    text = page([Scores(study(TWO))], [])
    ratios = next(line for line in text.splitlines() if line.startswith("| `window` | **1.0"))
    cells = [cell.strip() for cell in ratios.split("|")[2:-1]]
    assert cells[1].startswith("**1.750 ")
    assert cells[4].startswith("1.000 ")  # fluctuation: the aim is 0.4


def test_a_study_without_floor_is_said_in_words(tmp_path):
    found = study({("far", "teacher"): TWO["far", "teacher"]}, floors={"far": None})
    text = page([Scores(found)], [])
    assert "**far** has no floor: no normalised scores" in text
    assert "No task has a floor and a plain agent" in " ".join(text.split())
    assert ".png" not in text
    found.save(tmp_path / "made-up")
    assert [path.name for path in write_page(Args(studies=tmp_path, output=tmp_path / "page.md"))] == [
        "page.md"
    ]


def test_a_study_without_plain_agent_is_said_in_words():
    text = page([Scores(study({("far", "window"): TWO["far", "window"]}))], [])
    assert "**far** has no plain agent (`teacher`)" in text


def test_an_agent_with_no_task_of_the_plain_one_does_not_break_the_page(tmp_path):
    made = study({("far", "teacher"): TWO["far", "teacher"], ("near", "window"): TWO["near", "window"]})
    made.save(tmp_path / "made-up")
    files = {path.name for path in write_page(Args(studies=tmp_path, output=tmp_path / "results.md"))}
    text = (tmp_path / "results.md").read_text()
    assert {f"results-made-up-{kind}.png" for kind in ("iqm", "profiles")} | {"results.md"} == files
    assert all(f"({name})" in text for name in files if name.endswith("png"))
    assert "improvement.png" not in text


def test_values_that_are_not_finite_are_said():
    made = study(TWO)
    here = (made.conditions["agent"] == "window") & (made.conditions["seed"] == 1)
    made.conditions.loc[here & (made.conditions["strength"] == 0.0), "return"] = math.nan
    text = page([Scores(made)], [])
    assert "not finite in 1 of 2 runs" in text
    assert Scores(made).strata("window", CLEAN) == {}


def test_a_second_run_changes_nothing(tmp_path):
    study({("far", agent): TWO["far", agent] for agent in ("teacher", "window")}).save(tmp_path / "made-up")
    args = Args(studies=tmp_path, output=tmp_path / "out" / "results.md")
    first = {path: path.read_bytes() for path in write_page(args)}
    assert len(first) == 4
    assert first == {path: path.read_bytes() for path in write_page(args)}


def test_a_study_survives_the_disk(tmp_path):
    study(TWO).save(tmp_path)
    loaded = Study.load(tmp_path)
    assert loaded.settings == study(TWO).settings
    assert list(loaded.runs) == study(TWO).runs
    pd.testing.assert_frame_equal(loaded.conditions, study(TWO).conditions)


def test_wrong_studies(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        studies(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"No study in .* --collect RUNS"):
        studies(tmp_path)
    place = tmp_path / "made-up"
    study(TWO).save(place)
    (tmp_path / "empty").mkdir()
    (tmp_path / "episodes").mkdir()
    (tmp_path / "episodes" / "noise.parquet").touch()
    assert studies(tmp_path)[1] == ["episodes"]
    whole = (place / "conditions.parquet").read_bytes()
    (place / "conditions.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"conditions.parquet cannot be read as Parquet"):
        studies(tmp_path)
    study({("far", "teacher"): TWO["far", "teacher"]}).conditions.to_parquet(place / "conditions.parquet")
    with pytest.raises(ValueError, match="not of one collection"):
        studies(tmp_path)
    (place / "conditions.parquet").unlink()
    with pytest.raises(ValueError, match=r"conditions.parquet is missing"):
        studies(tmp_path)
    (place / "study.json").write_text("{")
    with pytest.raises(ValueError, match=r"study.json is no study.json .* Collect it again"):
        studies(tmp_path)
    (place / "study.json").write_text('{"schema_version": 0}')
    with pytest.raises(ValueError, match="schema_version=0"):
        studies(tmp_path)


def leave_run(
    root: Path, seed: int, agent: str, shift: float = 0.0, attacked: bool = True, floor: float = -1235.0
):
    """A run folder as `experiments.memory` leaves it, of two episodes."""
    folder = root / f"pendulum-{seed}" / agent
    folder.mkdir(parents=True)

    def evaluated(name, disturbances, strengths):
        rows = [(d, s, e, -150.0 - 1000 * s - e + shift, 0.3 + s, 0.1)
                for d in disturbances for s in strengths for e in range(2)]  # fmt: skip
        columns = [
            "disturbance",
            "strength",
            "episode",
            "return",
            "action_fluctuation",
            "high_frequency_ratio",
        ]
        pd.DataFrame(rows, columns=columns).to_parquet(folder / f"{name}.parquet")
        (folder / f"{name}.json").write_text(json.dumps({"floor": floor, "strengths": strengths}))

    evaluated("noise", ["white", "ar1", "bias"], [0.0, 0.05, 0.1, 0.2, 0.4])
    evaluated("faults", ["dropout and delay"], [1.0])
    if attacked:
        evaluated("attacks", ["mad", "bias"], [0.1, 0.2])
        config = {"task": "pendulum", "seed": seed, "agent": "ppo" if agent == "teacher" else agent,
                  "train_seconds": 36.0, "versions": {"torch": "2"}}  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        certificate = {"upper_bound": 8.0, "lower_bound": 4.0, "network": {"tightness": 0.9},
                       "window": {"newest": 3.0} if agent == "window" else None}  # fmt: skip
        (folder / "certificate.json").write_text(json.dumps(certificate))
    return folder


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "runs"
    for seed in (0, 1):
        leave_run(root, seed, "teacher")
        leave_run(root, seed, "window", shift=20.0)
        leave_run(root, seed, "filtered", attacked=False)
    return root


def test_run_folders_become_a_study(runs):
    made, skipped = collect(runs, "small")
    assert skipped == []
    assert [one.name for one in made.runs][:2] == [
        "teacher of pendulum, seed 0",
        "teacher of pendulum, seed 1",
    ]
    assert list(made.agents) == ["teacher", "filtered", "window"]
    window = next(one for one in made.runs if one.agent == "window")
    assert (window.upper_bound, window.newest, window.network_tightness, window.seconds) == (
        8.0,
        3.0,
        0.9,
        36.0,
    )
    assert made.settings["pendulum"].epsilon == 0.2
    assert made.commands == [
        "python -m experiments.memory --task pendulum --seeds 0 1 --agents teacher filtered window --output RUNS",
        "python -m experiments.results --collect RUNS --study small",
    ]
    scores = Scores(made)
    assert scores.raw("pendulum", "window", CLEAN) == {0: -130.5, 1: -130.5}
    assert scores.raw("pendulum", "teacher", WORST) == {0: -350.5, 1: -350.5}
    assert scores.raw("pendulum", "teacher", FLUCTUATION) == pytest.approx({0: 0.35, 1: 0.35})
    assert scores.raw("pendulum", "filtered", WORST) == {}


def test_unfinished_agents_are_left_out_with_a_word(runs):
    (runs / "pendulum-1" / "window" / "certificate.json").unlink()
    (runs / "pendulum-0" / "filtered" / "faults.parquet").unlink()
    (runs / "stray").mkdir()
    made, skipped = collect(runs, "small")
    assert skipped == [
        "pendulum-0/filtered: unfinished, no faults.parquet",
        "pendulum-1/window: unfinished, no certificate.json",
        "stray: no config.json of an agent that names a task",
    ]
    assert len(made.runs) == 4


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_run_that_is_there_twice_is_refused(runs):
    shutil.copytree(runs / "pendulum-0", runs / "pendulum-0-backup")
    with pytest.raises(
        ValueError,
        match=r"pendulum-0/teacher and .*backup/teacher are both 'teacher of pendulum, seed 0': one run would",
    ):
        collect(runs, "small")


@pytest.mark.parametrize("name", ["pendulum-2", "pendulum-1.bak", "sacc-pendulum-1"])
def test_a_copy_without_its_plain_agent_is_refused(name, tmp_path):
    """Its name would be taken for another recipe's."""
    leave_run(tmp_path, 1, "noise-trained").parent.rename(tmp_path / name)
    with pytest.raises(ValueError, match="it must be called pendulum-1, or RECIPE-pendulum-1"):
        collect(tmp_path, "small")


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config.json", {"seed": 3}, r"says that it is of \{'seed': 3\}"),
        ("config.json", {"task": "hopper"}, r"says that it is of \{'task': 'hopper'\}"),
        ("config.json", {"timesteps": 9}, "were trained with timesteps=5 and 9"),
        (
            "config.json",
            {"hyperparameters": {"policy_kwargs": {"lipschitz_bound": 50.0}}},
            "lipschitz_bound=5.0 and 50",
        ),
        ("certificate.json", {"promise": 50.0}, "under K = 5, and window of pendulum, seed 1, under K = 50"),
        ("noise.json", {"seed": 99}, "at other strengths, radii or episodes"),
    ],
)
def test_runs_of_one_agent_that_differ_in_more_than_their_seed_are_refused(file, values, message, runs):
    for seed in (0, 1):
        folder = runs / f"pendulum-{seed}" / "window"
        change(
            folder / "config.json", timesteps=5, hyperparameters={"policy_kwargs": {"lipschitz_bound": 5.0}}
        )
        change(folder / "certificate.json", promise=5.0)
    assert {run.promise for run in collect(runs, "small")[0].runs} == {None, 5.0}
    change(runs / "pendulum-1" / "window" / file, **values)
    with pytest.raises(ValueError, match=message):
        collect(runs, "small")


def test_means_over_other_numbers_of_episodes_are_refused(runs):
    file = runs / "pendulum-1" / "window" / "noise.parquet"
    rows = pd.read_parquet(file)
    rows[rows["episode"] == 0].to_parquet(file)
    with pytest.raises(ValueError, match="measured over 1 and 2 episodes"):
        collect(runs, "small")


def test_a_command_asks_for_no_more_than_there_is(runs):
    leave_run(runs, 1, "scratch")
    assert collect(runs, "small")[0].commands[:-1] == [
        "python -m experiments.memory --task pendulum --seeds 0 1 --agents teacher filtered window --output RUNS",
        "python -m experiments.memory --task pendulum --seeds 1 --agents scratch --output RUNS",
    ]


def test_a_run_that_is_added_was_made_under_the_same_bound(runs, tmp_path):
    for seed, bound in ((0, 5.0), (1, 50.0)):
        change(runs / f"pendulum-{seed}" / "window" / "certificate.json", promise=bound)
    (tmp_path / "other").mkdir()
    (runs / "pendulum-1").rename(tmp_path / "other" / "pendulum-1")
    with pytest.raises(ValueError, match="one cell would be of both"):
        joined(collect(runs, "small")[0], collect(tmp_path / "other", "small")[0])


def test_agents_whose_teacher_is_elsewhere_are_collected(tmp_path):
    leave_run(tmp_path, 3, "noise-trained")
    leave_run(tmp_path, 4, "noise-trained").parent.rename(tmp_path / "sac-pendulum-4")
    made, skipped = collect(tmp_path, "small")
    assert skipped == []
    assert [run.name for run in made.runs] == [
        "noise-trained of pendulum, seed 3",
        "noise-trained of pendulum (sac), seed 4",
    ]
    assert [setting.plain_recipe for setting in made.settings.values()] == ["ppo", "sac"]


def test_an_episode_without_return_leaves_none(runs):
    file = runs / "pendulum-0" / "teacher" / "noise.parquet"
    frame = pd.read_parquet(file)
    frame.loc[0, "return"] = math.nan
    frame.to_parquet(file)
    assert math.isnan(Scores(collect(runs, "small")[0]).raw("pendulum", "teacher", CLEAN)[0])


def test_wrong_run_folders(runs, tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        collect(tmp_path / "nowhere", "small")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"No finished agent under .*empty"):
        collect(tmp_path / "empty", "small")
    with pytest.raises(ValueError, match="No finished agent"):
        collect(runs, "small", tasks=["hopper"])
    (runs / "pendulum-0" / "window" / "noise.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match=r"window/noise.parquet cannot be read as Parquet"):
        collect(runs, "small")
    (runs / "pendulum-0" / "window" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"window/config.json cannot be read as JSON"):
        collect(runs, "small")


def test_runs_of_other_conditions_are_refused(runs):
    leave_run(runs, 2, "teacher", floor=-1000.0)
    with pytest.raises(ValueError, match="from another floor"):
        collect(runs, "small")


def test_a_stored_study_is_not_replaced_by_less(runs, tmp_path):
    args = Args(studies=tmp_path / "studies", study="small")
    write_study(args, runs)
    write_study(args, runs)
    (runs / "pendulum-1" / "window" / "certificate.json").unlink()
    with pytest.raises(ValueError, match=r"1 runs that are not finished .* \(window of pendulum, seed 1\)"):
        write_study(args, runs)
    write_study(Args(studies=tmp_path / "studies", study="small", overwrite=True), runs)
    assert len(Study.load(tmp_path / "studies" / "small").runs) == 5


def test_runs_are_added_to_a_stored_study(runs, tmp_path):
    """A machine that lost its run folders, or another machine's seeds."""
    args, add = (Args(studies=tmp_path / "studies", study="small", add=add) for add in (False, True))
    with pytest.raises(ValueError, match=r"no study in .*small to add to"):
        write_study(add, runs)
    everything, _ = write_study(args, runs)
    study = lambda: Study.load(tmp_path / "studies" / "small")  # noqa: E731
    assert write_study(add, runs)[1] == [f"{run.name}: the study has it" for run in everything.runs]
    assert list(study().runs) == list(everything.runs)
    pd.testing.assert_frame_equal(study().conditions, everything.conditions)

    leave_run(more := tmp_path / "more", 1, "teacher", shift=5.0)
    leave_run(more, 1, "window-free", shift=7.0)
    leave_run(more, 4, "teacher", shift=9.0)
    _, said = write_study(add, more)
    assert said == ["teacher of pendulum, seed 1: the study has it"]
    scores = Scores(study())
    assert scores.raw("pendulum", "teacher", CLEAN) == {0: -150.5, 1: -150.5, 4: -141.5}
    assert scores.raw("pendulum", "window-free", CLEAN) == {1: -143.5}
    assert study().commands[-1].endswith("--study small --add")
    # as one collection of all of it would be
    for seed, agent in ((1, "window-free"), (4, "teacher")):
        leave_run(runs, seed, agent, shift=7.0 if seed == 1 else 9.0)
    at_once, _ = collect(runs, "small")
    assert list(study().runs) == list(at_once.runs)
    assert (study().settings, study().agents) == (at_once.settings, at_once.agents)
    pd.testing.assert_frame_equal(study().conditions, at_once.conditions)

    leave_run(other := tmp_path / "other", 5, "teacher", floor=-1.0)
    with pytest.raises(ValueError, match="from another floor than in the study 'small'"):
        write_study(add, other)
    assert list(study().runs) == list(at_once.runs)


def test_fresh_runs_beside_a_study(runs, tmp_path):
    write_study(Args(studies=tmp_path / "studies", study="small"), runs)
    again = tmp_path / "again"
    leave_run(again, 1, "teacher")
    leave_run(again, 1, "window", shift=25.0)
    args = Args(studies=tmp_path / "studies", study="small", compare=again)
    lines = beside(args, again).splitlines()
    assert len(lines) == 2 + 2 * 5
    row = next(line for line in lines if "| window | clean |" in line)
    assert row == "| pendulum | 1 | window | clean | −130 | −126 | 5.00 | −130 [−130, −130] |"
    leave_run(other := tmp_path / "other", 7, "teacher")
    with pytest.raises(ValueError, match="have no run of the same task, agent and seed"):
        beside(args, other)
    leave_run(other := tmp_path / "odd", 1, "teacher", floor=-1.0)
    with pytest.raises(ValueError, match="under other conditions"):
        beside(args, other)


def test_commands(runs, tmp_path, capsys):
    places = {"studies": tmp_path / "studies", "output": tmp_path / "results.md"}
    (runs / "pendulum-1" / "window" / "certificate.json").unlink()
    run(Args(**places, collect=runs, study="small"))
    said = capsys.readouterr().out
    assert "left out: pendulum-1/window: unfinished, no certificate.json" in said
    assert "5 runs of pendulum" in said
    run(Args(**places))
    assert str(tmp_path / "results.md") in capsys.readouterr().out
    run(Args(**places, compare=runs, study="small"))
    assert "| pendulum | 0 | teacher | clean |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"collect": Path(), "compare": Path(), "study": "a"}, "two commands"),
        ({"study": "a"}, "goes with --collect or --compare"),
        ({"collect": Path()}, "study is missing"),
        ({"add": True, "study": "a"}, "goes with --collect"),
        ({"collect": Path(), "study": "a", "add": True, "overwrite": True}, "give one of them"),
        ({"collect": Path(), "study": "../a"}, "letters, digits and hyphens"),
        ({"collect": Path(), "study": "a", "tasks": ["pendulun"]}, "pendulum"),
    ],
)
def test_wrong_arguments(wrong, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        run(Args(studies=tmp_path, **wrong))


def test_an_unknown_study_to_compare_with(tmp_path):
    study(TWO, name="memory").save(tmp_path / "memory")
    with pytest.raises(ValueError, match="memory"):
        run(Args(studies=tmp_path, compare=tmp_path, study="memori"))


def test_the_page_in_docs_is_of_the_studies_beside_the_code():
    found, others = studies(ROOT / "experiments" / "results")
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == page(
        [Scores(one) for one in found], others
    ), "call python -m experiments.results"


def test_the_row_that_make_measures_again_is_stored():
    recipe = (ROOT / "Makefile").read_text().split("results-small: ")[1].split("\n\n")[0]
    made, compared = (shlex.split(line)[3:] for line in recipe.splitlines()[1:])
    memory_args, results_args = tyro.cli(memory.Args, args=made), tyro.cli(Args, args=compared)
    assert results_args.compare == memory_args.output
    stored = Study.load(ROOT / "experiments" / "results" / results_args.study)
    names = {(one.setting, one.agent, one.seed) for one in stored.runs}
    assert {
        (memory_args.task, agent, seed) for agent in memory_args.agents for seed in memory_args.seeds
    } <= names
