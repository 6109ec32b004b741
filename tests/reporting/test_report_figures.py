import colorsys
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from lipsrl.evaluation import Evaluation
from lipsrl.reporting import action_trace, fluctuation_under_noise, return_under_noise
from lipsrl.reporting.charts import Axis, Figure, Heat, Level, Plot, Series, figure_svgs, write_figures
from lipsrl.reporting.charts.scales import place, shortened, ticks_of, wrapped
from lipsrl.reporting.figures import (
    action_spectrum,
    frontier_plots,
    learning_plots,
    portrait_plots,
    return_profile,
    sensor_plot,
    worst_case_plot,
)
from lipsrl.reporting.figures.frontier import settings_of
from lipsrl.reporting.figures.profile import run_returns
from lipsrl.reporting.figures.worst import worst_case
from lipsrl.reporting.portrait import Portrait, phase_portrait, sensitivities, trajectory
from lipsrl.reporting.style import DARK_PAGE, LIGHT_PAGE, PALETTE, agent_styles
from lipsrl.statistics import performance_profile

SVG = "{http://www.w3.org/2000/svg}"


def lines(plot):
    return {series.label: series for series in plot.series}


def drawn(plot, name="f"):
    """The panel as an XML tree; it must be well formed."""
    (text,) = figure_svgs(Figure(name, "t", "c", [plot]))
    return ET.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


@pytest.mark.parametrize("seeds", [(0,), range(6)])
@pytest.mark.parametrize(
    ("draw", "column"), [(return_under_noise, "return"), (fluctuation_under_noise, "action_fluctuation")]
)
def test_curves_and_bands_are_the_summary_of_the_frame(make_evaluation, draw, column, seeds):
    evaluation = make_evaluation(seeds=seeds)
    plot = draw(evaluation.frame)
    summary = evaluation.summary([column])
    for agent in ("ppo", "ppo-sandwich"):
        rows = summary[summary["agent"] == agent].sort_values("strength")
        line = lines(plot)[agent]
        np.testing.assert_array_equal(line.x, rows["strength"])
        np.testing.assert_array_equal(line.y, rows[column])
        np.testing.assert_array_equal(line.high, rows[f"{column}_high"])
        np.testing.assert_array_equal(line.low, rows[f"{column}_low"])


def test_a_figure_is_a_function_of_the_frame_alone(make_evaluation):
    frame = make_evaluation().frame
    before = frame.copy()
    plot, again = return_under_noise(frame), return_under_noise(frame)
    shuffled = return_under_noise(frame.sample(frac=1.0, random_state=0))
    for name, line in lines(plot).items():
        np.testing.assert_array_equal(line.y, lines(again)[name].y)
        np.testing.assert_allclose(line.y, lines(shuffled)[name].y)
    assert frame.equals(before)


def test_the_disturbance_must_be_named_where_there_are_several(make_evaluation):
    frame = make_evaluation(disturbances=("gaussian", "uniform")).frame
    frame.loc[frame["disturbance"] == "uniform", "return"] -= 1000.0
    with pytest.raises(ValueError, match=r"2 disturbances.*'gaussian', 'uniform'"):
        return_under_noise(frame)
    with pytest.raises(ValueError, match=r"Did you mean 'uniform'"):
        return_under_noise(frame, disturbance="uniforn")
    first = lines(return_under_noise(frame, disturbance="gaussian"))["ppo"].y
    second = lines(return_under_noise(frame, disturbance="uniform"))["ppo"].y
    np.testing.assert_allclose(second, first - 1000.0)


def test_the_floor_is_drawn_where_it_is(make_evaluation):
    frame = make_evaluation().frame
    (floor,) = return_under_noise(frame, floor=-1230.0).levels
    assert floor.value == -1230.0
    assert return_under_noise(frame).levels == []


def test_every_axis_has_a_title_with_its_unit(make_evaluation, make_trace):
    frame = make_evaluation().frame
    plots = [return_under_noise(frame, strength_title="σ (rad)"), fluctuation_under_noise(frame)]
    plots += action_trace({"a": make_trace(), "b": make_trace()})
    plots.append(action_spectrum({"a": make_trace()}))
    for plot in plots:
        for axis in (plot.x, plot.y):
            assert "(" in axis.title
            assert axis.title.split()[0] in "".join(drawn(plot).itertext())
    assert plots[2].x.title == "time (s)"
    assert action_trace({"a": make_trace(dt=1.0)})[0].x.title == "time (steps)"


