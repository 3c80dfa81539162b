"""Corpora that are read while training, again in each pass, and never kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol

import datasets
import numpy as np
import torch.utils.data

from hf_nar.data.corpus_config import CorpusConfig
from hf_nar.data.corpus_rows import is_empty, numbered_pairs

_TABLE_ROWS = 20_000  # read at once, of which each reader converts its own


class RowStream(Protocol):
    """Rows that can be read again and again, in shards."""

    @property
    def num_shards(self) -> int:
        """Number of shards."""

    def read(self, shard: int, first: int, step: int) -> Iterator[tuple[int, Any]]:
        """Yield the rows `first`, `first + step` and so on of a shard, each after its number."""


class FileRows:
    """Pairs of a corpus of files that have text on both sides.

    Lines are not taken apart for rows that are passed over: this is many times as fast.

    Args:
        config: A corpus of any kind but `dataset`.
    """

    num_shards = 1

    def __init__(self, config: CorpusConfig) -> None:
        self.config = config

    def read(self, shard: int, first: int, step: int) -> Iterator[tuple[int, tuple[str, str]]]:
        """Yield source and target, each pair after the number of its line, from 0."""
        for number, pair in numbered_pairs(self.config, first, step):
            if not is_empty(*pair):
                yield number, pair


class DatasetRows:
    """Rows of a streamed dataset, read as tables, of which only those wanted are converted.

    Args:
        dataset: The stream.
        convert: Makes of a row and its name for messages what is read; None passes it over. Left
            out, rows are read as they are.
    """

    def __init__(
        self,
        dataset: datasets.IterableDataset,
        convert: Callable[[dict[str, Any], str], Any] | None = None,
    ) -> None:
        self.dataset = dataset
        self.convert = convert

    @property
    def num_shards(self) -> int:
        """Number of shards, such as files."""
        return int(self.dataset.num_shards)

    def read(self, shard: int, first: int, step: int) -> Iterator[tuple[int, Any]]:
        """Yield what was made of rows, each after its number in the shard."""
        count = self.num_shards
        part = self.dataset if count == 1 else self.dataset.shard(count, shard)
        where = f"row {{}} of shard {shard}" if count > 1 else "row {}"
        begin = 0
        for table in part.with_format("arrow").iter(batch_size=_TABLE_ROWS):
            end = begin + len(table)
            start = first if first >= begin else begin + (first - begin) % step
            numbers = range(start, end, step)
            if numbers:
                wanted = np.arange(start - begin, len(table), step)
                rows = table.take(wanted).to_pylist()
                for number, row in zip(numbers, rows, strict=True):
                    made = self.convert(row, where.format(number)) if self.convert else row
                    if made is not None:
                        yield number, made
            begin = end


class PairStream(torch.utils.data.IterableDataset[dict[str, str]]):
    """Sentence pairs that are read anew each time.

    Args:
        rows: Of `(source, target)`.
    """

    def __init__(self, rows: RowStream) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Yield each pair once, in order, with the keys `source` and `target`."""
        for shard in range(self.rows.num_shards):
            for _, (source, target) in self.rows.read(shard, 0, 1):
                yield {"source": source, "target": target}

    def take(self, count: int) -> Iterator[dict[str, str]]:
        """Yield the first pairs, at most `count`."""
        return islice(self, count)


class TokenStream(torch.utils.data.IterableDataset[dict[str, list[int]]]):
    """Examples of token ids that are made anew each time.

    Args:
        rows: What examples are made of.
        encode: Makes examples of some rows, with ids in lists or arrays; those that are too long
            are left out.
    """

    def __init__(
        self, rows: RowStream, encode: Callable[[list[Any]], list[dict[str, Any]]]
    ) -> None:
        self.rows = rows
        self.encode = encode

    def __iter__(self) -> Iterator[dict[str, list[int]]]:
        """Yield each example once, in order."""
        for shard in range(self.rows.num_shards):
            numbered = self.rows.read(shard, 0, 1)
            while some := [row for _, row in islice(numbered, 100)]:
                yield from as_lists(self.encode(some))


def as_lists(examples: list[dict[str, Any]]) -> list[dict[str, list[int]]]:
    """Return examples with ids in lists, for what does not take arrays."""
    return [
        {side: ids.tolist() if isinstance(ids, np.ndarray) else ids for side, ids in row.items()}
        for row in examples
    ]


def token_stream(examples: TokenStream | datasets.IterableDataset) -> TokenStream:
    """Return a stream of examples that readers can share, of one of the datasets library.

    Args:
        examples: With `input_ids` and `labels`.
    """
    if isinstance(examples, TokenStream):
        return examples
    return TokenStream(DatasetRows(examples), list)
