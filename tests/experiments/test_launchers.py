"""Launchers over runs that cost nothing (fake_run.py): locally, as a Slurm array, and on Ray where it is installed."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from experiments.launchers import Job, Options, Outcome, launch
from experiments.launchers import command as command_module
from experiments.launchers.board import Board, seconds_left
from experiments.launchers.launch import FailedError

RUN = Path(__file__).with_name("fake_run.py")


def job(output, name, steps=4, every=2, pause=0.0, *fail):
    folder = output / name
    command = [
        sys.executable,
        "-S",
        "-E",
        str(RUN),
        str(folder),
        str(steps),
        str(every),
        str(pause),
        *map(str, fail),
    ]
    return Job(name, tuple(command), folder, "fake", steps, (folder / "done").is_file)


def ledger(output, name):
    path = output / f"{name}.ledger"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def taken(output, name):
    """The steps that were really made."""
    return [what[1] for what, _ in ledger(output, name) if isinstance(what, list) and what[0] == "step"]


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for never came"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(command_module.run_command, "__defaults__", ((lambda: False), 0.05))


def test_all_are_run_and_no_more_than_asked_at_a_time(tmp_path, capsys):
    jobs = [job(tmp_path, f"run-{n}", pause=0.05) for n in range(5)]
    outcomes = launch(jobs, Options(workers=2), tmp_path / ".sweep")
    assert {outcome.job.name: outcome.status for outcome in outcomes} == {f"run-{n}": 0 for n in range(5)}
    edges = []
    for one in jobs:
        times = [when for _, when in ledger(tmp_path, one.name)]
        edges += [(times[0], 1), (times[-1], -1)]
    running = [sum(change for _, change in sorted(edges)[: n + 1]) for n in range(len(edges))]
    assert max(running) == 2
    said = capsys.readouterr().out
    assert said.count("$ python") == 5
    assert "5 of 5 done" in said
    assert launch(jobs, Options(), tmp_path / ".sweep") == []  # finished ones never run again
    assert capsys.readouterr().out.count("finished, kept") == 5
    assert all(len(taken(tmp_path, one.name)) == 4 for one in jobs)


def test_what_failed_is_reported_and_tried_again(tmp_path):
    mended = tmp_path / "mended"
    jobs = [job(tmp_path, "good"), job(tmp_path, "bad", 4, 1, 0.0, mended)]
    with pytest.raises(FailedError) as caught:
        launch(jobs, Options(), tmp_path / ".sweep")
    said = str(caught.value)
    assert "bad failed (status 3):\n    line before\n    Traceback: the disk is on fire" in said
    assert "1 of 2 failed" in said
    assert "good failed" not in said
    mended.touch()
    assert [outcome.job.name for outcome in launch(jobs, Options(), tmp_path / ".sweep")] == ["bad"]
    assert taken(tmp_path, "bad") == [1, 2, 2, 3, 4]  # from the checkpoint
    assert taken(tmp_path, "good") == [1, 2, 3, 4]


def test_a_killed_run_goes_on(tmp_path):
    """kill -9 of a run: it is reported; the same call loses at most what was not saved."""
    one = job(tmp_path, "run", 10, 3, 0.05)
    caught = []

    def head():
        try:
            launch([one], Options(workers=1), tmp_path / ".sweep")
        except FailedError as error:
            caught.append(str(error))

    thread = threading.Thread(target=head)
    thread.start()
    wait_until(lambda: len(taken(tmp_path, "run")) >= 5)
    holder = (tmp_path / ".run.lock").read_text()
    os.kill(int(holder.split()[1]), signal.SIGKILL)
    thread.join()
    assert "run failed (status -9)" in caught[0]
    reached = taken(tmp_path, "run")[-1]
    launch([one], Options(workers=1), tmp_path / ".sweep")
    again = taken(tmp_path, "run")
    assert sorted(set(again)) == list(range(1, 11))
    assert len(again) - 10 == reached - reached // 3 * 3 <= 3


def _head(jobs, place):
    launch([job(*one) for one in jobs], Options(workers=2), place)


def test_a_killed_head_leaves_its_runs_and_the_same_call_waits_for_them(tmp_path):
    """kill -9 of the head: what it started goes on; nothing is run twice at once, nothing is counted twice."""
    arguments = [(tmp_path, f"run-{n}", 6, 2, 0.1) for n in range(4)]
    head = multiprocessing.get_context("forkserver").Process(
        target=_head, args=(arguments, tmp_path / ".sweep")
    )
    head.start()
    wait_until(lambda: len(taken(tmp_path, "run-0")) >= 1 and len(taken(tmp_path, "run-1")) >= 1)
    os.kill(head.pid, signal.SIGKILL)
    head.join()
    jobs = [job(*one) for one in arguments]
    outcomes = launch(list(reversed(jobs)), Options(workers=2), tmp_path / ".sweep")
    assert sorted(outcome.job.name for outcome in outcomes) == [f"run-{n}" for n in range(4)]
    for one in jobs:
        assert taken(tmp_path, one.name) == [1, 2, 3, 4, 5, 6]
        assert [what for what, _ in ledger(tmp_path, one.name)].count("done") == 1


def test_ctrl_c_is_passed_on_once_and_starts_nothing_more(tmp_path):
    jobs = [job(tmp_path, f"run-{n}", 100, 1, 0.05) for n in range(3)]
    timer = threading.Thread(
        target=lambda: (wait_until(lambda: taken(tmp_path, "run-1")), os.kill(os.getpid(), signal.SIGINT))
    )
    # a shell that puts the tests into the background has told them to ignore it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            launch(jobs, Options(workers=2), tmp_path / ".sweep")
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert [[what for what, _ in ledger(tmp_path, f"run-{n}")].count("interrupted") for n in range(3)] == [
        1,
        1,
        0,
    ]


# -- Slurm -----------------------------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """An `sbatch` that runs the tasks of the array one after the other, and a `squeue` that knows nothing."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text(
        '#!/usr/bin/env bash\necho "$@" > "$(dirname "$0")/asked"\nscript="${@: -1}"\n'
        "last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' \"$script\")\n"
        'for n in $(seq 0 "$last"); do SLURM_ARRAY_TASK_ID=$n bash "$script" || true; done\necho "4711;cluster"\n'
    )
    (tools / "squeue").write_text("#!/usr/bin/env bash\nexit 1\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return tools


def test_a_slurm_array_runs_the_same_commands(tmp_path, slurm, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret-of-mine")
    output = tmp_path / "a sweep"
    place, mended = output / ".sweep", output / "mended"
    jobs = [job(output, "one"), job(output, "two's"), job(output, "bad", 4, 1, 0.0, mended)]
    options = Options(launcher="slurm", workers=7, slurm="--partition=cpu --time=08:00:00")
    assert launch(jobs, options, place, "my sweep") == []
    assert "Submitted 3 runs as Slurm job 4711" in capsys.readouterr().out
    script = place / "slurm" / "array.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert (slurm / "asked").read_text() == f"--parsable --partition=cpu --time=08:00:00 {script}\n"
    text = script.read_text()
    assert "#SBATCH --array=0-2%7\n" in text
    assert "secret-of-mine" not in text
    assert taken(output, "one") == taken(output, "two's") == [1, 2, 3, 4]
    assert "the disk is on fire" in (place / "logs" / "bad.log").read_text()
    # the same command again: what is finished is kept, what failed is submitted again
    mended.touch()
    launch(jobs, options, place)
    assert "#SBATCH --array=0-0%7\n" in script.read_text()
    assert taken(output, "bad") == [1, 2, 2, 3, 4]
    assert launch(jobs, options, place) == []
    assert taken(output, "one") == [1, 2, 3, 4]


def test_what_is_in_slurms_queue_is_not_submitted_again(tmp_path, slurm):
    place = tmp_path / ".sweep"
    jobs = [job(tmp_path, "bad", 4, 1, 0.0, tmp_path / "never")]
    launch(jobs, Options(launcher="slurm"), place)
    (slurm / "squeue").write_text('#!/usr/bin/env bash\necho "$@" 4711_0 R\n')
    with pytest.raises(ValueError, match="in Slurm's queue as job 4711"):
        launch(jobs, Options(launcher="slurm"), place)
    (slurm / "squeue").write_text("#!/usr/bin/env bash\nexit 1\n")
    (slurm / "sbatch").write_text("#!/usr/bin/env bash\necho invalid partition >&2\nexit 1\n")
    with pytest.raises(ValueError, match="sbatch refuses: invalid partition"):
        launch(jobs, Options(launcher="slurm"), place)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"launcher": "slurm"}, "needs Slurm's sbatch"),
        ({"launcher": "ray"}, r"needs Ray, which is not installed: pip install 'lipsrl\[ray\]'"),
        ({"launcher": "rya"}, "Did you mean 'ray'"),
        ({"workers": 0}, "workers must be an integer > 0"),
    ],
)
def test_what_cannot_be_launched_is_said_before_anything_is_written(options, message, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=message):
        launch([job(tmp_path, "run")], Options(**options), tmp_path / ".sweep")
    assert list(tmp_path.iterdir()) == []


