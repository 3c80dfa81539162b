import copy

import datasets
import numpy as np
import pyarrow
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq

from hf_nar.data.collating import PairCollator, SmallBatch, fast_examples
from hf_nar.data.stored_examples import ArrayExamples, FileExamples, stored_examples


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


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_the_batches_of_a_worker_are_those_of_one_process(examples, start):
    options = {"batch_size": 7, "collate_fn": PairCollator(0)}

    alone = list(DataLoader(examples, **options))
    sent = list(DataLoader(examples, **options, num_workers=1, multiprocessing_context=start))

    assert len(sent) == len(alone) == 6
    assert all(map(same, sent, alone))
    sent[0]["labels"] += 1  # a trainer may write into them


def test_a_copy_of_a_batch_stays_on_its_device(examples):
    batch = SmallBatch({k: v.to("meta") for k, v in PairCollator(0)(examples).items()})

    assert copy.copy(batch)["labels"].device.type == "meta"


def in_memory(rows, folder):
    return rows.select(range(39, 2, -1))


def in_a_file(rows, folder):
    def same_ids(batch):
        return batch

    path = str(folder / "rows.arrow")
    return rows.map(same_ids, batched=True, batch_size=7, cache_file_name=path)


def in_files(rows, folder):
    rows.save_to_disk(folder / "rows", num_shards=3)
    return datasets.load_from_disk(folder / "rows")


PLACES = {in_memory: ArrayExamples, in_a_file: FileExamples, in_files: FileExamples}


@pytest.mark.parametrize("ids", ["uint16", "int32", "int64"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_arrays_give_the_batches_that_lists_give(tiny_tokenizer, examples, place, ids, tmp_path):
    column = datasets.Sequence(datasets.Value(ids))
    features = datasets.Features({"input_ids": column, "labels": column})
    rows = place(datasets.Dataset.from_list(examples, features), tmp_path)
    collate = PairCollator(tiny_tokenizer.pad_token_id)
    indices = [30, 2, 2, 17, 36, 0]

    arrays = stored_examples(rows)

    assert type(arrays) is PLACES[place]
    assert same(collate(arrays.__getitems__(indices)), collate([rows[i] for i in indices]))
    assert len(arrays) == len(rows)


@pytest.mark.parametrize("empty", [range(40), range(7, 14), [3]], ids=["all", "a part", "one"])
def test_examples_without_labels_are_read_too(examples, empty, tmp_path):
    rows = [
        {**row, "labels": [] if i in empty else row["labels"]} for i, row in enumerate(examples)
    ]
    ids = datasets.Sequence(datasets.Value("int32"))
    features = datasets.Features({"input_ids": ids, "labels": ids})

    arrays = stored_examples(in_a_file(datasets.Dataset.from_list(rows, features), tmp_path))

    assert isinstance(arrays, FileExamples)
    read = arrays.__getitems__(list(range(40)))
    assert [{side: ids.tolist() for side, ids in row.items()} for row in read] == rows


def test_a_packed_file_is_left_to_the_library(examples, tmp_path):
    table = datasets.Dataset.from_list(examples).data.table
    path = str(tmp_path / "rows.arrow")
    packed = pyarrow.ipc.IpcWriteOptions(compression="lz4")
    with pyarrow.ipc.new_stream(path, table.schema, options=packed) as writer:
        writer.write_table(table)

    arrays = stored_examples(datasets.Dataset.from_file(path))

    assert arrays[17]["labels"].tolist() == examples[17]["labels"]


def test_no_examples_are_none(examples, tmp_path):
    path = str(tmp_path / "rows.arrow")
    pyarrow.ipc.new_stream(path, datasets.Dataset.from_list(examples).data.schema).close()

    assert len(stored_examples(datasets.Dataset.from_file(path))) == 0


@pytest.mark.parametrize("index", [-1, 40])
def test_an_example_that_is_not_there_is_refused(examples, index, tmp_path):
    arrays = stored_examples(in_a_file(datasets.Dataset.from_list(examples), tmp_path))

    with pytest.raises(IndexError, match="from 0 to 39"):
        arrays[index]


def test_a_file_that_became_shorter_is_named(examples, tmp_path):
    arrays = stored_examples(in_a_file(datasets.Dataset.from_list(examples), tmp_path))
    (tmp_path / "rows.arrow").write_bytes(b"")

    with pytest.raises(ValueError, match=r"rows\.arrow must stay as it is .* become shorter"):
        arrays[3]


def test_a_column_that_the_collator_does_not_know_is_named(examples):
    rows = [{**row, "weight": 1.0} for row in examples]

    with pytest.raises(ValueError, match="got `weight` too"):
        PairCollator(0)(rows)


def test_other_collators_get_lists(tiny_tokenizer, examples):
    rows = datasets.Dataset.from_list(examples)

    assert fast_examples(rows, DataCollatorForSeq2Seq(tiny_tokenizer)) is rows
    assert isinstance(fast_examples(rows, PairCollator(0)), ArrayExamples)
