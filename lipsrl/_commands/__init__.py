"""One module per subcommand of ``lipsrl``; :mod:`lipsrl.cli` puts them together."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple


class Command(NamedTuple):
    """A subcommand: the place of its class (imported only when used) and its summary."""

    place: str
    summary: str

    def load(self) -> Any:
        """The class: a dataclass of its options with a method ``run``."""
        module, name = self.place.split(":")
        return getattr(importlib.import_module(f"lipsrl._commands.{module}"), name)


#: In the order in which an agent meets them.
COMMANDS = {
    "check": Command(
        "check:Check", "may this agent be deployed? certify, disturb and attack it; prints a verdict"
    ),
    "certify": Command("certify:Certify", "proven bound of the action change per unit of the observation"),
    "evaluate": Command(
        "evaluate:Evaluate", "return and smoothness under sensor faults of increasing strength"
    ),
    "attack": Command(
        "attack:AttackCommand", "return under attacks: the most harmful sensor errors of limited size"
    ),
    "distill": Command(
        "distill:Distill", "make a Lipschitz student of a trained agent, optionally with memory"
    ),
    "frontier": Command("frontier:FrontierCommand", "make one student per K, compare them and recommend a K"),
    "report": Command("report:Report", "compare agents: print the answer, or write a page with figures"),
    "runs": Command("runs:Runs", "list run folders, one line each"),
    "export": Command(
        "export:Export", "write policy, normalisation and certificate into one file without code"
    ),
    "doctor": Command("doctor:Doctor", "show what is installed, what is missing and where files are written"),
    "completion": Command(
        "completion:Completion", "print a script that completes commands and options in bash, zsh or fish"
    ),
    "pack": Command("pack:Pack", "copy zip, statistics and environment into one run folder"),
}