# -- the board -------------------------------------------------------------------------------------------


def test_seconds_left():
    assert seconds_left({"a": [(100, 1.0)] * 4}, {"a": 10.0}, workers=2) == 20.0
    assert seconds_left({"a": [(100, 1.0)]}, {"a": 10.0}, workers=8) == 10.0  # never less than the longest
    assert seconds_left({"a": [(100, 1.0)], "b": [(60, 1.0)]}, {"a": 10.0, "b": 30.0}, workers=1) == 12.0
    assert seconds_left({"new": [(100, 1.0)]}, {"a": 10.0, "b": 30.0}, workers=1) == 5.0  # at the mean pace
    assert seconds_left({"a": [(100, 1.0)]}, {}, workers=1) is None


@pytest.mark.parametrize(("steps", "said"), [("50", "left"), ("100", "finishing")])
def test_what_has_no_steps_to_count_is_not_promised_for_now(steps, said, tmp_path):
    """A certificate, or a student's lesson of minutes, after the last step."""
    (one,) = jobs = [job(tmp_path, "run", steps=100)]
    board = Board(jobs, set(), 1, Console(file=io.StringIO()))
    board.started(one)
    board._first["run"] = (board._first["run"][0] - 10.0, 0)
    one.folder.mkdir()
    (one.folder / "progress.csv").write_text(f"time/total_timesteps\n{steps}\n")
    board.tick()
    assert board.summary().endswith(said)


