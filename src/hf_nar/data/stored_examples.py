"""Examples of token ids from where they are stored, as arrays, a batch at a time."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import torch.utils.data
from datasets import Dataset
from numpy.typing import NDArray

SIDES = ("input_ids", "labels")

Example = dict[str, NDArray[np.integer]]


class ArrayExamples(torch.utils.data.Dataset[Example]):
    """Examples of a dataset in memory.

    Args:
        dataset: Tokenized rows with `input_ids` and `labels`.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._tables = dataset.with_format("arrow")

    def __len__(self) -> int:
        return len(self._tables)

    def __getitem__(self, index: int) -> Example:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Example]:
        """Return some examples; PyTorch's data loader asks for a batch in this way."""
        if not indices:  # what stands for a filler
            return []
        table = self._tables[indices]
        sides = [_rows(table[side].combine_chunks()) for side in SIDES]
        return _examples(*sides)


class FileExamples(torch.utils.data.Dataset[Example]):
    """Examples of a dataset in files, of which only those asked for are read.

    The files are not mapped: the system would map up to 2 MB around each example, and count all of
    it as memory of the process. Held is where examples begin, 4 bytes for each side of one.

    Args:
        dataset: Tokenized rows; see `stored_examples`.

    Raises:
        ValueError: When read, if a file has become shorter.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._files = _files(dataset)
        self._open = [os.open(file, os.O_RDONLY) for file in self._files]
        weakref.finalize(self, _close, self._open)
        self._sides = [_StoredColumn(), _StoredColumn()]
        for number, file in enumerate(self._files):
            for begin, body, batch in _batches(file):
                for side, name in zip(self._sides, SIDES, strict=True):
                    side.add(number, begin - body.address, batch.column(name))
        for side in self._sides:
            side.close()

    def __reduce__(self) -> tuple[type[FileExamples], tuple[Dataset]]:
        """Have another process open the files itself."""
        return FileExamples, (self._dataset,)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Example:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Example]:
        """Return some examples; PyTorch's data loader asks for a batch in this way."""
        if not indices:  # what stands for a filler
            return []
        rows = np.array(indices)
        if rows.min() < 0 or rows.max() >= len(self):
            raise IndexError(
                f"Examples must be asked for by numbers from 0 to {len(self) - 1}, got "
                f"{rows.min()} to {rows.max()}. Use others."
            )
        return _examples(*(self._read(side, rows) for side in self._sides))

    def _read(self, side: _StoredColumn, rows: NDArray[np.integer]) -> list[NDArray[np.integer]]:
        parts = []
        for file, start, size in zip(*side.places(rows), strict=True):
            parts.append(os.pread(self._open[file], size, start))
            if len(parts[-1]) < size:
                raise ValueError(
                    f"{self._files[file]} must stay as it is while it is read, but it has become "
                    f"shorter. Start again, so that it is made anew."
                )
        ends = np.cumsum([0, *map(len, parts)]) // side.dtype.itemsize
        ids = np.frombuffer(b"".join(parts), side.dtype)
        return [ids[start:end] for start, end in pairwise(ends.tolist())]


class _StoredColumn:
    """Where the lists of a column are in files."""

    def __init__(self) -> None:
        self.dtype: np.dtype[Any] = np.dtype(np.int32)
        self._offsets: Any = []  # of all parts; each has one more than it has rows
        self._firsts: Any = [0]  # row that a part begins with, and the number of all
        self._bases: Any = []  # where the ids of a part begin in its file
        self._owners: Any = []  # number of a part's file

    def add(self, file: int, shift: int, column: Any) -> None:
        """Add a part; what is at an address in memory is `shift` bytes on in the file."""
        ids = column.values
        self.dtype = np.dtype(ids.type.to_pandas_dtype())
        self._offsets.append(column.offsets.to_numpy().copy())
        self._firsts.append(self._firsts[-1] + len(column))
        self._bases.append(ids.buffers()[1].address + shift)
        self._owners.append(file)

    def close(self) -> None:
        """Have no more parts."""
        self._offsets = np.concatenate(self._offsets)
        self._firsts, self._bases = np.array(self._firsts), np.array(self._bases)
        self._owners = np.array(self._owners)

    def places(self, rows: NDArray[np.integer]) -> tuple[list[int], list[int], list[int]]:
        """Return the file of each row, where in it the row begins, and its size, in bytes."""
        part = np.searchsorted(self._firsts, rows, side="right") - 1
        starts, ends = self._offsets[rows + part], self._offsets[rows + part + 1]
        width = self.dtype.itemsize
        begins = self._bases[part] + starts.astype(np.int64) * width
        return self._owners[part].tolist(), begins.tolist(), ((ends - starts) * width).tolist()


def stored_examples(dataset: Dataset) -> ArrayExamples | FileExamples:
    """Return the examples of a dataset, read from its files where it has simply all their rows.

    Args:
        dataset: Tokenized rows with lists of ids in `input_ids` and `labels`.
    """
    files = _files(dataset)
    is_whole = (
        bool(files)
        and hasattr(os, "pread")
        and dataset._indices is None
        and all(_schema(file).equals(dataset.data.schema) for file in files)
        and sum(len(batch) for file in files for _, _, batch in _batches(file)) == len(dataset)
    )
    return FileExamples(dataset) if is_whole else ArrayExamples(dataset)


def _files(dataset: Dataset) -> list[Path]:
    return [Path(file["filename"]) for file in dataset.cache_files]


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _schema(file: Path) -> pyarrow.Schema:
    with pyarrow.OSFile(str(file)) as stream:
        return pyarrow.ipc.open_stream(stream).schema


def _batches(file: Path) -> Iterator[tuple[int, Any, pyarrow.RecordBatch]]:
    """Yield the parts of an Arrow file, each after where it begins, and its bytes."""
    with pyarrow.OSFile(str(file)) as stream:
        messages = pyarrow.ipc.MessageReader.open_stream(stream)
        schema = pyarrow.ipc.read_schema(messages.read_next_message())
        for message in messages:
            body = message.body
            yield stream.tell() - body.size, body, pyarrow.ipc.read_record_batch(message, schema)


def _examples(
    sources: list[NDArray[np.integer]], targets: list[NDArray[np.integer]]
) -> list[Example]:
    return [
        {"input_ids": ids, "labels": labels} for ids, labels in zip(sources, targets, strict=True)
    ]


def _rows(column: Any) -> list[NDArray[np.integer]]:
    """Return an array for each row of an Arrow column of lists."""
    values = column.values.to_numpy()
    return [values[start:end] for start, end in pairwise(column.offsets.to_numpy().tolist())]
