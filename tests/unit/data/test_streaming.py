from itertools import islice

import datasets
import pytest

from hf_nar.data.streaming import StreamedTokenBatches

LENGTHS = [3, 9, 4, 8, 5, 7, 6, 3, 9, 4, 2, 2, 10]


def stream_of(lengths):
    rows = [{"input_ids": [i] * n, "labels": [i] * (n // 2 + 1)} for i, n in enumerate(lengths)]
    return datasets.Dataset.from_list(rows).to_iterable_dataset() if rows else iter_nothing()


def iter_nothing():
    return datasets.IterableDataset.from_generator(lambda: iter(()))


def first_rounds(batches, pairs):
    """Return batches until `pairs` pairs have come, as lists of pair numbers."""
    seen, taken = 0, []
    for batch in batches:
        taken.append([example["input_ids"][0] for example in batch])
        seen += len(batch)
        if seen >= pairs:
            return taken
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("buffer_size", [1, 4, 100])
def test_each_pair_comes_once_before_any_comes_again(buffer_size):
    batches = StreamedTokenBatches(stream_of(LENGTHS), 20, seed=0, buffer_size=buffer_size)

    rounds = first_rounds(batches, 3 * len(LENGTHS))

    flat = [number for batch in rounds for number in batch]
    for start in range(0, 3 * len(LENGTHS), len(LENGTHS)):
        assert sorted(flat[start : start + len(LENGTHS)]) == list(range(len(LENGTHS)))


def test_no_batch_is_over_the_budget_and_like_lengths_are_together():
    batches = StreamedTokenBatches(stream_of(LENGTHS), 20, seed=0)

    rounds = first_rounds(batches, len(LENGTHS))

    for batch in rounds:
        lengths = [LENGTHS[number] for number in batch]
        assert len(batch) * max(lengths) <= 20
    assert any(len(batch) > 1 for batch in rounds)


def test_the_order_depends_on_the_seed_and_differs_between_rounds():
    first, again, other = (
        first_rounds(StreamedTokenBatches(stream_of(LENGTHS), 20, seed=seed), 2 * len(LENGTHS))
        for seed in (0, 0, 1)
    )

    assert first == again
    assert first != other
    assert first[: len(first) // 2] != first[len(first) // 2 :]


def test_a_pair_over_the_budget_is_refused():
    batches = StreamedTokenBatches(stream_of([3, 30]), 20, seed=0)

    with pytest.raises(ValueError, match="but one has 30 tokens"):
        list(islice(batches, 3))


def test_an_empty_stream_is_refused():
    with pytest.raises(ValueError, match="must have a pair for each process"):
        next(iter(StreamedTokenBatches(stream_of([]), 20, seed=0)))
