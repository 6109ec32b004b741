import io

import pytest
from rich.console import Console

from lipsrl.reporting import comparison_table


def printed(table, width=80):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return console.file.getvalue()


def test_two_agents_fit_into_80_columns_with_numbers_and_intervals(make_evaluation, make_certificate):
    evaluation = make_evaluation()
    certificates = [make_certificate("ppo"), make_certificate("ppo-sandwich", promise=6.0)]
    text = printed(comparison_table(evaluation, certificates))
    row = evaluation.summary().set_index(["agent", "strength"]).loc[("ppo-sandwich", 0.0)]
    wanted = f"−{-row['return']:.0f} [−{-row['return_low']:.0f}, −{-row['return_high']:.0f}]"
    (line,) = [line for line in text.splitlines() if "Return, no noise" in line]
    assert line.rstrip().endswith(wanted)
    assert any("Upper bound" in line and "12.0" in line and "9.00" in line for line in text.splitlines())
    assert "mean over 6 episodes" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("floor", [None, -900.0])
def test_the_floor_is_the_given_one_or_that_of_the_metadata(make_evaluation, floor):
    evaluation = make_evaluation()
    text = printed(comparison_table(evaluation, floor=floor), 120)
    used = -1230.0 if floor is None else floor
    area = evaluation.normalized_auc(used).set_index("agent").loc["ppo", "normalized_auc"]
    (line,) = [line for line in text.splitlines() if "AUC" in line]
    assert f" {area:.3f} " in line


def test_without_certificates_nothing_is_called_proven(make_evaluation):
    text = printed(comparison_table(make_evaluation()), 120)
    assert "proven" not in text
    assert "Upper bound" not in text
    assert "Measured action sensitivity" in text


def test_many_agents_and_disturbances(make_evaluation):
    evaluation = make_evaluation(agents=("a", "b", "c"), disturbances=("gaussian", "uniform"), seeds=range(5))
    table = comparison_table(evaluation)
    text = printed(table, 100)
    assert "uniform (gaussian, std = 1)" in text
    assert text.count("Return, no noise") == 2
    assert [column.header.plain for column in table.columns[1:]] == ["a", "b", "c"]


def test_names_are_not_taken_for_markup(make_evaluation):
    assert "[red]x" in printed(comparison_table(make_evaluation(agents=("[red]x", "b"))))


def test_ratios_are_to_the_reference(make_evaluation):
    evaluation = make_evaluation()
    table = comparison_table(evaluation, reference="ppo-sandwich")
    assert [str(column.header) for column in table.columns] == ["", "ppo-sandwich", "ppo"]
    assert printed(table) != printed(comparison_table(evaluation))
    with pytest.raises(ValueError, match="reference='ppo-sandwhich' is not known"):
        comparison_table(evaluation, reference="ppo-sandwhich")