def test_titles_are_never_cut(make_evaluation):
    long = "a title of an axis that is far too long for one line of a panel on a phone (raw sensor units)"
    svg = drawn(return_under_noise(make_evaluation().frame, strength_title=long))
    texts = list(svg.iter(f"{SVG}text"))
    assert " ".join(t.text for t in texts if t.get("text-anchor") == "middle" and not t.get("class")) == long
    for text in texts:
        size = 0.6 * 12 * len(text.text)  # wider than any font draws it
        x = float(text.get("x"))
        left = x - {"middle": size / 2, "end": size}.get(text.get("text-anchor"), 0)
        if text.get("text-anchor") == "middle" and not text.get("class"):
            assert left > 0
            assert left + size < 400


def test_action_trace_draws_the_recorded_actions_on_shared_axes(make_trace):
    traces = {"ppo": make_trace(2), "ppo-sandwich": make_trace(2, steps=20)}
    plots = action_trace(traces, dimension=1)
    for plot, (agent, trace) in zip(plots, traces.items(), strict=True):
        (line,) = plot.series
        assert line.label == agent
        np.testing.assert_array_equal(line.y, trace["actions"][:, 1].astype(float))
        np.testing.assert_array_equal(line.x, trace["time"])
        assert f"return −{-trace['return']:.1f}" in plot.heading
        assert f"|Δa| {trace['action_fluctuation']:.2f}" in plot.heading
        assert plot.heading.startswith(agent)
    assert plots[0].y.limits == plots[1].y.limits


def test_action_trace_computes_what_a_trace_does_not_say():
    actions = np.array([0.0, 1.0, 3.0])
    (plot,) = action_trace({"a": {"actions": actions, "rewards": [-1.0, -2.0, -4.0]}})
    assert "return −7.00" in plot.heading
    assert "|Δa| 1.50" in plot.heading
    (bare,) = action_trace({"a": {"actions": actions}})
    assert "return" not in bare.heading


def test_action_trace_refuses_what_it_cannot_draw(make_trace):
    with pytest.raises(ValueError, match="at least one agent"):
        action_trace({})
    with pytest.raises(ValueError, match="trace of 'a' must hold 'actions'"):
        action_trace({"a": {"rewards": [1.0]}})
    with pytest.raises(ValueError, match=r"dimension must be in 0\.\.0, .*'a', received 1"):
        action_trace({"a": make_trace(1)}, dimension=1)


def test_the_spectrum_has_its_peak_where_the_action_swings():
    time = np.arange(512) * 0.05
    swinging = {"time": time, "actions": np.sin(2 * np.pi * 5.0 * time)}
    (line,) = action_spectrum({"a": swinging}).series
    assert line.x[np.argmax(line.y)] == pytest.approx(5.0, abs=0.35)
    power = float(np.sum(line.y) * (line.x[1] - line.x[0]))
    assert power == pytest.approx(0.5, rel=0.02)  # of a sine of amplitude 1


def test_learning_curves_are_the_mean_and_the_range_of_the_runs():
    def run(offset):
        steps = np.arange(1, 6) * 1000.0
        return pd.DataFrame({"time/total_timesteps": steps, "rollout/ep_rew_mean": steps / 1000 + offset})

    styles = agent_styles(["a"])
    broken = pd.DataFrame({"time/total_timesteps": [1.0, 2.0], "rollout/ep_rew_mean": ["x", None]})
    (plot,) = learning_plots({"a": [run(0.0), run(2.0), broken]}, styles)
    (line,) = plot.series
    np.testing.assert_allclose(line.y, line.x + 1.0)
    np.testing.assert_allclose(line.high - line.low, 2.0)
    assert learning_plots({"a": [broken]}, styles) == []


def test_sensors_show_what_was_measured_below_what_is_proven():
    plot = sensor_plot({"a": [1.0, 2.0]}, {"a": [1.5, 2.5]}, ["θ (rad)", "ω (rad/s)"], agent_styles(["a"]))
    bound, measured = plot.series
    assert (bound.hollow, measured.hollow) == (True, False)
    np.testing.assert_array_equal(measured.x, [1.0, 2.0])
    np.testing.assert_array_equal(bound.y, measured.y)
    assert set(plot.y.ticks.values()) == {"θ (rad)", "ω (rad/s)"}
    assert bound.said[0] == "θ (rad), proven ≤ 1.50"
    assert sensor_plot({}, {}, [], {}) is None


def test_a_portrait_is_the_policy_itself():
    portrait = phase_portrait(lambda o: -0.3 * o[:, 2:] + 0.4 * o[:, 1:2], "Pendulum-v1")
    assert portrait.action.shape == portrait.slope.shape == (61, 61)
    assert portrait.action[30, 30] == pytest.approx(0.0, abs=1e-6)  # upright, at rest
    assert portrait.action[-1, 30] == pytest.approx(-2.0)  # 8 rad/s: clipped at the actuator's limit
    assert portrait.slope[30, 30] == pytest.approx(0.5, abs=1e-3)  # √(.3² + .4²)
    assert portrait.slope[-1, 30] == pytest.approx(0.0, abs=1e-3)
    assert phase_portrait(lambda o: np.zeros(len(o), dtype=int), "CartPole-v1") is None  # discrete
    assert trajectory(np.array([[0.0, 1.0, 3.0]]), "Pendulum-v1")[0][0] == pytest.approx(np.pi / 2)
    # an environment that cannot be made once more costs a line in a picture, and not the report
    assert trajectory(np.array([[0.0, 1.0, 3.0]]), "Pendulum-v1", {"render_mode": 1}) is None


