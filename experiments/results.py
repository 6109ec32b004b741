"""The results page, made of small studies; and small studies, made of run folders.

    python -m experiments.results
    python -m experiments.results --collect runs/memory --study memory
    python -m experiments.results --collect runs/more-seeds --study memory --add
    python -m experiments.results --compare runs/results-small --study memory

The first writes docs/results.md and its figures from all of experiments/results/*/study.json; a second run changes
nothing. The second makes such a study of the run folders that `experiments.memory` left; agents that are unfinished are
left out, which is said. The third adds run folders to a stored study. The fourth prints freshly measured runs beside
those of the same seed in a study.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from envs import TASKS
from experiments._collect import collect, joined
from experiments._console import fail, parse
from experiments._distill_tables import markdown
from experiments._results_figures import write
from experiments._results_page import page
from experiments._scores import FLUCTUATION, SCORES, Scores
from experiments._study import Study, studies
from lipsrl._files import write_text
from lipsrl._validation import lookup
from lipsrl.reporting.numbers import interval, number
from lipsrl.statistics import bootstrap_ci, iqm


@dataclass
class Args:
    """Write the results page; or, with --collect, a study for it; or, with --compare, runs beside a study."""

    studies: Path = Path("experiments/results")
    """Folder of the studies."""
    output: Path = Path("docs/results.md")
    """The page; its figures go beside it."""
    collect: Path | None = None
    """Run folders, TASK-SEED/AGENT, to make a study of (needs --study)."""
    compare: Path | None = None
    """Run folders, TASK-SEED/AGENT, to print beside a study (needs --study)."""
    study: str | None = None
    """Name of the study."""
    tasks: list[str] = field(default_factory=list)
    """Collect these only; all if not given."""
    add: bool = False
    """Keep the runs of the stored study, and add those that it does not have."""
    overwrite: bool = False
    """Also where the stored study has runs that are not among the run folders."""


def write_page(args: Args) -> list[Path]:
    """Leave the page and its figures; returns the files.

    Raises:
        ValueError: no study, or one that cannot be read.
    """
    found, others = studies(args.studies)
    scores = [Scores(study) for study in found]
    text = page(scores, others)
    files = [file for one in scores for file in write(one, args.output.parent)]
    return [*files, write_text(args.output, text)]


def write_study(args: Args, runs: Path) -> tuple[Study, list[str]]:
    """Leave a study of the run folders in ``runs``.

    Returns:
        It, and words on what was left out.

    Raises:
        ValueError: no name, nothing finished, a stored study that has more, or none to add to.
    """
    folder = _place(args)
    for task in args.tasks:
        lookup("tasks", task, TASKS)
    if args.add and args.overwrite:
        raise ValueError("--add keeps the stored runs and --overwrite replaces them; give one of them.")
    if args.add and not (folder / "study.json").is_file():
        raise ValueError(f"There is no study in {folder} to add to. Leave out --add to make one.")
    study, skipped = collect(runs, folder.name, args.tasks)
    if args.add:
        study, had = joined(Study.load(folder), study)
        skipped += [f"{run.name}: the study has it" for run in had]
    elif (folder / "study.json").is_file() and not args.overwrite:
        now = {run.name for run in study.runs}
        lost = [run.name for run in Study.load(folder).runs if run.name not in now]
        if lost:
            raise ValueError(
                f"{folder} has {len(lost)} runs that are not finished in {runs} ({'; '.join(lost[:3])}"
                f"{'; …' if len(lost) > 3 else ''}). Keep them with --add, give another --study, or --overwrite."
            )
    study.save(folder)
    return study, skipped


def beside(args: Args, runs: Path) -> str:
    """Freshly measured runs beside those of the same seed in the study, and the IQM of all its seeds.

    Raises:
        ValueError: no such study, or no run in common.
    """
    stored = Scores(Study.load(_place(args)))
    fresh, _ = collect(runs, "fresh")
    rows = [["task", "seed", "agent", "what", "stored", "again", "difference", "all stored seeds"]]
    for run in fresh.runs:
        if run.setting not in stored.study.settings:
            continue
        if fresh.settings[run.setting] != stored.study.settings[run.setting]:
            raise ValueError(f"{run.setting!r} was measured under other conditions than in {args.study!r}.")
        for quantity in (*SCORES, FLUCTUATION):
            before = stored.raw(run.setting, run.agent, quantity)
            again = Scores(fresh).raw(run.setting, run.agent, quantity)
            if run.seed not in before or run.seed not in again:
                continue
            then, now = before[run.seed], again[run.seed]
            every = bootstrap_ci(list(before.values()), iqm)
            rows.append(
                [run.setting, str(run.seed), run.agent, quantity, number(then), number(now), number(now - then),
                 f"{number(every.estimate)} {interval(every.low, every.high)}"]
            )  # fmt: skip
    if len(rows) == 1:
        raise ValueError(f"{runs} and the study {args.study!r} have no run of the same task, agent and seed.")
    return markdown(rows)


def _place(args: Args) -> Path:
    if args.study is None:
        raise ValueError("study is missing: give the name of one, such as --study memory.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", args.study):
        raise ValueError(
            f"study={args.study!r} must be letters, digits and hyphens: it names a folder and figures."
        )
    if args.compare is not None and args.studies.is_dir():
        lookup("study", args.study, {path.parent.name: path for path in args.studies.glob("*/study.json")})
    return args.studies / args.study


def run(args: Args) -> None:
    """What was asked for."""
    if args.add and args.collect is None:
        raise ValueError("--add goes with --collect: give the run folders that are added.")
    if args.collect is not None and args.compare is not None:
        raise ValueError("--collect and --compare are two commands; give one of them.")
    if args.collect is not None:
        study, skipped = write_study(args, args.collect)
        for words in skipped:
            print(f"left out: {words}")
        print(f"{len(study.runs)} runs of {', '.join(study.settings)}: {args.studies / study.name}")
        print("The page: python -m experiments.results")
    elif args.compare is not None:
        print(beside(args, args.compare))
    elif args.study is not None:
        raise ValueError("study goes with --collect or --compare; the page is made of all studies.")
    else:
        for file in write_page(args):
            print(file)


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    with fail():
        run(args)


if __name__ == "__main__":
    sys.exit(main())
