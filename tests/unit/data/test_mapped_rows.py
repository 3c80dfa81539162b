"""Datasets that let go of what was read."""

import mmap
import pickle

import numpy as np
import psutil
import pyarrow
import pytest
from datasets import Dataset, Features, Value, concatenate_datasets, load_from_disk

from hf_nar.data.corpus import CorpusConfig, all_sentences, load_corpus, token_lengths
from hf_nar.data.mapped_rows import MappedRows
from hf_nar.data.stored_examples import stored_examples

MEGABYTE = 1e6


def stored(folder, rows=20_000, tokens=2000, first=0):
    """Write sentences of which each row has its own number in it, as the datasets library does."""
    ids = np.repeat(np.arange(first, first + rows, dtype=np.int32), tokens)
    starts = np.arange(0, len(ids) + 1, tokens, dtype=np.int32)
    columns = [pyarrow.ListArray.from_arrays(starts, sign * ids) for sign in (1, -1)]
    table = pyarrow.table(columns, ["input_ids", "labels"])
    path = folder / f"{first}.arrow"
    with pyarrow.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, 1000)
    return Dataset.from_file(str(path))


def mapped_megabytes():
    return psutil.Process().memory_info().shared / MEGABYTE


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="this system cannot let go")
def test_reading_all_of_a_corpus_does_not_keep_it_in_memory(tmp_path):
    dataset = stored(tmp_path)  # 320 MB
    begin = mapped_megabytes()
    rows = MappedRows(dataset)
    order = np.random.default_rng(0).permutation(len(rows.dataset)).tolist()

    examples = stored_examples(rows.dataset)
    seen = sum(int(examples[i]["labels"][-1]) == -i for i in order)

    assert seen == len(order)
    assert mapped_megabytes() - begin < 20
    assert token_lengths(rows.dataset, "labels").tolist() == [2000] * len(order)
    assert mapped_megabytes() - begin < 20
    assert sum(ids[0] for ids in rows.dataset["labels"]) == -sum(order)
    assert mapped_megabytes() - begin > 160
    rows.let_go()
    assert mapped_megabytes() - begin < 20


def test_new_rows_are_stored_once_and_let_go_of(tmp_path):
    rows, calls = MappedRows(stored(tmp_path)), []
    features = Features({"first": Value("int32")})
    begin = mapped_megabytes()

    def first(batch):
        calls.append(mapped_megabytes() - begin)
        return {"first": [-ids[0] for ids in batch["labels"]]}

    made = [rows.map(first, ["labels"], features, "key", batch_size=500) for _ in range(2)]

    assert made[0]["first"] == made[1]["first"] == list(range(20_000))
    assert len(calls) == 40
    assert max(calls) < 100


def test_what_was_let_go_of_is_read_again(tmp_path):
    rows = MappedRows(stored(tmp_path, rows=300, tokens=20))
    before = rows.dataset[250]

    rows.let_go()

    assert rows.dataset[250] == before == {"input_ids": [250] * 20, "labels": [-250] * 20}


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows,
        lambda rows: rows.select([5, 3, 100]),
        lambda rows: rows.select(range(10, 20)),
        lambda rows: rows.shuffle(seed=1),
        lambda rows: rows.remove_columns("labels"),
        lambda rows: rows.rename_column("labels", "targets"),
        lambda rows: concatenate_datasets([rows.select(range(150, 300)), rows.select(range(150))]),
        lambda rows: concatenate_datasets([rows, rows]),
        lambda rows: concatenate_datasets([rows, Dataset.from_dict(rows[:3], rows.features)]),
        # Of these neither the number of rows nor the columns tell that they are not the file.
        lambda rows: rows.remove_columns("labels").add_column("labels", rows["input_ids"][::-1]),
        lambda rows: rows.rename_columns({"labels": "input_ids", "input_ids": "labels"}),
        lambda rows: rows.rename_columns(
            {"labels": "input_ids", "input_ids": "labels"}
        ).select_columns(["input_ids", "labels"]),
        lambda rows: concatenate_datasets(
            [rows.select(range(150)), Dataset.from_dict(rows[:150], rows.features)]
        ),
    ],
)
def test_the_rows_are_those_of_the_dataset(change, tmp_path):
    dataset = change(stored(tmp_path, rows=300, tokens=3))

    rows = MappedRows(dataset)
    rows.let_go()

    assert rows.dataset.to_dict() == dataset.to_dict()
    if {"input_ids", "labels"} <= set(dataset.column_names):
        examples = stored_examples(dataset).__getitems__(list(range(len(dataset))))
        for side in ("input_ids", "labels"):
            assert [row[side].tolist() for row in examples] == dataset[side]


def test_many_files_are_not_held_open(tmp_path):
    stored(tmp_path, rows=300, tokens=3).save_to_disk(tmp_path / "rows", num_shards=150)
    dataset = load_from_disk(tmp_path / "rows")
    before = psutil.Process().num_fds()

    rows, examples = MappedRows(dataset), stored_examples(dataset)

    assert psutil.Process().num_fds() == before
    assert rows.dataset[299] == {"input_ids": [299] * 3, "labels": [-299] * 3}
    assert examples[299]["labels"].tolist() == [-299] * 3


def test_the_rows_of_several_files_are_let_go_of_too(tmp_path):
    dataset = concatenate_datasets([stored(tmp_path, 200, 3, first) for first in (0, 200)])

    rows = MappedRows(dataset)

    assert rows.dataset is not dataset
    assert rows.dataset.to_dict() == dataset.to_dict()


def test_another_process_maps_the_files_itself(tmp_path):
    examples = stored_examples(stored(tmp_path, rows=300, tokens=3))

    there = pickle.loads(pickle.dumps(examples))

    assert there[299]["labels"].tolist() == [-299] * 3


@pytest.mark.parametrize("streaming", [False, True])
def test_all_sentences_are_source_and_target_in_turn(streaming, tmp_path):
    files = tmp_path / "source", tmp_path / "target"
    for file, text in zip(files, ("eins\nzwei\n", "one\ntwo\n"), strict=True):
        file.write_text(text)

    pairs = load_corpus(CorpusConfig(*files, streaming=streaming)).pairs

    assert list(all_sentences(pairs)) == ["eins", "one", "zwei", "two"]
