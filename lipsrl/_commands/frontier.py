"""``lipsrl frontier``."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lipsrl._commands._lesson import Lesson, check_output, plain_errors, said_at_the_end, save_student
from lipsrl._commands._tracking import Tracking, files_of, label, tell
from lipsrl._commands.distill import certificate_cells
from lipsrl._files import atomic_path
from lipsrl._validation import positive_int
from lipsrl.distillation import TEACHER, Frontier, Student, frontier
from lipsrl.reporting.numbers import interval, number
from lipsrl.reporting.style import AgentStyle, agent_styles, axis, base_layout
from lipsrl.tracking.jobs import Subject, log_frontier

#: Of the lines, by history and noise level.
DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot")

RULE = (
    "Recommended: the smallest K whose return is not distinguishable, episode by episode, from the teacher's (clean) "
    "or from the best agent's (under noise): the 95 % interval of the difference reaches 0. Of several histories the "
    "shortest that has one."
)


@dataclass(kw_only=True)
class FrontierCommand(Tracking, Lesson):
    """Distil one student per K, and recommend a K: what each costs in return and buys in smoothness."""

    bounds: list[float] = field(default_factory=lambda: [2.0, 4.0, 6.0, 8.0, 12.0, 16.0])
    """The Ks."""
    disturbance: str = "gaussian:1.0"
    """NAME:PARAMETER...; the strengths and the noise levels multiply it."""
    strengths: list[float] = field(default_factory=lambda: [0.0, 0.05, 0.1, 0.2])
    """At which all are measured; with gaussian the noise's standard deviation in raw sensor units."""
    noise_levels: list[str] = field(default_factory=lambda: ["0"])
    """Strengths that students are shown while they learn: numbers, or LOW:HIGH to draw from between in every episode;
    each makes a student per K."""
    histories: list[int] = field(default_factory=list)
    """How many of its newest observations a student sees at once; each makes a student per K. As many as the teacher
    if not given."""
    workers: int = 2
    """Processes, a student each."""
    output: Path = Path("frontier")
    """Folder for the students' zips (each written as soon as it is made), frontier.html and evaluation.parquet."""
    overwrite: bool = False
    """Write into the folder though there are files in it."""

    def run(self, console: Console) -> None:
        positive_int("workers", self.workers)
        there = sorted(self.output.iterdir())[:1] if self.output.is_dir() else []
        check_output(self.output / "frontier.html", there, self.overwrite)
        source = self.teacher(console)
        written: list[Path] = []
        with said_at_the_end(console), plain_errors(written):
            found = frontier(
                source.model,
                source.env,
                bounds=self.bounds,
                disturbance=self.disturbance,
                strengths=self.strengths,
                noise_levels=[_level(text) for text in self.noise_levels],
                histories=self.histories or [None],
                n_episodes=self.episodes,
                n_workers=self.workers,
                on_student=lambda student: written.extend(self._save(student)),
                **self.options(source),
            )
            found.evaluation.save(self.output / "evaluation.parquet")
            with atomic_path(self.output / "frontier.html") as temporary:
                frontier_figure(found, self.disturbance).write_html(temporary, include_plotlyjs=True)
        console.print(frontier_table(found, self.disturbance))
        for strength in found.evaluation.metadata["strengths"]:
            console.print(_recommendation(found, strength), soft_wrap=True, highlight=False)
        console.print(f"Written: {self.output}, with frontier.html", soft_wrap=True, highlight=False)
        if self.track != "disabled":
            config = {
                "disturbance": self.disturbance,
                "bounds": self.bounds,
                "layer": self.layer,
                "seed": self.seed,
            }
            teacher = Subject(
                TEACHER, None, source.model, files=files_of(source), name=label(source),
                certificate=found.teacher_certificate,
            )  # fmt: skip
            log_frontier(self.job("distill", source, config), found, teacher)
            tell(console, [], self.track)

    def _save(self, student: Student) -> list[Path]:
        window = "" if student.history is None else f"-k{student.history}"
        shown = f"-shown{student.shown.replace(':', '-')}" if student.strongest else ""
        return save_student(student.model, self.output / f"K{student.lipschitz_bound:g}{window}{shown}.zip")


