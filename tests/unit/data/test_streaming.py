import gzip
import json
from itertools import islice

import datasets
import numpy as np
import pytest
from torch.utils.data import DataLoader

from hf_nar.data.corpus import CorpusConfig, load_corpus
from hf_nar.data.row_streams import TokenStream
from hf_nar.data.streaming import StreamedTokenBatches

LENGTHS = [3, 9, 4, 8, 5, 7, 6, 3, 9, 4, 2, 2, 10]
FIELDS = {"source_field": "de", "target_field": "en"}


def stream_of(lengths):
    rows = [{"input_ids": [i] * n, "labels": [i] * (n // 2 + 1)} for i, n in enumerate(lengths)]
    return datasets.Dataset.from_list(rows).to_iterable_dataset() if rows else iter_nothing()


def iter_nothing():
    return datasets.IterableDataset.from_generator(lambda: iter(()))


def numbers_of(examples):
    return [example["input_ids"][0] for example in examples]


def first_rounds(batches, pairs):
    """Return batches until `pairs` pairs have come, as lists of pair numbers."""
    seen, taken = 0, []
    for examples, _ in batches:
        taken.append(numbers_of(examples))
        seen += len(examples)
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


def test_a_process_without_a_pair_is_refused():
    batches = StreamedTokenBatches(stream_of([3, 4]), 20, seed=0, process=2, processes=3)

    with pytest.raises(ValueError, match="reader 3 of 3 found none"):
        next(iter(batches))


# Shares


def written(folder, kind, pairs):
    """Write pairs whose source is their number, some empty, and return the config of a stream."""
    folder.mkdir()
    rows = [{"de": str(i), "en": "x " * (i % 7 + 1)} for i in range(pairs)]
    for place in range(5, pairs, 11):
        rows.insert(place, {"de": "", "en": "empty"})
    open_file = gzip.open if kind.endswith(".gz") else open
    if kind.startswith("text"):
        files = [folder / f"rows.{side}{kind.removeprefix('text')}" for side in ("de", "en")]
        for file, side in zip(files, ("de", "en"), strict=True):
            with open_file(file, "wt") as text:
                text.write("".join(f"{row[side]}\n" for row in rows))
        return CorpusConfig(source_file=files[0], target_file=files[1], streaming=True)
    if kind.startswith("lines"):
        file = folder / f"rows.jsonl{kind.removeprefix('lines')}"
        with open_file(file, "wt") as text:
            text.write("".join(json.dumps(row) + "\n" for row in rows))
        return CorpusConfig(json_file=file, streaming=True, **FIELDS)
    form, shards = kind.split()
    cuts = np.linspace(0, len(rows), int(shards) + 1).astype(int) + np.arange(int(shards) + 1)
    for i, start in enumerate(cuts[:-1]):
        part = datasets.Dataset.from_list(rows[start : cuts[i + 1]])
        write = part.to_json if form == "json" else part.to_parquet
        write(folder / f"train-{i}.{form}")
    return CorpusConfig(dataset=folder, streaming=True, **FIELDS)


def encode(pairs):
    return [{"input_ids": [int(s)], "labels": [0] * len(t.split())} for s, t in pairs]


def passes_of(stream, processes, workers, passes, seed=0, buffer_size=10):
    """Return what all processes read in each of some passes, in order of the readers."""
    found = [{} for _ in range(passes)]
    for process in range(processes):
        batches = StreamedTokenBatches(
            stream, 20, seed=seed, buffer_size=buffer_size, process=process, processes=processes
        )
        loader = DataLoader(batches, batch_size=None, collate_fn=list, num_workers=workers)
        ended = set()
        for examples, (worker, position) in loader:
            if position.passes >= passes:
                ended.add(worker)
                if len(ended) == max(1, workers):
                    break
            else:
                found[position.passes].setdefault((process, worker), []).extend(
                    numbers_of(examples)
                )
    return [[number for key in sorted(part) for number in part[key]] for part in found]


def with_workers(test):
    """Ignore that a fork beside other threads, or more workers than processors, is warned of."""
    for warning in (
        "ignore:.*multi-threaded, use of fork:DeprecationWarning",
        "ignore:This DataLoader will create 2 worker processes:UserWarning",
    ):
        test = pytest.mark.filterwarnings(warning)(test)
    return test


KINDS = ["text", "text.gz", "lines", "lines.gz", "json 1", "json 5", "parquet 2", "parquet 7"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_no_pair_is_lost_or_read_twice_in_a_pass(tmp_path, kind, processes):
    stream = TokenStream(load_corpus(written(tmp_path / "rows", kind, 101)).pairs.rows, encode)

    first, second = passes_of(stream, processes, 0, 2)

    assert sorted(first) == sorted(second) == list(range(101))
    assert first != second


@with_workers
@pytest.mark.parametrize("kind", ["text", "json 5"])
@pytest.mark.parametrize("processes", [1, 3])
def test_nor_where_processes_have_workers(tmp_path, kind, processes):
    stream = TokenStream(load_corpus(written(tmp_path / "rows", kind, 83)).pairs.rows, encode)

    first, second = passes_of(stream, processes, 2, 2)

    assert sorted(first) == sorted(second) == list(range(83))


def test_shards_come_in_another_order_in_each_pass(tmp_path):
    corpus = load_corpus(written(tmp_path / "rows", "parquet 7", 101))
    stream = TokenStream(corpus.pairs.rows, encode)

    starts = [found[0] // 15 for found in passes_of(stream, 1, 0, 6, buffer_size=1)]

    assert len(set(starts)) > 2


def test_files_of_unequal_length_are_found_while_streaming(tmp_path):
    config = written(tmp_path / "rows", "text", 20)
    with config.target_file.open("a") as file:
        file.write("too much\n")
    stream = TokenStream(load_corpus(config).pairs.rows, encode)

    with pytest.raises(ValueError, match="must have the same number of lines"):
        passes_of(stream, 3, 0, 1)


def test_a_line_that_is_no_json_is_named_while_streaming(tmp_path):
    config = written(tmp_path / "rows", "lines", 20)
    with config.json_file.open("a") as file:
        file.write("[1]\n")
    stream = TokenStream(load_corpus(config).pairs.rows, encode)

    with pytest.raises(ValueError, match="line 23: must be a JSON object"):
        passes_of(stream, 2, 0, 1)


# Going on


class CountingEncoder:
    """Encode pairs, and count them."""

    def __init__(self):
        self.pairs = 0

    def __call__(self, pairs):
        self.pairs += len(pairs)
        return encode(pairs)


@pytest.mark.parametrize("kind", ["text", "parquet 3"])
def test_reading_goes_on_with_the_next_batch_wherever_it_stopped(tmp_path, kind):
    rows = load_corpus(written(tmp_path / "rows", kind, 101)).pairs.rows

    def batches():
        return StreamedTokenBatches(
            TokenStream(rows, encode), 20, seed=4, buffer_size=10, process=1, processes=2
        )

    whole = list(islice(batches(), 60))

    for done in range(1, 50):
        worker, position = whole[done - 1][1]
        again = batches()
        again.go_on({worker: position}, done)
        assert list(islice(again, done + 10)) == [None] * done + whole[done : done + 10]
    assert whole[49][1][1].passes > 1


@with_workers
def test_reading_goes_on_with_workers_that_had_read_ahead(tmp_path):
    rows = load_corpus(written(tmp_path / "rows", "text", 101)).pairs.rows

    def loader(positions, done):
        batches = StreamedTokenBatches(TokenStream(rows, encode), 20, seed=4, buffer_size=10)
        batches.go_on(positions, done)
        return DataLoader(batches, batch_size=None, collate_fn=lambda read: read, num_workers=2)

    whole = list(islice(loader({}, 0), 40))

    for done in (1, 2, 17):
        positions = dict(where for _, where in whole[:done])
        again = list(islice(loader(positions, done), done + 10))
        assert again == [None] * done + whole[done : done + 10]


def test_what_was_read_before_is_not_encoded_again(tmp_path):
    rows = load_corpus(written(tmp_path / "rows", "lines", 1000)).pairs.rows
    whole = list(
        islice(StreamedTokenBatches(TokenStream(rows, encode), 20, seed=4, buffer_size=50), 150)
    )
    counter = CountingEncoder()
    again = StreamedTokenBatches(TokenStream(rows, counter), 20, seed=4, buffer_size=50)
    again.go_on({0: whole[-1][1][1]}, 150)

    next(batch for batch in again if batch)

    assert sum(len(examples) for examples, _ in whole) > 500
    assert counter.pairs <= 3 * 50
