"""One module per subcommand of ``lipsrl``; :mod:`lipsrl.cli` puts them together."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple


class Command(NamedTuple):
    """A subcommand: where its class is, imported when it is asked for, and what it does."""

    place: str
    summary: str

    def load(self) -> Any:
        """The class: a dataclass of its options with a method ``run``."""
        module, name = self.place.split(":")
        return getattr(importlib.import_module(f"lipsrl._commands.{module}"), name)


#: In the order in which an agent meets them.
COMMANDS = {
    "check": Command(
        "check:Check", "may it be deployed? all of the below inside the sensors' tolerances, a verdict"
    ),
    "certify": Command("certify:Certify", "how far the action can move per unit of the observation, proven"),
    "evaluate": Command("evaluate:Evaluate", "return and smoothness as sensor faults grow"),
    "attack": Command(
        "attack:AttackCommand", "return when observations are moved, inside a budget, to do harm"
    ),
    "distill": Command("distill:Distill", "a Lipschitz twin of a trained agent, with memory if asked for"),
    "frontier": Command(
        "frontier:FrontierCommand", "one student per K: what each costs and buys; which K to take"
    ),
    "report": Command("report:Report", "several agents side by side: the answer here, or a page of figures"),
    "runs": Command("runs:Runs", "run folders, one line each"),
    "export": Command("export:Export", "policy, normalisation and certificate in one file without code"),
    "doctor": Command("doctor:Doctor", "what is installed, what is missing, where things are written"),
    "completion": Command(
        "completion:Completion", "what makes bash, zsh or fish complete commands and options"
    ),
    "pack": Command("pack:Pack", "zip, statistics and environment in one run folder"),
}
