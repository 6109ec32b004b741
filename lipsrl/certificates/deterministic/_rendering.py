"""A certificate as a control engineer reads it, in a terminal or a pipe of 80 columns."""

from __future__ import annotations

import re

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lipsrl._digits import rounded_down, rounded_up
from lipsrl.certificates.deterministic._statement import Statement
from lipsrl.certificates.deterministic._window_bounds import WindowBounds

#: Columns of the longest bar.
BAR = 24


def rendered(certificate: Statement) -> Group:
    """Headline, warnings, the pipeline gain by gain, sensors, balls, assumptions."""
    heading = Text.assemble(
        (f"Lipschitz certificate of a {certificate.algorithm} policy", "bold"),
        f" ({certificate.policy}), {certificate.norm} norm",
    )
    parts: list[RenderableType] = [heading, _headline(certificate)]
    if certificate.warnings:
        parts.append(_warnings(certificate))
    parts += [_factors(certificate), _sensors(certificate)]
    if certificate.window is not None:
        parts.append(_window(certificate.window))
    if certificate.local is not None:
        parts.append(_local(certificate))
    parts.append(_assumptions(certificate))
    return Group(*parts)


def _headline(certificate: Statement) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right", style="bold")
    table.add_column(overflow="fold")
    network = certificate.network
    table.add_row(
        "  Upper bound",
        rounded_up(certificate.upper_bound),
        Text(f"‖Δaction‖ ≤ this · ‖Δobservation‖, everywhere; per unit of {certificate.unit}"),
    )
    table.add_row(
        "  Lower bound",
        rounded_down(certificate.lower_bound),
        Text(f"slope of the steepest pair found; tightness {certificate.tightness:.1%}"),
    )
    table.add_row(
        "  Network alone",
        rounded_up(network.upper_bound),
        Text(f"in the policy's own units, at least {rounded_down(network.lower_bound)} "
             f"(tightness {network.tightness:.1%})"),
    )  # fmt: skip
    if certificate.promise is not None:
        table.add_row(
            "  Promised K",
            f"{certificate.promise:g}",
            f"lipschitz_bound, in the policy's units; it uses {network.lower_bound / certificate.promise:.0%} of it",
        )
    return table


def _warnings(certificate: Statement) -> Panel:
    return Panel(_bullets(certificate.warnings), title="Warnings", border_style="yellow", box=box.ROUNDED)


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False)


def _titled(title: str, table: RenderableType) -> Group:
    """A heading may be longer than its table is wide."""
    return Group("", Text(title, style="bold"), table)


def _factors(certificate: Statement) -> Group:
    table = _table()
    table.add_column("Stage", no_wrap=True)
    table.add_column("Gain", no_wrap=True, justify="right")
    table.add_column("Where it comes from", overflow="fold")
    for factor in certificate.factors:
        table.add_row(Text(factor.name), rounded_up(factor.gain), Text(factor.detail))
    title = f"From sensor to action: the gains multiply to the upper bound (method {certificate.method!r})"
    return _titled(title, table)


def _sensors(certificate: Statement) -> Group:
    shown = certificate.sensors_shown()
    count = len(certificate.per_sensor)
    table = _table()
    table.add_column("Sensor", overflow="fold")
    if certificate.sensor_scale is not None:
        table.add_column("Unit", no_wrap=True, justify="right")
    table.add_column("At most", no_wrap=True, justify="right")
    table.add_column("", no_wrap=True)
    largest = max(certificate.per_sensor)
    for index, value in shown:
        cells = [Text(certificate.sensor_name(index)), Text(rounded_up(value))]
        if certificate.sensor_scale is not None:
            cells.insert(1, Text(f"{certificate.sensor_scale[index]:g}"))
        table.add_row(*cells, "█" * round(BAR * value / largest) if largest > 0 else "")
    which = f", the steepest {len(shown)} of {count}" if len(shown) < count else ""
    return _titled(f"One sensor alone: ‖Δaction‖ per unit of it{which}", table)


def _window(window: WindowBounds) -> Group:
    table = _table()
    table.add_column("Bound", no_wrap=True)
    table.add_column("At most", no_wrap=True, justify="right")
    table.add_column("What is off", overflow="fold")
    for name, value, text in window.rows():
        table.add_row(name, rounded_up(value), text)
    return _titled(f"The policy sees {window.frames} observations: ‖Δaction‖ per unit", table)


def _local(certificate: Statement) -> Group:
    local = certificate.local
    assert local is not None
    ordered = sorted(local.upper_bounds)
    table = _table()
    for name in ("Radius", "Smallest", "Median", "Largest", "of the upper bound"):
        table.add_column(name, no_wrap=True, justify="right")
    share = local.largest / certificate.upper_bound if certificate.upper_bound > 0 else 1.0
    table.add_row(
        f"{local.radius:g}",
        rounded_up(ordered[0]),
        rounded_up(ordered[len(ordered) // 2]),
        rounded_up(local.largest),
        f"{share:.1%}",
    )
    title = f"Near {len(ordered)} given states: ‖Δaction‖ per unit between any two points of one ball"
    return _titled(title, table)


def _assumptions(certificate: Statement) -> Group:
    versions = ", ".join(f"{name} {version}" for name, version in certificate.versions.items())
    return Group(
        _titled("Assumes", _bullets(certificate.assumptions)),
        Text(f"weights {certificate.weights_sha256[:16]}  {versions}", style="dim"),
    )


def _bullets(texts: tuple[str, ...]) -> Table:
    """A bulleted list whose long lines are indented."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for text in texts:
        table.add_row("•", Text(text))
    return table


def labelled(text: str) -> Group:
    """Lines of a label, a gap and words; words that do not fit are continued below themselves, not below the label."""
    grids = []
    for line in text.splitlines():
        found = re.match(r"( *\S.*?  +|  +)(?=\S)", line)
        label = found[0] if found else ""
        grid = Table.grid()
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(Text(label), Text(line[len(label) :]))
        grids.append(grid)
    return Group(*grids)
