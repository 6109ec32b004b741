"""``python -m envs.floor NAME``: mean return of uniformly random actions, the floor of a task."""

from __future__ import annotations

import sys

from envs import get_task
from lipsrl.evaluation import random_return


def main() -> None:
    """Print the floor of the task named on the command line."""
    task = get_task(sys.argv[1] if len(sys.argv) > 1 else "pendulum")
    print(f"{task.name}: {random_return(task.make, n_episodes=1000, seed=0):.1f}")


if __name__ == "__main__":
    main()
