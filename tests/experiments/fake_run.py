"""A run that costs nothing: the lock, the checkpoints and the exit statuses of experiments.train, and no torch.

python fake_run.py FOLDER STEPS EVERY SECONDS_PER_STEP [fail]
"""

import json
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from experiments._locks import BUSY, BusyError, exclusive

folder, steps, every, pause, *fail = sys.argv[1:]
folder, steps, every, pause = Path(folder), int(steps), int(every), float(pause)
ledger = folder.with_name(f"{folder.name}.ledger")  # what was really run, however it ended


def note(what):
    with ledger.open("a") as file:
        file.write(f"{json.dumps([what, time.time()])}\n")


def interrupted(*_):
    note("interrupted")
    sys.exit(130)


try:
    with exclusive(folder):
        signal.signal(signal.SIGINT, interrupted)
        if (folder / "done").is_file():
            print("finished, kept")
            sys.exit(0)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = folder / "checkpoint"
        begun = int(checkpoint.read_text()) if checkpoint.is_file() else 0
        note(["begun", begun])
        for step in range(begun + 1, steps + 1):
            time.sleep(pause)
            note(["step", step])
            (folder / "progress.csv").write_text(f"time/total_timesteps\n{step}\n")
            if fail and not Path(fail[0]).exists() and step == 2:
                print("line before\nTraceback: the disk is on fire", flush=True)
                sys.exit(3)
            if step % every == 0:
                partial = folder / ".checkpoint.partial"
                partial.write_text(str(step))
                partial.replace(checkpoint)
        (folder / "done").write_text(str(steps))
        note("done")
except BusyError as error:
    print(error)
    sys.exit(BUSY)