def test_sensitivities_of_a_linear_policy_are_its_columns():
    trace = {"observations": np.random.default_rng(0).normal(size=(50, 3)) * 0.1}
    found = sensitivities(lambda o: 0.5 * o[:, 2:] - 0.25 * o[:, :1], "Pendulum-v1", trace)
    assert found == pytest.approx([0.25, 0.0, 0.5], abs=1e-4)


def test_portraits_share_their_colours():
    def portrait(scale):
        grid = np.linspace(-1, 1, 9).reshape(3, 3) * scale
        return Portrait((-1, 1), (-2, 2), "angle (rad)", "velocity (rad/s)", grid, np.abs(grid))

    plots = portrait_plots({"a": portrait(1.0), "b": portrait(3.0)}, {}, None)
    assert [p.heat.limits for p in plots] == [(-3.0, 3.0), (0.0, 3.0)] * 2
    (image,) = drawn(plots[0]).iter(f"{SVG}image")
    assert image.get("href").startswith("data:image/png;base64,")


def test_profiles_are_those_of_the_statistics(make_evaluation):
    evaluation = make_evaluation(seeds=range(5))
    runs = run_returns(evaluation, "gaussian", 0.1)
    by_seed = evaluation.frame.query("agent == 'ppo' and strength == 0.1").groupby("seed")["return"].mean()
    np.testing.assert_allclose(runs["ppo"], by_seed)
    plot = return_profile(runs, agent_styles(runs), "h")
    line = lines(plot)["ppo"]
    wanted = performance_profile(runs["ppo"], line.x)
    np.testing.assert_array_equal(line.y, wanted.share)
    np.testing.assert_array_equal(line.low, wanted.low)
    assert return_profile({"a": np.array([1.0])}, agent_styles(["a"]), "h") is None


def test_the_worst_of_the_attacks_counts(make_evaluation):
    evaluation = make_evaluation(disturbances=("mad", "random"))
    frame = evaluation.frame
    frame.loc[(frame["disturbance"] == "mad") & (frame["strength"] > 0), "return"] -= 500.0
    table = worst_case(Evaluation(frame)).set_index(["agent", "strength"])["return"]
    mad = frame[frame["disturbance"] == "mad"].groupby(["agent", "strength"])["return"].mean()
    np.testing.assert_allclose(table.sort_index(), mad.sort_index())
    plot = worst_case_plot(Evaluation(frame), agent_styles(["ppo", "ppo-sandwich"]), ball="linf")
    np.testing.assert_allclose(lines(plot)["ppo"].y, mad["ppo"])


def test_a_frontier_is_drawn_where_there_is_something_to_choose(make_evaluation, make_certificate):
    agents = ("teacher", "K=2", "K=4", "K=8")
    evaluation = make_evaluation(agents=agents)
    certified = {a: [make_certificate(a, promise=float(a[2:]))] for a in agents[1:]}
    certified["teacher"] = [make_certificate("teacher")]
    settings = settings_of(certified)
    assert settings == {"K=2": (2.0, 1), "K=4": (4.0, 1), "K=8": (8.0, 1)}
    returns, chatter = frontier_plots(evaluation.summary(), settings, "gaussian", "teacher")
    summary = evaluation.summary().set_index(["agent", "strength"])
    clean = lines(returns)["clean"]
    np.testing.assert_array_equal(clean.x, [2.0, 4.0, 8.0])
    np.testing.assert_array_equal(clean.y, [summary.loc[(a, 0.0), "return"] for a in agents[1:]])
    texts = [t.text for t in drawn(returns).iter(f"{SVG}text")]
    assert {"2", "4", "8"} < set(texts)
    assert returns.levels[0].value == summary.loc[("teacher", 0.0), "return"]
    assert len(chatter.series) == 3  # clean, the middle strength and the largest
    assert frontier_plots(evaluation.summary(), {"K=2": (2.0, 1)}, "gaussian") == []


def test_names_are_not_taken_for_markup(make_evaluation, make_trace):
    name = '<a href="https://example.org">x</a>'
    for plot in (
        return_under_noise(make_evaluation(agents=(name,)).frame),
        *action_trace({name: make_trace()}),
    ):
        svg = drawn(plot)
        assert not list(svg.iter(f"{SVG}a"))
    titles = drawn(return_under_noise(make_evaluation(agents=(name,)).frame)).iter(f"{SVG}title")
    assert any(name in t.text for t in titles)


