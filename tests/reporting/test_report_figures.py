import colorsys

import numpy as np
import pytest

from lipsrl.reporting import action_trace, fluctuation_under_noise, return_under_noise
from lipsrl.reporting.style import DARK_PAGE, LIGHT_PAGE, PALETTE, agent_styles


def lines(figure):
    return {trace.name: trace for trace in figure.data if trace.mode == "lines+markers"}


def bands(figure):
    return {trace.name: trace for trace in figure.data if trace.fill == "toself"}


@pytest.mark.parametrize("seeds", [(0,), range(6)])
@pytest.mark.parametrize(
    ("draw", "column"), [(return_under_noise, "return"), (fluctuation_under_noise, "action_fluctuation")]
)
def test_curves_and_bands_are_the_summary_of_the_frame(make_evaluation, draw, column, seeds):
    evaluation = make_evaluation(seeds=seeds)
    figure = draw(evaluation.frame)
    summary = evaluation.summary([column])
    for agent in ("ppo", "ppo-sandwich"):
        rows = summary[summary["agent"] == agent].sort_values("strength")
        line, band = lines(figure)[agent], bands(figure)[agent]
        np.testing.assert_array_equal(line.x, rows["strength"])
        np.testing.assert_array_equal(line.y, rows[column])
        np.testing.assert_array_equal(band.y[:3], rows[f"{column}_high"])
        np.testing.assert_array_equal(band.y[3:][::-1], rows[f"{column}_low"])
        np.testing.assert_array_equal(band.x, [*rows["strength"], *rows["strength"][::-1]])


def test_a_figure_is_a_function_of_the_frame_alone(make_evaluation):
    frame = make_evaluation().frame
    before = frame.copy()
    shuffled = frame.sample(frac=1.0, random_state=0)
    figure = return_under_noise(frame)
    assert figure == return_under_noise(frame)
    np.testing.assert_allclose(lines(return_under_noise(shuffled))["ppo"].y, lines(figure)["ppo"].y)
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
    figure = return_under_noise(make_evaluation().frame, floor=-1230.0)
    (floor,) = [trace for trace in figure.data if trace.name == "floor"]
    assert list(floor.y) == [-1230.0, -1230.0]
    assert "floor" not in [trace.name for trace in return_under_noise(make_evaluation().frame).data]


def test_every_axis_has_a_title_with_its_unit(make_evaluation, make_trace):
    frame = make_evaluation().frame
    for figure in (return_under_noise(frame, strength_title="σ (rad)"), fluctuation_under_noise(frame)):
        assert "(" in figure.layout.xaxis.title.text
        assert "(" in figure.layout.yaxis.title.text
    figure = action_trace({"a": make_trace(), "b": make_trace()})
    assert figure.layout.xaxis2.title.text == "time (s)"
    assert figure.layout.yaxis.title.text == figure.layout.yaxis2.title.text == "action (env. units)"
    assert action_trace({"a": make_trace(dt=1.0)}).layout.xaxis.title.text == "time (steps)"


def test_action_trace_draws_the_recorded_actions_on_shared_axes(make_trace):
    traces = {"ppo": make_trace(2), "ppo-sandwich": make_trace(2, steps=20)}
    figure = action_trace(traces, dimension=1)
    assert [trace.name for trace in figure.data] == list(traces)
    for drawn, (agent, trace) in zip(figure.data, traces.items(), strict=True):
        np.testing.assert_array_equal(drawn.y, trace["actions"][:, 1].astype(float))
        np.testing.assert_array_equal(drawn.x, trace["time"])
        (title,) = [a.text for a in figure.layout.annotations if f"<b>{agent}</b>" in a.text]
        assert f"return −{-trace['return']:.1f}" in title
        assert f"|Δa| = {trace['action_fluctuation']:.2f}" in title
    assert figure.layout.xaxis.matches == "x2"
    assert figure.layout.yaxis.matches == "y2"


def test_action_trace_computes_what_a_trace_does_not_say():
    actions = np.array([0.0, 1.0, 3.0])
    (title,) = action_trace({"a": {"actions": actions, "rewards": [-1.0, -2.0, -4.0]}}).layout.annotations
    assert "return −7.00" in title.text
    assert "|Δa| = 1.50" in title.text
    (bare,) = action_trace({"a": {"actions": actions}}).layout.annotations
    assert "return" not in bare.text


def test_action_trace_refuses_what_it_cannot_draw(make_trace):
    with pytest.raises(ValueError, match="at least one agent"):
        action_trace({})
    with pytest.raises(ValueError, match="trace of 'a' must hold 'actions'"):
        action_trace({"a": {"rewards": [1.0]}})
    with pytest.raises(ValueError, match=r"dimension must be in 0\.\.0, .*'a', received 1"):
        action_trace({"a": make_trace(1)}, dimension=1)


def test_names_are_not_taken_for_markup(make_evaluation, make_trace):
    name = '<a href="https://example.org">x</a>'
    frame = make_evaluation(agents=(name,)).frame
    for figure in (return_under_noise(frame), action_trace({name: make_trace()})):
        assert "<a" not in figure.to_json().replace("\\u003c", "<")


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
    drawn = action_trace({"ppo-sandwich": make_trace()}, styles=styles)
    color = styles["ppo-sandwich"].color
    assert lines(only)["ppo-sandwich"].line.color == drawn.data[0].line.color == color == PALETTE[1]
    looks = agent_styles([f"agent {i}" for i in range(80)]).values()
    assert len(set(looks)) == 80
    hues = [colorsys.rgb_to_hsv(*(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)))[0] for c in PALETTE[:4]]
    assert min(abs(a - b) for i, a in enumerate(hues) for b in hues[:i]) > 0.1
