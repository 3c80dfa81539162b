import pytest
import torch

from hf_nar.evaluation.latency import measure_latency


@pytest.fixture
def measure(tiny_model):
    def measure(lengths, iterations, **options):
        return measure_latency(tiny_model, lengths, iterations, **{"repeats": 1, **options})

    return measure


def test_rows_come_by_length_then_iterations_as_asked(measure):
    rows = measure([9, 5], [2, 0])

    assert [(row.length, row.iterations) for row in rows] == [(9, 2), (9, 0), (5, 2), (5, 0)]


def test_arithmetic_grows_with_length_iterations_and_batch(measure):
    short, long = (row.gflop for row in measure([10, 20], [1]))
    none, one = (row.gflop for row in measure([20], [0, 1], batch_size=16))
    (single,) = measure([20], [0])

    assert 0 < short < long
    assert none < one
    assert none == pytest.approx(16 * single.gflop, rel=0.05, abs=16 * 5e-5)


def test_every_iteration_is_run_in_full_even_where_drafts_repeat(measure, tiny_model):
    torch.nn.init.zeros_(tiny_model.latent_projection.weight)  # so that no draft ever changes

    none, one, two, four = (row.gflop for row in measure([20], [0, 1, 2, 4], batch_size=16))

    assert one > none
    assert two - one == pytest.approx(one - none, abs=2e-4)
    assert four - two == pytest.approx(2 * (one - none), abs=2e-4)


def test_times_are_positive_and_the_percentile_is_not_below_the_median(measure):
    for row in measure([5], [0, 1], repeats=5):
        assert 0 < row.median_ms <= row.p95_ms


def test_sources_have_the_length_asked_for_and_every_iteration_runs(
    measure, tiny_model, monkeypatch
):
    shapes, encode = [], tiny_model.encode

    def noting_encode(input_ids, *args, **kwargs):
        shapes.append(list(input_ids.shape))
        return encode(input_ids, *args, **kwargs)

    monkeypatch.setattr(tiny_model, "encode", noting_encode)

    measure([7], [0], batch_size=3, repeats=2)

    assert shapes == [[3, 7]] * 5  # two to warm up, two timed, one for the arithmetic


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": [1]}, r"A length must be in \[2, 40\] for this model, got 1"),
        ({"lengths": [5, 41]}, "got 41"),
        ({"batch_size": 0}, "`batch_size` and `repeats` must be at least 1, got 0 and 1"),
        ({"repeats": 0}, "must be at least 1, got 1 and 0"),
        ({"iterations": [-1]}, "Use 0 to decode from the prior mean"),
    ],
)
def test_numbers_out_of_range_are_refused(measure, options, message):
    with pytest.raises(ValueError, match=message):
        measure(**{"lengths": [5], "iterations": [0], **options})
