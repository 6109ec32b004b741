"""`experiments.regularizers`: trials on seeds of their own, one choice for all seeds, nothing made twice."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from agents import get_agent as real
from agents.regularized import TRIALS
from envs import get_task
from experiments import _pooling, _trials, regularizers, train
from experiments._locks import BusyError, exclusive
from experiments._rows import Rows
from experiments._trials import scale_of
from experiments.regularizers import Args
from tests.experiments.test_regularized_agents import small

FOUND = {0.1: (-150.0, 0.9), 0.3: (-150.0, 0.6), 1.0: (-155.0, 0.4), 3.0: (-160.0, 0.3), 10.0: (-900.0, 0.1)}


@pytest.fixture
def trained(monkeypatch):
    """Trainings of moments in this process; the list of those that were run."""
    ran = []

    def run_all(commands, jobs):
        for command in commands:
            options = dict(zip(command[3::2], command[4::2], strict=False))
            ran.append(options["--output"].rsplit("/", 1)[-1])
            recipe = small(real(options["--agent"]))
            monkeypatch.setattr(train, "get_agent", lambda _, recipe=recipe: recipe)
            train.train(
                train.Args(
                    agent=options["--agent"], seed=int(options["--seed"]), timesteps=int(options["--timesteps"]),
                    regularizer_scale=float(options.get("--regularizer-scale", 1.0)), output=options["--output"],
                    track="disabled", progress=False, overwrite=True,
                )
            )  # fmt: skip
        return []

    class Pool:
        def __init__(self, *_):
            self.map = map

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    real_args = train.Args
    monkeypatch.setattr(train, "Args", lambda **k: real_args(**{**k, "output": Path(k["output"])}))
    monkeypatch.setattr(_trials, "run_all", run_all)
    monkeypatch.setattr(regularizers, "ProcessPoolExecutor", Pool)
    short = dataclasses.replace(get_task("pendulum"), env_kwargs={"max_episode_steps": 12})
    for module in (_pooling, regularizers):
        monkeypatch.setattr(module, "get_task", lambda _: short)
    monkeypatch.setattr(
        _trials,
        "judged",
        lambda path, *_: FOUND[float(path.name.split("-")[3])] if "caps" in path.name else (-140.0, 0.8),
    )
    return ran


def args_in(folder, **options):
    return Args(
        methods=["ppo-caps"], beside=["ppo-sandwich-caps"], seeds=1, timesteps=64, episodes=1, output=folder,
        **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture
def finished(kept, tmp_path, trained):
    """A folder with a study that was made, once for all tests."""
    if not list(kept.iterdir()):
        regularizers.study(args_in(kept))
    return shutil.copytree(kept, tmp_path / "study")


def test_the_table_is_made_with_the_scale_that_the_trials_choose(tmp_path, trained, capsys):
    regularizers.study(args_in(tmp_path))
    trials = [f"ppo-caps-pendulum-{scale:g}-100" for scale in TRIALS]
    table = ["ppo-pendulum-0", "ppo-caps-pendulum-0", "ppo-sandwich-caps-pendulum-0"]
    assert trained == ["ppo-pendulum-100", *trials, *table]
    kept = json.loads((tmp_path / "pendulum-ppo-scales.json").read_text())
    # 10 is smoother, and has lost more than a tenth of the way from plain (-140) to the floor (-1235)
    assert kept["chosen"] == {"ppo-caps": 3.0}
    assert kept["trial_seeds"] == [100]
    assert kept["trials"]["ppo-caps"]["10"] == [-900.0, 0.1]
    for name in table[1:]:
        config = json.loads((tmp_path / name / "config.json").read_text())
        (method,) = config["hyperparameters"]["policy_kwargs"]["regularizers"]
        assert method["temporal"] == pytest.approx(3 * 0.01)
    said = capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in said.splitlines() if line.startswith("| ")]
    assert rows == ["agent", "ppo", "ppo + EMA", "ppo-caps", "ppo-sandwich-caps"]

    trained.clear()
    regularizers.study(args_in(tmp_path))  # again: nothing is made twice
    assert trained == []
    assert table_in(capsys) == [line for line in said.splitlines() if line.startswith("|")]


def table_in(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]


def test_the_study_goes_on_where_the_run_folders_were_lost(finished, tmp_path, trained, capsys):
    second = args_in(tmp_path / "second", results=finished)
    regularizers.study(args_in(finished))
    before = table_in(capsys)
    trained.clear()
    regularizers.study(second)
    assert table_in(capsys) == before
    assert trained == []
    regularizers.study(dataclasses.replace(second, beside=["ppo-sandwich-caps", "ppo-sandwich"], seeds=2))
    assert trained == [
        "ppo-sandwich-pendulum-0",
        *(f"{agent}-pendulum-1" for agent in ("ppo", "ppo-caps", "ppo-sandwich-caps", "ppo-sandwich")),
    ]
    rows = [line.split("|")[1:3] for line in table_in(capsys)[2:]]
    agents = ("ppo", "ppo + EMA", "ppo-caps", "ppo-sandwich-caps", "ppo-sandwich")
    assert rows == [[f" {agent} ", " 2 "] for agent in agents]
    regularizers.study(second)  # what was not asked for is not shown
    assert table_in(capsys) == before


def test_a_window_student_is_made_of_the_plain_agent_of_its_seed(finished, tmp_path, trained, monkeypatch):
    trained.clear()
    made = []

    def distil(args, seed):
        assert (args.output / f"ppo-pendulum-{seed}" / "model.zip").is_file()
        made.append(seed)
        (args.output / f"ppo-pendulum-{seed}").rename(folder := args.output / f"window-pendulum-{seed}")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"agent": "window of ppo"}))

    monkeypatch.setattr(regularizers, "distil", distil)
    args = args_in(tmp_path / "second", results=finished)
    regularizers.study(dataclasses.replace(args, beside=["window"]))
    assert (trained, made) == (["ppo-pendulum-0"], [0])  # its teacher was lost, and its rows were not
    found = Rows(finished / "pendulum-ppo.csv").read()
    assert not found.duplicated(["agent", "seed", "disturbance", "strength"]).any()
    assert ("window of ppo", 0) in Rows(finished / "pendulum-ppo.csv").runs()


def test_results_of_other_settings_are_refused(finished):
    for option, said in (
        ({"episodes": 2}, "episodes=1, not 2"),
        ({"timesteps": 128}, "timesteps=64, not 128"),
    ):
        with pytest.raises(ValueError, match=said):
            regularizers.study(dataclasses.replace(args_in(finished), **option))
    (finished / "pendulum-ppo.csv").rename(rows := finished / "rows")
    with pytest.raises(ValueError, match=r"scales.json was chosen with timesteps=64, not 128"):
        regularizers.study(dataclasses.replace(args_in(finished), timesteps=128))
    rows.rename(finished / "pendulum-ppo.csv").write_text("agent\nppo\n")
    with pytest.raises(ValueError, match=r"pendulum-ppo.csv has the columns agent; expected"):
        regularizers.study(args_in(finished))
    (finished / "pendulum-ppo.csv").unlink()
    (finished / "ppo-caps-pendulum-0" / "config.json").write_text(
        (finished / "trials" / "ppo-caps-pendulum-10-100" / "config.json").read_text()
    )
    with pytest.raises(ValueError, match="is finished with regularizers="):
        regularizers.study(args_in(finished))


def test_agents_with_a_bound_take_the_scale_of_the_method_alone():
    chosen = {"ppo-caps": 3.0, "ppo-lcp": 0.1}
    agents = ("ppo", "ppo-sandwich", "ppo-caps", "ppo-sandwich-caps", "ppo-sandwich-lcp", "ppo-lipsnet")
    assert [scale_of(agent, chosen) for agent in agents] == [1.0, 1.0, 3.0, 3.0, 0.1, 1.0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"family": "a2c"}, "family='a2c'"),
        ({"methods": ["ppo-cap"]}, "ppo-caps"),
        ({"beside": ["ppo-none"]}, "ppo-none"),
        ({"task": "pendulumm"}, "pendulum"),
        ({"seeds": 0}, "seeds"),
    ],
)
def test_wrong_words(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        regularizers.study(dataclasses.replace(args_in(tmp_path), **options))
    assert not list(tmp_path.iterdir())


def test_an_agent_with_a_bound_takes_its_methods_scale_also_alone(tmp_path, trained):
    regularizers.study(dataclasses.replace(args_in(tmp_path), methods=[]))
    assert "ppo-caps-pendulum-10-100" in trained, "the method was tried"
    config = json.loads((tmp_path / "ppo-sandwich-caps-pendulum-0" / "config.json").read_text())
    (method,) = config["hyperparameters"]["policy_kwargs"]["regularizers"]
    assert method["temporal"] == pytest.approx(3 * 0.01)
    assert ("ppo-caps", 0) not in Rows(tmp_path / "pendulum-ppo.csv").runs()


def test_names_that_are_given_twice_are_one(finished, capsys):
    args = args_in(finished)
    regularizers.study(args)
    before = table_in(capsys)
    again = dataclasses.replace(args, methods=["ppo-caps"] * 2, beside=["ppo", "ppo-sandwich-caps"])
    regularizers.study(again)
    assert table_in(capsys) == before
    rows = Rows(finished / "pendulum-ppo.csv")
    size = len(rows.read())
    rows.add(rows.read())
    assert len(rows.read()) == size


def test_a_choice_that_was_lost_is_not_made_again(finished):
    (finished / "pendulum-ppo-scales.json").unlink()
    with pytest.raises(ValueError, match="does not have the weights of ppo-caps"):
        regularizers.study(args_in(finished))


@pytest.mark.parametrize("text", ["[1, 2]", "3", "null", '"x"', "{}", '{"chosen": null, "trials": {}}'])
def test_a_choice_of_something_else_is_refused(tmp_path, trained, text):
    (tmp_path / "pendulum-ppo-scales.json").write_text(text)
    with pytest.raises(ValueError, match="is not the choice of an earlier run"):
        regularizers.study(args_in(tmp_path))


def test_trials_are_not_of_the_tables_seeds(tmp_path):
    with pytest.raises(ValueError, match="--trial-seeds 0 are seeds of the table"):
        regularizers.study(args_in(tmp_path, trial_seeds=[0, 100]))
    with pytest.raises(ValueError, match="timesteps must be an integer > 0"):
        regularizers.study(dataclasses.replace(args_in(tmp_path), timesteps=0))


def test_one_process_writes_a_table(tmp_path):
    args = args_in(tmp_path)
    with exclusive(tmp_path / "pendulum-ppo.csv"), pytest.raises(BusyError, match="is in use"):
        regularizers.study(args)


def test_rows_that_were_cut_short_are_named(finished):
    file = finished / "pendulum-ppo.csv"
    whole = file.read_text()
    for broken in (whole[: len(whole) - 60] + "\n", whole.replace(",0,64,", ",x,64,", 1)):
        file.write_text(broken)
        with pytest.raises(ValueError, match=r"pendulum-ppo.csv is broken in line \d+|cannot be read"):
            Rows(file).read()
