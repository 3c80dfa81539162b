import pytest

from hf_nar.training.schedules import KLBudgetSchedule


def test_the_budget_is_held_and_then_falls_in_a_straight_line_to_zero():
    schedule = KLBudgetSchedule(budget=2.0, hold=0.5)

    budgets = [schedule.at(step, max_steps=8) for step in range(9)]

    assert budgets == [2.0, 2.0, 2.0, 2.0, 2.0, 1.5, 1.0, 0.5, 0.0]


def test_a_hold_of_one_keeps_the_budget_to_the_end():
    schedule = KLBudgetSchedule(budget=1.5, hold=1.0)

    assert {schedule.at(step, max_steps=4) for step in range(5)} == {1.5}


def test_a_hold_of_zero_falls_from_the_start():
    schedule = KLBudgetSchedule(budget=1.0, hold=0.0)

    assert [schedule.at(step, max_steps=4) for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_steps_after_the_end_and_a_run_of_no_steps_have_a_budget():
    schedule = KLBudgetSchedule()

    assert schedule.at(9, max_steps=8) == 0.0
    assert schedule.at(0, max_steps=0) == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": -0.1}, "`kl_budget` must not be negative"),
        ({"hold": 1.1}, "Use 1 to keep the budget to the end"),
        ({"hold": -0.1}, "`kl_budget_hold` is a share of the run"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        KLBudgetSchedule(**options)
