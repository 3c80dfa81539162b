from types import SimpleNamespace

import pytest

from hf_nar.evaluation.benchmark import Cell, Timing
from hf_nar.evaluation.benchmark_report import step_lines
from hf_nar.evaluation.benchmark_steps import steps_of

CELL = Cell(1, 25)


def system(refinement, iterations, network="ours", **decoding):
    decoding = {"refinement": refinement, "iterations": iterations, **decoding}
    name = f"{network}, {refinement}, {iterations}" + (", packed" if len(decoding) > 2 else "")
    spec = SimpleNamespace(name=name, is_ours=True, network=network, decoding=decoding)
    return SimpleNamespace(spec=spec)


def other():
    return SimpleNamespace(spec=SimpleNamespace(is_ours=False, network="teacher"))


def times(*seconds):
    return [Timing({"text": 9.0, "model": value}, 25) for value in seconds]


def test_an_iteration_costs_what_more_of_them_add_in_the_same_round():
    systems = [system("delta", 0), system("delta", 1), other(), system("delta", 5)]
    rounds = [times(1, 1, 1), times(2, 4, 3), times(7, 7, 7), times(6, 8, 8)]

    [step] = steps_of(systems, CELL, rounds)

    assert (step.fewer, step.more) == ("ours, delta, 1", "ours, delta, 5")
    assert step.step_ms == 1000.0  # of 1, 1 and 5 / 4 seconds; 0 iterations play no part
    assert (step.batch_size, step.length, step.of_first) == (1, 25, 1.0)


def test_a_step_is_a_share_of_the_first_strategys_of_the_same_network_and_layout():
    systems = [
        *(system("delta", n, **kind) for kind in KINDS for n in (1, 2)),
        *(system("score", n, **kind) for kind in KINDS for n in (1, 2)),
    ]
    costs = [4.0, 2.0, 8.0, 1.0, 1.0, 2.0]
    rounds = [times(1.0 if i % 2 == 0 else 1.0 + costs[i // 2]) for i in range(12)]

    steps = steps_of(systems, CELL, rounds)

    assert [step.of_first for step in steps] == [1, 1, 1, 0.25, 0.5, 0.25]


KINDS = ({}, {"packed": True}, {"network": "ours target"})


def test_a_single_count_is_compared_with_no_iteration_and_without_it_nothing_is_said():
    with_zero = steps_of([system("delta", 0), system("delta", 1)], CELL, [times(1), times(3)])
    [alone] = [steps_of([system("score", 1)], CELL, [times(3)])]

    assert [(step.fewer, step.step_ms) for step in with_zero] == [("ours, delta, 0", 2000)]
    assert alone == []


def test_a_strategy_without_a_draft_of_its_own_starts_at_the_first_ones():
    systems = [system("delta", 0), system("delta", 1), system("score", 1)]

    steps = steps_of(systems, CELL, [times(1), times(3), times(2)])

    assert [(step.refinement, step.fewer, step.step_ms, step.of_first) for step in steps] == [
        ("delta", "ours, delta, 0", 2000, 1.0),
        ("score", "ours, delta, 0", 1000, 0.5),
    ]


def test_real_text_has_no_steps_as_its_rows_stop_by_themselves():
    systems = [system("delta", 1), system("delta", 2)]

    assert steps_of(systems, Cell(1, None), [times(1), times(2)]) == []


def test_costs_are_printed_with_batch_size_and_hardware():
    steps = steps_of([system("delta", 1), system("delta", 3)], CELL, [times(1), times(2)])

    lines = step_lines(steps, CELL, "some CPU, 1 CPU thread")

    assert "batch size 1, 25 tokens, some CPU, 1 CPU thread" in lines[1]
    assert lines[3].split() == ["ours,", "delta,", "3", "500.00", "1.00", "ours,", "delta,", "1"]
    assert step_lines([], CELL, "") == []


def test_rounds_that_are_too_fast_to_compare_have_no_share():
    systems = [system("delta", 1), system("delta", 2), system("score", 1), system("score", 2)]

    steps = steps_of(systems, CELL, [times(2), times(1), times(1), times(2)])

    assert steps[1].of_first is None
    assert steps[1].step_ms == pytest.approx(1000)
