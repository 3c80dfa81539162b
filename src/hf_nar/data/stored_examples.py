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

from hf_nar.data.mapped_rows import whole_files

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
        files: Of the library's cache.
        sides: Where the ids of `SIDES` are in them.

    Raises:
        ValueError: When read, if a file has become shorter.
    """

    def __init__(self, files: list[Path], sides: list[_StoredColumn]) -> None:
        self._files = files
        self._sides = sides
        self._open = [os.open(file, os.O_RDONLY) for file in files]
        weakref.finalize(self, _close, self._open)

    def __reduce__(self) -> tuple[type[FileExamples], tuple[list[Path], list[_StoredColumn]]]:
        """Have another process open the files itself."""
        return FileExamples, (self._files, self._sides)

    def __len__(self) -> int:
        return len(self._sides[0])

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
    """Where the lists of a column are in files.

    Args:
        parts: Number of the file, offsets `[rows + 1]`, and where the ids begin, for each part.
        dtype: Of the ids.
    """

    def __init__(
        self, parts: list[tuple[int, NDArray[np.integer], int]], dtype: np.dtype[Any]
    ) -> None:
        owners, offsets, bases = zip(*parts, strict=True)
        self.dtype = dtype
        self._owners = np.array(owners)
        self._offsets = np.concatenate(offsets)  # a part has one more than it has rows
        self._bases = np.array(bases)
        self._firsts = np.cumsum([0, *(len(each) - 1 for each in offsets)])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def places(self, rows: NDArray[np.integer]) -> tuple[list[int], list[int], list[int]]:
        """Return the file of each row, where in it the row begins, and its size, in bytes."""
        part = np.searchsorted(self._firsts, rows, side="right") - 1
        starts, ends = self._offsets[rows + part], self._offsets[rows + part + 1]
        width = self.dtype.itemsize
        begins = self._bases[part] + starts.astype(np.int64) * width
        return self._owners[part].tolist(), begins.tolist(), ((ends - starts) * width).tolist()


def stored_examples(dataset: Dataset) -> ArrayExamples | FileExamples:
    """Return the examples of a dataset, read from its files where it has these as they are.

    Args:
        dataset: Tokenized rows with lists of ids in `input_ids` and `labels`.
    """
    files = whole_files(dataset) if hasattr(os, "pread") else []
    sides = _stored_columns(files)
    return FileExamples(files, sides) if sides else ArrayExamples(dataset)


def _stored_columns(files: list[Path]) -> list[_StoredColumn]:
    """Find the columns of `SIDES`; none where there are no rows, or ids are not stored plainly."""
    parts: dict[str, list[tuple[int, NDArray[np.integer], int]]] = {side: [] for side in SIDES}
    dtypes = {}
    for number, file in enumerate(files):
        for begin, body, batch in _batches(file):
            for side in SIDES:
                column = batch.column(side)
                ids = column.values.buffers()[1]
                place = ids.address - body.address if ids is not None and ids.size else 0
                if not 0 <= place < max(1, body.size):  # unpacked, and somewhere else
                    return []
                parts[side].append((number, column.offsets.to_numpy().copy(), begin + place))
                dtypes[side] = np.dtype(column.values.type.to_pandas_dtype())
    return [_StoredColumn(parts[side], dtypes[side]) for side in SIDES] if dtypes else []


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


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