def test_gaps_and_odd_values_are_left_out_of_the_drawing():
    look = agent_styles(["a"])["a"]
    y = np.array([1.0, np.nan, 3.0, np.inf, 5.0])
    plot = Plot(Axis("x (s)"), Axis("y (m)"), [Series("a", look, np.arange(5.0), y, y - 1, y + 1)])
    text = figure_svgs(Figure("f", "t", "c", [plot]))[0]
    assert "nan" not in text
    assert "inf" not in text
    assert text.count("<circle") == 3
    nothing = Plot(
        Axis("x (s)"), Axis("y (m)", "log"), [Series("a", look, np.array([0.0]), np.array([np.nan]))]
    )
    assert "nan" not in figure_svgs(Figure("f", "t", "c", [nothing]))[0]


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [((-1300.0, -100.0), "−750"), ((0.0, 0.4), "0.1"), ((0.0, 1e6), "250k"), ((0.0, 0.9), "0.25")],
)
def test_round_numbers_beside_an_axis(limits, wanted):
    ticks = ticks_of(Axis("x"), limits)
    assert 3 <= len(ticks) <= 8
    assert all(limits[0] - 1e-9 <= value <= limits[1] + 1e-9 for value in ticks)
    assert len(set(ticks.values())) == len(ticks)
    if limits[1] in (-100.0, 0.4):
        assert wanted in ticks.values()


def test_places_on_both_scales():
    np.testing.assert_allclose(place(Axis("x"), (0.0, 2.0), 10, 30)(np.array([0.0, 1.0, 2.0])), [10, 20, 30])
    logged = place(Axis("x", "log"), (1.0, 100.0), 10, 30)(np.array([1.0, 10.0, 100.0, 0.0]))
    np.testing.assert_allclose(logged[:3], [10, 20, 30])
    assert np.isnan(logged[3])


def test_text_is_broken_between_words_and_names_keep_both_ends():
    assert wrapped("one two three", 60) == ["one two", "three"]
    assert shortened("a" * 10 + "z" * 10, 9) == "aaaa…zzzz"
    assert shortened("short", 9) == "short"


def test_files_for_papers_are_whole_and_the_same_every_time(tmp_path, make_evaluation, make_trace):
    frame = make_evaluation(agents=("_$x$", "b")).frame
    styles = agent_styles(["_$x$", "b"])
    heat = Heat(np.eye(3), (0.0, 1.0), (0.0, 1.0), "u (m)", (0.0, 1.0))
    figures = [
        Figure(
            "curves",
            "t",
            "c",
            [return_under_noise(frame, floor=-1230.0, styles=styles), fluctuation_under_noise(frame)],
        ),
        Figure(
            "heat",
            "t",
            "c",
            [Plot(Axis("x (m)"), Axis("y (m)"), heat=heat, levels=[Level(0.5, "l", "x")])],
            legend=False,
        ),
    ]
    files = write_figures(tmp_path / "a", figures)
    again = write_figures(tmp_path / "b", figures)
    assert [f.name for f in files] == [f"{n}.{s}" for n in ("curves", "heat") for s in ("svg", "pdf", "png")]
    for one, other in zip(files, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    magic = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}
    assert all(f.read_bytes().startswith(magic[f.suffix[1:]]) for f in files)
    assert {f.name for f in (tmp_path / "a").iterdir()} == {f.name for f in files}
    with pytest.raises(ValueError, match="Did you mean 'png'"):
        write_figures(tmp_path, figures, ["pngg"])


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("page", [LIGHT_PAGE, DARK_PAGE])
@pytest.mark.parametrize("color", PALETTE)
def test_every_colour_stands_out_from_both_pages(color, page):
    bright, dim = sorted((luminance(color), luminance(page)), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= 3.0  # WCAG 2.2, 1.4.11 for graphical objects


def test_an_agent_keeps_its_look_and_no_two_share_one(make_evaluation, make_trace):
    styles = agent_styles(["ppo", "ppo-sandwich"])
    frame = make_evaluation().frame
    only = return_under_noise(frame[frame["agent"] == "ppo-sandwich"], styles=styles)
    (trace,) = action_trace({"ppo-sandwich": make_trace()}, styles=styles)
    color = styles["ppo-sandwich"].color
    assert lines(only)["ppo-sandwich"].look.color == trace.series[0].look.color == color == PALETTE[1]
    looks = agent_styles([f"agent {i}" for i in range(80)]).values()
    assert len(set(looks)) == 80
    hues = [colorsys.rgb_to_hsv(*(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)))[0] for c in PALETTE[:4]]
    assert min(abs(a - b) for i, a in enumerate(hues) for b in hues[:i]) > 0.1
