"""Make the W&B dashboard of a project: the saved view «lipsrl: smoothness» and a report.

    python -m experiments.dashboard --project lipsrl --runs runs/pendulum/*
    python -m experiments.dashboard --project lipsrl --spec dashboard.json

The first command needs an account (wandb login). It updates the view and the report of an earlier call. The second
command writes the dashboard to a file; it needs no account and no network. To get runs into the project, train with
`--track online`, or upload offline runs with `wandb sync`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments._console import command_line, fail, parse
from lipsrl.certificates import Certificate
from lipsrl.evaluation import Evaluation
from lipsrl.tracking import RunFolder, report, workspace
from lipsrl.tracking.config import plain
from lipsrl.tracking.dashboard import Saved, read_saved, save_dashboard, view_of_url, write_dashboard
from lipsrl.tracking.names import JOBS, Job
from lipsrl.tracking.report import COMMANDS
from lipsrl.tracking.workspace import ATTACKS, DISTURBANCES, entity_of

MANY = 20
"""Commands that a report lists one by one."""


@dataclass
class Args:
    """Make the W&B dashboard of a project."""

    project: str
    """W&B project."""
    entity: str | None = None
    """W&B user or team. Default: the environment variable WANDB_ENTITY, or your own account."""
    runs: list[Path] = field(default_factory=list)
    """Run folders. They define the agents' colours, the disturbances and the table of results with intervals."""
    disturbances: list[str] | None = None
    """Names of the disturbances that get panels. Default: the disturbances of the runs' evaluations."""
    attacks: list[str] = field(default_factory=lambda: list(ATTACKS))
    """Names of the attacks that get panels. `minimum` is the worst of all attacks in each episode."""
    jobs: list[Job] = field(default_factory=lambda: list(JOBS))
    """Job types of the project's runs. Panels of other job types are left out."""
    spec: Path | None = None
    """Write the dashboard to this JSON file and send nothing to W&B."""
    remember: Path | None = None
    """File that stores the W&B names of the view and the report. Default: runs/dashboards/PROJECT.json."""
    view: str | None = None
    """Address of the saved view to update, if it was made on another machine."""


@dataclass(frozen=True)
class Measured:
    """What the run folders say."""

    agents: list[str]
    disturbances: list[str]
    evaluations: list[Evaluation]
    certificates: list[dict[str, Any]]
    commands: list[str]


def measured(paths: list[Path]) -> Measured:
    """Read run folders; those that were not evaluated yet are named."""
    by_task: dict[str, list[Evaluation]] = {}
    agents: list[str] = []
    certificates: list[dict[str, Any]] = []
    commands: list[str] = []
    waiting: list[Path] = []
    for folder in [RunFolder.open(path) for path in paths]:
        config = folder.read_config()
        agents.append(config["agent"])
        commands.append(config["command"])
        if folder.certificate_file.is_file():
            certificates.append(
                {
                    **Certificate.load(folder.certificate_file).to_dict(),
                    "agent": config["agent"],
                    "env": config["env_id"],
                }
            )
        if folder.evaluation_file.is_file():
            by_task.setdefault(config["task"], []).append(Evaluation.load(folder.evaluation_file))
        else:
            waiting.append(folder.path)
    if waiting:
        print(
            f"{len(waiting)} of {len(paths)} runs are not evaluated yet, {waiting[0]} for one: python -m "
            "experiments.compare RUN... does that."
        )
    evaluations = [Evaluation.concat(of) for of in by_task.values()]
    names = [name for evaluation in evaluations for name in evaluation.frame["disturbance"].unique()]
    return Measured(
        list(dict.fromkeys(agents)), list(dict.fromkeys(names)), evaluations, certificates, commands
    )


def listed(commands: list[str]) -> list[str]:
    """The commands once each, without this machine's folders; of many only the first ones."""
    unique = [str(plain(command)) for command in dict.fromkeys(commands)]
    more = len(unique) - MANY
    return unique if more <= 0 else [*unique[:MANY], f"# and {more} more; each run's config has its own"]


def dashboard(args: Args) -> Saved:
    """Build the view and the report, and write or save them.

    Raises:
        ConnectionError: W&B does not answer, or refuses.
        ImportError: wandb-workspaces is not installed.
        ValueError: a name that W&B does not take, run folders that do not belong together, no account.
    """
    found = measured(args.runs)
    shown = found.disturbances or list(DISTURBANCES) if args.disturbances is None else args.disturbances
    options: dict[str, Any] = {
        "disturbances": shown,
        "attacks": args.attacks,
        "jobs": args.jobs,
        "agents": found.agents,
    }
    view = workspace(args.project, args.entity, **options)
    commands = [*found.commands, command_line("experiments.dashboard")] if found.commands else list(COMMANDS)
    page = report(
        args.project,
        args.entity,
        evaluations=found.evaluations,
        certificates=found.certificates,
        commands=listed(commands),
        **options,
    )
    path = args.spec or args.remember or Path("runs/dashboards") / f"{args.project}.json"
    saved = read_saved(path, args.project, entity_of(args.entity))
    if args.spec is not None:
        write_dashboard(path, view, page, saved)
        print(f"{path}: what would be saved. Nothing was sent.")
        return saved
    if args.view is not None:
        saved = view_of_url(args.view, saved)
    saved = save_dashboard(path, view, page, saved)
    print(
        f"view: {saved.view_url}\nreport: {saved.report_url}\n{path} remembers both: the next call updates them."
    )
    return saved


def main() -> int:
    """Command line."""
    args = parse(Args, __doc__)
    try:
        with fail():
            dashboard(args)
    except (ConnectionError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