def _level(text: str) -> float | tuple[float, float]:
    """``0.2`` or ``0:0.2``."""
    try:
        numbers = [float(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    match numbers:
        case [number]:
            return number
        case [low, high]:
            return low, high
    raise ValueError(f"noise_levels are numbers or LOW:HIGH, such as 0 0.1 0:0.3, received {text!r}.")


def _recommendation(found: Frontier, strength: float) -> str:
    where = "clean" if strength == 0 else f"at strength {strength:g}"
    student = found.recommended(strength)
    if student is None:
        return f"Recommended {where}: none of these K keeps the return; try larger ones, or more --steps."
    return f"Recommended {where}: {student.name}"


def frontier_table(found: Frontier, disturbance: str) -> Table:
    """One row per agent: return and fluctuation at every strength, and what is proven."""
    table = Table(
        title=Text(f"{found.evaluation.metadata['env']}: under {disturbance} times …"),
        caption=Text(
            f"In a cell: return, its 95 % interval over {found.evaluation.metadata['n_episodes']} episodes (the same "
            "ones for all), mean |Δa|. steepest: the largest slope found of the network, in units of K. K raw: proven, "
            f"action per raw sensor unit. {RULE}"
        ),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    summary = found.evaluation.summary(["return", "action_fluctuation"])
    table.add_column("")
    strengths = found.evaluation.metadata["strengths"]
    for strength in strengths:
        table.add_column("clean" if strength == 0 else f"{strength:g}", justify="right")
    for name in ("steepest", "tight", "K raw"):
        table.add_column(name, justify="right")
    certificates = {TEACHER: found.teacher_certificate, **{s.name: s.certificate for s in found.students}}
    for agent, certificate in certificates.items():
        rows = summary[summary["agent"] == agent].set_index("strength")
        cells = (_cell(rows.loc[strength]) for strength in strengths)
        table.add_row(Text(agent), *cells, *certificate_cells(certificate))
    return table


def _cell(row: pd.Series) -> str:
    spread = interval(row["return_low"], row["return_high"])
    return f"{number(row['return'])}\n{spread}\n{number(row['action_fluctuation'])}"


def frontier_figure(found: Frontier, disturbance: str) -> go.Figure:
    """Return and action fluctuation against K: a colour per strength, a dash per window and noise level; 95 % bars.

    The teacher is a dotted horizontal line of the strength's colour.

    Args:
        disturbance: what the strengths multiply, as text.
    """
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    table = found.table()
    kinds = list(dict.fromkeys(map(_kind, table.loc[table["agent"] != TEACHER, "agent"])))
    strengths = sorted(table["strength"].unique())
    looks = agent_styles(_name("", strength) for strength in strengths)
    bounds = sorted({s.lipschitz_bound for s in found.students})
    reach = [0.9 * bounds[0], 1.1 * bounds[-1]]  # a line though there be one K
    for strength in strengths:
        here = table[table["strength"] == strength]
        teacher = here[here["agent"] == TEACHER].iloc[0]
        look = looks[_name("", strength)]
        for column, measured in enumerate(("return", "action_fluctuation"), start=1):
            for kind, dash in zip(kinds, itertools.cycle(DASHES), strict=False):
                curve = here[(here["agent"] != TEACHER) & (here["agent"].map(_kind) == kind)]
                _draw(
                    figure,
                    curve.sort_values("lipschitz_bound"),
                    measured,
                    _name(kind, strength),
                    look,
                    dash,
                    column,
                )
            figure.add_scatter(
                x=reach, y=[teacher[measured]] * 2, mode="lines", line={"color": look.color, "width": 1, "dash": "dot"},
                name=f"teacher, {_name('', strength)}", legendgroup=_name(kinds[0], strength), showlegend=False,
                row=1, col=column,
            )  # fmt: skip
    metadata = found.evaluation.metadata
    figure.update_layout(base_layout(height=520, margin={"l": 68, "r": 16, "t": 44, "b": 96}))
    figure.add_annotation(
        text=f"{metadata['env']}. Strengths multiply {disturbance}. Bars: 95 % intervals over "
        f"{metadata['n_episodes']} episodes, the same for all. Dotted: the teacher.",
        xref="paper", yref="paper", x=0, y=0, yshift=-62, xanchor="left", yanchor="top", showarrow=False,
    )  # fmt: skip
    figure.update_xaxes(
        axis(
            "K (action units per unit of what the policy receives)",
            type="log",
            tickvals=bounds,
            ticktext=[f"{k:g}" for k in bounds],
        )
    )
    figure.update_yaxes(axis("return (sum of rewards per episode)"), col=1)
    figure.update_yaxes(axis("mean |Δa| (action units per step)", rangemode="tozero"), col=2)
    return figure


def _kind(agent: str) -> str:
    """What tells a student from others of its K: its name without the K."""
    return agent.partition(", ")[2]


def _name(kind: str, strength: float) -> str:
    where = "clean" if strength == 0 else f"strength {strength:g}"
    return where + (f", {kind}" if kind else "")


def _draw(
    figure: go.Figure, curve: pd.DataFrame, measured: str, name: str, look: AgentStyle, dash: str, column: int
) -> None:
    x, y = curve["lipschitz_bound"].to_numpy(), curve[measured].to_numpy()
    low, high = curve[f"{measured}_low"].to_numpy(), curve[f"{measured}_high"].to_numpy()
    figure.add_scatter(
        x=x, y=y, name=name, legendgroup=name, showlegend=column == 1, mode="lines+markers",
        line={"color": look.color, "dash": dash, "width": 2}, marker={"symbol": look.marker, "size": 8},
        error_y={"type": "data", "symmetric": False, "array": high - y, "arrayminus": y - low, "thickness": 1},
        row=1, col=column,
    )  # fmt: skip
