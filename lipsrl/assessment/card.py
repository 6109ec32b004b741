"""The card: criteria with what was found and what is asked, and the verdict that follows from them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from lipsrl._files import check_writable, write_text
from lipsrl.reporting.style import DARK_PAGE, LIGHT_PAGE


@dataclass(frozen=True)
class Criterion:
    """One criterion of the card.

    Attributes:
        name: short, as ``"white noise"``.
        asked: the limit in words.
        found: what was measured or proven, in words, rounded to its worse side.
        holds: whether it does; None: stated for information, it decides nothing.
        kind: ``"proven"``, ``"measured"`` or ``"stated"``.
        value, low, high: the number that was compared, with its 95 % interval where it has one; None: there is none.
        limit: that it was compared with.
    """

    name: str
    asked: str
    found: str
    holds: bool | None
    kind: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None

    @property
    def mark(self) -> str:
        """``pass``, ``FAIL`` or nothing."""
        return "" if self.holds is None else "pass" if self.holds else "FAIL"


@dataclass(frozen=True)
class Assessment:
    """Verdict, criteria and assumptions of a check.

    Attributes:
        name: of the agent.
        env: of the episodes.
        criteria: in the order in which they are read.
        assumptions: assumptions of the verdict that were not checked.
        tolerance: (sensors,) raw units.
        episodes: per fault and attack.
        seed: of the episodes.
        weights_sha256: of the policy; None without a certificate.
        versions: of what made it.
    """

    name: str
    env: str
    criteria: tuple[Criterion, ...]
    assumptions: tuple[str, ...]
    tolerance: tuple[float, ...]
    episodes: int
    seed: int
    weights_sha256: str | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[Criterion, ...]:
        """The criteria that do not hold."""
        return tuple(c for c in self.criteria if c.holds is False)

    @property
    def passed(self) -> bool:
        """Whether all criteria hold."""
        return not self.failed

    @property
    def verdict(self) -> str:
        """What follows from the criteria, in a sentence or two."""
        asked = sum(c.holds is not None for c in self.criteria)
        stated = len(self.criteria) - asked
        more = f" {stated} more {'is' if stated == 1 else 'are'} for information." if stated else ""
        if self.passed:
            return f"PASS: all {asked} criteria hold.{more}"
        names = ", ".join(c.name for c in self.failed)
        return f"FAIL: {len(self.failed)} of {asked} criteria do not hold ({names}).{more}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        data = json.loads(json.dumps(asdict(self)))
        return {"schema_version": 1, "passed": self.passed, "verdict": self.verdict, **data}

    def to_html(self) -> str:
        """One page that needs nothing else."""
        loader = jinja2.ChoiceLoader(
            [jinja2.PackageLoader("lipsrl.assessment", "."), jinja2.PackageLoader("lipsrl.reporting", ".")]
        )
        environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
        return environment.get_template("card.html.j2").render(card=self, light=LIGHT_PAGE, dark=DARK_PAGE)

    def save(self, path: str | Path) -> Path:
        """Write ``.html`` or ``.json``, whole or not at all; returns the path.

        Raises:
            ValueError: another suffix.
        """
        target = check_path(path)
        text = self.to_html() if target.suffix == ".html" else json.dumps(self.to_dict(), indent=1) + "\n"
        write_text(target, text)
        return target


def check_path(path: str | Path) -> Path:
    """``path`` if a card can be written there; to be asked before a long measurement.

    Raises:
        ValueError: another suffix than ``.html`` or ``.json``, or no place to write to.
    """
    target = Path(path)
    if target.suffix not in (".html", ".json"):
        raise ValueError(f"output must end in .html or .json, received {str(path)!r}.")
    check_writable(target)
    return target
