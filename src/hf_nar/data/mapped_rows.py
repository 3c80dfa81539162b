"""Datasets whose files are mapped into memory, without holding on to all that was ever read."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
from datasets import Dataset, Features
from datasets.table import ConcatenationTable, MemoryMappedTable, Table, concat_tables

_MOST_FILES = 100  # held open at once; a process may often have 1,024


def whole_files(dataset: Dataset) -> list[Path]:
    """Return the files that a dataset has as they are: all rows and columns, in order.

    Args:
        dataset: With or without files.

    Returns:
        No files where anything was changed or added after it was stored, or where they are many.
    """
    table = dataset.data
    parts = table.blocks if isinstance(table, ConcatenationTable) else [[table]]
    is_whole = (
        dataset._indices is None
        and len(parts) <= _MOST_FILES
        and all(len(blocks) == 1 and _is_as_stored(blocks[0]) for blocks in parts)
    )
    return [Path(blocks[0].path) for blocks in parts] if is_whole else []


def _is_as_stored(block: Table) -> bool:
    """Return whether a part of a table is a file in which the library has changed nothing."""
    return isinstance(block, MemoryMappedTable) and all(
        name == "replace_schema_metadata" for name, *_ in block.replays
    )


class MappedRows:
    """A dataset that can be told to let go of what was read of its files.

    What a process has read of a mapped file counts as its memory until the system needs the room,
    and to open a file may be to read it: the system maps up to 2 MB around what is looked at. A
    dataset that is not files as they are is taken as it is, and so is any where a system cannot
    let go.

    Args:
        dataset: With or without files.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._maps: list[mmap.mmap] = []
        files = whole_files(dataset)
        if not files or not hasattr(mmap, "MADV_DONTNEED"):
            return
        maps = [_mapped(file) for file in files]
        table = concat_tables(
            [
                MemoryMappedTable(pyarrow.ipc.open_stream(pyarrow.py_buffer(each)).read_all(), path)
                for each, path in zip(maps, map(str, files), strict=True)
            ]
        )
        self.dataset = Dataset(table, dataset.info, dataset.split, fingerprint=dataset._fingerprint)
        self._maps = maps
        self.let_go()

    def let_go(self) -> None:
        """Give the memory of what was read back; it is read again where it is needed."""
        for each in self._maps:
            each.madvise(mmap.MADV_DONTNEED)

    def batches(self, columns: list[str], size: int, kind: str | None = None) -> Iterator[Any]:
        """Yield all rows in order, letting go of each batch after it.

        Args:
            columns: What is read.
            size: Rows of a batch.
            kind: Format of the library, such as "arrow"; by default a list for each column.
        """
        for batch in self.dataset.select_columns(columns).with_format(kind).iter(size):
            yield batch
            self.let_go()

    def map(
        self,
        function: Callable[..., Any],
        columns: list[str],
        features: Features,
        fingerprint: str,
        **options: Any,
    ) -> Dataset:
        """Make new rows of some columns, stored in the library's cache.

        Args:
            function: Takes a batch of rows, and their numbers where `with_indices` is an option.
            columns: What it reads.
            features: Of the new rows.
            fingerprint: Name of the result in the cache; all that decides it must be in there.
            options: More of `Dataset.map`.
        """

        def let_go_and_call(*batch: Any) -> Any:
            self.let_go()
            return function(*batch)

        made = self.dataset.select_columns(columns).map(
            let_go_and_call,
            batched=True,
            remove_columns=columns,
            features=features,
            new_fingerprint=fingerprint,
            **options,
        )
        return MappedRows(made).dataset


def _mapped(file: Path) -> mmap.mmap:
    with file.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
