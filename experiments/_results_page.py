"""The text of docs/results.md."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from experiments._distill_tables import markdown
from experiments._results_cells import (
    bounds_cell,
    cell,
    estimate_cell,
    tightness_cell,
    values_cell,
    whole_tightness,
)
from experiments._scores import AR1, CLEAN, FLUCTUATION, SCORES, WHITE, WORST, Scores, seconds
from experiments._study import Study
from lipsrl.reporting.numbers import MISSING, number

#: What was aimed at, in the IQM over tasks, times the plain agent's.
AIMS = {CLEAN: ("≥", 0.98), WHITE: ("≥", 1.5), WORST: ("≥", 1.3), FLUCTUATION: ("≤", 0.4)}

_HEAD = """# Results

<!-- Made by `python -m experiments.results` from experiments/results/*/study.json. Change those, not this page. -->

```
python -m experiments.results                                       # this page and its figures, again
python -m experiments.results --collect runs/memory --study memory  # a study, of run folders of experiments.memory
make results-small                                                  # one row again, beside the stored one
```
"""

_SEEDS = """All numbers are over training seeds: first the mean over the episodes of a run, then the
interquartile mean (IQM) of the runs, with a 95 % percentile bootstrap interval in which runs are drawn anew
(within each task). One seed has no interval."""

_STATISTICS = """A **normalised score** is 0 at the task's floor (random actions) and 1 at the plain agents'
clean return (IQM over their seeds); it may be below 0 and above 1. Of noise it is the mean over the levels σ,
from 0 to the largest: the area under the return curve, over its width, on that scale. So the plain agent has 1
only when clean, and agents compare. Definitions are those of Agarwal et al., Deep Reinforcement Learning at the
Edge of the Statistical Precipice (NeurIPS 2021), in [`lipsrl.statistics`](reference/statistics.md). They have
as many runs on every task; here every task weighs the same, however many runs it has."""

_IQM = """**IQM of normalised scores.** An agent that was measured on fewer tasks than another has another mean
for that alone; the ratios below are over the same tasks and seeds. Of few tasks the middle half is mostly one
task's runs: then the tables per task say more."""

_RATIOS = """**Against the plain agent, and what was aimed at**: IQM of the agent over IQM of the plain agent,
on the tasks and seeds that both have, which are drawn in pairs. Fluctuation is mean |Δa| under the small white
noise, over the plain agents' of the task. Bold: the estimate meets the aim. *Of*: what
the agent would have if it earned the plain agents' clean return in every disturbance, on the same tasks; above
that lies only what earns more than they do."""

_PROFILES = """**Performance profiles**: the share of runs whose score lies above τ, with pointwise 95 % bands;
of the agents that were measured on all tasks."""

_IMPROVEMENT = """**Probability of improvement** over `{plain}`: that a run of the agent, drawn at random,
scores higher than one of the plain agent (Mann–Whitney: a tie counts half), mean over the tasks of both. By how
much, it does not say. Where runs of both come in pairs, as students of a teacher do, that is not used."""

_LEGEND = """**K** is the certificate's l2 bound on the action per raw unit of the observation, with
normalisation and saturation in it: median over seeds and range, rounded up.{window} **Tightness** is the
steepest pair of observations that was found over that bound; then the same of the network alone, in the units
that it receives. **Worst attack** is the lowest of the mean returns of a run under the attacks that were tried,
no bound on what an attack can do; filters were not attacked."""

_WINDOW = """ Of a window K is for all its frames being off by a unit at once; in brackets where only the newest
is."""

_TIME = """Time of training and distilling, from the run folders' `config.json`: wall-clock hours of processes
with one torch thread each, several at a time on shared cores, so at most as many CPU hours. Evaluations and
attacks are not in it; filters have nothing to train."""


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def page(found: Sequence[Scores], others: Sequence[str]) -> str:
    """All studies.

    Args:
        found: of each study.
        others: folders that hold no study, which is said.
    """
    parts = [_HEAD.rstrip(), _wrapped(_SEEDS), *(_study(scores) for scores in found)]
    if others:
        names = ", ".join(f"`experiments/results/{name}`" for name in others)
        parts.append(
            _wrapped(f"Not in these tables: {names}, evaluations episode by episode without a study.json.")
        )
    return "\n\n".join(parts) + "\n"


def _study(scores: Scores) -> str:
    study = scores.study
    agents = [[f"`{agent}`", what] for agent, what in study.agents.items()]
    parts = [
        f"## {study.name}",
        markdown([["agent", "what it is"], *agents]),
        _settings(scores),
        *(_headline(scores, name) for name in study.settings),
        _legend(study),
        f"### {study.name}: over tasks",
        *_over_tasks(scores),
        f"### {study.name}: how it was made",
        "```\n" + "\n".join(study.commands) + "\n```",
        _time(scores),
        "Versions: " + ", ".join(f"{name} {' and '.join(found)}" for name, found in study.versions.items()) + "."
        if study.versions else "",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def _settings(scores: Scores) -> str:
    study = scores.study
    rows = [
        [
            "task",
            "environment",
            "plain agent",
            "its clean return",
            "floor",
            "σ of the noise, raw units",
            "ε of the attacks",
        ]
    ]
    words = []
    for name, about in study.settings.items():
        plain = scores.raw(name, study.plain, CLEAN)
        floor = MISSING if about.floor is None else number(about.floor)
        rows.append(
            [name, about.env_id, about.plain_recipe.upper(), cell(list(plain.values())), floor,
             ", ".join(f"{s:g}" for s in about.strengths), ", ".join(f"{e:g}" for e in about.epsilons) or MISSING]
        )  # fmt: skip
        lacks = None
        if not plain:
            lacks = f"no plain agent (`{study.plain}`)"
        elif about.floor is None:
            lacks = "no floor"
        elif scores.span(name, CLEAN) is None:
            lacks = "plain agents that earn no more than its floor"
        if lacks is not None:
            words.append(
                f"**{name}** has {lacks}: no normalised scores, and it is in no statistic over tasks."
            )
        single = [agent for agent in study.agents if len(scores.runs(name, agent)) == 1]
        if single:
            words.append(
                f"**{name}**: one seed only of {', '.join(single)}; that says nothing about other seeds."
            )
    return "\n\n".join([markdown(rows), *map(_wrapped, words)])


def _headline(scores: Scores, name: str) -> str:
    """Task × agent."""
    study, about = scores.study, scores.study.settings[name]
    worst = WORST if about.epsilon is None else f"{WORST}, ε = {about.epsilon:g}"
    rows = [
        ["agent", "seeds", "clean return", f"{WHITE}, score", f"{AR1}, score", f"{worst}, return",
         f"mean \\|Δa\\| at σ = {about.chatter_strength:g}", "certified K, raw units", "tightness", "of the network"]
    ]  # fmt: skip
    for agent in study.agents:
        runs = scores.runs(name, agent)
        if not runs:
            continue
        rows.append(
            [f"`{agent}`", str(len(runs)), values_cell(scores.raw(name, agent, CLEAN)),
             values_cell(scores.normalized(name, agent, WHITE)), values_cell(scores.normalized(name, agent, AR1)),
             values_cell(scores.raw(name, agent, WORST)), values_cell(scores.raw(name, agent, FLUCTUATION)),
             bounds_cell(runs), tightness_cell(runs, whole_tightness),
             tightness_cell(runs, lambda run: run.network_tightness)]
        )  # fmt: skip
    return f"### {study.name}: {name}\n\n" + markdown(rows)


def _legend(study: Study) -> str:
    window = _WINDOW if any(run.newest is not None for run in study.runs) else ""
    return _wrapped(_LEGEND.format(window=window))


def _over_tasks(scores: Scores) -> list[str]:
    study = scores.study
    agents = [agent for agent in study.agents if any(scores.tasks(agent, name) for name in SCORES)]
    if study.plain not in agents:
        return [
            _wrapped(
                f"No task has a floor and a plain agent (`{study.plain}`) above it, so there is nothing to normalise "
                "by and there are no statistics over tasks."
            )
        ]
    others = [agent for agent in agents if agent != study.plain]
    iqms = [["agent", "behind it: task (seeds)", *SCORES]]
    for agent in agents:
        behind = ", ".join(f"{name} ({len(values)})" for name, values in scores.strata(agent, CLEAN).items())
        iqms.append(
            [f"`{agent}`", behind or MISSING, *(estimate_cell(scores.iqm(agent, name), 3) for name in SCORES)]
        )
    quantities = (*SCORES, FLUCTUATION)
    ratios = [["agent / plain", *(f"{name}{_aim(name)}" for name in quantities)]]
    ratios += [[f"`{agent}`", *(_ratio(scores, agent, name) for name in quantities)] for agent in others]
    chances = [["agent", *SCORES]]
    chances += [
        [f"`{agent}`", *(estimate_cell(scores.improvement(agent, name), 2) for name in SCORES)]
        for agent in others
    ]
    single = max(scores.tasks(agent, CLEAN) for agent in agents) < 2
    parts = [
        _wrapped(
            _STATISTICS + (" There is only one task, so nothing is said about others." if single else "")
        ),
        _wrapped(_IQM),
        markdown(iqms),
        f"![IQM of normalised scores with intervals](results-{study.name}-iqm.png)",
        _wrapped(_PROFILES),
        f"![Performance profiles](results-{study.name}-profiles.png)",
    ]
    if others:
        parts += [
            _wrapped(_RATIOS),
            markdown(ratios),
            _wrapped(_IMPROVEMENT.format(plain=study.plain)),
            markdown(chances),
        ]
    if any(scores.improvement(agent, name) for agent in others for name in SCORES):
        parts.append(f"![Probability of improvement](results-{study.name}-improvement.png)")
    return parts


def _aim(name: str) -> str:
    if name not in AIMS:
        return ""
    sign, value = AIMS[name]
    return f" (aim {sign} {value:g})"


def _ratio(scores: Scores, agent: str, name: str) -> str:
    found = scores.ratio(agent, name)
    text = estimate_cell(found, 3)
    most = scores.nothing_lost(agent, name) if name in (WHITE, AR1, WORST) else None
    text += "" if most is None else f" of {number(most, 3)}"
    if found is None or name not in AIMS:
        return text
    sign, aim = AIMS[name]
    met = found.estimate >= aim if sign == "≥" else found.estimate <= aim
    return f"**{text}**" if met else text


def _time(scores: Scores) -> str:
    """CPU hours, as far as run folders say it."""
    study = scores.study
    rows = [["task", "runs", "say their time", "hours"]]
    for name in study.settings:
        runs = [run for run in study.runs if run.setting == name]
        total, known = seconds(runs)
        rows.append([name, str(len(runs)), str(known), number(total / 3600, 2)])
    total, known = seconds(study.runs)
    rows.append(["all", str(len(study.runs)), str(known), number(total / 3600, 2)])
    return _wrapped(_TIME) + "\n\n" + markdown(rows)