def test_the_live_table(tmp_path):
    jobs = [job(tmp_path, name, steps=100) for name in ("old", "now", "next")]
    console = Console(force_terminal=True, width=100, file=io.StringIO())
    board = Board(jobs, {"old"}, 1, console)
    (tmp_path / "now").mkdir()
    with board.shown():
        board.started(jobs[1])
        begun, _ = board._first["now"]
        board._first["now"] = (begun - 10.0, 0)
        (tmp_path / "now" / "progress.csv").write_text("time/total_timesteps\n20\n40\n")
        board.tick()
        assert board.remaining() == pytest.approx(60 / 4 + 100 / 4, rel=0.05)
        assert board.summary().startswith("1 of 3 done, 1 running, 0:00:4")
    text = Console(width=100, record=True)
    text.print(board.table())
    rows = [line.split() for line in text.export_text().splitlines()[2:]]
    assert rows == [
        ["now", "running", "40", "40%"],
        ["next", "waiting", "0", "0%"],
        ["old", "kept", "100", "100%"],
    ]
    board.ended(Outcome(jobs[1], 3, ""))
    assert "1 failed" in board.summary()


# -- Ray -------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path):
    """Two nodes of one CPU each on this machine, by `ray start`; yields the address and a way to lose one."""
    pytest.importorskip("ray")
    ray = shutil.which("ray", path=str(Path(sys.executable).parent))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []

    def start(*options):
        with (tmp_path / "ray.log").open("ab") as log:
            started.append(
                subprocess.Popen(
                    [ray, "start", "--block", "--num-cpus=1", "--disable-usage-stats",
                     "--object-store-memory=80000000", "--node-ip-address=127.0.0.1", *options],
                    stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                )
            )  # fmt: skip

    start("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir=/tmp/ray-{os.getpid()}")
    address = f"127.0.0.1:{port}"
    import ray as ray_module

    for _ in range(60):
        try:
            ray_module.init(address=address, log_to_driver=False, logging_level="ERROR")
            break
        except ConnectionError:
            time.sleep(1)
    start(f"--address={address}")
    wait_until(lambda: ray_module.cluster_resources().get("CPU") == 2.0)
    ray_module.shutdown()

    def lose_the_second():
        os.killpg(started[1].pid, signal.SIGKILL)  # raylet and workers, all at once

    yield address, lose_the_second
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)
        one.wait()
    shutil.rmtree(f"/tmp/ray-{os.getpid()}", ignore_errors=True)


def holder_of(output, name):
    return int((output / f".{name}.lock").read_text().split()[1])


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.mark.filterwarnings("default")
def test_a_ray_cluster_loses_a_worker_and_a_node(tmp_path, cluster):
    """kill -9 of a worker in the middle of a run, then a node is removed: all runs are finished once."""
    address, lose_the_second = cluster
    jobs = [job(tmp_path, f"run-{n}", 30, 5, 0.2) for n in range(5)]
    result = []
    head = threading.Thread(
        target=lambda: result.extend(
            launch(jobs, Options(launcher="ray", address=address), tmp_path / ".sweep")
        )
    )
    head.start()
    wait_until(lambda: len(taken(tmp_path, "run-0")) > 6 and len(taken(tmp_path, "run-1")) > 6)
    os.kill(
        parent_of(holder_of(tmp_path, "run-0")), signal.SIGKILL
    )  # the worker, and with it its command or not
    wait_until(lambda: any(taken(tmp_path, f"run-{n}") for n in (2, 3)))
    lose_the_second()
    head.join(timeout=200)
    assert not head.is_alive()
    assert {outcome.job.name: outcome.status for outcome in result} == {f"run-{n}": 0 for n in range(5)}
    for one in jobs:
        notes = [what for what, _ in ledger(tmp_path, one.name)]
        assert notes.count("done") == 1, notes
        steps = taken(tmp_path, one.name)
        assert sorted(set(steps)) == list(range(1, 31))
        begun = sum(isinstance(what, list) and what[0] == "begun" for what in notes)
        assert len(steps) - 30 <= 5 * (begun - 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_no_ray_cluster_there(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(ValueError, match=r"no Ray cluster at address='127\.0\.0\.1:1'"):
        launch([job(tmp_path, "run")], Options(launcher="ray", address="127.0.0.1:1"), tmp_path / ".sweep")
