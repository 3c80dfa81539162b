import datasets
import numpy as np
import pytest
import torch
from transformers import DataCollatorForSeq2Seq

from hf_nar.data.collating import ArrayExamples, PairCollator, fast_examples


@pytest.fixture
def examples():
    chance = np.random.default_rng(0)

    def ids():
        return chance.integers(5, 60, chance.integers(1, 12)).tolist()

    return [{"input_ids": ids(), "labels": ids()} for _ in range(40)]


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype
        for name in ours
    )


@pytest.mark.parametrize("size", [1, 7, 40])
def test_batches_are_those_of_the_library(tiny_tokenizer, examples, size):
    ours = PairCollator(tiny_tokenizer.pad_token_id)(examples[:size])

    assert same(ours, DataCollatorForSeq2Seq(tiny_tokenizer)(examples[:size]))


def test_arrays_give_the_batches_that_lists_give(tiny_tokenizer, examples):
    rows = datasets.Dataset.from_list(examples).select(range(39, 2, -1))
    collate = PairCollator(tiny_tokenizer.pad_token_id)
    indices = [30, 2, 2, 17]

    arrays = ArrayExamples(rows).__getitems__(indices)

    assert same(collate(arrays), collate([rows[i] for i in indices]))
    assert len(ArrayExamples(rows)) == len(rows)


def test_a_column_that_the_collator_does_not_know_is_named(examples):
    rows = [{**row, "weight": 1.0} for row in examples]

    with pytest.raises(ValueError, match="got `weight` too"):
        PairCollator(0)(rows)


def test_other_collators_get_lists(tiny_tokenizer, examples):
    rows = datasets.Dataset.from_list(examples)

    assert fast_examples(rows, DataCollatorForSeq2Seq(tiny_tokenizer)) is rows
    assert isinstance(fast_examples(rows, PairCollator(0)), ArrayExamples)
