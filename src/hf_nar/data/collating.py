"""Examples to padded tensors, without a look at each token in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import datasets
import numpy as np
import torch
import torch.utils.data
from numpy.typing import NDArray
from torch import Tensor

from hf_nar.remote_code.losses_nar import IGNORED_LABEL

_SIDES = ("input_ids", "labels")
_KNOWN = {*_SIDES, "attention_mask"}


class PairCollator:
    """Pad pairs on the right: what `DataCollatorForSeq2Seq` gives for them, ten times as fast.

    Args:
        pad_token_id: Of the tokenizer.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return `input_ids`, `attention_mask` and `labels`.

        Args:
            examples: With `input_ids` and `labels`, each a list or an array of ids.

        Raises:
            ValueError: If an example has anything else, but for a mask, which is made anew.
        """
        unknown = examples[0].keys() - _KNOWN
        if unknown:
            raise ValueError(
                f"Examples must have `input_ids` and `labels` only, got `{min(unknown)}` too. "
                f"Remove that column, or give a `data_collator` that knows it."
            )
        source, is_real = _padded([row["input_ids"] for row in examples], self.pad_token_id)
        labels, _ = _padded([row["labels"] for row in examples], IGNORED_LABEL)
        return {
            "input_ids": torch.from_numpy(source),
            "attention_mask": torch.from_numpy(is_real.astype(np.int64)),
            "labels": torch.from_numpy(labels),
        }


def _padded(rows: list[Any], padding: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return rows of one length, `[rows, longest]`, and where they are not padding."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    if isinstance(rows[0], np.ndarray):
        ids = np.concatenate(rows)
    else:
        ids = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
    is_real = np.arange(lengths.max()) < lengths[:, None]
    padded = np.full(is_real.shape, padding, np.int64)
    padded[is_real] = ids
    return padded, is_real


class ArrayExamples(torch.utils.data.Dataset[dict[str, Any]]):
    """Examples of a memory-mapped dataset, with ids as arrays, taken out a batch at a time.

    Args:
        dataset: Tokenized rows with `input_ids` and `labels`.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        self.tables = dataset.with_format("arrow")

    def __len__(self) -> int:
        return len(self.tables)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Return some examples; PyTorch's data loader asks for a batch in this way."""
        if not indices:  # what stands for a filler
            return []
        table = self.tables[indices]
        sides = [_split(table[side].combine_chunks()) for side in _SIDES]
        return [{"input_ids": ids, "labels": labels} for ids, labels in zip(*sides, strict=True)]


def _split(column: Any) -> list[NDArray[np.integer]]:
    """Return an array for each row of an Arrow column of lists."""
    offsets = column.offsets.to_numpy().tolist()
    values = column.values.to_numpy()
    return [values[start:end] for start, end in pairwise(offsets)]


def fast_examples(dataset: Any, collate: Any) -> Any:
    """Return a dataset that is read faster where the collator takes arrays, or else itself."""
    is_plain = isinstance(dataset, datasets.Dataset) and dataset.format["type"] is None
    if is_plain and isinstance(collate, PairCollator) and set(dataset.column_names) == {*_SIDES}:
        return ArrayExamples(dataset)
    return dataset
