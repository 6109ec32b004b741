"""Sweeps: what is swept, from flags or a file; folders of others; a search over K."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path

import pytest

from agents import get_agent
from experiments import _search, sweep
from experiments._locks import BusyError, exclusive
from experiments._plan import RunConfig, plan
from experiments._search import Search
from experiments._sweep_folder import SweepFolder
from experiments.launchers import Options
from experiments.sweep import Args
from experiments.train import Args as TrainArgs
from lipsrl.tracking import RunFolder


def names(configs):
    return [config.name for config in configs]


def test_all_combinations_by_seed_with_ids_that_say_what_was_chosen():
    found = plan(
        ["ppo", "ppo-sandwich"],
        ["pendulum"],
        [0, 1],
        lipschitz_bound=[4, 6.5],
        layer=["orthogonal"],
        history=[1, 4],
    )
    one = [
        "ppo-h1-pendulum-{}", "ppo-h4-pendulum-{}",
        "ppo-sandwich-orthogonal-K4-h1-pendulum-{}", "ppo-sandwich-orthogonal-K4-h4-pendulum-{}",
        "ppo-sandwich-orthogonal-K6.5-h1-pendulum-{}", "ppo-sandwich-orthogonal-K6.5-h4-pendulum-{}",
    ]  # fmt: skip
    assert names(found) == [name.format(seed) for seed in (0, 1) for name in one]
    assert found[0].timesteps == get_agent("ppo").for_task("pendulum").timesteps
    assert names(plan(["ppo", "ppo-sandwich"], ["pendulum"], [3])) == [
        "ppo-pendulum-3",
        "ppo-sandwich-pendulum-3",
    ]
    with pytest.raises(AttributeError):
        found[0].seed = 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agents": ["ppo-sandwhich"]}, "Did you mean 'ppo-sandwich'"),
        ({"tasks": ["pendulun"]}, "Did you mean 'pendulum'"),
        ({"tasks": ["reacher"], "agents": ["ppo", "sac-aol"]}, "no hyperparameters for task='reacher'"),
        ({"agents": []}, "agents is empty"),
        ({"agents": ["ppo", "ppo"]}, r"agents has \['ppo'\] more than once"),
        ({"lipschitz_bound": [-1.0]}, "lipschitz_bound must be a finite number > 0"),
        ({"layer": ["sandwhich"]}, "Did you mean 'sandwich'"),
        ({"history": [0]}, "history must be an integer > 0"),
        ({"seeds": 0}, "seeds must be an integer > 0"),
        ({"timesteps": 0}, "timesteps must be an integer > 0"),
        ({"launch": Options(workers=0)}, "workers must be an integer > 0"),
        ({"lipschitz_bound": [5.0, 5.0000001]}, "have one id, ppo-sandwich-K5-pendulum-0"),
        ({"launch": Options(address="a:1")}, "address='a:1' is of launcher='ray', received launcher='local'"),
        ({"launch": Options(slurm="--time=1")}, "slurm='--time=1' is of launcher='slurm'"),
        ({"first_seed": -1}, "seeds must be integers >= 0, received -1"),
        (
            {"agents": ["ppo", "ppo-lipsnet"], "lipschitz_bound": [4.0]},
            r"lipschitz_bound=\[4.0\] is of Lipschitz",
        ),
        ({"agents": ["ppo"], "layer": ["spectral"]}, "none of ppo is one"),
        ({"agents": ["ppo"], "budget": "even"}, "budget=even is of Lipschitz agents"),
        ({"budget": "evn"}, "budget='evn' is not known. Did you mean 'even'"),
        ({"agents": ["ppo-sandwich-ramp"], "lipschitz_bound": [4.0]}, "it ends at 5 whatever that is"),
        ({"search": Search(trials=3)}, "trials=3 and search_episodes=50 are of a search, and there is none"),
    ],
)
def test_what_does_not_exist_leaves_nothing_behind(options, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "launch", lambda *_: pytest.fail("it was launched"))
    with pytest.raises(ValueError, match=message):
        sweep.sweep(Args(output=tmp_path / "out", **options))
    assert list(tmp_path.iterdir()) == []


def test_a_search_for_k_while_training_is_one_of_the_bounds(tmp_path, launched, monkeypatch):
    import tyro

    monkeypatch.setattr(sys, "argv", ["sweep", "--agents", "ppo-sandwich", "--lipschitz-bound", "4", "auto"])
    assert sweep.arguments().lipschitz_bound == [4.0, "auto"]
    file = write(tmp_path / "study.yaml", "lipschitz_bound: [auto, 4]\n")
    monkeypatch.setattr(sys, "argv", ["sweep", str(file)])
    assert sweep.arguments().lipschitz_bound == ["auto", 4.0]
    (config,) = plan(["ppo-sandwich"], ["pendulum"], [0], lipschitz_bound=["auto"])
    assert config.name == "ppo-sandwich-Kauto-pendulum-0"
    command = SweepFolder(tmp_path).job(config, None, None).command
    assert tyro.cli(TrainArgs, args=list(command[3:])).lipschitz_bound == "auto"
    # a finished one is kept; one that was not searched for is another
    place = tmp_path / "out" / config.name
    kwargs = {"lipschitz_bound": 10.0, "budget": "growing"}
    finish(
        place, timesteps=300_000, hyperparameters={"policy_kwargs": kwargs}, lipschitz_search={"bound": 6.0}
    )
    SweepFolder(tmp_path / "out").check([config])
    finish(place, timesteps=300_000, hyperparameters={"policy_kwargs": kwargs})
    with pytest.raises(ValueError, match=r"lipschitz_bound=10\.0, not lipschitz_bound=auto"):
        SweepFolder(tmp_path / "out").check([config])


def test_every_command_is_one_of_train(tmp_path):
    """Parsed by its own parser, and it asks for what the config says."""
    import tyro

    config = RunConfig("ppo-sandwich", "pendulum", 3, 4096, 6.0, "orthogonal", 4, "even")
    command = SweepFolder(tmp_path).job(config, "disabled", 1000).command
    assert command[:3] == (sys.executable, "-m", "experiments.train")
    args = tyro.cli(TrainArgs, args=list(command[3:]))
    assert args == TrainArgs(
        agent="ppo-sandwich", task="pendulum", seed=3, timesteps=4096, lipschitz_bound=6.0, layer="orthogonal",
        history=4, budget="even", label="ppo-sandwich-orthogonal-even-K6-h4", output=tmp_path / config.name,
        resume=True, checkpoint_every=1000, track="disabled",
    )  # fmt: skip


def write(path, text):
    path.write_text(text)
    return path


def test_a_file_says_the_same_as_flags_and_flags_win(tmp_path, monkeypatch):
    file = write(
        tmp_path / "study.yaml",
        "agents: [ppo, ppo-sandwich]\ntasks: pendulum\nseeds: 3\nlipschitz_bound: [4, 6.5]\noutput: runs/study\n"
        "launcher: ray\nworkers: 8\ntrack: disabled\nsearch_k: [2, 20]\n",
    )
    monkeypatch.setattr(sys, "argv", ["sweep", str(file), "--seeds", "5", "--address", "auto"])
    args = sweep.arguments()
    assert args == Args(
        config=file, agents=["ppo", "ppo-sandwich"], tasks=["pendulum"], seeds=5, lipschitz_bound=[4.0, 6.5],
        output=Path("runs/study"), track="disabled", launch=Options("ray", 8, "auto"), search=Search((2.0, 20.0)),
    )  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["sweep", "--seeds", "5", "--address", "auto", str(file)])
    assert sweep.arguments() == args  # wherever it stands
    other = file.rename(tmp_path / "study.txt")  # whatever it is called
    monkeypatch.setattr(sys, "argv", ["sweep", str(other), "--workers", "4"])
    assert sweep.arguments().agents == ["ppo", "ppo-sandwich"]
    assert sweep.arguments().launch == Options("ray", 4)
    monkeypatch.setattr(sys, "argv", ["sweep", "--task", "pendulum", "--jobs", "3"])
    assert sweep.arguments() == Args(launch=Options(workers=3))


def test_a_file_may_refer_to_itself(tmp_path, monkeypatch):
    file = write(tmp_path / "study.yaml", "agents: &few [ppo]\ntasks: [pendulum]\n<<: {seeds: 4}\n")
    monkeypatch.setattr(sys, "argv", ["sweep", str(file)])
    assert sweep.arguments().seeds == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agents: [ppo\n", "study.yaml is no YAML: "),
        ("- ppo\n", "must hold names and values"),
        ("", "must hold names and values"),
        ("agent: ppo\n", "option='agent' is not known. Did you mean 'agents'?"),
        ("config: other.yaml\n", "option='config' is not known"),
        ("seeds: three\n", "seeds must be an integer, received 'three'"),
        ("seeds: true\n", "seeds must be an integer, received True"),
        (
            "lipschitz_bound: [4, six]\n",
            "lipschitz_bound must be a list, each a number or 'auto', received [4, 'six']",
        ),
        ("launcher: rya\n", "launcher must be one of 'local', 'ray', 'slurm', received 'rya'"),
        ("search_k: [1]\n", "search_k must be 2 values, each a number, received [1]"),
        ("output: 5\n", "output must be a path, received 5"),
        ("seeds: 2\nagents: [ppo]\nseeds: 3\n", "'seeds' stands there more than once"),
        ("agents: !!python/object/apply:os.system ['true']\n", "study.yaml is no YAML: "),
    ],
)
def test_a_wrong_file_is_said_in_one_line(text, message, tmp_path, monkeypatch, capsys):
    file = write(tmp_path / "study.yaml", text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sweep", str(file)])
    with pytest.raises(SystemExit, match="2"):
        sweep.main()
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_a_file_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sweep", str(tmp_path / "none.yml")])
    with pytest.raises(SystemExit, match="2"):
        sweep.main()
    assert "is not a file" in capsys.readouterr().err


# -- folders ---------------------------------------------------------------------------------------------


@pytest.fixture
def launched(monkeypatch):
    """What would be launched, launch by launch; each leaves a finished run."""
    calls = []

    def launch(jobs, options, place, name):
        calls.append([job.name for job in jobs if not job.done()])
        for job in jobs:
            if not job.done():
                bound = re.search(r"-K([\d.]+)", job.name)
                kwargs = {"lipschitz_bound": float(bound[1])} if bound else {}
                seed = int(job.name.rsplit("-", 1)[1])
                finish(job.folder, timesteps=job.steps, seed=seed, hyperparameters={"policy_kwargs": kwargs})

    monkeypatch.setattr(sweep, "launch", launch)
    return calls


def finish(path, *, timesteps, status="finished", **more):
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.zip").write_bytes(b"")
    RunFolder(path).write_config(
        {"status": status, "timesteps": timesteps, "task": "pendulum", "seed": 0, **more}
    )


def test_a_sweep_may_be_asked_for_again_in_part_or_with_more(tmp_path, launched):
    few = Args(agents=["ppo"], seeds=2, output=tmp_path)
    assert sweep.sweep(few) == [tmp_path / "ppo-pendulum-0", tmp_path / "ppo-pendulum-1"]
    sweep.sweep(Args(agents=["ppo", "ppo-sandwich"], seeds=2, output=tmp_path))
    sweep.sweep(few)
    assert launched == [
        ["ppo-pendulum-0", "ppo-pendulum-1"], ["ppo-sandwich-pendulum-0", "ppo-sandwich-pendulum-1"], [],
    ]  # fmt: skip
    assert len(SweepFolder(tmp_path).runs()) == 4
    shown = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert len(shown) == 4  # `runs/pendulum/*` are the run folders


def test_the_folder_of_another_sweep_is_refused(tmp_path, launched):
    sweep.sweep(Args(agents=["ppo"], seeds=2, output=tmp_path))
    before = (tmp_path / ".sweep" / "sweep.json").read_bytes()
    other = Args(agents=["ppo-sandwich"], seeds=1, output=tmp_path)
    with pytest.raises(
        ValueError, match="another sweep: it has ppo-pendulum-0, ppo-pendulum-1, which are not"
    ):
        sweep.sweep(other)
    with pytest.raises(ValueError, match="of another sweep, with timesteps=300000, not timesteps=4096"):
        sweep.sweep(Args(agents=["ppo"], seeds=2, timesteps=4096, output=tmp_path))
    assert (tmp_path / ".sweep" / "sweep.json").read_bytes() == before
    other.extend = True
    sweep.sweep(other)
    assert launched[1:] == [["ppo-sandwich-pendulum-0"]]
    (tmp_path / ".sweep" / "sweep.json").write_text("{")
    with pytest.raises(ValueError, match=r"sweep\.json is damaged"):
        sweep.sweep(other)


def test_runs_that_were_trained_by_hand_are_taken_or_refused(tmp_path, launched):
    """A folder of before there was a sweep.json."""
    finish(tmp_path / "ppo-pendulum-0", timesteps=300_000)
    sweep.sweep(Args(agents=["ppo"], seeds=1, output=tmp_path))
    assert launched == [[]]
    kwargs = {"hyperparameters": {"policy_kwargs": {"lipschitz_bound": 5.0, "budget": "output"}}}
    finish(tmp_path / "b" / "ppo-sandwich-K5-pendulum-0", timesteps=4096, layer="sandwich", **kwargs)
    args = Args(
        agents=["ppo-sandwich"], seeds=1, timesteps=4096, lipschitz_bound=[5.0], output=tmp_path / "b"
    )
    sweep.sweep(args)
    assert launched == [[], []]
    args.budget = "even"
    (tmp_path / "b" / "ppo-sandwich-K5-pendulum-0").rename(tmp_path / "b" / "ppo-sandwich-even-K5-pendulum-0")
    args.extend = True
    with pytest.raises(ValueError, match="is finished with budget=output, not budget=even"):
        sweep.sweep(args)


@pytest.mark.parametrize(
    ("agent", "found", "message"),
    [
        (
            "ppo-sandwich",
            {"lipschitz_bound": 9.0},
            "is finished with lipschitz_bound=9.0, not lipschitz_bound=5.0",
        ),
        ("ppo-sandwich", {"budget": "growing"}, "budget=growing, not budget=output"),
        ("ppo-caps", {"regularizers": [{"kind": "caps"}]}, "is finished with regularizers="),
        ("ppo-sandwich", {"lipschitz_bound": 5.0, "budget": "output"}, None),
        ("ppo-sandwich", {}, None),  # an older one, which says less
    ],
)
def test_what_is_left_to_the_recipe_must_be_the_recipes_own(agent, found, message, tmp_path):
    folder, config = SweepFolder(tmp_path), RunConfig(agent, "pendulum", 0, 4096)
    finish(tmp_path / config.name, timesteps=4096, hyperparameters={"policy_kwargs": found})
    if message is None:
        folder.check([config])
        return
    with pytest.raises(ValueError, match=message):
        folder.check([config])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"layer": "orthogonal"}, "layer=orthogonal, not layer=sandwich"),
        ({"history": 4}, "history=4, not history=1"),
        ({"recipe": "ppo"}, "recipe=ppo, not recipe=ppo-sandwich"),
        ({"disturbance": "gaussian:7"}, "disturbance=gaussian:7, not disturbance=None"),
        ({"hyperparameters": {"gamma": 0.1}}, "gamma=0.1, not gamma=0.9"),
        ({"hyperparameters": {"n_envs": 1}}, "n_envs=1, not n_envs=4"),
        (
            {"hyperparameters": {"policy_kwargs": {"net_arch": [8]}}},
            r"net_arch=\[8\], not net_arch=\[64, 64\]",
        ),
    ],
)
def test_what_the_run_is_must_be_what_the_recipe_says(found, message, tmp_path):
    config = RunConfig("ppo-sandwich", "pendulum", 0, 4096)
    finish(tmp_path / config.name, timesteps=4096, **found)
    with pytest.raises(ValueError, match=message):
        SweepFolder(tmp_path).check([config])


def test_what_was_cut_off_is_not_finished(tmp_path):
    job = SweepFolder(tmp_path).job(RunConfig("ppo", "pendulum", 0, 4096), None, None)
    assert not job.done()
    finish(job.folder, timesteps=4096)
    assert job.done()
    (job.folder / ".training").mkdir()
    (job.folder / ".training" / "settings.json").write_text("{}")  # killed at its very end
    assert not job.done()
    finish(tmp_path / "b", timesteps=1, status="interrupted")
    assert not SweepFolder(tmp_path / "b").job(RunConfig("ppo", "pendulum", 0, 1), None, None).done()


def test_what_lost_its_model_is_trained_again(tmp_path, launched):
    args = Args(agents=["ppo"], seeds=1, output=tmp_path)
    sweep.sweep(args)
    (tmp_path / "ppo-pendulum-0" / "model.zip").unlink()
    sweep.sweep(args)
    assert launched == [["ppo-pendulum-0"]] * 2


def test_two_sweeps_in_one_folder(tmp_path, monkeypatch):
    """The second is refused while the first is at work; a lock without its process is free."""
    args, said = Args(agents=["ppo"], seeds=1, output=tmp_path), []

    def launch(*_):
        def second():
            try:
                sweep.sweep(args)
            except BusyError as error:
                said.append(str(error))

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    monkeypatch.setattr(sweep, "launch", launch)
    sweep.sweep(args)
    assert len(said) == 1
    assert said[0].startswith(f"{tmp_path} is in use by process ")
    (tmp_path / ".sweep" / "lock").write_text("process 1 on nowhere")  # stale
    with exclusive(tmp_path, tmp_path / ".sweep" / "lock"):
        pass


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, capsys):
    def full(self, *_, **__):
        with open("/dev/full", "w") as device:  # noqa: PTH123
            device.write("x")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(sys, "argv", ["sweep", "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="2"):
        sweep.main()
    assert capsys.readouterr().err == "error: No space left on device.\n"
    assert list((tmp_path / "out").rglob("*")) == [tmp_path / "out" / ".sweep"]


# -- a search over K -------------------------------------------------------------------------------------


def test_a_search_finds_k_and_goes_on_after_a_kill(tmp_path, launched, monkeypatch, capsys):
    """The best K of a known curve; the trial that was cut off is made again, with what is trained of it."""
    scored = []

    def score(folders, episodes):
        bound = float(folders[0].name.split("-K")[1].split("-")[0])
        scored.append(bound)
        if len(scored) == 4:
            raise RuntimeError("kill -9")
        return -((bound - 6.0) ** 2)

    monkeypatch.setattr(_search, "score", score)
    args = Args(agents=["ppo-sandwich"], seeds=2, output=tmp_path, search=Search((2.0, 20.0), trials=12))
    with pytest.raises(RuntimeError):
        sweep.sweep(args)
    trained = len(SweepFolder(tmp_path).runs())
    assert trained == 8
    best = sweep.sweep(args)
    assert scored[4] == scored[3]
    assert len(scored) == 13
    assert launched[4] == []  # of the trial that was cut off nothing is trained again
    said = capsys.readouterr().out
    bound = float(best[0].name.split("-K")[1].split("-")[0])
    assert abs(bound - 6.0) == min(abs(one - 6.0) for one in scored)
    assert f"Best of 12: K={bound:g}" in said
    assert [path.name for path in best] == [f"ppo-sandwich-K{bound:g}-pendulum-{seed}" for seed in (0, 1)]
    calls = len(scored)
    assert sweep.sweep(args) == best  # finished
    assert len(scored) == calls


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search": Search((5.0, 2.0))}, "least and the largest K"),
        ({"agents": ["ppo-sandwich", "ppo-aol"]}, "there are 2 of agent"),
        ({"agents": ["ppo"]}, "agent='ppo' has no K to search"),
        ({"agents": ["ppo-sandwich-ramp"]}, "it ends at 5 whatever that is"),
        ({"search": Search((2.0, 5.0), search_episodes=0)}, "search_episodes must be an integer > 0"),
        ({"lipschitz_bound": [4.0]}, "exclude each other"),
        ({"launch": Options(launcher="slurm")}, "a search waits"),
    ],
)
def test_what_cannot_be_searched(options, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "check", lambda options: None)
    args = {"agents": ["ppo-sandwich"], "search": Search((2.0, 5.0)), "output": tmp_path, **options}
    with pytest.raises(ValueError, match=message):
        sweep.sweep(Args(**args))
    assert not (tmp_path / ".sweep" / "search.journal").exists()


def test_optuna_absent(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install 'lipsrl\[search\]'"):
        sweep.sweep(Args(agents=["ppo-sandwich"], output=tmp_path, search=Search((2.0, 5.0))))


def test_the_score_is_the_auc_under_white_noise(monkeypatch, tmp_path):
    import numpy as np

    from lipsrl.disturbances import GaussianNoise
    from lipsrl.evaluation import evaluate

    def still(obs):
        return np.zeros((len(obs), 1), dtype=np.float32)

    table = evaluate({("a", 0): still}, "Pendulum-v1", disturbances=[GaussianNoise(1.0)], strengths=(0, 0.1),
                     n_episodes=2, floor=-1300.0, max_episode_steps=10)  # fmt: skip
    monkeypatch.setattr(_search, "evaluate_run", lambda folder, **_: table)
    monkeypatch.setattr(RunFolder, "open", classmethod(lambda cls, path: path))
    expected = float(table.normalized_auc()["normalized_auc"].iloc[0])
    assert _search.score([tmp_path, tmp_path], 2) == pytest.approx(expected)
    below = evaluate({("a", 0): still}, "Pendulum-v1", disturbances=[GaussianNoise(1.0)], strengths=(0, 0.1),
                     n_episodes=2, floor=0.0, max_episode_steps=10)  # fmt: skip
    tables = {"good": table, "bad": below}
    monkeypatch.setattr(_search, "evaluate_run", lambda folder, **_: tables[folder.name])
    # no area: nothing to keep, and the search goes on
    assert _search.score([tmp_path / "good", tmp_path / "bad"], 2) == pytest.approx(expected / 2)
